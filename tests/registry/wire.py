"""The few lines of HTTP that our registry speaks, and everything that it can do wrong with them.

Written here on purpose: a server that must misbehave to the byte cannot stand on a library that exists to prevent it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Literal
from urllib.parse import parse_qsl, unquote

from msgspec import Struct

LINGER_NOT = struct.pack("ii", 1, 0)
MAX_HEAD = 2**16


class Asked(Struct):
    """One request. ``headers`` by lower-case name; ``body`` is what was read of it, ``size`` what it said it has."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    size: int = 0
    body: bytes = b""

    @property
    def range(self) -> tuple[int, int] | None:
        """The bytes asked for, half open."""
        text = self.headers.get("range", "")
        first, _, last = text.removeprefix("bytes=").partition("-")
        return (int(first), int(last) + 1) if first and last else None


class Reply(Struct):
    """One answer, and what goes wrong with it.

    Attributes:
        length: what ``Content-Length`` says; None for the truth, -1 for no such line.
        chunked: framed in chunks.
        cut: after so many bytes of the body ``then`` happens.
        drip: seconds between single bytes of the body.
        endless: repeated after the body for ever.
        raw: sent in place of all of it.
        silent: nothing is ever sent.
        hold: nothing is sent before this happens.
    """

    status: int = 200
    headers: dict[str, str] = {}
    body: bytes = b""
    length: int | None = None
    chunked: bool = False
    cut: int | None = None
    then: Literal["fin", "rst", "stall"] = "fin"
    drip: float = 0.0
    endless: bytes = b""
    raw: bytes | None = None
    silent: bool = False
    hold: asyncio.Event | None = None

    def head(self, *, bodiless: bool) -> bytes:
        lines = [f"HTTP/1.1 {self.status} Lie", *(f"{name}: {value}" for name, value in self.headers.items())]
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif self.length != -1 and not (bodiless and "Content-Length" in self.headers):
            lines.append(f"Content-Length: {len(self.body) if self.length is None else self.length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Hangup(Exception):
    """The connection ends here; ``reset`` says how."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


async def read_head(reader: asyncio.StreamReader) -> Asked | None:
    """The next request without its body; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    lines = head.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ")
    path, _, query = target.partition("?")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return Asked(method, unquote(path), dict(parse_qsl(query)), headers, int(headers.get("content-length", "0")))


async def read_body(reader: asyncio.StreamReader, size: int) -> bytes:
    """Up to so many bytes; fewer when the other side is gone."""
    data = bytearray()
    while len(data) < size:
        some = await reader.read(min(2**18, size - len(data)))
        if not some:
            break
        data += some
    return bytes(data)


async def write_reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: Asked, reply: Reply) -> None:
    """Sends an answer as it says.

    Raises:
        Hangup: the connection shall end.
    """
    if reply.hold is not None:
        await _wait(reader, reply.hold)
    if reply.silent:
        await _wait(reader, asyncio.Event())
    if reply.raw is not None:
        writer.write(reply.raw)
        await writer.drain()
        raise Hangup
    bodiless = asked.method == "HEAD"
    writer.write(reply.head(bodiless=bodiless))
    if bodiless:
        return
    body = reply.body if reply.cut is None else reply.body[: reply.cut]
    await _write_body(writer, reply, body)
    if reply.cut is not None:
        if reply.then == "stall":
            await _wait(reader, asyncio.Event())
        raise Hangup(reset=reply.then == "rst")
    while reply.endless:
        writer.write(_framed(reply, reply.endless))
        await writer.drain()
    if reply.chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    if not reply.chunked and reply.length is not None:
        raise Hangup


async def _wait(reader: asyncio.StreamReader, event: asyncio.Event) -> None:
    """For an event, or for the end of whoever waits for the answer."""
    happens, ends = asyncio.ensure_future(event.wait()), asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait([happens, ends], return_when=asyncio.FIRST_COMPLETED)
        if ends.done():
            raise Hangup
    finally:
        happens.cancel()
        ends.cancel()
        await asyncio.wait([happens, ends])


async def _write_body(writer: asyncio.StreamWriter, reply: Reply, body: bytes) -> None:
    if reply.drip:
        for i in range(len(body)):
            writer.write(_framed(reply, body[i : i + 1]))
            await writer.drain()
            await asyncio.sleep(reply.drip)
    elif body:
        writer.write(_framed(reply, body))
        await writer.drain()


def _framed(reply: Reply, data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if reply.chunked else data


def hang_up(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """Ends a connection: with a FIN behind everything that was written, or with a reset."""
    if reset:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        writer.transport.abort()
    writer.close()
