"""Answers in one piece: of one that breaks off its caller has had nothing, so another host may still give it."""

from __future__ import annotations

from contextlib import aclosing

import pytest
from msgspec.structs import replace
from tests.awaited import awaited
from tests.contract.backends import chat, generate
from tests.contract.routed_fleet import MODEL, Own, fleet, visit_of
from tests.contract.test_routed import GOOD, failing, is_good

from localmodels.backends.fake import Script, Wire
from localmodels.backends.fake.script import Break, Failure, Page
from localmodels.core.chat import ChatRequest, Chunk, Done, Timings, Usage
from localmodels.core.errors import ContextLengthExceeded, LocalModelsError, StreamCut, Unavailable
from localmodels.flows.answering.choices import Choices

WORDS = (Chunk("one"), Chunk("two"), Chunk("three"))
DONE = Done("stop", Usage(5, 3))
SHORT = 0.15  # seconds, where somebody falls silent
CUTS: dict[str, Script] = {
    "fin": Script(WORDS, DONE, wire=Wire(at=200, then="fin")),
    "rst": Script(WORDS, DONE, wire=Wire(at=200, then="rst")),
    "silent": Script(WORDS, DONE, wire=Wire(at=200, then="stall")),
    "garbage": Script(WORDS, DONE, wire=Wire(at=200, then="garbage")),
    "no end": Script(WORDS, DONE, breaks=Break("cut", after=2)),
    "says so": Script(WORDS, DONE, breaks=Break("fail", after=2, failure=Failure("no", 500))),
}
KINDS = ("ollama", "openai", "llamacpp", "anthropic")
WHOLE = replace(chat(model=MODEL), stream=False)
TOO_LONG = "This model's maximum context length is 8 tokens, but the prompt has 9 tokens."


