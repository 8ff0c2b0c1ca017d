"""Answers, fed by hand: what a well-behaved server never sends must not cost us anything either."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.virtual import clock, virtually

from localmodels.backends.alarm import Alarm
from localmodels.backends.round_trip import MOST_HEAD, MOST_WAITING, PACE, GiveBack, Patience, RoundTrip, written
from localmodels.core.errors import BackendTimeout, Garbled, InvalidRequest, StreamCut, Unreachable


class Wire(asyncio.Transport):
    """Notes what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.paused = self.aborted = False

    def write(self, data: Any) -> None:
        self.sent += data

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def abort(self) -> None:
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        return 0


def opened() -> tuple[RoundTrip, Wire, set[RoundTrip]]:
    among: set[RoundTrip] = set()
    exchange, wire = RoundTrip(among), Wire()
    exchange.connection_made(wire)
    assert among == {exchange}
    return exchange, wire, among


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"


async def read(exchange: RoundTrip) -> bytes:
    data = b""
    while some := await exchange.piece():
        data += some
    return data


@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_an_answer_in_any_pieces(size: int) -> None:
    exchange, wire, among = opened()
    answer = HEAD + b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n"

    async def run() -> bytes:
        asked = asyncio.ensure_future(exchange.ask(b"question"))
        await asyncio.sleep(0)
        for start in range(0, len(answer), size):
            exchange.data_received(answer[start : start + size])
        await asked
        return await read(exchange)

    assert asyncio.run(run()) == b"hello!"
    assert (exchange.status, exchange.content_type, wire.sent) == (200, "text/event-stream", b"question")
    assert exchange.ended
    exchange.connection_lost(None)
    assert among == set()


