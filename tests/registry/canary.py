"""Somewhere that nothing may go: a listener that keeps every byte that reaches it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


class Canary:
    """``async with Canary() as canary: … canary.url``; ``seen`` are all bytes, ``connects`` how often it was reached.

    Args:
        answer: what it says to the first head, before it closes the connection.
    """

    def __init__(self, answer: bytes = ANSWER) -> None:
        self.seen = b""
        self.connects = 0
        self._answer = answer
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in tuple(self._connections):
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``."""
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.connects += 1
        try:
            with suppress(ConnectionError, asyncio.CancelledError):
                while data := await reader.read(65536):
                    self.seen += data
                    if b"\r\n\r\n" in self.seen:
                        writer.write(self._answer)
                        await writer.drain()
                        break
        finally:
            self._connections.discard(task)
            writer.close()
