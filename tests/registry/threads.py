"""Servers of the tests for programs and for clients that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

S = TypeVar("S")

PATIENCE = 20  # seconds; only a test that hangs ever sees it


@contextmanager
def in_a_thread(server: AbstractAsyncContextManager[S]) -> Iterator[S]:
    """The server, on an event loop of its own. Whoever changes it does so while nobody asks it."""
    loop = asyncio.new_event_loop()
    ready, end = threading.Event(), asyncio.Event()
    opened: list[S] = []

    async def serve() -> None:
        async with server as one:
            opened.append(one)
            ready.set()
            await end.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield opened[0]
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(PATIENCE)
        loop.close()
