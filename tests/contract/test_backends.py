"""One suite for everything that answers: the fake as a value, and other servers in each dialect over real sockets.

What needs no script is asked of a real runner too, in ``test_runner.py``.
"""

import asyncio
from contextlib import aclosing
from itertools import count

import pytest
from msgspec.structs import replace
from tests.awaited import awaited
from tests.contract.backends import PATIENT, SCRIPTED, Opens, chat, generate, over_unix

from localmodels.backends.fake import Break, Failure, Script
from localmodels.backends.fake.script import Request
from localmodels.backends.protocol import Backend
from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Done,
    EmbedRequest,
    Event,
    Fold,
    Timings,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    TopLogprob,
    Usage,
    fold,
)
from localmodels.core.errors import (
    BackendError,
    BackendTimeout,
    LocalModelsError,
    NotFound,
    StreamCut,
    Unauthenticated,
    Unavailable,
    Unreachable,
)

LOGPROB = TokenLogprob("é", -0.5, (195, 169), (TopLogprob("é", -0.5, (195, 169)), TopLogprob("e", -1.5, (101,))))
RICH = Script(
    chunks=(
        Chunk(thinking="Let me see. "),
        Chunk(thinking="Yes."),
        Chunk("Café ", logprobs=(LOGPROB,)),
        Chunk("日本 \n\U0001f600\r\n\u2028 data: [DONE]"),
        Chunk(tool_calls=(ToolCallDelta(0, "call_1", "weather"),)),
        Chunk(tool_calls=(ToolCallDelta(0, arguments='{"city":'),)),
        Chunk(tool_calls=(ToolCallDelta(0, arguments='"Lima"}'), ToolCallDelta(1, "call_2", "time", "{}"))),
    ),
    done=Done("tool_calls", Usage(11, 7, 3), Timings(10_000_000, 1_000_000, 2_000_000, 7_000_000)),
)


@pytest.fixture(params=(*SCRIPTED, "unix"))
def opens(request: pytest.FixtureRequest) -> Opens:
    return over_unix if request.param == "unix" else SCRIPTED[request.param]


async def heard(backend: Backend, request: ChatRequest | None = None) -> tuple[list[Event], LocalModelsError | None]:
    """Every event, and the error that ended the stream if one did."""
    events: list[Event] = []
    try:
        async with aclosing(backend.chat(request or chat())) as stream:
            async for some in stream:
                events += some
    except LocalModelsError as error:
        return events, error
    return events, None


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Chunk))


def expected(script: Script) -> Answer:
    folded = Fold()
    for event in script.events:
        folded.add(event)
    return folded.answer()


@awaited
async def test_a_chat_is_chunks_and_then_done_once(opens: Opens) -> None:
    async with opens(RICH) as opened:
        events, error = await heard(opened.backend, replace(chat(), logprobs=True, top_logprobs=2))
    assert error is None
    assert [isinstance(event, Done) for event in events] == [False] * (len(events) - 1) + [True]


@awaited
async def test_everything_that_was_said_arrives(opens: Opens) -> None:
    async with opens(RICH) as opened:
        answer = await fold(opened.backend.chat(replace(chat(), logprobs=True, top_logprobs=2)))
    assert answer == expected(RICH)
    assert answer.tool_calls == (ToolCall("call_1", "weather", '{"city":"Lima"}'), ToolCall("call_2", "time", "{}"))


@awaited
async def test_a_text_is_gone_on_with_in_the_same_way(opens: Opens) -> None:
    async with opens() as opened:
        assert await fold(opened.backend.generate(generate())) == expected(Script())


@awaited
async def test_the_question_arrives_as_it_was_put(opens: Opens) -> None:
    async with opens() as opened:
        await fold(opened.backend.chat(chat("¿Qué?")))
        [visit] = opened.book.visits
    assert isinstance(visit.request, ChatRequest)
    assert (visit.request.model, visit.request.messages) == ("fake:latest", chat("¿Qué?").messages)


FAILURES: dict[type[LocalModelsError], Failure] = {
    BackendError: Failure("on fire", 500),
    Unavailable: Failure("busy", 503, retry_after=7),
    Unauthenticated: Failure("who?", 401),
    NotFound: Failure("nothing here", 404),
    BackendTimeout: Failure("the model sleeps", 504),
}


@pytest.mark.parametrize("kind", FAILURES)
@awaited
async def test_a_failure_before_the_first_event_has_its_class(opens: Opens, kind: type[LocalModelsError]) -> None:
    async with opens(Script(breaks=Break("fail", failure=FAILURES[kind]))) as opened:
        events, error = await heard(opened.backend)
    assert (events, type(error)) == ([], kind)
    assert error is not None
    assert (error.message, error.retry_after) == (FAILURES[kind].message, FAILURES[kind].retry_after)


@pytest.mark.parametrize("after", [1, 2, 3])
@awaited
async def test_a_failure_in_the_middle_comes_after_what_was_said(opens: Opens, after: int) -> None:
    async with opens(Script(breaks=Break("fail", after, Failure("on fire")))) as opened:
        events, error = await heard(opened.backend)
    assert text_of(events) == text_of(list(Script().events[:after]))
    assert isinstance(error, BackendError)
    assert error.message == "on fire"


@pytest.mark.parametrize("after", [0, 1, 3])
@awaited
async def test_an_answer_that_just_ends_was_cut(opens: Opens, after: int) -> None:
    async with opens(Script(breaks=Break("cut", after))) as opened:
        events, error = await heard(opened.backend)
    assert text_of(events) == text_of(list(Script().events[:after]))
    assert type(error) is StreamCut


