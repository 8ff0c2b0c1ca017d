"""A request on its way: it waits where its model is, as long as that is of use."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace
from tests.awaited import awaited
from tests.unit.fleet.standing import host
from tests.virtual import clock, virtually

from localmodels.core import once
from localmodels.core.errors import BackendError, LocalModelsError, QueueFull, Unavailable, Unreachable
from localmodels.core.servers import ServerSpec
from localmodels.fleet.breaker import IN_A_ROW
from localmodels.fleet.fleet import Fleet
from localmodels.fleet.hosts import Host
from localmodels.fleet.places import Places
from localmodels.fleet.policies import LOAD_START, LOADING, UNTOLD_SIZE
from localmodels.fleet.routing import Ask, decide
from localmodels.flows.connections.remotes import Remotes
from localmodels.flows.connections.traffic import Traffic
from localmodels.flows.routing.dispatch import Errand, OtherWay
from localmodels.flows.routing.plans import Hop, Tried
from localmodels.flows.visit import Visit


class Way:
    """A host that is full and has the model loaded, and one that is free and has not."""

    def __init__(self) -> None:
        self.warm = host("warm", loaded=["m"], most=1, busy=1, service=1.0)
        self.cold = host("cold", loaded=[], most=1)
        self.traffic = Traffic(Fleet(), Places())

    def errand(self, *, patient: bool) -> Errand:
        hops = [Hop(one, "m", patient=patient) for one in (self.cold, self.warm)]
        return Errand(hops, Visit(), self.traffic, None, self.further)

    def further(self, tried: Tried) -> tuple[Hop, ...]:
        """Nobody is asked for further hosts because these have much to do."""
        raise AssertionError(tried)

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


@virtually
async def test_but_no_longer_than_the_model_takes_to_load() -> None:
    way = Way()
    async with way.errand(patient=True) as errand:
        assert errand.hop.host is way.cold
    assert clock() == pytest.approx(LOAD_START + UNTOLD_SIZE / LOADING)
    assert way.warm.waiting == 0


@pytest.mark.parametrize(("patience", "waits"), [(600.0, 600.0), (10.0, 10.0), (2.0, 2.0)])
@virtually
async def test_and_what_it_has_waited_there_is_a_part_of_its_patience(patience: float, waits: float) -> None:
    way = Way()
    way.traffic.places.patience = patience
    way.cold.in_flight = 1
    with pytest.raises(QueueFull):
        async with way.errand(patient=True):
            raise AssertionError("nobody has a place")
    assert clock() == pytest.approx(waits)


@awaited
async def test_where_the_wait_would_be_longer_than_is_promised_it_is_loaded_elsewhere_at_once() -> None:
    way = Way()
    way.traffic.places.max_wait = 0.5
    async with way.errand(patient=True) as errand:
        assert errand.hop.host is way.cold


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
        """The request waits; ``beyond``: a third host is left for it, which cannot be asked as it is."""
        specs = [ServerSpec(name=name, id=name, url=f"http://{name}", kind="ollama", max_concurrent=1) for name in "ab"]
        await self.remotes.adopt(specs)
        self.hops = [Hop(server.host, "m", server) for server in self.remotes.servers()]
        for hop in self.hops:
            await self.remotes.traffic.places.get([hop.host], "other", model="m:latest")

        def further(tried: Tried) -> tuple[Hop, ...]:
            return (replace(self.hops[0]),) if beyond else ()

        def suits(hop: Hop) -> bool:
            return hop in self.hops[:2] and any(hop is one for one in self.hops)

        async def go() -> str:
            async with Errand(self.hops, Visit(), self.remotes.traffic, None, further, suits) as errand:
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


@awaited
async def test_the_refusal_says_when_the_first_of_all_may_be_asked_again_and_the_name_that_is_listed() -> None:
    line = Line()
    request = await line.begin()
    line.remotes.traffic.places.give_back(line.hops[0].host, "m:latest")
    await request
    visit = Visit()
    visit.model = "m:latest"
    (target,) = decide(Ask("m"), [host("a")])
    hops = [replace(hop, target=target) for hop in line.hops]

    async def go() -> None:
        async with Errand(hops, visit, line.remotes.traffic) as errand:
            line.give_up(1)
            await errand.after(Unreachable("the server cannot be reached"))

    with pytest.raises(Unavailable) as caught:
        await go()
    assert caught.value.message == "the model 'm:latest' fails whenever it is asked on the server 'b'"
    assert caught.value.retry_after == 1.0, "'a' has failed once, and may be asked"
    await line.remotes.close()


class Dead(Line):
    """Two hosts that requests have found failing."""

    async def begin(self, *, beyond: bool = False) -> asyncio.Task[str]:
        raise NotImplementedError

    async def adopt(self, *, dark: bool = False) -> None:
        specs = [ServerSpec(name=name, id=name, url=f"http://{name}", kind="ollama", max_concurrent=2) for name in "ab"]
        await self.remotes.adopt(specs)
        self.hosts = self.remotes.fleet.hosts()
        for one in self.hosts:
            for _ in range(IN_A_ROW):
                self.remotes.fleet.began(one, "m:latest").ended(Unreachable("refused"))
            if dark:
                self.remotes.fleet.failed(one, Unreachable("dead"), float("inf"))

    def errand(self, *, named: bool = False) -> Errand:
        found = decide(Ask("m", dared=frozenset("ab")), self.hosts_with("m"), "priority")
        hops = [Hop(one, "m", self.remotes.at(one), target=None if named else found[0]) for one in self.hosts]
        return Errand(hops[:1] if named else hops, Visit(), self.remotes.traffic)

    def hosts_with(self, model: str) -> list[Host]:
        return [host("a", model, state="down"), host("b", model, state="down")]

    @property
    def states(self) -> list[str]:
        return [one.state for one in self.hosts]


@awaited
async def test_of_those_that_are_down_the_one_alone_is_dared_that_the_request_goes_to() -> None:
    dead = Dead()
    await dead.adopt()
    async with dead.errand() as errand:
        assert (errand.hop.host.spec.name, dead.states) == ("a", ["trying", "down"])
        assert (dead.hosts[0].proving, dead.hosts[1].failure) == (True, "refused")
        async with dead.errand() as another:  # while the first is proved, and nobody knows how long that takes
            assert (another.hop.host.spec.name, dead.states) == ("b", ["trying", "trying"])
            errand.answered()
            assert dead.states == ["up", "trying"]
    await dead.remotes.close()


@pytest.mark.parametrize("named", [False, True])
@awaited
async def test_whom_a_probe_has_found_dead_is_dared_by_nobody_but_who_asks_for_him(named: bool) -> None:
    dead = Dead()
    await dead.adopt(dark=True)
    if not named:
        with pytest.raises(Unavailable):
            async with dead.errand():
                raise AssertionError("nobody has a place")
    else:
        async with dead.errand(named=True) as errand:
            assert errand.hop.host.proving
            assert dead.states == ["trying", "down"]
    assert [one.in_flight for one in dead.hosts] == [0, 0]
    await dead.remotes.close()


@awaited
async def test_one_that_is_down_and_has_no_place_is_not_dared() -> None:
    dead = Dead()
    await dead.adopt()
    for one in dead.hosts:
        one.in_flight = 2
    with pytest.raises(Unavailable):
        async with dead.errand():
            raise AssertionError("nobody has a place")
    assert dead.states == ["down", "down"]
    await dead.remotes.close()


@pytest.mark.parametrize(
    ("error", "charged"),
    [(Unavailable("busy", retry_after=5.0), 0), (BackendError("500"), 1234), (None, 0)],
    ids=["untouched", "perhaps", "left"],
)
@awaited
async def test_a_prompt_that_no_model_took_is_not_charged(error: LocalModelsError | None, charged: int) -> None:
    """Not even where the request goes on another way, or its caller leaves while it waits for its next place."""
    remotes = Remotes(patience=5.0)
    specs = [ServerSpec(name=name, id=name, url=f"http://{name}", kind="ollama", max_concurrent=1) for name in "ab"]
    await remotes.adopt(specs)
    first, second = (Hop(server.host, "m", server) for server in remotes.servers())
    visit = Visit()
    visit.model, visit.asked = "m", 1234
    await remotes.traffic.places.get([second.host], "other", model="m:latest")

    async def go() -> None:
        hops = (first,) if error is not None else (first, second)
        other = (lambda tried: (second,)) if error is not None else None
        async with Errand(hops, visit, remotes.traffic, None, other, lambda hop: error is None or hop is first) as way:
            visit.admitted = 1
            await way.after(error or Unavailable("busy", retry_after=5.0))

    task = asyncio.create_task(go())
    while not (task.done() or second.host.waiting):  # noqa: ASYNC110 - nobody tells of who waits
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError if error is None else OtherWay):
        await task
    assert visit.charged.prompt_tokens == charged
    await remotes.close()