@pytest.mark.parametrize("script", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("kind", KINDS)
@awaited
async def test_one_that_breaks_off_is_given_by_another(kind: str, script: Script) -> None:
    kinds = dict.fromkeys(("bad", "good"), kind)
    async with fleet({"bad": script, "good": GOOD}, kinds=kinds, idle=SHORT, first_byte=SHORT) as at:
        came = await at.ask(WHOLE)
        assert is_good(came), came.error
        assert (came.server, at.generations()) == ("good", {"bad": 1, "good": 1})
        assert at.remotes.traffic.tally.at(at.remotes.fleet.hosts()[0]).duplicates == 1, "and it is counted"
        assert came.visit.charged.completion_tokens == 3, "nothing of the first one was delivered"
        await at.book("bad").empty()


@pytest.mark.parametrize(("once", "asked"), [(False, 2), (True, 1)])
@awaited
async def test_one_that_has_begun_is_generated_once_more_at_most_whatever_breaks_it_off(once: bool, asked: int) -> None:
    busy = Script(WORDS, DONE, breaks=Break("fail", after=2, failure=Failure("overloaded", 529, "overloaded_error")))
    async with fleet(
        {"a": busy, "b": busy, "c": busy, "good": GOOD}, kinds=dict.fromkeys(("a", "b", "c"), "openai")
    ) as at:
        came = await at.ask(WHOLE, once=once)
        assert came.error is not None
        assert sum(at.generations().values()) == asked
        assert sum(at.remotes.traffic.tally.at(host).duplicates for host in at.remotes.fleet.hosts()) == asked - 1
        assert came.visit.charged.prompt_tokens, "somebody has taken it"


def sooner(script: Script) -> Script:
    """The same in the middle of an answer in one piece, which has fewer bytes."""
    return script if script.wire.at is None else replace(script, wire=replace(script.wire, at=60))


@pytest.mark.parametrize("script", [*map(sooner, CUTS.values())], ids=CUTS)
@pytest.mark.parametrize("kind", ["ollama", "openai", "anthropic"])
@awaited
async def test_also_where_it_passes_as_it_is(kind: str, script: Script) -> None:
    kinds = dict.fromkeys(("bad", "good"), kind)
    async with fleet({"bad": script, "good": GOOD}, kinds=kinds, idle=SHORT, first_byte=SHORT) as at:
        came = await at.relay(kind, stream=False)
        assert is_good(came), came.error
        assert (came.server, at.generations()) == ("good", {"bad": 1, "good": 1})


@pytest.mark.parametrize("kind", ["ollama", "openai"])
@awaited
async def test_also_a_text(kind: str) -> None:
    kinds = dict.fromkeys(("bad", "good"), kind)
    async with fleet({"bad": CUTS["fin"], "good": GOOD}, kinds=kinds) as at:
        assert await at.text(replace(generate(model=MODEL), stream=False, raw=True)) == "good!"
        assert at.generations() == {"bad": 1, "good": 1}


@pytest.mark.parametrize("how", ["no end", "says so"])
@awaited
async def test_also_one_of_this_machine(how: str) -> None:
    async with fleet({"good": GOOD}, Own(CUTS[how]), own_first=True) as at:
        assert is_good(await at.ask(WHOLE))
        assert at.generations() == {"good": 1, "local": 1}


@awaited
async def test_each_of_several_answers_by_itself() -> None:
    scripts = iter((CUTS["fin"], GOOD, GOOD))
    async with fleet({"bad": lambda request: next(scripts), "good": GOOD}, places=1) as at:
        visit, said = visit_of(), list[str]()
        async with aclosing(Choices(at.answers).chat(replace(WHOLE, n=3), visit)) as stream:
            async for events in stream:
                said += [event.text for event in events if isinstance(event, Chunk) and event.text]
        assert sorted(said) == sorted(["good", "!"] * 3)


@pytest.mark.parametrize("script", CUTS.values(), ids=CUTS)
@awaited
async def test_none_is_given_a_third_time_nor_a_second_where_the_caller_says_so(script: Script) -> None:
    for once in (False, True):
        async with fleet({"bad": script, "worse": script, "good": GOOD}, idle=SHORT, first_byte=SHORT) as at:
            came = await at.ask(WHOLE, once=once)
            assert isinstance(came.error, LocalModelsError)
            assert came.text == "", "half of an answer is none"
            assert at.generations() == {"bad": 1, "worse": 0 if once else 1, "good": 0}


@awaited
async def test_a_stream_has_begun_for_its_caller() -> None:
    async with fleet({"bad": CUTS["fin"], "good": GOOD}) as at:
        came = await at.ask(chat(model=MODEL))
        assert isinstance(came.error, StreamCut)
        assert at.generations() == {"bad": 1, "good": 0}


@awaited
async def test_its_first_word_is_timed_as_it_came_and_it_is_one_piece() -> None:
    async with fleet({"only": Script(WORDS, DONE, between=0.05)}) as at:
        visit = (await at.ask(WHOLE)).visit
        assert (visit.pieces, visit.last - visit.first > 80_000_000) == (1, True)


@awaited
async def test_what_another_server_loaded_is_told() -> None:
    cold = Script(WORDS, Done("stop", Usage(5, 3), Timings(9_000_000_000, 7_000_000_000, 1, 1)))
    async with fleet({"only": cold}) as at:
        async with aclosing(at.answers.chat(WHOLE, visit_of())) as stream:
            *_, done = [event async for events in stream for event in events]
        assert isinstance(done, Done)
        assert 7_000_000_000 <= done.timings.load < 8_000_000_000
        assert done.timings.total < 7_000_000_000, "that is measured here"


def too_long() -> Script:
    failure = Failure(TOO_LONG, 400, "context_length_exceeded")
    return Script(breaks=Break("fail", failure=failure))


def long_talk() -> ChatRequest:
    said = chat(model=MODEL).messages[0]
    return replace(chat(model=MODEL), messages=(said,) * 5, truncate=True)


@awaited
async def test_a_conversation_is_shortened_to_the_measure_of_who_can_count_it() -> None:
    """Who cannot is passed over, and the next one gets all of it: he may take more."""
    async with fleet({"small": too_long(), "large": GOOD}, kinds={"small": "ollama", "large": "ollama"}) as at:
        came = await at.ask(long_talk())
        assert is_good(came), came.error
        (asked,) = at.book("large").visits
        assert len(asked.request.messages) == 5  # type: ignore[union-attr]
        assert came.visit.truncated_messages == 0
    async with fleet({"small": too_long(), "own": too_long()}) as at:
        came = await at.ask(long_talk())
        assert isinstance(came.error, ContextLengthExceeded)


@pytest.mark.parametrize("then", [GOOD, failing(503)], ids=["takes it", "is full by now"])
@awaited
async def test_who_can_count_is_asked_again_and_nobody_else(then: Script) -> None:
    scripts = iter((too_long(), then))
    kinds = {"counts": "llamacpp", "other": "ollama"}
    async with fleet({"counts": lambda request: next(scripts), "other": GOOD}, kinds=kinds) as at:
        counting = at.fakes["counts"].pages
        counting["/apply-template"], counting["/tokenize"] = Page(b'{"prompt":"x"}'), Page(b'{"tokens":[1,2,3]}')
        came = await at.ask(long_talk())
        if then is GOOD:
            assert is_good(came)
            assert came.visit.truncated_messages > 0
        else:
            assert isinstance(came.error, Unavailable), "another one might take more of it"
        assert at.generations() == {"counts": 2, "other": 0}
