"""What requests on a fleet leave in its figures: at which host, how often and why, on real connections."""

from __future__ import annotations

from contextlib import aclosing

import pytest
from msgspec.structs import replace
from tests.awaited import awaited
from tests.contract.backends import chat
from tests.contract.routed_fleet import DONE, MODEL, Behind, Own, fleet, says, visit_of

from localmodels.backends.fake import Script
from localmodels.backends.fake.script import Break, Failure
from localmodels.core.chat import Chunk, Image, Message, Text
from localmodels.flows.connections.failover import Retries
from localmodels.flows.health.fleet_metrics import readings

GOOD = says("good")
SILENT = Script(breaks=Break("stall"))
PATIENCE = 0.15  # seconds, where somebody falls silent
ROADS = ("translated", "relay")


def busy(status: int = 503) -> Script:
    return Script(breaks=Break("fail", failure=Failure("no", status, "", None)))


def figures(at: Behind, *names: str) -> dict[tuple[str, ...], float]:
    """Those of these names, by their labels' texts, where they are not 0."""
    traffic = at.remotes.traffic
    return {
        (one.name.removeprefix("localmodels_"), *(text for _, text in one.labels)): one.value
        for one in readings(traffic.fleet, traffic.tally)
        if one.name.removeprefix("localmodels_") in names and one.value
    }


async def went(at: Behind, road: str, *, once: bool = False) -> None:
    await (at.ask(once=once) if road == "translated" else at.relay(once=once))


ENDED = ("server_requests", "failovers", "duplicates", "retries_refused")


@pytest.mark.parametrize("road", ROADS)
@awaited
async def test_an_answer(road: str) -> None:
    async with fleet({"a": GOOD, "b": GOOD}) as at:
        await went(at, road)
        await went(at, road)
        assert figures(at, *ENDED) == {("server_requests", "a", "answered"): 2}
        chosen = figures(at, "routed")
        assert sum(chosen.values()) == 2
        assert {labels[1] for labels in chosen} == {"a"}


@pytest.mark.parametrize("road", ROADS)
@awaited
async def test_a_failover_of_one_who_has_done_nothing(road: str) -> None:
    async with fleet({"a": busy(), "b": GOOD}) as at:
        await went(at, road)
        assert figures(at, *ENDED) == {
            ("server_requests", "a", "unavailable"): 1,
            ("failovers", "a", "unavailable"): 1,
            ("server_requests", "b", "answered"): 1,
        }


@pytest.mark.parametrize("road", ROADS)
@awaited
async def test_a_failover_of_one_who_may_have_begun_is_a_duplicate(road: str) -> None:
    async with fleet({"a": SILENT, "b": GOOD}, first_byte=PATIENCE) as at:
        await went(at, road)
        assert figures(at, *ENDED) == {
            ("server_requests", "a", "backend_timeout"): 1,
            ("failovers", "a", "backend_timeout"): 1,
            ("duplicates", "a"): 1,
            ("server_requests", "b", "answered"): 1,
        }
        await at.book("a").empty()


@pytest.mark.parametrize("road", ROADS)
@awaited
async def test_no_duplicate_where_the_caller_wants_none(road: str) -> None:
    async with fleet({"a": SILENT, "b": GOOD}, first_byte=PATIENCE) as at:
        await went(at, road, once=True)
        assert figures(at, *ENDED) == {("server_requests", "a", "backend_timeout"): 1}
        await at.book("a").empty()


@pytest.mark.parametrize("road", ROADS)
@awaited
async def test_what_is_not_sent_once_more_since_too_much_was(road: str) -> None:
    async with fleet({"a": busy(), "b": GOOD}) as at:
        at.remotes.traffic.retries = Retries(reserve=0.0)
        await went(at, road)
        assert figures(at, *ENDED) == {
            ("server_requests", "a", "unavailable"): 1,
            ("retries_refused", "a"): 1,
        }


@awaited
async def test_a_host_that_cannot_do_it_is_passed_over() -> None:
    picture = Message("user", (Text("What is this?"), Image(b"\x89PNG")))
    async with fleet({"far": GOOD}, Own(GOOD), own_first=True) as at:
        await at.ask(replace(chat(model=MODEL), messages=(picture,)))
        told = figures(at, *ENDED)
        assert told["failovers", "local", "unsuited"] == 1
        assert told["server_requests", "far", "answered"] == 1


@awaited
async def test_a_caller_that_leaves() -> None:
    words = Script((Chunk("one"), Chunk("two")), DONE, breaks=Break("stall", after=1))
    async with fleet({"a": words, "b": GOOD}) as at:
        async with aclosing(at.answers.chat(chat(model=MODEL), visit_of())) as stream:
            async for _ in stream:
                break
        assert figures(at, *ENDED) == {("server_requests", "a", "left"): 1}
        assert figures(at, "server_in_flight") == {}
        await at.book("a").empty()


@awaited
async def test_who_is_asked_while_an_answer_comes() -> None:
    words = Script((Chunk("one"), Chunk("two")), DONE, breaks=Break("stall", after=1))
    async with fleet({"a": words}) as at:
        async with aclosing(at.answers.chat(chat(model=MODEL), visit_of())) as stream:
            await anext(stream)
            assert figures(at, "server_in_flight", "server_max_concurrent") == {
                ("server_in_flight", "a"): 1,
                ("server_max_concurrent", "a"): 4,
            }
        await at.book("a").empty()
