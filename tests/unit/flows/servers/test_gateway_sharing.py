"""What gateways tell each other of their requests: said again and again, and forgotten with whoever said it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from random import Random

import pytest
from tests.awaited import awaited
from tests.fleet_world import Others

from localmodels.core.errors import LocalModelsError, StoreFailed
from localmodels.core.fleet import Loads
from localmodels.core.servers import ServerSpec
from localmodels.fleet.fleet import Fleet
from localmodels.flows.servers.gateway_sharing import Sharing

SECOND = 10**9


class Board(Others):
    """What all have said, on one board.

    Attributes:
        failure: what everything meets; None works.
    """

    def __init__(self) -> None:
        super().__init__()
        self.said: dict[str, Loads] = {}
        self.failure: LocalModelsError | None = None

    async def publish(self, loads: Loads) -> None:
        if self.failure is not None:
            raise self.failure
        self.said[loads.gateway] = loads

    async def loads(self, since: int) -> Collection[Loads]:
        if self.failure is not None:
            raise self.failure
        return [one for one in self.said.values() if one.at >= since]


class Gateway:
    """One of several, before the same server."""

    def __init__(self, name: str, board: Board, clock: list[int], most: int = 4) -> None:
        self.naps: asyncio.Queue[asyncio.Event] = asyncio.Queue()
        fleet = Fleet(now=lambda: clock[0])
        fleet.adopt([ServerSpec(name="a", url="http://a", kind="ollama", id="a", max_concurrent=most)])
        [self.host] = fleet.hosts()
        self.fleet = fleet
        self.sharing = Sharing(board, fleet, name, lambda: clock[0], self._nap)

    async def _nap(self, seconds: float) -> None:
        over = asyncio.Event()
        self.naps.put_nowait(over)
        await over.wait()


@awaited
async def test_each_knows_what_the_others_have_under_way_while_it_is_fresh() -> None:
    clock, board = [10**18], Board()
    one, two, three = (Gateway(name, board, clock) for name in ("one", "two", "three"))
    one.host.in_flight, two.host.in_flight = 2, 1
    for gateway in (one, two, three, one):
        await gateway.sharing.once()
    assert (one.host.elsewhere, two.host.elsewhere, three.host.elsewhere) == (1, 2, 3)
    two.host.in_flight = 2
    await two.sharing.once()
    await one.sharing.once()
    assert (one.host.elsewhere, one.host.free) == (2, False)
    clock[0] += 6 * SECOND  # the others have died
    await one.sharing.once()
    assert (one.host.elsewhere, one.host.kept, one.host.free) == (0, 0, True)


@awaited
@pytest.mark.parametrize(("names", "most"), [("ab", 4), ("ab", 1), ("ab", 7)])
async def test_of_all_together_never_more_are_there_than_there_are_places(names: str, most: int) -> None:
    """Whoever wants a place has one sooner or later, whatever the others want."""
    draw, clock, board = Random(most), [10**18], Board()
    gateways = [Gateway(name, board, clock, most) for name in names]
    for gateway in gateways * 2:
        await gateway.sharing.once()
    served = dict.fromkeys(names, 0)
    for step in range(4_000):
        clock[0] += SECOND // 4 // len(gateways)
        gateway = gateways[step % len(gateways)]
        await gateway.sharing.once()
        for name, one in zip(names, gateways, strict=True):
            if draw.random() < 0.1:
                one.host.waiting += draw.choice((1, 3, 20))
            while one.host.in_flight and draw.random() < 0.4:
                one.host.in_flight -= 1
            while one.host.waiting and one.host.free:
                one.host.waiting, one.host.in_flight = one.host.waiting - 1, one.host.in_flight + 1
                served[name] += 1
            assert sum(one.host.in_flight for one in gateways) <= most
    assert min(served.values()) > 0.6 * max(served.values())


@awaited
async def test_one_who_is_asked_alone_has_all_places_but_for_a_moment() -> None:
    clock, board = [10**18], Board()
    one, two = (Gateway(name, board, clock) for name in ("one", "two"))
    for gateway in (one, two, one):
        await gateway.sharing.once()
    assert (one.host.kept, two.host.kept) == (2, 2), "nobody wants any"
    one.host.in_flight, one.host.waiting = 2, 5
    await one.sharing.once()
    assert one.host.kept == 2, "the other one does not know it yet"
    await two.sharing.once()
    assert two.host.kept == 4
    await one.sharing.once()
    assert one.host.kept == 0
    two.host.waiting = 1
    for gateway in (two, one, two):
        await gateway.sharing.once()
    assert (one.host.kept, two.host.kept) == (1, 3)


@awaited
async def test_who_hears_nobody_goes_on_with_an_equal_part() -> None:
    clock, board = [10**18], Board()
    one, two = (Gateway(name, board, clock, most=5) for name in ("one", "two"))
    one.host.in_flight = 5
    for gateway in (one, two, one):
        await gateway.sharing.once()
    assert two.host.kept == 5
    board.failure = StoreFailed("gone")
    for gateway in (one, two):
        with pytest.raises(StoreFailed):
            await gateway.sharing.once()
    assert sorted((one.host.kept, two.host.kept)) == [2, 3]
    assert (one.host.elsewhere, two.host.elsewhere) == (0, 0), "nobody knows"
    board.failure = None
    clock[0] += 20 * SECOND  # all words are old
    for _ in range(3):
        one.host.in_flight = 2
        await one.sharing.once()
    assert one.host.kept in {1, 2}, "the other one may not have found back yet"
    clock[0] += 6 * SECOND
    await one.sharing.once()
    assert one.host.kept == 0, "it has not"


@awaited
async def test_a_server_that_is_new_is_shared_from_its_first_moment() -> None:
    clock, board = [10**18], Board()
    one, two = (Gateway(name, board, clock) for name in ("one", "two"))
    for gateway in (one, two):
        await gateway.sharing.once()
    going = asyncio.ensure_future(one.sharing.go_on())
    await one.naps.get()
    new = ServerSpec(name="b", url="http://b", kind="ollama", id="b", max_concurrent=6)
    own = ServerSpec(name="local", url="local", kind="local", id="l", max_concurrent=6)
    one.fleet.adopt([one.host.spec, new, own])
    assert [host.kept for host in one.fleet.hosts()] == [2, 3, 0]
    going.cancel()


@awaited
async def test_who_cannot_be_reached_is_tried_again() -> None:
    clock, board = [10**18], Board()
    gateway = Gateway("one", board, clock)
    gateway.host.in_flight = 3
    board.failure = StoreFailed("gone")
    going = asyncio.ensure_future(gateway.sharing.go_on())
    nap = await gateway.naps.get()
    assert board.said == {}
    board.failure = None
    nap.set()
    await gateway.naps.get()
    assert board.said["one"].in_flight == {"a": 3}
    going.cancel()
