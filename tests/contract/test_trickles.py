"""Servers that drip bytes without ever answering: an end comes, over either way to a server, and never sooner to who is
slow but honest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from tests.awaited import awaited

from localmodels.backends.http import Http
from localmodels.backends.internet import Internet
from localmodels.backends.round_trip import Patience
from localmodels.backends.tcp import Tcp
from localmodels.core.errors import BackendTimeout, LocalModelsError, Unavailable
from localmodels.dialects import failures
from localmodels.dialects.passage import Passage
from localmodels.dialects.table import DIALECTS, WAYS

# Every byte comes long before the server could be taken for silent, and none of them ends anything.
EVERY = 0.02
BEGINS = Patience(connect=10.0, first_byte=0.3, idle=10.0)
ENDS = Patience(connect=10.0, first_byte=10.0, idle=0.3)
JSON, LINES, EVENTS = "application/json", "application/x-ndjson", "text/event-stream"


@asynccontextmanager
async def dripping(status: int, content_type: str, first: bytes, drop: bytes) -> AsyncIterator[str]:
    """The address of a server that says this, and then the drop again and again."""

    ended: set[asyncio.Event] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.add(over := asyncio.Event())
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
            writer.write(head.encode())
            piece = first or drop
            while True:
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                await writer.drain()
                await asyncio.sleep(EVERY)
                piece = drop
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        over.set()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()
        for over in ended:  # who was asked notices that he is left
            await over.wait()


async def posted(http: Http) -> None:
    await http.post("/", b"{}")


async def streamed(http: Http) -> None:
    async for _ in http.stream("/", b"{}", DIALECTS["ollama"].chat_reader()):
        pass


def relayed(dialect: str) -> Callable[[Http], Awaitable[None]]:
    async def relay(http: Http) -> None:
        async for _ in http.relay("/", b"{}", Passage(WAYS[dialect])):
            raise AssertionError("nothing was said that could be passed on")

    return relay


@pytest.fixture(params=[Tcp, Internet])
def way(request: pytest.FixtureRequest) -> type[Tcp | Internet]:
    """The carriers to other servers."""
    return request.param  # type: ignore[no-any-return]


async def failure(way: type[Tcp | Internet], url: str, patience: Patience, ask: object) -> LocalModelsError:
    http = Http(way(url, patience=patience), failures.read_error)
    try:
        with pytest.raises(LocalModelsError) as caught:
            await ask(http)  # type: ignore[operator]
    finally:
        await http.close()
    return caught.value


@pytest.mark.parametrize(
    ("content_type", "drop", "ask"),
    [
        (LINES, b"\n", streamed),
        (LINES, b"x", streamed),
        (LINES, b"\n", relayed("ollama")),
        (LINES, b"x", relayed("ollama")),
        (EVENTS, b": and so on\n\n", relayed("openai")),
        (EVENTS, b"data: ", relayed("openai")),
    ],
    ids=["blank", "half", "blank passed", "half passed", "comments", "half an event"],
)
@awaited
async def test_a_stream_has_to_begin(way: type[Tcp | Internet], content_type: str, drop: bytes, ask: object) -> None:
    async with dripping(200, content_type, b"", drop) as url:
        error = await failure(way, url, BEGINS, ask)
    assert (type(error), error.message) == (BackendTimeout, "the server did not begin its answer in time")


@awaited
async def test_an_answer_in_one_piece_has_to_end(way: type[Tcp | Internet]) -> None:
    async with dripping(200, JSON, b"{", b" ") as url:
        error = await failure(way, url, ENDS, posted)
    assert (type(error), error.message) == (BackendTimeout, "the server did not end its answer in time")


@awaited
async def test_a_status_counts_without_the_words_that_never_end(way: type[Tcp | Internet]) -> None:
    async with dripping(503, JSON, b'{"error": "', b"x") as url:
        error = await failure(way, url, Patience(connect=10.0, first_byte=60.0, idle=60.0), posted)
    assert (type(error), error.message) == (Unavailable, "the server answered 503")


@awaited
async def test_who_has_begun_may_take_his_time(way: type[Tcp | Internet]) -> None:
    """Longer than a first byte may, with less than a line at a time."""
    first = b'{"message": {"role": "assistant", "content": "hi"}, "done": false}\n'
    async with dripping(200, LINES, first, b" ") as url:
        http = Http(way(url, patience=BEGINS), failures.read_error)
        said = http.relay("/", b"{}", Passage(WAYS["ollama"]))
        assert await anext(said) == first
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3 * (BEGINS.first_byte or 0)):
                await anext(said)
        await said.aclose()
        await http.close()
