"""The fake by itself: what the contract suite cannot ask of every back end."""

import asyncio

import pytest
from tests.awaited import awaited

from localmodels.backends.fake import Break, Fake, Script
from localmodels.core.chat import ChatRequest, Chunk, EmbedRequest, Message, Text, fold
from localmodels.core.errors import StreamCut, Unavailable

ASKED = ChatRequest("m", (Message("user", (Text("né"),)),))


@awaited
async def test_it_sleeps_as_the_script_says_through_what_it_was_given() -> None:
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    await fold(Fake(Script(first=2.0, between=0.25), sleep=sleep).chat(ASKED))
    assert slept == [2.0, 0.25, 0.25, 0.25]


@awaited
async def test_a_function_chooses_the_script_by_the_request() -> None:
    fake = Fake(lambda request: Script((Chunk(f"for {request.model}"),)))
    assert (await fold(fake.chat(ASKED))).text == "for m"


@awaited
async def test_the_visit_is_open_while_the_stream_is() -> None:
    fake = Fake()
    stream = fake.chat(ASKED)
    await anext(stream)
    [visit] = fake.book.visits
    assert (visit.request, visit.sent, visit.closed.is_set()) == (ASKED, 1, False)
    await stream.aclose()
    assert visit.closed.is_set()


@awaited
async def test_closing_reaches_a_stream_that_waits() -> None:
    fake = Fake(Script(breaks=Break("stall")))
    task = asyncio.ensure_future(fold(fake.chat(ASKED)))
    visit = await fake.book.nth()
    await fake.close()
    await visit.closed.wait()
    with pytest.raises(StreamCut):
        await task


@awaited
async def test_a_reader_that_is_cancelled_in_a_stall_ends_the_visit() -> None:
    fake = Fake(Script(breaks=Break("stall", 1)))
    task = asyncio.ensure_future(fold(fake.chat(ASKED)))
    visit = await fake.book.nth()
    await visit.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert visit.closed.is_set()


@awaited
async def test_vectors_go_round() -> None:
    fake = Fake(Script(vectors=((1.0,), (2.0,))))
    assert (await fake.embed(EmbedRequest("m", ("a", "b", "c")))).vectors == ((1.0,), (2.0,), (1.0,))


@awaited
async def test_an_ill_one_says_why_and_its_health_does_not_raise() -> None:
    fake = Fake(ill=Unavailable("in bed"))
    with pytest.raises(Unavailable):
        await fake.models()
    assert (await fake.health()).detail == "in bed"


@awaited
async def test_tokens_are_bytes() -> None:
    fake = Fake()
    assert await fake.render(ASKED) == "user: né\n"
    assert await fake.count(ASKED) == len("user: né\n".encode())
    assert await fake.detokenize(await fake.tokenize("né")) == "né"
