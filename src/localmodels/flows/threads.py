"""Work that waits for the disk, in a thread, done to its end.

A thread cannot be stopped. The rule: whoever is cancelled while one works for him leaves when it has ended, so nothing
is closed under its hands (a descriptor that is closed and given out again is somebody else's file), and what it opened
for him is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """What the work gives; for work that leaves nothing open."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    await ended(task)
    return task.result()


async def opened(work: Callable[[], T], close: Callable[[T], object]) -> T:
    """What the work opens; if nobody is there any more to take it, it is closed."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await ended(task)
    except asyncio.CancelledError:
        if task.exception() is None:
            await in_thread(close, task.result())
        raise
    return task.result()


async def ended(task: asyncio.Future[T]) -> None:
    """Waits until it has, whoever cancels this meanwhile, and however often.

    Raises:
        CancelledError: somebody did. What became of the task interests nobody any more.
    """
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    task.exception()  # seen, so that asyncio does not complain of an error that nobody took
    if cancelled:
        raise asyncio.CancelledError