@pytest.mark.parametrize("opens", SCRIPTED.values(), ids=SCRIPTED)  # our own runners have all the time they need
@pytest.mark.parametrize("after", [0, 1, 3])
@awaited
async def test_silence_runs_out_of_patience(opens: Opens, after: int) -> None:
    async with opens(Script(breaks=Break("stall", after))) as opened:
        events, error = await heard(opened.backend)
        await opened.book.visits[0].closed.wait()
    assert text_of(events) == text_of(list(Script().events[:after]))
    assert type(error) is BackendTimeout


@awaited
async def test_what_takes_no_request_cannot_be_reached(opens: Opens) -> None:
    async with opens(Script(breaks=Break("refuse"))) as opened:
        events, error = await heard(opened.backend)
        with pytest.raises(Unreachable):
            await opened.backend.embed(EmbedRequest("fake:latest", ("a",)))
    assert events == []
    assert isinstance(error, Unreachable)


@awaited
async def test_a_stream_that_is_dropped_is_closed_over_there(opens: Opens) -> None:
    async with opens(Script(breaks=Break("stall", 1)), patience=PATIENT) as opened:
        stream = opened.backend.chat(chat())
        assert await anext(stream) == [Chunk("Hello")]
        visit = await opened.book.nth()
        assert not visit.closed.is_set()
        await stream.aclose()
        await visit.closed.wait()
        assert opened.book.open == 0


@awaited
async def test_a_request_that_is_cancelled_before_its_answer_is_closed_over_there(opens: Opens) -> None:
    async with opens(Script(breaks=Break("stall")), patience=PATIENT) as opened:
        task = asyncio.ensure_future(fold(opened.backend.chat(chat())))
        visit = await opened.book.nth()
        task.cancel()
        await visit.closed.wait()
        with pytest.raises(asyncio.CancelledError):
            await task


@awaited
async def test_streams_at_once_do_not_mix(opens: Opens) -> None:
    everyone = asyncio.Barrier(20)

    async def together(_: float) -> None:
        await everyone.wait()

    def by_name(request: Request) -> Script:
        return Script(tuple(Chunk(f"{request.model} says {i}. ") for i in range(5)), first=1, between=1)

    async with opens(by_name, sleep=together, patience=PATIENT) as opened:
        names = [f"m{i}" for i in range(20)]
        answers = await asyncio.gather(*(fold(opened.backend.chat(chat(model=name))) for name in names))
        assert opened.book.most == 20
    assert [answer.text for answer in answers] == ["".join(f"{name} says {i}. " for i in range(5)) for name in names]


@awaited
async def test_a_vector_an_input_in_the_order_asked(opens: Opens) -> None:
    vectors = ((1.0, 0.5), (0.25, -1.0), (0.0, 2.0))
    async with opens(Script(vectors=vectors)) as opened:
        embeddings = await opened.backend.embed(EmbedRequest("fake:latest", ("a", "b", "c")))
    assert embeddings.vectors == vectors
    assert embeddings.prompt_tokens == Script().done.usage.prompt_tokens


@pytest.mark.parametrize("kind", FAILURES)
@awaited
async def test_a_failed_embedding_has_its_class(opens: Opens, kind: type[LocalModelsError]) -> None:
    async with opens(Script(breaks=Break("fail", failure=FAILURES[kind]))) as opened:
        with pytest.raises(LocalModelsError, match=FAILURES[kind].message) as caught:
            await opened.backend.embed(EmbedRequest("fake:latest", ("a",)))
    assert type(caught.value) is kind


@awaited
async def test_models_and_health(opens: Opens) -> None:
    async with opens() as opened:
        assert await opened.backend.models() == ("fake:latest",)
        assert (await opened.backend.health()).ok


@awaited
async def test_health_tells_and_does_not_raise(opens: Opens) -> None:
    async with opens() as opened:
        await opened.backend.close()
        health = await opened.backend.health()
    assert not health.ok
    assert health.detail


@pytest.mark.parametrize("after", [0, 1])
@awaited
async def test_closing_ends_open_streams_with_an_error(opens: Opens, after: int) -> None:
    async with opens(Script(breaks=Break("stall", after)), patience=PATIENT) as opened:
        tasks = [asyncio.ensure_future(heard(opened.backend)) for _ in range(3)]
        visit = await opened.book.nth(2)
        if after:
            await visit.begun.wait()
        await opened.backend.close()
        ends = await asyncio.gather(*tasks)
        await visit.closed.wait()
    for events, error in ends:
        assert not any(isinstance(event, Done) for event in events)
        assert isinstance(error, StreamCut | Unreachable)


@awaited
async def test_closing_reaches_a_stream_that_nobody_reads_just_then(opens: Opens) -> None:
    async with opens(Script(breaks=Break("stall", 1)), patience=PATIENT) as opened:
        stream = opened.backend.chat(chat())
        await anext(stream)
        await opened.backend.close()
        with pytest.raises(StreamCut):
            await anext(stream)


@awaited
async def test_a_closed_back_end_cannot_be_reached(opens: Opens) -> None:
    async with opens() as opened:
        await opened.backend.close()
        events, error = await heard(opened.backend)
        assert events == []
        assert isinstance(error, Unreachable)
        with pytest.raises(Unreachable):
            await opened.backend.models()


@awaited
async def test_one_after_the_other_on_one_back_end(opens: Opens) -> None:
    numbers = count()
    async with opens(lambda _: Script((Chunk(f"answer {next(numbers)}"),))) as opened:
        texts = [(await fold(opened.backend.chat(chat()))).text for _ in range(5)]
    assert texts == [f"answer {i}" for i in range(5)]
