"""``python -m tests.soak.behind``: the server behind ours, in a process of its own, until its standard input ends.

Prints its address, and for each line that comes in how many answers are under way. What it was asked it forgets, which
the tests' fake remembers for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

import uvloop
from tests.soak.faults import BEHAVIOURS

from localmodels.backends.fake import FakeServer, Script
from localmodels.backends.fake.script import GREETING, Request
from localmodels.core.chat import EmbedRequest
from localmodels.core.rerank import RerankRequest

MOST_REMEMBERED = 1000


def chosen(request: Request) -> Script:
    """What the model of this name does; vectors and rankings always come."""
    behaviour = BEHAVIOURS.get(request.model.removesuffix(":latest"))
    return behaviour.script if behaviour and not isinstance(request, EmbedRequest | RerankRequest) else GREETING


async def serve() -> None:
    """Answers until nobody asks any more."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with FakeServer(chosen, names=tuple(f"{name}:latest" for name in BEHAVIOURS)) as server:
        print(server.url, flush=True)
        forgetting = asyncio.create_task(forget(server))
        while await reader.readline():
            print(server.book.open, len(server.connections), flush=True)
        forgetting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await forgetting


async def forget(server: FakeServer) -> None:
    """Keeps the guest book short."""
    while True:
        await asyncio.sleep(1.0)
        if len(server.asked) > MOST_REMEMBERED:
            server.asked.clear()
            server.book.visits.clear()


if __name__ == "__main__":
    uvloop.run(serve())
