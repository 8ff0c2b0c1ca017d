"""The fake server's HTTP, byte by byte, on a transport that only remembers."""

import asyncio
from typing import Any, cast

import pytest
from tests.awaited import awaited

from localmodels.backends.fake.http import Asked, Body, Hangup, head, parse, whole
from localmodels.backends.fake.script import Script, Wire
from localmodels.backends.fake.server import ROUTES, body_of
from localmodels.core.chat import ChatRequest
from localmodels.dialects.table import CHATS

HEAD = b"HTTP/1.1 200 Fake\r\n"


class Tape:
    """Remembers every write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)


async def written(wire: Wire, *pieces: bytes) -> tuple[bytes, bool | None]:
    """The bytes of a body in these pieces; and whether the connection ends with a reset, None when it goes on."""
    tape = Tape()
    body = Body(cast("Any", tape), wire, HEAD)
    try:
        for piece in pieces:
            await body.write(piece)
        await body.end()
    except Hangup as hangup:
        return b"".join(tape.writes), hangup.reset
    return b"".join(tape.writes), None


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CLOSE = HEAD + b"Connection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("wire", "sent", "reset"),
    [
        (Wire(), CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", None),
        (Wire(framing="close"), CLOSE + b"abcde", False),
        (Wire(framing="length"), HEAD + b"Content-Length: 5\r\n\r\nabcde", None),
        (Wire(framing="length", length_error=2), HEAD + b"Content-Length: 7\r\n\r\nabcde", False),
        (Wire(write_size=2), CHUNKED + b"2\r\nab\r\n1\r\nc\r\n2\r\nde\r\n0\r\n\r\n", None),
        (Wire(at=0), CHUNKED, False),
        (Wire(at=2), CHUNKED + b"2\r\nab\r\n", False),
        (Wire(at=4, then="rst"), CHUNKED + b"3\r\nabc\r\n1\r\nd\r\n", True),
        (Wire(at=4, then="rst", framing="length"), HEAD + b"Content-Length: 5\r\n\r\nabcd", True),
        (Wire(at=4, then="garbage", garbage=b"?"), CHUNKED + b"3\r\nabc\r\n1\r\nd\r\n1\r\n?\r\n0\r\n\r\n", False),
        (Wire(at=5), CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n", False),
        (Wire(at=6), CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", None),
    ],
)
@awaited
async def test_a_body_is_what_the_script_says_to_the_byte(wire: Wire, sent: bytes, reset: bool | None) -> None:
    assert await written(wire, b"abc", b"de") == (sent, reset)


@awaited
async def test_a_stall_sends_so_much_and_never_ends() -> None:
    tape = Tape()
    task = asyncio.ensure_future(Body(cast("Any", tape), Wire("close", at=2, then="stall"), HEAD).write(b"abc"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert (b"".join(tape.writes), task.done()) == (CLOSE + b"ab", False)
    task.cancel()


def test_a_request_is_read_when_it_is_whole_and_not_before() -> None:
    data = b"POST /api/chat HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 2\r\n\r\n{}"
    assert parse(data + b"GET") == (Asked("POST", "/api/chat", b"{}", {"host": "x", "content-length": "2"}), len(data))
    assert all(parse(data[:size]) is None for size in range(len(data)))


def test_a_whole_answer() -> None:
    assert whole(503, b"{}", 2.0) == (
        b"HTTP/1.1 503 Fake\r\nContent-Type: application/json\r\nRetry-After: 2\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert head(200, "text/plain") == b"HTTP/1.1 200 Fake\r\nContent-Type: text/plain\r\n"


def test_every_path_of_every_dialect_is_answered() -> None:
    paths = {path for dialect in CHATS.values() for call, path in dialect.paths.items() if call != "count"}
    assert set(ROUTES) == paths


@pytest.mark.parametrize("name", CHATS)
def test_the_same_script_is_the_same_bytes(name: str) -> None:
    dialect, asked = CHATS[name], ChatRequest("m", ())
    assert body_of(dialect, asked, Script()) == body_of(dialect, asked, Script())
    assert b"Hello" in body_of(dialect, asked, Script())
