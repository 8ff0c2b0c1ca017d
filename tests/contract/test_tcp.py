"""Kept connections to servers that do with them what they like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from tests.awaited import awaited
from tests.garbage import left_over

from localmodels.backends.http import whole
from localmodels.backends.round_trip import Patience, RoundTrip, Unanswered
from localmodels.backends.tcp import Tcp
from localmodels.core import once
from localmodels.core.errors import BackendTimeout, Garbled, StreamCut, Unreachable

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
LAST = b"(and no more)"
PATIENT = Patience(connect=10.0, first_byte=10.0, idle=10.0)
Answer = Callable[[int], bytes | None]


class Told:
    """A server that says what it is told to; None closes the connection without a word, ``LAST`` after some.

    Attributes:
        requests: the head of each, in order.
        connections: that were ever opened; ``open`` of them still are.
    """

    def __init__(self, answer: Answer) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.port = 0
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                answer = self._answer(len(self.requests))
                if answer is None:
                    return
                writer.write(answer.removesuffix(LAST))
                if answer.endswith(LAST):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():  # noqa: ASYNC110  # a connection that closes tells nobody else
            await asyncio.sleep(0.001)


@asynccontextmanager
async def told(answer: Answer, **pool: object) -> AsyncIterator[tuple[Told, Tcp]]:
    server = Told(answer)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    tcp = Tcp(f"http://127.0.0.1:{server.port}", **{"patience": PATIENT, "keepalive": 60.0, **pool})  # type: ignore[arg-type]
    try:
        yield server, tcp
    finally:
        await tcp.close()
        listener.close()


async def get(tcp: Tcp, path: str = "/") -> bytes:
    reply = await tcp.open("GET", path, None)
    try:
        return await whole(reply)
    finally:
        reply.close()


@awaited
async def test_one_connection_serves_one_after_the_other() -> None:
    async with told(lambda number: OK) as (server, tcp):
        for _ in range(10):
            assert await get(tcp) == b"hi"
        assert (server.connections, len(server.requests)) == (1, 10)


@awaited
async def test_the_head_of_a_request() -> None:
    async with told(lambda number: OK, headers={"Authorization": "Bearer k"}) as (server, tcp):
        await get(tcp, "/v1/models?limit=5")
        assert server.requests[0] == (
            b"GET /v1/models?limit=5 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept-Encoding: identity\r\n"
            b"Authorization: Bearer k\r\n\r\n" % server.port
        )


@awaited
async def test_as_many_are_kept_as_were_agreed() -> None:
    async with told(lambda number: OK, most=2) as (server, tcp):
        replies = [await tcp.open("GET", "/", None) for _ in range(5)]
        for reply in replies:
            assert await whole(reply) == b"hi"
            reply.close()
        await server.until(lambda: server.open == 2)
        assert server.connections == 5


@awaited
async def test_who_is_idle_for_too_long_is_closed() -> None:
    async with told(lambda number: OK, keepalive=0.01) as (server, tcp):
        await get(tcp)
        await server.until(lambda: server.open == 0)
        assert await get(tcp) == b"hi"
        assert server.connections == 2


@pytest.mark.parametrize(
    "behind", [b"more", OK, b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"], ids=["bytes", "answer", "error"]
)
@awaited
async def test_what_stands_behind_an_answer_is_nobodys_next_answer(behind: bytes) -> None:
    async with told(lambda number: OK + behind if number == 1 else OK) as (server, tcp):
        for _ in range(3):
            assert await get(tcp) == b"hi"
        assert server.connections == 2


@awaited
async def test_what_a_server_says_unasked_is_nobodys_answer() -> None:
    async with told(lambda number: OK) as (server, tcp):
        await get(tcp)
        (idle,) = tcp._idle
        idle.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
        assert await get(tcp) == b"hi"
        assert server.connections == 2


@pytest.mark.parametrize("interim", [b"100 Continue", b"103 Early Hints\r\nLink: </x>"])
@awaited
async def test_answers_before_the_answer_are_passed_over(interim: bytes) -> None:
    async with told(lambda number: b"HTTP/1.1 " + interim + b"\r\n\r\n" + OK) as (server, tcp):
        reply = await tcp.open("GET", "/", None)
        assert (reply.status, await whole(reply)) == (200, b"hi")
        assert "link" not in reply.headers
        reply.close()
        assert await get(tcp) == b"hi"
        assert server.connections == 1


@awaited
async def test_a_kept_connection_that_closes_without_a_word_is_tried_again_and_a_new_one_is_not() -> None:
    async with told(lambda number: None if number in {2, 4, 5} else OK) as (server, tcp):
        assert await get(tcp) == b"hi"
        assert await get(tcp) == b"hi"
        assert (server.connections, len(server.requests)) == (2, 3)
        with pytest.raises(Unreachable):
            await get(tcp)
        assert len(server.requests) == 5, "the kept one, and one more; no third"


@awaited
async def test_what_somebody_may_have_begun_to_work_for_is_not_sent_again() -> None:
    async with told(lambda number: None if number in {2, 4} else OK, race=-1.0) as (server, tcp):
        assert await get(tcp) == b"hi"
        with pytest.raises(Unanswered):
            await tcp.open("POST", "/", b"{}")
        assert len(server.requests) == 2
        assert await get(tcp) == b"hi"
        assert await get(tcp) == b"hi", "to look twice harms nobody"
        assert len(server.requests) == 5


@awaited
async def test_what_may_be_sent_only_once_gets_a_new_connection_and_no_second_one() -> None:
    async with told(lambda number: None if number == 2 else OK) as (server, tcp):
        assert await get(tcp) == b"hi"
        once.say(once=True)
        with pytest.raises(Unanswered):
            await tcp.open("POST", "/", b"{}")
        once.say(once=False)
        assert (server.connections, len(server.requests)) == (2, 2)
        assert await get(tcp) == b"hi"
        assert server.connections == 2, "the kept one still serves the others"
        assert [b"X-LocalModels-Once: true" in request for request in server.requests] == [False, True, False]


@awaited
async def test_a_kept_connection_that_breaks_in_an_answer_is_not_tried_again() -> None:
    async with told(lambda number: OK if number == 1 else b"HTTP/1.1 200 O" + LAST) as (server, tcp):
        await get(tcp)
        with pytest.raises(Unreachable):
            await get(tcp)
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", BackendTimeout),
        (b"HTTP/1.1 200 OK\r\n\r\nhi", BackendTimeout),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi", Garbled),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi", Garbled),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Garbled),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", Garbled),
        (b"\x16\x03\x01\x00", Garbled),
    ],
)
@awaited
async def test_answers_that_are_none(answer: bytes, kind: type[Exception]) -> None:
    hasty = Patience(connect=10.0, first_byte=0.05, idle=0.05)
    async with told(lambda number: answer, patience=hasty) as (server, tcp):
        with pytest.raises(kind):
            await get(tcp)
        await server.until(lambda: server.open == 0)


@awaited
async def test_closing_ends_what_is_open_and_what_is_kept() -> None:
    async with told(lambda number: OK if number == 1 else OK[:-1]) as (server, tcp):
        kept, running = await tcp.open("GET", "/", None), await tcp.open("GET", "/", None)
        await whole(kept)
        kept.close()
        await tcp.close()
        with pytest.raises(StreamCut):
            await whole(running)
        with pytest.raises(Unreachable):
            await tcp.open("GET", "/", None)
        await server.until(lambda: server.open == 0)


@awaited
async def test_a_large_answer_that_nobody_reads_is_left_to_the_sender_and_then_read_whole() -> None:
    size = 8 * 2**20
    body = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    async with told(lambda number: body if number == 1 else OK) as (server, tcp):
        reply = await tcp.open("GET", "/", None)
        await server.until(lambda: reply._paused)
        assert reply._waiting_bytes < size
        assert len(await whole(reply)) == size
        reply.close()
        assert await get(tcp) == b"hi"
        assert server.connections == 1


@awaited
async def test_an_exchange_that_is_over_is_held_by_nobody() -> None:
    async with told(lambda number: None if number % 3 == 0 else OK + LAST if number % 3 == 1 else OK) as (_, tcp):
        with left_over(RoundTrip) as found:
            answers = []
            for _ in range(12):
                with suppress(Unanswered):
                    answers.append(await get(tcp))
            await asyncio.sleep(0)  # what the connection itself has still to say
        assert answers
        assert found == []
