"""Our registry in a thread of its own, for tests that wait for a server in another process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.registry.server import Registry, Rule


@contextmanager
def running(*rules: Rule) -> Iterator[Registry]:
    """A registry that answers while this is open. What it has may be changed from here: each change is one step."""
    opened: list[Registry] = []
    ready, end = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with Registry(*rules) as registry:
            opened.append(registry)
            ready.set()
            await end.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield opened[0]
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
        loop.close()
