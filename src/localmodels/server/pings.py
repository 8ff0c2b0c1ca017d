"""Signs of life in a stream that is silent, for clients and proxies that take silence for death.

The rule: they are the route's, never the writer's, so that what a writer writes depends on the events alone. Whole
messages are sent between the stream's own; none comes after its last.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic

from msgspec import Struct
from starlette.types import Message, Send

# Anthropic's API pings about as often; the shortest patience that proxies are known for is 30 s.
QUIET = 15.0


class Pulse(Struct, frozen=True):
    """What is said after how many seconds of silence; ``sleep`` and ``now`` are for tests."""

    ping: bytes
    quiet: float = QUIET
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    now: Callable[[], float] = monotonic


@asynccontextmanager
async def awake(send: Send, pulse: Pulse | None) -> AsyncIterator[Send]:
    """``send`` for the pieces of a stream, with pings wherever it is silent; without a pulse just ``send``."""
    if pulse is None:
        yield send
        return
    last = pulse.now()

    async def sending(message: Message) -> None:
        nonlocal last
        if message["body"]:  # a writer that waits for more is silent
            await send(message)
            last = pulse.now()

    async def beat() -> None:
        while True:
            silent = pulse.now() - last
            if silent < pulse.quiet:
                await pulse.sleep(pulse.quiet - silent)
            else:
                await sending({"type": "http.response.body", "body": pulse.ping, "more_body": True})

    beating = asyncio.ensure_future(beat())
    try:
        yield sending
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating
