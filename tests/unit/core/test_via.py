"""The way of requests through gateways: where it ends, and whose it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial

import pytest

from localmodels.core import via
from localmodels.core.errors import InvalidRequest, LoopDetected


def alone(work: Callable[[], object]) -> object:
    """What it gives in a context of its own, as the requests of a server have one."""
    return Context().run(work)


def passing(told: str, *gateways: str, looks: bool = False) -> str:
    """What the last gateway sends on, of a request that passes them one after the other."""
    for gateway in gateways:
        alone_told = partial(_passed, told, gateway, looks=looks)
        told = str(alone(alone_told))
    return told


def _passed(told: str, gateway: str, *, looks: bool) -> str:
    via.arrive(told, gateway, looks=looks)
    return via.told()


def test_each_gateway_writes_itself_behind_the_others() -> None:
    assert passing("", "a") == "a"
    assert passing("", "a", "b", "c") == "a, b, c"
    assert passing("x,y", "a") == "x, y, a"


def test_work_that_was_here_before_ends() -> None:
    with pytest.raises(LoopDetected, match="been here before"):
        passing("", "a", "b", "a")
    with pytest.raises(LoopDetected, match="been here before"):
        passing("", "a", "a")


def test_looks_are_answered_in_a_circle_but_not_for_ever() -> None:
    assert passing("", "a", "b", "a", looks=True) == "a, b, a"
    with pytest.raises(LoopDetected, match="4 gateways"):
        passing("", *"ababa", looks=True)


def test_nobody_has_more_than_four_in_a_row() -> None:
    assert passing("", *"abcd") == "a, b, c, d"
    with pytest.raises(LoopDetected, match="4 gateways"):
        passing("", *"abcde")


@pytest.mark.parametrize("told", [",", "a,,b", "a b", "a\tb", "a;b", "a" * 65, " a", "a, ", "ä", "a,\x00"])
def test_a_way_that_no_gateway_wrote_is_refused(told: str) -> None:
    with pytest.raises(InvalidRequest, match="X-LocalModels-Via"):
        passing(told, "a")


def test_outside_of_requests_there_is_no_way() -> None:
    assert alone(via.way) == ()
    assert alone(via.told) == ""


def test_requests_side_by_side_do_not_share_their_ways() -> None:
    async def one(told: str, gateway: str) -> tuple[str, ...]:
        via.arrive(told, gateway)
        await asyncio.sleep(0)
        return await asyncio.create_task(_way())

    async def both() -> list[tuple[str, ...]]:
        works: list[Coroutine[None, None, tuple[str, ...]]] = [one("", "a"), one("x", "b")]
        return await asyncio.gather(*works)

    assert asyncio.run(both()) == [("a",), ("x", "b")]


async def _way() -> tuple[str, ...]:
    return via.way()


def test_gateways_have_names_of_their_own() -> None:
    assert via.new_gateway() != via.new_gateway()
    assert passing("", via.new_gateway())


def test_what_a_gateway_asks_of_itself_tells_who_asks() -> None:
    def asks() -> str:
        via.begin("a")
        return passing(via.told(), "b")

    assert alone(asks) == "a, b"


def test_what_leads_back_or_too_far_is_no_way() -> None:
    assert via.leads((), ("a", "b", "c", "d", "e"))
    assert via.leads(("b", "c"), ("x", "a"))
    assert not via.leads(("b", "x"), ("x", "a")), "it would come back to who asked"
    assert not via.leads(("b", "a"), ("a",)), "or to us"
    assert via.leads(("b", "c", "d"), ("a",))
    assert not via.leads(("b", "c", "d", "e"), ("a",)), "the last would refuse it"


def test_what_a_gateway_asks_for_itself_names_nobody_else() -> None:
    def own() -> str:
        via.arrive("x, y", "us")
        via.on_own()
        return via.told()

    assert alone(own) == "us"
    assert alone(via.on_own) is None, "outside of requests, too"


@pytest.mark.parametrize(
    ("told", "names"),
    [
        (["a", "b"], ("a", "b")),
        (("a",), ("a",)),
        (["a", 7, None, "", "b c", "d" * 65, "e\n"], ("a",)),
        (list("abcdefgh"), tuple("abcde")),
        ("abc", ()),
        (None, ()),
        ({"a": 1}, ()),
    ],
)
def test_names_of_gateways_are_taken_as_far_as_they_are_sound(told: object, names: tuple[str, ...]) -> None:
    assert via.names(told) == names
