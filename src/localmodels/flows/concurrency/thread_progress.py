"""Long work with the disk: done in a thread that tells how far it is, and ended when nobody listens any more.

The rule: whoever leaves, waits until the thread has ended. What it used may be taken away afterwards, not before.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Generic, TypeVar

from msgspec import Struct

from localmodels.flows.concurrency.threads import begun, ended

# Seconds between two values, as Ollama's; more often nobody can see.
INTERVAL = 0.06

T = TypeVar("T")
Tell = Callable[[int], None]


class Done(Struct, Generic[T], frozen=True):
    """The work has ended, with this."""

    value: T


class _Unheard(Exception):
    """Ends the work from inside: nobody waits for it."""


def _nothing() -> None:
    """Wakes nobody."""


async def watched(
    work: Callable[[Tell], T], *, interval: float = INTERVAL, wake: Callable[[], object] = _nothing
) -> AsyncGenerator[int | Done[T], None]:
    """What the work tells, the latest at most so often; then :class:`Done` with what it gives.

    Args:
        work: runs in a thread, and calls what it is given with how far it is. That is where it ends, by an exception,
            once nobody listens.
        interval: seconds.
        wake: is called if nobody listens any more while the work goes on: ends what it waits for without telling.

    Raises:
        Exception: what the work raises.
    """
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    unheard = threading.Event()
    told = 0

    def tell(done: int) -> None:
        nonlocal told
        if unheard.is_set():
            raise _Unheard
        told = done
        loop.call_soon_threadsafe(changed.set)

    future = begun(partial(work, tell))
    future.add_done_callback(lambda _: changed.set())
    try:
        while not future.done():
            await changed.wait()
            changed.clear()
            yield told
            await asyncio.wait([future], timeout=interval)
        yield Done(future.result())
    finally:
        unheard.set()
        if not future.done():
            wake()
        await ended(future)
