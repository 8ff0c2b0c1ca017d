"""A request on its way: it waits where its model is, as long as that is of use."""

from __future__ import annotations

import asyncio

import pytest
from tests.awaited import awaited
from tests.unit.fleet.standing import host

from localmodels.core import once
from localmodels.core.errors import BackendError, LocalModelsError, QueueFull, Unavailable, Unreachable
from localmodels.core.servers import ServerSpec
from localmodels.fleet.breaker import IN_A_ROW
from localmodels.fleet.fleet import Fleet
from localmodels.fleet.hosts import Host
from localmodels.fleet.places import Places
from localmodels.flows.connections.remotes import Remotes
from localmodels.flows.connections.traffic import Traffic
from localmodels.flows.routing.dispatch import Errand, Hop, OtherWay
from localmodels.flows.visit import Visit


class Way:
    """A host that is full and has the model loaded, and one that is free and has not."""

    def __init__(self) -> None:
        self.warm = host("warm", loaded=["m"], most=1, busy=1, service=1.0)
        self.cold = host("cold", loaded=[], most=1)
        self.traffic = Traffic(Fleet(), Places())

    def errand(self, *, patient: bool) -> Errand:
        hops = [Hop(one, "m", patient=patient) for one in (self.cold, self.warm)]
        return Errand(hops, Visit(), self.traffic)

    async def sent(self) -> asyncio.Task[Host]:
        """A patient request that waits by now, if it has to."""

        async def go() -> Host:
            async with self.errand(patient=True) as errand:
                return errand.hop.host

        task = asyncio.create_task(go())
        await asyncio.sleep(0)
        return task


@awaited
async def test_it_waits_for_a_moment_rather_than_have_the_model_loaded_elsewhere() -> None:
    way = Way()
    request = await way.sent()
    assert not request.done()
    way.traffic.places.give_back(way.warm)
    assert await request is way.warm


@awaited
async def test_under_other_policies_it_goes_where_there_is_a_place() -> None:
    way = Way()
    async with way.errand(patient=False) as errand:
        assert errand.hop.host is way.cold


@awaited
async def test_when_who_has_it_goes_down_it_goes_elsewhere() -> None:
    way = Way()
    request = await way.sent()
    way.warm.state = "down"
    way.traffic.places.look(way.warm)
    assert await request is way.cold


@awaited
async def test_what_may_be_sent_only_once_says_so_for_as_long_as_it_is_on_its_way() -> None:
    way, visit = Way(), Visit()
    visit.once = True
    async with Errand([Hop(way.cold, "m")], visit, way.traffic):
        assert once.is_said()
    assert not once.is_said(), "whatever this task asks next is another matter"


async def refused(patience: float, *, gone: bool) -> LocalModelsError:
    """What the caller reads when the first of two hosts fails him, and the second is full or goes down meanwhile."""
    remotes = Remotes(patience=patience)
    await remotes.adopt([ServerSpec(name=name, url=f"http://{name}", kind="ollama", max_concurrent=1) for name in "ab"])
    hops = [Hop(server.host, "m", server) for server in remotes.servers()]
    second = hops[1].host
    await remotes.traffic.places.get([second], "other", model="m")
    try:
        async with Errand(hops, Visit(), remotes.traffic) as errand:
            if gone:
                second.state = "down"
            await errand.after(Unreachable("the server cannot be reached"))
    except LocalModelsError as error:
        return error
    finally:
        assert hops[0].host.in_flight == 0, "the place at the first was given back"
        await remotes.close()
    raise AssertionError("nobody had a place")


@pytest.mark.parametrize(("gone", "kind"), [(False, QueueFull), (True, Unavailable)])
@awaited
async def test_that_the_next_host_has_no_place_is_said_of_that_host(gone: bool, kind: type[LocalModelsError]) -> None:
    error = await refused(0.0, gone=gone)
    assert type(error) is kind
    assert "'b'" in error.message
    assert "'a'" not in error.message


class Line:
    """Two hosts without a place, and a request that waits for both of them."""

    def __init__(self) -> None:
        self.remotes = Remotes(fleet=Fleet(clock=lambda: 0.0), patience=5.0)

    async def begin(self, *, beyond: bool = False) -> asyncio.Task[str]:
        specs = [ServerSpec(name=name, id=name, url=f"http://{name}", kind="ollama", max_concurrent=1) for name in "ab"]
        await self.remotes.adopt(specs)
        self.hops = [Hop(server.host, "m", server) for server in self.remotes.servers()]
        for hop in self.hops:
            await self.remotes.traffic.places.get([hop.host], "other", model="m:latest")

        async def go() -> str:
            async with Errand(self.hops, Visit(), self.remotes.traffic, beyond=beyond) as errand:
                return errand.hop.host.spec.name

        task = asyncio.create_task(go())
        while not any(hop.host.waiting for hop in self.hops):  # noqa: ASYNC110 - nobody tells of who waits
            await asyncio.sleep(0)
        return task

    def give_up(self, at: int) -> None:
        """The model fails there until it rests, and somebody tries it."""
        for _ in range(IN_A_ROW):
            self.remotes.fleet.began(self.hops[at].host, "m:latest").ended(BackendError("500"))
        assert self.remotes.fleet.began(self.hops[at].host, "m:latest").is_try
        self.remotes.traffic.places.give_back(self.hops[at].host, "m:latest")


@awaited
async def test_what_waited_for_a_model_that_was_given_up_meanwhile_goes_on_to_another_host() -> None:
    line = Line()
    request = await line.begin()
    line.give_up(0)
    while not line.hops[1].host.waiting:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert line.hops[0].host.in_flight == 0, "the place is given back"
    line.remotes.traffic.places.give_back(line.hops[1].host, "m:latest")
    assert await request == "b"
    await line.remotes.close()


@pytest.mark.parametrize("beyond", [False, True])
@awaited
async def test_and_where_none_is_left_it_is_refused_or_finds_another_way(beyond: bool) -> None:
    line = Line()
    request = await line.begin(beyond=beyond)
    for at in range(2):
        line.give_up(at)
    with pytest.raises(OtherWay if beyond else Unavailable) as caught:
        await request
    assert [hop.host.in_flight for hop in line.hops] == [0, 0]
    if isinstance(caught.value, Unavailable):
        assert caught.value.message == "the model 'm' fails whenever it is asked on the servers 'a', 'b'"
        assert caught.value.retry_after
    await line.remotes.close()