def test_a_head_without_an_end_is_refused_by_its_size() -> None:
    exchange, wire, _ = opened()
    exchange.data_received(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(MOST_HEAD // 1000 + 1):
        exchange.data_received(b"a" * 1000)
    assert wire.aborted
    with pytest.raises(Garbled, match="64 KiB"):
        asyncio.run(exchange.ask(b""))


def test_who_does_not_read_holds_the_sender_back() -> None:
    exchange, wire, _ = opened()
    piece = b"x" * 10_000
    exchange.data_received(HEAD)
    count = 0
    while not wire.paused:
        exchange.data_received(b"%x\r\n%s\r\n" % (len(piece), piece))
        count += 1
    assert MOST_WAITING < count * len(piece) <= MOST_WAITING + len(piece)
    assert asyncio.run(exchange.piece()) == piece * count
    assert not wire.paused


def test_what_came_before_a_cut_is_read_before_it() -> None:
    exchange, _, _ = opened()
    exchange.data_received(HEAD + b"5\r\nhello\r\n")
    exchange.connection_lost(ConnectionResetError())
    assert asyncio.run(exchange.piece()) == b"hello"
    with pytest.raises(StreamCut):
        asyncio.run(exchange.piece())


def test_nothing_is_read_after_the_end() -> None:
    exchange, _, _ = opened()
    second = b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"
    exchange.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi" + second)
    assert asyncio.run(read(exchange)) == b"hi"
    assert exchange.status == 200
    exchange.data_received(b"more")
    assert exchange.ended


def giving(given: list[asyncio.Transport]) -> GiveBack:
    return lambda transport, _: given.append(transport)


def test_a_connection_with_more_on_it_is_not_given_back() -> None:
    for more in (b"", b"more"):
        given: list[asyncio.Transport] = []
        exchange, wire = RoundTrip(set(), give_back=giving(given)), Wire()
        exchange.connection_made(wire)
        exchange.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        if more:
            exchange.data_received(more)
        exchange.close()
        assert (given, wire.aborted) == (([], True) if more else ([wire], False))


@virtually
async def test_who_falls_silent_in_the_middle_is_given_up_later_than_who_never_answers() -> None:
    exchange, wire = RoundTrip(set(), Patience(None, 60.0, 60.0)), Wire()
    exchange.connection_made(wire)
    asked = asyncio.ensure_future(exchange.ask(b"question"))
    await asyncio.sleep(50.0)
    exchange.data_received(HEAD + b"5\r\nhello\r\n")
    await asked
    await asyncio.sleep(59.0)  # longer than the alarm was set to first
    assert [wire.aborted] == [False]
    assert await exchange.piece() == b"hello"
    await asyncio.sleep(2.0)
    assert wire.aborted
    with pytest.raises(BackendTimeout):
        await exchange.piece()
    exchange.connection_lost(None)


@virtually
async def test_the_next_answer_of_a_connection_is_not_given_up_for_the_one_before() -> None:
    given: list[Alarm] = []
    first = RoundTrip(set(), Patience(None, 60.0, 60.0), lambda _, alarm: given.append(alarm))
    first.connection_made(Wire())
    asked = asyncio.ensure_future(first.ask(b"question"))
    await asyncio.sleep(0)
    first.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    await asked
    first.close()
    await asyncio.sleep(30.0)
    second, wire = RoundTrip(set(), Patience(None, 60.0, 60.0), alarm=given[0]), Wire()
    second.connection_made(wire)
    again = asyncio.ensure_future(second.ask(b"question"))
    await asyncio.sleep(0)
    first.streamed()  # has nothing to say any more: the alarm is the other's
    first.begun()
    await asyncio.sleep(59.0)
    assert [wire.aborted] == [False]
    await asyncio.sleep(2.0)
    assert wire.aborted
    with pytest.raises(BackendTimeout):
        await again


async def dripped(exchange: RoundTrip, drop: bytes, every: float) -> float:
    """Seconds from the head's coming until the answer is given up, while a drop comes again and again."""
    begun = clock()

    async def drip() -> None:
        while True:
            exchange.data_received(b"%x\r\n%s\r\n" % (len(drop), drop))
            await exchange.piece()
            await asyncio.sleep(every)
            exchange._raise_failure()

    with pytest.raises(BackendTimeout):
        await drip()
    return clock() - begun


async def answering(patience: Patience) -> RoundTrip:
    """One whose head came at once."""
    exchange = RoundTrip(set(), patience)
    exchange.connection_made(Wire())
    asked = asyncio.ensure_future(exchange.ask(b"question"))
    await asyncio.sleep(0)
    exchange.data_received(HEAD)
    await asked
    return exchange


@virtually
async def test_a_stream_has_to_begin_before_its_time_for_a_first_byte_is_over() -> None:
    for patience in (Patience(None, 60.0, 120.0), Patience(None, 60.0, None)):
        exchange = await answering(patience)
        exchange.streamed()
        assert 60 <= await dripped(exchange, b".", 1.0) <= 61


@virtually
async def test_once_it_has_begun_only_silence_counts() -> None:
    exchange = await answering(Patience(None, 60.0, 120.0))
    exchange.streamed()
    exchange.data_received(b"1\r\n.\r\n")
    exchange.begun()
    for _ in range(100):
        exchange.data_received(b"1\r\n.\r\n")
        await asyncio.sleep(119.0)
    exchange.data_received(b"0\r\n\r\n")
    assert await read(exchange) == b"." * 101


@virtually
async def test_silence_between_the_head_and_the_beginning_is_no_more_than_either() -> None:
    exchange = await answering(Patience(None, 60.0, 5.0))
    exchange.data_received(b"1\r\n.\r\n")
    exchange.streamed()
    begun = clock()
    await exchange.piece()
    with pytest.raises(BackendTimeout, match="silent"):
        await exchange.piece()
    assert clock() - begun == pytest.approx(5.0)


@virtually
async def test_a_body_in_one_piece_has_one_silence_for_all_of_it_and_the_time_of_its_bytes() -> None:
    assert 120 <= await dripped(await answering(Patience(None, 60.0, 120.0)), b".", 1.0) <= 121.1
    honest = await answering(Patience(None, 60.0, 120.0))
    for _ in range(1000):
        honest.data_received(b"%x\r\n%s\r\n" % (PACE, b"x" * PACE))
        await honest.piece()
        await asyncio.sleep(1.0)
    honest.data_received(b"0\r\n\r\n")
    assert await read(honest) == b""


@virtually
async def test_what_takes_long_to_compute_has_as_long_for_its_first_byte_as_before() -> None:
    exchange = await answering(Patience(None, 60.0, 5.0))
    await asyncio.sleep(59.0)
    exchange.data_received(b"2\r\nhi\r\n0\r\n\r\n")
    assert await read(exchange) == b"hi"


def test_no_answer_at_all() -> None:
    exchange, _, _ = opened()
    exchange.connection_lost(None)
    with pytest.raises(Unreachable):
        asyncio.run(exchange.ask(b""))


def test_requests_byte_for_byte() -> None:
    assert written("GET", "/health", None, "Host: x\r\n") == b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    assert written("POST", "/x?a=b", b"{}", "Host: x\r\n") == (
        b"POST /x?a=b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX: y", "/ä", "/a\x00"])
def test_a_path_cannot_become_more_than_a_path(path: str) -> None:
    with pytest.raises(InvalidRequest):
        written("GET", path, None, "")


def test_who_leaves_before_the_answer_begins_takes_the_connection_along() -> None:
    exchange, wire, _ = opened()

    async def run() -> None:
        asked = asyncio.ensure_future(exchange.ask(b"question"))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])
        assert asked.cancelled()

    asyncio.run(run())
    assert wire.aborted


def test_an_answer_that_is_none_ends_the_connection() -> None:
    exchange, wire, _ = opened()

    async def run() -> None:
        asked = asyncio.ensure_future(exchange.ask(b"question"))
        await asyncio.sleep(0)
        exchange.data_received(b"what?\r\n\r\n")
        with pytest.raises(Garbled):
            await asked

    asyncio.run(run())
    assert wire.aborted
