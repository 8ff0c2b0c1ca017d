"""Heads that do not end are cut off, however they come; others pass."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
import uvicorn
from msgspec import Struct
from msgspec.structs import replace
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from localmodels.server.http import MOST_HEAD, TOO_LARGE, BoundedProtocol
from localmodels.server.wire import respond

BEGIN = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "
END = b"\r\n\r\n"


class Heard(Struct):
    """What the server wrote, and whether it has closed."""

    written: bytes = b""
    closed: bool = False


class Line(asyncio.Transport):
    """The server's end of a connection."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 8000), "peername": ("127.0.0.1", 9)})
        self.heard = Heard()

    def write(self, data: Any) -> None:
        self.heard.written += data

    def close(self) -> None:
        self.heard.closed = True

    def is_closing(self) -> bool:
        return self.heard.closed

    def set_protocol(self, protocol: Any) -> None:
        raise NotImplementedError

    def pause_reading(self) -> None:
        """Nothing comes but what the test sends."""

    def resume_reading(self) -> None:
        """Nothing comes but what the test sends."""


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] != "http.disconnect":
        await respond(send, 200, b"hello")


def heard(pieces: Iterable[bytes]) -> Heard:
    """What becomes of these bytes of a client."""

    async def main() -> Heard:
        config = uvicorn.Config(hello, loop="none", http=BoundedProtocol, ws="none", lifespan="off", log_config=None)
        config.load()
        state = ServerState()
        line = Line()
        protocol = BoundedProtocol(config, state, {})
        protocol.connection_made(line)
        for piece in pieces:
            protocol.data_received(piece)
        if line.heard.closed:
            protocol.connection_lost(None)
        while state.tasks:
            await asyncio.wait(state.tasks)
        heard = replace(line.heard)
        protocol.connection_lost(None)
        return heard

    return asyncio.run(main())


@pytest.mark.parametrize("size", [1, 1000, MOST_HEAD + 1, 10 * MOST_HEAD])
def test_an_endless_head_is_cut_off_whatever_its_pieces(size: int) -> None:
    line = heard([BEGIN, *[b"a" * size] * (3 * MOST_HEAD // size + 1)])
    assert line.written == TOO_LARGE
    assert line.closed


@pytest.mark.parametrize("size", [1, 1000, 40_000])
def test_a_long_head_passes(size: int) -> None:
    line = heard([BEGIN, *[b"a" * size] * (40_000 // size), END])
    assert line.written.startswith(b"HTTP/1.1 200 ")
    assert line.written.endswith(b"hello")


def test_a_head_that_is_too_long_is_refused_though_it_comes_in_one_piece() -> None:
    assert heard([BEGIN + b"a" * MOST_HEAD + END]).written == TOO_LARGE
    assert heard([b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * MOST_HEAD + b"\r\n"]).written == TOO_LARGE


CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("endless", [b"5;" + b"a" * 10_000, b"0\r\nX: " + b"a" * 10_000, b"0\r\n" + b"X: a\r\n" * 2000])
def test_a_body_whose_frame_does_not_end_is_cut_off(endless: bytes) -> None:
    rest = endless[-9996:]  # goes on as it was: whole lines, or more of the one
    line = heard([CHUNKED + b"2\r\nhi\r\n", endless, *[rest] * 20])
    assert line.closed
    assert b"hello" not in line.written


def test_a_body_in_many_chunks_with_a_trailer_passes() -> None:
    line = heard([CHUNKED, *[b"1\r\na\r\n"] * MOST_HEAD, b"0\r\nX: a\r\n\r\n"])
    assert line.written.endswith(b"hello")
    assert not line.closed


def test_each_head_of_a_connection_is_counted_for_itself_and_bodies_are_not() -> None:
    body = b"b" * (2 * MOST_HEAD)
    post = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    line = heard([part for _ in range(3) for part in (post, body, BEGIN + b"a" * 40_000 + END)])
    assert line.written.count(b"hello") == 6
    assert not line.closed
