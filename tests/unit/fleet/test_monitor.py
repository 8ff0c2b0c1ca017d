"""Looks at the hosts, on a clock that jumps: each in its own time, and the truth in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random
from typing import Literal

import pytest
from msgspec.structs import replace
from tests.virtual import clock, virtually

from localmodels.core import via
from localmodels.core.catalog import Model, Running
from localmodels.core.errors import Garbled, LocalModelsError, NotFound, RateLimited, Unreachable
from localmodels.core.servers import ServerSpec
from localmodels.dialects.told import Told
from localmodels.fleet.breaker import IN_A_ROW
from localmodels.fleet.fleet import Fleet
from localmodels.fleet.hosts import Host
from localmodels.fleet.monitor import RECENT, Monitor
from localmodels.fleet.pace import DAY, Pace

PACE = Pace()
TOLD = Told((Model("m:latest", 1, "d" * 64, ""),), version="1", running=())

How = Literal["well", "refuses", "hangs", "garbles", "slow", "defect", "busy", "clings"]


class Server:
    """One that is looked at; ``how`` says what comes of it.

    Attributes:
        looks: when each look began.
        at_once, most: looks under way, and the most there have been.
    """

    def __init__(self, how: How = "well", told: Told = TOLD) -> None:
        self.how: How = how
        self.told = told
        self.takes = 0.01
        self.looks: list[float] = []
        self.at_once = self.most = 0

    async def look(self) -> Told:
        self.looks.append(clock())
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            return await self._look()
        finally:
            self.at_once -= 1

    async def _look(self) -> Told:
        if self.how in {"hangs", "clings"}:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if self.how == "clings":
                    await asyncio.sleep(0.5)
                    raise Unreachable("as if it were the server") from None
                raise
        await asyncio.sleep(1.5 if self.how == "slow" else self.takes)
        if self.how == "refuses":
            raise Unreachable("the server cannot be reached")
        if self.how == "garbles":
            raise Garbled("the server's answer is not HTTP")
        if self.how == "busy":
            raise RateLimited("slower")
        if self.how == "defect":
            raise RuntimeError("a defect of ours")
        return self.told

    @property
    def answers(self) -> bool:
        return self.how in {"well", "slow", "busy"}


class Watched:
    """A fleet that is watched."""

    def __init__(self, servers: dict[str, Server], seed: int = 0) -> None:
        self.servers = servers
        self.fleet = Fleet(clock=clock, now=lambda: round(clock() * 1e9))
        self.monitor = Monitor(
            self.fleet,
            lambda host: self.servers.get(host.spec.name),
            clock=clock,
            random=Random(seed),
        )
        self.fleet.adopt(map(spec, servers))

    def host(self, name: str = "far") -> Host:
        host = self.fleet.host(name)
        assert host is not None
        return host

    async def until(self, true: Callable[[Host], bool], name: str = "far") -> None:
        """Waits until this is true of the host."""
        news = asyncio.Event()
        deaf = self.fleet.listen(lambda _: news.set())
        while not true(self.host(name)):
            news.clear()
            await news.wait()
        deaf()

    def request(self, error: LocalModelsError | None = None, name: str = "far") -> None:
        attempt = self.fleet.began(self.host(name))
        if error is None:
            attempt.answered()
        attempt.ended(error)


def spec(name: str) -> ServerSpec:
    if name == "local":
        return ServerSpec(name=name, url="local:home", kind="local", id=name)
    return ServerSpec(name=name, url=f"http://{name}", kind="ollama", id=name, registered=True)


@asynccontextmanager
async def watched(servers: Mapping[str, Server] | None = None, *, seed: int = 0) -> AsyncIterator[Watched]:
    servers = {"far": Server()} if servers is None else servers
    world = Watched(dict(servers), seed)
    async with world.monitor:
        yield world
    assert not [server for server in servers.values() if server.at_once], "no look outlives its monitor"
    assert all(server.most <= 1 for server in servers.values()), "one at a time"


@virtually
async def test_everybody_is_looked_at_soon_and_again_and_again() -> None:
    async with watched({"a": Server(), "b": Server("refuses")}) as world:
        await asyncio.sleep(0.1)
        assert (world.host("a").state, world.host("b").state) == ("up", "down")
        assert world.host("b").failure == "the server cannot be reached"
        await asyncio.sleep(300)
        a, b = world.servers["a"].looks, world.servers["b"].looks
        assert 300 / PACE.longest_idle <= len(a) < 300 / PACE.longest_idle / (1 - PACE.chance) + 5
        assert 300 / PACE.longest_down <= len(b) < 90
        assert max(later - sooner for sooner, later in pairwise(b)) <= PACE.longest_down + 0.1


@virtually
async def test_where_requests_go_it_is_looked_at_more_often() -> None:
    async with watched() as world:
        await asyncio.sleep(200)
        before = len(world.servers["far"].looks)
        world.host().in_flight = 1
        world.fleet.began(world.host(), "m:latest")
        await asyncio.sleep(20)
        assert len(world.servers["far"].looks) - before >= 10, "it will be in memory in a moment"


@virtually
async def test_one_that_hangs_is_given_up_in_time_and_delays_nobody() -> None:
    servers: dict[str, Server] = {"hangs": Server("hangs"), "clings": Server("clings")}
    async with watched(servers | {f"w{number}": Server() for number in range(50)}) as world:
        began = clock()
        answering = await world.monitor.looked(patience=2.0)
        assert clock() - began == pytest.approx(2.0)
        assert {host.spec.name for host in answering} == {f"w{number}" for number in range(50)}
        assert all(server.looks[0] == began for server in world.servers.values()), "side by side"
        await asyncio.sleep(PACE.deadline)  # and half a second that one of them clings to its look
        for name in servers:
            assert world.host(name).state == "down"
            assert world.host(name).failure == f"the server did not say within {PACE.deadline:g} s how it is"


@virtually
async def test_a_list_waits_for_as_long_as_it_takes_and_no_longer() -> None:
    async with watched({"quick": Server(), "slow": Server("slow")}) as world:
        await asyncio.sleep(60)
        began = clock()
        assert len(await world.monitor.looked(patience=2.0)) == 2
        assert clock() - began == pytest.approx(1.5)
        assert len(await world.monitor.looked(patience=2.0)) == 2
        assert clock() - began < 1.6, "the slow one was seen a moment ago, and is not asked again"
        await asyncio.sleep(RECENT)
        looking = asyncio.ensure_future(world.monitor.looked(patience=0.5))
        assert {host.spec.name for host in await looking} == {"quick"}


@virtually
async def test_a_list_waits_for_the_look_that_is_under_way() -> None:
    async with watched({"far": Server("slow")}) as world:
        await asyncio.sleep(1.0)
        assert await world.monitor.looked(patience=2.0) == {world.host()}
        assert clock() == pytest.approx(1.5)
        assert len(world.servers["far"].looks) == 1


@virtually
async def test_the_list_of_nobody_is_there_at_once() -> None:
    async with watched({}) as world:
        assert await world.monitor.looked() == frozenset()
        assert clock() == 0.0


@virtually
async def test_a_look_now_is_shared_by_all_who_ask_for_it() -> None:
    async with watched() as world:
        server = world.servers["far"]
        await asyncio.sleep(100)
        before = len(server.looks)
        hosts = await asyncio.gather(*(world.monitor.look("far") for _ in range(50)))
        assert set(hosts) == {world.host()}
        assert len(server.looks) == before + 1


@virtually
async def test_a_look_begins_after_it_was_asked_for() -> None:
    async with watched({"far": Server("slow")}) as world:
        server = world.servers["far"]
        await asyncio.sleep(1.0)
        assert server.at_once == 1
        server.how, server.told = "well", replace(TOLD, version="2")
        await world.monitor.look("far")
        sight = world.host().sight
        assert sight is not None
        assert sight.version == "2"
        assert len(server.looks) == 2


@virtually
async def test_who_asks_for_a_look_and_leaves_takes_it_from_nobody() -> None:
    async with watched({"far": Server("slow")}) as world:
        await asyncio.sleep(50)
        leaving = asyncio.ensure_future(world.monitor.look("far"))
        staying = asyncio.ensure_future(world.monitor.look("far"))
        await asyncio.sleep(0.5)
        leaving.cancel()
        assert (await staying) is world.host()


@virtually
async def test_nobody_is_asked_for_what_is_not_there() -> None:
    async with watched() as world:
        with pytest.raises(NotFound, match="no server 'x'"):
            await world.monitor.look("x")


@virtually
async def test_who_is_switched_off_is_left_alone_until_somebody_asks() -> None:
    async with watched() as world:
        server = world.servers["far"]
        await asyncio.sleep(1)
        world.fleet.adopt([replace(spec("far"), is_active=False)])
        await asyncio.sleep(0.5)
        before = len(server.looks)
        await asyncio.sleep(3 * DAY)
        assert await world.monitor.looked() == frozenset()
        assert len(server.looks) == before
        await world.monitor.look("far")
        assert len(server.looks) == before + 1
        world.fleet.adopt([spec("far")])
        await asyncio.sleep(RECENT + 0.1)
        assert len(server.looks) == before + 2


@virtually
async def test_who_comes_is_looked_at_and_who_goes_is_not() -> None:
    async with watched({"a": Server(), "b": Server("hangs")}) as world:
        await asyncio.sleep(1)
        waiting = asyncio.ensure_future(world.monitor.look("b"))
        await asyncio.sleep(0)
        world.servers["c"] = Server()
        world.fleet.adopt([spec("a"), spec("c")])
        await asyncio.sleep(0.1)
        assert world.host("c").state == "up"
        assert waiting.done(), "who waited for one that left waits no longer"
        assert world.servers["b"].at_once == 0
        before = len(world.servers["b"].looks)
        await asyncio.sleep(100)
        assert len(world.servers["b"].looks) == before


@virtually
async def test_who_asks_for_one_that_comes_and_goes_at_once_waits_for_nothing() -> None:
    async with watched({}) as world:
        looking = asyncio.ensure_future(world.monitor.look("far"))
        asyncio.get_running_loop().call_soon(world.fleet.adopt, [])
        world.fleet.adopt([spec("far")])  # the watch takes its first step behind these two: never
        assert (await looking).spec.name == "far"


@virtually
async def test_a_list_waits_for_the_look_that_somebody_has_just_asked_for() -> None:
    async with watched() as world:
        await asyncio.sleep(5)
        looks = len(world.servers["far"].looks)
        anew = asyncio.ensure_future(world.monitor.look("far"))
        await asyncio.sleep(0)  # it was asked for, and has not begun
        await world.monitor.looked(age=DAY)
        assert len(world.servers["far"].looks) == looks + 1
        assert world.servers["far"].at_once == 0
        await anew


@virtually
async def test_a_defect_of_ours_ends_no_watch(caplog: pytest.LogCaptureFixture) -> None:
    async with watched({"far": Server("defect")}) as world:
        await asyncio.sleep(1)
        assert world.host().state == "down"
        assert "a defect of ours" in caplog.text
        world.servers["far"].how = "well"
        await asyncio.sleep(10)
        assert world.host().state in {"trying", "up"}


@virtually
async def test_what_cannot_be_asked_yet_is_unknown() -> None:
    async with watched({"far": Server()}) as world:
        await asyncio.sleep(1)
        world.fleet.adopt([spec("far"), spec("new")])
        await asyncio.sleep(5)
        assert world.host("new").state == "unknown"
        world.servers["new"] = Server()
        await asyncio.sleep(10)
        assert world.host("new").state == "up"


@virtually
async def test_the_first_failed_request_is_looked_into_at_once_and_others_are_not() -> None:
    async with watched() as world:
        server = world.servers["far"]
        await asyncio.sleep(500)
        server.how = "refuses"
        began = clock()
        world.request(Unreachable("no"))
        await asyncio.sleep(0.1)
        assert world.host().state == "down"
        assert len([look for look in server.looks if look >= began]) == 1


@virtually
async def test_a_refused_request_is_looked_into_before_time_passes_also_right_after_a_good_look() -> None:
    async with watched() as world:
        server = world.servers["far"]
        await world.monitor.look("far")
        server.how, began = "refuses", clock()
        world.request(Unreachable("no"))
        assert await world.monitor.looked(age=1e9) == frozenset(), "however old a good look may be"
        assert (world.host().state, world.host().failure) == ("down", "the server cannot be reached")
        assert clock() - began < RECENT / 2


@virtually
async def test_a_server_that_fails_every_other_request_is_not_looked_at_for_each() -> None:
    async with watched() as world:
        server = world.servers["far"]
        await asyncio.sleep(100)
        began = clock()
        while clock() < began + 20:
            world.request(Garbled("500"))
            world.request()
            await asyncio.sleep(0.02)
        looks = [look for look in server.looks if look >= began]
        assert 15 <= len(looks) <= 20 / RECENT + 20 / PACE.idle + 2


@virtually
async def test_a_list_that_is_cut_is_said_to_be_once(caplog: pytest.LogCaptureFixture) -> None:
    async with watched({"far": Server(told=replace(TOLD, more=True))}) as world:
        await asyncio.sleep(100)
        assert caplog.messages == [
            "the server 'far' lists more models than are looked at: beyond the first 1 none is known of"
        ]
        world.servers["far"].told = TOLD
        await world.monitor.look("far")
        world.servers["far"].told = replace(TOLD, more=True)
        await world.monitor.look("far")
        assert len(caplog.messages) == 2, "it was not for a while"


@virtually
async def test_one_whose_lists_work_and_whose_models_do_not_is_tried_ever_less() -> None:
    async with watched() as world:
        await asyncio.sleep(100)
        failed = 0
        end = clock() + 300
        while clock() < end:
            if world.host().state != "down" and not world.host().proving:
                world.request(Garbled("500"))
                failed += 1
            await asyncio.sleep(0.05)
        assert failed <= IN_A_ROW + 300 / (PACE.longest_down * (1 - PACE.chance)) + 5


@virtually
async def test_one_that_nobody_asks_is_thought_well_of_after_a_minute_and_given_up_by_one_failure() -> None:
    async with watched() as world:
        await asyncio.sleep(5)
        for _ in range(IN_A_ROW):
            world.request(Unreachable("no"))
        assert world.host().state == "down"
        began = clock()
        await world.until(lambda host: host.state == "up")
        assert 30 < clock() - began < 60
        looks = len(world.servers["far"].looks)
        await asyncio.sleep(600)
        assert world.host().state == "up"
        assert len(world.servers["far"].looks) - looks < 600 / PACE.longest_idle * 1.3 + 10, "no more than of any other"
        world.request(Unreachable("no"))
        assert world.host().state == "down"


@virtually
async def test_one_that_healed_is_used_again_within_ten_seconds() -> None:
    for seed in range(40):
        how: How = "hangs" if seed % 2 else "refuses"
        async with watched(seed=seed) as world:
            await asyncio.sleep(20 + Random(seed).random() * 20)
            world.servers["far"].how = how
            world.request(Unreachable("no"))
            await asyncio.sleep(20 + Random(seed).random() * 60)
            assert world.host().state == "down"
            world.servers["far"].how = "well"
            healed = clock()
            await world.until(lambda host: host.state != "down")
            world.request()
            assert world.host().state == "up"
            assert clock() - healed < 10.0, (seed, how)


@pytest.mark.parametrize("asked", [False, True])
@virtually
async def test_after_a_hundred_flaps_the_truth_is_told_a_hundred_times(asked: bool) -> None:
    told_true = 0
    for seed in range(100):
        random = Random(seed)
        server = Server()
        async with watched({"far": server}, seed=seed) as world:
            asking = asyncio.ensure_future(requests(world, server, Random(seed + 1000))) if asked else None
            for _ in range(100):
                server.how = random.choice(("well", "refuses", "hangs", "garbles", "slow"))
                await asyncio.sleep(random.expovariate(1 / 3))
            server.how = random.choice(("well", "refuses", "hangs", "slow"))
            await asyncio.sleep(40)  # an idle one is looked at within 10 s; then what is down has failed at once
            answers = world.host().state == "up"
            told_true += answers == server.answers
            assert (world.host().failure == "") == server.answers
            if asking:
                asking.cancel()
    assert told_true == 100


async def requests(world: Watched, server: Server, random: Random) -> None:
    """One after the other, each met as the server is then."""
    while True:
        await asyncio.sleep(random.expovariate(5.0))
        host = world.host()
        if host.state == "down" or host.proving:
            continue
        attempt = world.fleet.began(host)
        if server.how in {"well", "slow"}:
            attempt.answered()
            await asyncio.sleep(random.random())
            attempt.ended(None if server.answers else Unreachable("in the middle"))
        else:
            attempt.ended(Unreachable("no"))


@virtually
async def test_a_thousand_hosts_are_looked_at_in_their_own_time() -> None:
    servers = {f"s{number}": Server() for number in range(1000)}
    async with watched(servers) as world:
        await asyncio.sleep(600)
        assert all(host.state == "up" for host in world.fleet.hosts())
        assert len(world.fleet.holders("m:latest")) == 1000
        late = [look for server in servers.values() for look in server.looks if look > 300]
        seconds = {int(look) for look in late}
        assert len(seconds) > 250, "they do not fall into step"


@virtually
async def test_what_is_in_memory_is_as_it_was_told_last() -> None:
    async with watched() as world:
        await asyncio.sleep(1)
        assert world.host().is_warm("m:latest") is False
        warm = Running(TOLD.models[0], "running", 0, 1, 1, "", 4096)
        world.servers["far"].told = replace(TOLD, running=(warm,))
        await world.monitor.look("far")
        assert world.host().is_warm("m:latest") is True


def loaded(*names: str) -> Told:
    """With these in memory."""
    return replace(TOLD, running=tuple(Running(Model(name, 1, "", ""), "running", 0, 1, 1, "", 4096) for name in names))


@virtually
async def test_what_a_request_brought_into_memory_is_seen_soon_and_with_one_look() -> None:
    async with watched() as world:
        server = world.servers["far"]
        await asyncio.sleep(100)
        before = len(server.looks)
        attempts = [world.fleet.began(world.host(), "m:latest") for _ in range(20)]
        server.told = loaded("m:latest")
        for attempt in attempts:
            attempt.answered()
        assert world.fleet.is_behind(world.host())
        await asyncio.sleep(0.1)
        assert world.host().is_warm("m:latest")
        assert not world.fleet.is_behind(world.host())
        assert len(server.looks) == before + 1
        world.fleet.began(world.host(), "m:latest").answered()
        assert not world.fleet.is_behind(world.host()), "it is known to be there"


@virtually
async def test_a_host_that_never_tells_of_a_model_is_not_looked_at_for_every_request() -> None:
    async with watched() as world:
        server = world.servers["far"]
        await asyncio.sleep(100)
        before, began = len(server.looks), clock()
        while clock() < began + 60:
            attempt = world.fleet.began(world.host(), "m:latest")
            attempt.answered()
            attempt.ended()
            await asyncio.sleep(0.01)
        assert len(server.looks) - before <= 60 / PACE.busy + 60 / PACE.idle + 2


@virtually
async def test_a_look_that_began_before_the_answer_does_not_count_for_it() -> None:
    async with watched({"far": Server("slow")}) as world:
        server = world.servers["far"]
        await asyncio.sleep(50)
        looking = asyncio.ensure_future(world.monitor.look("far"))
        await asyncio.sleep(1.0)
        assert server.at_once == 1
        world.fleet.began(world.host(), "m:latest").answered()
        await looking
        assert world.fleet.is_behind(world.host())
        server.told = loaded("m:latest")
        await world.until(lambda host: bool(host.is_warm("m:latest")))
        assert not world.fleet.is_behind(world.host())
        assert clock() < 55


@virtually
async def test_a_list_of_what_is_in_memory_asks_those_whose_word_is_old() -> None:
    async with watched({"old": Server(), "new": Server(), "behind": Server(), "hangs": Server()}) as world:
        await asyncio.sleep(100)
        await world.monitor.look("behind")
        await world.monitor.look("new")
        world.servers["hangs"].how = "hangs"
        before = {name: len(server.looks) for name, server in world.servers.items()}
        world.fleet.began(world.host("behind"), "m:latest").answered()
        began = clock()
        answering = await world.monitor.looked(1.0, age=2.0, among=lambda host: host.spec.name != "none")
        assert clock() - began == pytest.approx(1.0)
        assert {host.spec.name for host in answering} == {"old", "new", "behind"}
        assert {name for name, server in world.servers.items() if len(server.looks) > before[name]} == {
            "old",
            "behind",
            "hangs",
        }
        assert await world.monitor.looked(1.0, among=lambda host: host.spec.name == "none") == frozenset()


@virtually
async def test_our_own_engine_is_looked_at_when_somebody_asks_while_it_is_alone() -> None:
    async with watched({"local": Server()}) as world:
        server = world.servers["local"]
        await asyncio.sleep(3600)
        assert server.looks == []
        assert await world.monitor.looked() == {world.host("local")}
        assert len(server.looks) == 1
        await asyncio.sleep(3600)
        assert len(server.looks) == 1
        world.servers["far"] = Server()
        world.fleet.adopt(map(spec, world.servers))
        await asyncio.sleep(60)
        many = len(server.looks)
        assert many >= 60 / PACE.longest_idle, "it is one of many now"
        world.host("local").in_flight = 1
        world.fleet.began(world.host("local"), "m:latest")
        await asyncio.sleep(60)
        assert len(server.looks) - many <= 60 / PACE.longest_idle / (1 - PACE.chance) + 1, "it tells of memory unasked"
        world.fleet.adopt([spec("local")])
        await asyncio.sleep(60)
        many = len(server.looks)
        await asyncio.sleep(3600)
        assert len(server.looks) == many


@virtually
async def test_looks_are_ours_whoever_is_the_cause() -> None:
    ways: list[tuple[str, ...]] = []

    class Asking(Server):
        async def look(self) -> Told:
            ways.append(via.way())
            return await super().look()

    via.begin("us")
    async with watched({"far": Asking()}) as world:
        via.arrive("them", "us", looks=True)  # a request of another gateway registers a server, and asks for a look
        world.servers["new"] = Asking()
        world.fleet.adopt(map(spec, world.servers))
        await world.monitor.look("new")
        await world.monitor.look("far")
    assert set(ways) == {("us",)}
