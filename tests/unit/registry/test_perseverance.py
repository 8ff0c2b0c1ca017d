from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
from tests.awaited import awaited

from localmodels.core.errors import Forbidden, Garbled, LocalModelsError, NotFound, Unavailable
from localmodels.registry.addresses import Place
from localmodels.registry.pace import Pace
from localmodels.registry.perseverance import first_of, persevere

AT_ONCE = Pace(tries=4, first_wait=0.0, longest_retry_after=0.0)


def failing(*errors: LocalModelsError) -> tuple[Callable[[], Awaitable[str]], list[LocalModelsError]]:
    """Work that fails so and then does not; and the failures that are left."""
    left = list(errors)

    async def work() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return work, left


@awaited
async def test_what_passes_is_tried_again() -> None:
    work, _ = failing(Unavailable("busy", retry_after=1000.0), Garbled("what?"), Unavailable("busy"))
    assert await persevere(work, AT_ONCE, random.Random(1)) == "done"


@awaited
async def test_but_not_for_ever() -> None:
    work, left = failing(*[Unavailable(str(i)) for i in range(10)])
    with pytest.raises(Unavailable, match="3"):
        await persevere(work, AT_ONCE, random.Random(1))
    assert len(left) == 6


@awaited
async def test_nor_for_longer_than_somebody_waits_who_sees_nothing() -> None:
    work, left = failing(*[Unavailable(str(i), retry_after=1000.0) for i in range(10)])
    with pytest.raises(Unavailable, match="0"):  # it would have to wait a minute, and may wait half of one
        await persevere(work, Pace(patience=30.0), random.Random(1))
    assert len(left) == 9


@awaited
async def test_what_does_not_pass_is_told_at_once() -> None:
    work, left = failing(NotFound("gone"), Unavailable("busy"))
    with pytest.raises(NotFound):
        await persevere(work, AT_ONCE, random.Random(1))
    assert len(left) == 1


def test_waits_grow_have_an_end_and_are_never_the_same() -> None:
    pace = Pace(first_wait=1.0, longest_wait=8.0)
    chance = random.Random(1)
    for tries, rule in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 8.0), (10**9, 8.0)):
        waits = [pace.wait(tries, chance) for _ in range(100)]
        assert rule * 0.5 <= min(waits) < max(waits) <= rule * 1.5
    assert pace.wait(0, chance) == 0.0


PLACES = tuple(map(Place.parse, ("https://one", "https://two", "https://three")))


@awaited
async def test_the_first_place_that_has_it_is_enough() -> None:
    asked: list[str] = []

    async def ask(place: Place) -> str:
        asked.append(place.origin.host)
        if place.origin.host == "one":
            raise NotFound("not here")
        return "it"

    assert await first_of(PLACES, ask, AT_ONCE, random.Random(1)) == ("it", 1)
    assert asked == ["one", "two"]


@awaited
async def test_every_place_is_asked_before_one_is_asked_again() -> None:
    asked: list[str] = []

    async def ask(place: Place) -> str:
        asked.append(place.origin.host)
        if len(asked) < 5:
            raise Unavailable("busy")
        return "it"

    assert await first_of(PLACES, ask, AT_ONCE, random.Random(1)) == ("it", 1)
    assert asked == ["one", "two", "three", "one", "two"]


@pytest.mark.parametrize(
    ("errors", "rounds"),
    [
        ((NotFound("one"), Forbidden("two"), Garbled("three")), AT_ONCE.tries),
        ((Garbled("one"), Unavailable("two"), NotFound("three")), 1),
        ((Unavailable("one"), Unavailable("two"), Forbidden("three")), 1),
        ((Forbidden("one"), NotFound("two"), Unavailable("three")), AT_ONCE.tries),
    ],
)
@awaited
async def test_where_no_place_has_it_the_registry_itself_tells_why_and_whether_to_go_on(
    errors: tuple[LocalModelsError, ...], rounds: int
) -> None:
    by_host = dict(zip(("one", "two", "three"), errors, strict=True))
    asked: list[str] = []

    async def ask(place: Place) -> None:
        asked.append(place.origin.host)
        raise by_host[place.origin.host]

    with pytest.raises(LocalModelsError, match="three"):
        await first_of(PLACES, ask, AT_ONCE, random.Random(1))
    assert asked == ["one", "two", "three"] * rounds
