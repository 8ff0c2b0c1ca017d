"""Hosts and models that fail: what rests, what is tried again and by whom, and what callers are told meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from tests.awaited import awaited
from tests.contract.backends import chat
from tests.contract.routed_fleet import MODEL, Behind, Came, fleet
from tests.contract.test_routed import GOOD, REFUSING, failing, is_good

from localmodels.backends.fake import FakeServer, Script
from localmodels.backends.fake.script import Choose
from localmodels.core.catalog import Model
from localmodels.core.errors import BackendError, Unavailable, Unreachable
from localmodels.core.servers import ServerSpec
from localmodels.dialects.told import Told
from localmodels.fleet.breaker import IN_A_ROW
from localmodels.fleet.turns import HEALING


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
