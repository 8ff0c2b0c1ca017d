"""Hosts and models that fail: what rests, what is tried again and by whom, and what callers are told meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from msgspec.structs import replace
from tests.awaited import awaited
from tests.contract.backends import chat
from tests.contract.routed_fleet import MODEL, Behind, Came, fleet
from tests.contract.test_routed import GOOD, REFUSING, failing, is_good

from localmodels.backends.fake import FakeServer, Script
from localmodels.backends.fake.script import Break, Choose
from localmodels.core.catalog import Model
from localmodels.core.chat import Chunk
from localmodels.core.errors import BackendError, Unavailable, Unreachable
from localmodels.core.secrets import Secret
from localmodels.core.servers import ServerSpec
from localmodels.dialects.told import Told
from localmodels.fleet.breaker import IN_A_ROW
from localmodels.fleet.hosts import Host
from localmodels.fleet.turns import HEALING
from localmodels.flows.connections.request_counts import ANSWERED


async def asked_later(at: Behind, model: str = MODEL) -> Came:
    """A request after whoever has failed a moment ago has rested."""
    at.remotes.traffic._rests.clear()
    return await at.ask(chat(model=model))


def says_by_model(**scripts: Script) -> Choose:
    """Each of its models answers in its own way."""
    return lambda request: scripts[request.model.partition(":")[0]]


@pytest.mark.parametrize("road", ["translated", "relay"])
@pytest.mark.parametrize("bad", [failing(500), REFUSING, failing(503)], ids=["500", "reset", "503"])
@awaited
async def test_a_broken_model_leaves_the_others_of_its_server_alone(bad: Script, road: str) -> None:
    async with fleet({"box": says_by_model(bad=bad, good=GOOD)}, model="good:1") as at:
        for _ in range(3 * IN_A_ROW):
            if road == "relay":
                broken, well = await at.relay(model="box/bad:1"), await at.relay(model="box/good:1")
            else:
                broken, well = await at.ask(chat(model="box/bad:1")), await at.ask(chat(model="box/good:1"))
            assert isinstance(broken.error, (BackendError, Unavailable))
            assert well.error is None
            assert at.remotes.fleet.hosts()[0].state == "up"


@pytest.mark.parametrize("model", [MODEL, "auto"])
@awaited
async def test_a_broken_model_is_asked_where_it_is_whole(model: str) -> None:
    async with fleet({"bad": failing(500), "good": GOOD}) as at:
        for _ in range(IN_A_ROW + 20):
            assert is_good(await asked_later(at, model))
        assert at.generations() == {"bad": IN_A_ROW, "good": IN_A_ROW + 20}


@awaited
async def test_a_model_that_fails_everywhere_is_tried_by_one_and_refused_to_others() -> None:
    async with fleet({"only": failing(500)}, clock=lambda: 0.0) as at:
        for _ in range(IN_A_ROW + 1):
            assert isinstance((await at.ask()).error, BackendError), "five, and the one that tries it"
        refused = [(await at.ask()).error for _ in range(3)]
        assert all(isinstance(error, Unavailable) for error in refused)
        assert str(refused[0]) == f"the model '{MODEL}' fails whenever it is asked on the server 'only'"
        host = at.remotes.fleet.hosts()[0]
        seconds = at.remotes.fleet.healing(host, MODEL)
        assert seconds is not None
        error = (await at.ask()).error
        assert error is not None
        assert error.retry_after is not None
        assert 1.0 <= error.retry_after <= max(1.0, seconds), "then one may try it"
        assert at.generations() == {"only": IN_A_ROW + 1}


@pytest.mark.parametrize("model", [MODEL, f"only/{MODEL}"])
@pytest.mark.parametrize("road", ["translated", "relay"])
@awaited
async def test_what_waits_behind_a_broken_model_is_not_sent_any_more(road: str, model: str) -> None:
    async with fleet({"only": failing(500)}, places=1, clock=lambda: 0.0) as at:
        asks = [at.relay(model=model) if road == "relay" else at.ask(chat(model=model)) for _ in range(16)]
        errors = [came.error for came in await asyncio.gather(*asks)]
        assert at.generations() == {"only": IN_A_ROW + 1}, "five, and the one that tries it"
        assert sum(isinstance(error, BackendError) for error in errors) == IN_A_ROW + 1
        refused = [error for error in errors if isinstance(error, Unavailable)]
        assert len(refused) == 16 - IN_A_ROW - 1
        assert all(error.retry_after and MODEL in error.message for error in refused)
        host = at.remotes.fleet.hosts()[0]
        assert (host.in_flight, host.waiting, host.state) == (0, 0, "up")
        for expected in (BackendError, Unavailable):  # who asks for this very server, is sent there all the same
            came = await at.ask(chat(model=f"only/{MODEL}" if expected is BackendError else MODEL))
            assert isinstance(came.error, expected)


@awaited
async def test_where_the_choice_is_ours_a_model_that_was_given_up_is_chosen_no_more() -> None:
    async with fleet({"box": says_by_model(bad=failing(500), good=GOOD)}, clock=lambda: 0.0) as at:
        at.remotes.fleet.saw(at.remotes.fleet.hosts()[0], Told((Model("bad:1", 0, "", ""), Model("good:1", 0, "", ""))))
        for number in range(IN_A_ROW + 20):
            came = await at.ask(chat(model="auto"))
            assert (came.error, came.text, came.visit.model) == (None, "good!", "good:1"), number
            at.remotes.traffic._rests.clear()
        ended = at.remotes.traffic.tally.at(at.remotes.fleet.hosts()[0]).ended
        assert ended == {BackendError.code: IN_A_ROW, ANSWERED: IN_A_ROW + 20}, "asked first, until it was given up"


@pytest.mark.parametrize("change", [{"key": Secret("new")}, {"name": "other", "key": Secret("new")}])
@awaited
async def test_what_waits_while_its_server_gets_a_new_key_goes_out_with_it(change: dict[str, Any]) -> None:
    async with fleet({"box": GOOD}, places=1) as at:
        (host,) = at.remotes.fleet.hosts()
        await at.remotes.adopt([replace(host.spec, key=Secret("old"))])
        await at.remotes.traffic.places.get([host], "other", model=MODEL)
        asked = asyncio.create_task(at.ask(chat(model=f"box/{MODEL}")))
        while not host.waiting:  # noqa: ASYNC110 - nobody tells of who waits
            await asyncio.sleep(0)
        await at.remotes.adopt([replace(host.spec, **change)])
        at.remotes.traffic.places.give_back(host, MODEL)
        assert is_good(await asked)
        assert [one.headers["authorization"] for one in at.fakes["box"].asked] == ["Bearer new"]


@awaited
async def test_when_all_are_down_because_of_requests_the_next_request_finds_who_is_well_again() -> None:
    async with AsyncExitStack() as stack:
        dead = await stack.enter_async_context(FakeServer(GOOD))
        port = int(dead.url.rpartition(":")[2])
        spec = ServerSpec(name="box", id="id-box", url=dead.url, kind="ollama", registered=True, max_concurrent=4)
        at = await stack.enter_async_context(fleet({}, more=[spec]))
        at.remotes.fleet.saw(at.remotes.fleet.hosts()[0], Told((Model(MODEL, 0, "", ""),)))
        await dead.__aexit__(None, None, None)
        for _ in range(IN_A_ROW):
            assert isinstance((await asked_later(at)).error, Unreachable)
        assert at.remotes.fleet.hosts()[0].state == "down"
        healed = await stack.enter_async_context(FakeServer(GOOD, port=port))
        came = await asyncio.gather(*(at.ask() for _ in range(8)))
        assert all(map(is_good, came)), "one proves it, the others wait for him"
        assert (at.remotes.fleet.hosts()[0].state, len(healed.book.visits)) == ("up", 8)


def all_down(at: Behind) -> list[Host]:
    """Requests have found them failing, and nobody has looked since."""
    hosts = list(at.remotes.fleet.hosts())
    for host in hosts:
        for _ in range(IN_A_ROW):
            at.remotes.fleet.began(host, MODEL).ended(Unreachable("refused"))
        assert host.state == "down"
    return hosts


@awaited
async def test_one_that_is_silent_while_it_is_tried_keeps_nobody_from_trying_another() -> None:
    async with fleet({"silent": Script(breaks=Break("stall")), "well": GOOD}) as at:
        silent, well = all_down(at)
        first = asyncio.create_task(at.ask())
        await at.book("silent").nth(0)
        assert (silent.state, well.state, well.failure) == ("trying", "down", "refused"), "one at a time is dared"
        came = [await at.ask() for _ in range(3)]
        assert all(map(is_good, came))
        assert (well.state, at.generations()) == ("up", {"silent": 1, "well": 3})
        first.cancel()
        await asyncio.wait([first])
        assert [host.in_flight for host in (silent, well)] == [0, 0]


@pytest.mark.parametrize("model", [MODEL, "auto"])
@awaited
async def test_who_waits_for_one_that_goes_down_is_sent_to_one_that_came_up(model: str) -> None:
    async with fleet({"silent": Script(breaks=Break("stall")), "well": GOOD}) as at:
        silent, well = all_down(at)
        at.remotes.fleet.failed(well, Unreachable("dead"), float("inf"))
        first = asyncio.create_task(at.ask())
        await at.book("silent").nth(0)
        second = asyncio.create_task(at.ask(chat(model=model)))
        while not silent.waiting:  # noqa: ASYNC110 - nobody tells of who waits
            await asyncio.sleep(0)
        at.remotes.fleet.saw(well, Told((Model("n:1" if model == "auto" else MODEL, 0, "", ""),)))
        at.remotes.fleet.failed(silent, Unreachable("dead"), float("inf"))
        came = await second
        assert is_good(came), came.error
        assert (came.server, came.visit.model) == ("well", "n:1" if model == "auto" else MODEL)
        first.cancel()
        await asyncio.wait([first])


@awaited
async def test_and_where_none_is_one_attempt_is_made_and_the_others_are_told_when_to_come_back() -> None:
    async with fleet({"a": GOOD, "b": GOOD}, clock=lambda: 0.0) as at:
        for fake in at.fakes.values():
            fake.refuse()
        hosts, tally = at.remotes.fleet.hosts(), at.remotes.traffic.tally

        def attempts() -> list[int]:
            return [tally.at(host).ended[Unreachable.code] for host in hosts]

        for _ in range(IN_A_ROW):
            assert isinstance((await asked_later(at)).error, Unreachable)
        assert ([host.state for host in hosts], attempts()) == (["down", "down"], [IN_A_ROW] * 2)
        errors = [(await at.ask()).error for _ in range(5)]
        assert attempts() == [IN_A_ROW + 1] * 2, "one try each, and no more within a second"
        assert isinstance(errors[0], Unreachable)
        assert [type(error) for error in errors[1:]] == [Unavailable] * 4
        assert [error.retry_after for error in errors[1:] if error] == [1.0] * 4
        for host in hosts:
            at.remotes.fleet.failed(host, Unreachable("dead"), float("inf"))
        error = (await at.ask()).error
        assert error is not None
        assert (error.retry_after, attempts()) == (HEALING, [IN_A_ROW + 1] * 2)


@awaited
async def test_the_first_piece_of_a_whole_answer_proves_its_host_long_before_its_caller_gets_it() -> None:
    """Who waits for a host that is tried need not wait for the last word of a long answer."""
    begun = Script((Chunk("one"), Chunk("two")), breaks=Break("stall", after=1))
    async with fleet({"slow": begun}) as at:
        (slow,) = all_down(at)
        proved = asyncio.Event()
        at.remotes.fleet.listen(lambda host: proved.set() if host.state == "up" else None)
        whole = asyncio.create_task(at.ask(replace(chat(model=MODEL), stream=False)))
        await proved.wait()
        assert (whole.done(), at.generations()) == (False, {"slow": 1})
        whole.cancel()
        await at.book("slow").empty()
        assert slow.state == "up", "its caller left; that is no failure of the host"
