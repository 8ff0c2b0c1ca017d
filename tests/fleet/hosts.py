"""The servers behind a gateway, as processes that are killed and come back, and the books they keep."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal

from msgspec import Struct
from tests.acceptance.serving import environment
from tests.fleet.behind import Mode

Deed = Literal["begin", "end", "left", "refused"]
PATIENCE = 30.0  # seconds for a process to do as it is told


class Entry(Struct, frozen=True):
    """A line of a book: what was done with which request, in which mode, when (nanoseconds since 1970)."""

    server: str
    deed: Deed
    number: int
    mode: str
    at: int


class Behind:
    """One of them: its address stays the same when it is killed and comes back."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.book = folder / f"{name}.book"
        self.url = ""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Begins, or begins again."""
        port = self.url.rpartition(":")[2] or "0"
        command = [sys.executable, "-m", "tests.fleet.behind", "--book", str(self.book), "--port", port]
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env=environment())
        self.url = await self._said()

    async def become(self, mode: Mode) -> None:
        """Returns when it is so."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{mode}\n".encode())
        assert await self._said() == mode

    async def kill(self) -> None:
        """Ends it in the middle of whatever it does."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal, such as those that stop it and let it go on."""
        assert self._process is not None
        self._process.send_signal(number)

    async def close(self) -> None:
        """Ends it, if it lives."""
        if self._process is not None and self._process.returncode is None:
            await self.kill()

    def entries(self) -> list[Entry]:
        """All that it has written down, in order."""
        lines = [line.split() for line in self.book.read_text().splitlines()] if self.book.exists() else []
        return [
            Entry(self.name, deed, int(number), rest[0] if len(rest) > 1 else "", int(rest[-1]))  # type: ignore[arg-type]
            for deed, number, *rest in lines
        ]

    async def _said(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)
        return line.decode().strip()


@asynccontextmanager
async def behind(folder: Path, *names: str) -> AsyncIterator[tuple[Behind, ...]]:
    """Servers of these names, until the context ends."""
    servers = tuple(Behind(name, folder) for name in names)
    async with AsyncExitStack() as stack:
        for server in servers:
            stack.push_async_callback(server.close)
            await server.start()
        yield servers
