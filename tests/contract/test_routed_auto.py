"""Requests that leave the choice of the model to us: what has failed is left aside, and another model is an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.awaited import awaited
from tests.contract.backends import chat
from tests.contract.routed_fleet import MODEL, Behind, Came, fleet, visit_of
from tests.contract.test_routed import FIRST_BYTE, GOOD, PERHAPS, REFUSED, UNTOUCHED, failing, is_good

from localmodels.backends.fake import Script
from localmodels.backends.fake.script import Choose
from localmodels.core.catalog import Model
from localmodels.core.chat import EmbedRequest
from localmodels.core.errors import BackendError, LocalModelsError, NotFound, Unreachable
from localmodels.dialects.told import Told
from localmodels.fleet.breaker import IN_A_ROW

OTHER = "n:1"


@asynccontextmanager
async def apart(*scripts: Script | Choose, **about: Any) -> AsyncIterator[Behind]:
    """Servers of which the first has one model, and each of the others another."""
    async with fleet(dict(zip("abc", scripts, strict=False)), first_byte=FIRST_BYTE, **about) as at:
        for number, host in enumerate(at.remotes.fleet.hosts()):
            name = OTHER if number else MODEL
            at.remotes.fleet.saw(host, Told((Model(name if number < 2 else "o:1", 0, "", ""),)))
        yield at


async def asked(at: Behind, *, once: bool = False) -> Came:
    return await at.ask(chat(model="auto"), once=once)


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("script", UNTOUCHED.values(), ids=UNTOUCHED)
@awaited
async def test_who_has_not_taken_it_up_costs_nothing(script: Script, once: bool) -> None:
    async with apart(script, GOOD) as at:
        came = await asked(at, once=once)
        assert is_good(came), came.error
        assert (came.server, came.visit.model) == ("b", OTHER)
        assert at.generations() == {"a": 1, "b": 1}


@awaited
async def test_who_cannot_be_reached_costs_nobody_an_answer() -> None:
    async with apart(GOOD, GOOD) as at:
        at.fakes["a"].refuse()
        for _ in range(2 * IN_A_ROW):
            at.remotes.traffic._rests.clear()
            came = await asked(at)
            assert is_good(came), came.error
            assert (came.server, came.visit.model) == ("b", OTHER)


@pytest.mark.parametrize("script", [script for script, _ in PERHAPS.values()], ids=PERHAPS)
@awaited
async def test_who_may_have_begun_is_followed_by_one_other(script: Script) -> None:
    async with apart(script, GOOD) as at:
        came = await asked(at)
        assert is_good(came), came.error
        assert (came.server, came.visit.model) == ("b", OTHER)


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize(("script", "error"), list(PERHAPS.values())[:2], ids=list(PERHAPS)[:2])
@awaited
async def test_and_by_no_more_than_one_and_by_nobody_where_the_caller_says_so(
    script: Script, error: type[LocalModelsError], once: bool
) -> None:
    async with apart(script, script, GOOD) as at:
        came = await asked(at, once=once)
        assert isinstance(came.error, error)
        assert at.generations() == {"a": 1, "b": 0 if once else 1, "c": 0}


@pytest.mark.parametrize(("script", "error"), list(REFUSED.values())[:3], ids=list(REFUSED)[:3])
@awaited
async def test_what_is_wrong_with_a_request_is_wrong_everywhere(script: Script, error: type[LocalModelsError]) -> None:
    async with apart(script, GOOD) as at:
        assert isinstance((await asked(at)).error, error)
        assert at.generations() == {"a": 1, "b": 0}


@awaited
async def test_when_all_fail_the_caller_hears_the_last() -> None:
    async with apart(failing(429, retry_after=3), failing(404)) as at:
        came = await asked(at)
        assert isinstance(came.error, NotFound)
        assert at.generations() == {"a": 1, "b": 1}
        assert [host.in_flight for host in at.remotes.fleet.hosts()] == [0, 0]


@pytest.mark.parametrize("kind", ["copies", "models"])
@awaited
async def test_who_says_for_how_long_he_is_busy_is_believed_as_for_a_name(kind: str) -> None:
    busy = failing(429, retry_after=30)
    async with fleet({"a": busy, "b": GOOD}) if kind == "copies" else apart(busy, GOOD) as at:
        for _ in range(20):
            assert is_good(await asked(at))
        assert at.generations() == {"a": 1, "b": 20}


@awaited
async def test_also_where_vectors_are_asked_for() -> None:
    async with apart(failing(429, retry_after=30), GOOD) as at:
        for _ in range(10):
            assert (await at.answers.embed(EmbedRequest("auto", ("x",)), visit_of())).vectors
        assert at.generations() == {"a": 1, "b": 10}


@awaited
async def test_a_server_that_has_failed_a_request_is_asked_for_its_other_models_last_and_for_one_alone() -> None:
    many = tuple(Model(f"m:{number}", 0, "", "") for number in range(5))
    async with apart(failing(404), failing(404)) as at:
        at.remotes.fleet.saw(at.remotes.fleet.hosts()[0], Told(many))
        assert isinstance((await asked(at)).error, NotFound)
        assert at.remotes.traffic.rests() == {("id-a", "m:0"), ("id-b", OTHER), ("id-a", "m:1")}
        assert at.generations() == {"a": 2, "b": 1}


@awaited
async def test_a_server_that_cannot_be_reached_is_asked_for_none_of_its_other_models() -> None:
    async with apart(GOOD) as at:
        (host,) = at.remotes.fleet.hosts()
        at.remotes.fleet.saw(host, Told(tuple(Model(f"m:{number}", 0, "", "") for number in range(5))))
        at.fakes["a"].refuse()
        assert isinstance((await asked(at)).error, Unreachable)
        assert at.remotes.traffic.tally.at(host).ended == {Unreachable.code: 1}


@awaited
async def test_the_only_one_that_is_left_says_itself_what_it_met() -> None:
    async with apart(failing(500)) as at:
        came = await asked(at)
        assert isinstance(came.error, BackendError)
