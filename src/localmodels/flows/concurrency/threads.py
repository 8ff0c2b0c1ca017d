"""Work that waits for the disk, in a thread, done to its end.

A thread cannot be stopped. The rule: whoever is cancelled while one works for him leaves when it has ended, so nothing
is closed under its hands (a descriptor that is closed and given out again is somebody else's file), and what it opened
for him is closed. A future of the executor's, not a task, stands for the thread: the end of a loop cancels every task,
and would take the thread for ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """What the work gives; for work that leaves nothing open."""
    future = begun(partial(work, *args, **kwargs))
    await ended(future)
    return future.result()


async def finished(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """What the work gives, also to one who is cancelled meanwhile; for the last moment of something longer.

    What has happened by then cannot be taken back. So the cancellation is forgotten, and the caller goes on to his own
    end: he says that all is done, and begins nothing that takes long.
    """
    return await heard_out(begun(partial(work, *args, **kwargs)))


async def heard_out(future: asyncio.Future[T]) -> T:
    """What this gives, whoever cancels the caller meanwhile; as :func:`finished`."""
    with suppress(asyncio.CancelledError):
        await ended(future)
    return future.result()


async def opened(work: Callable[[], T], close: Callable[[T], object]) -> T:
    """What the work opens; if nobody is there any more to take it, it is closed."""
    future = begun(work)
    try:
        await ended(future)
    except asyncio.CancelledError:
        if future.exception() is None:
            await in_thread(close, future.result())
        raise
    return future.result()


def begun(work: Callable[[], T]) -> asyncio.Future[T]:
    """The work, in a thread; the future is done when the thread is."""
    return asyncio.get_running_loop().run_in_executor(None, work)


async def ended(future: asyncio.Future[T]) -> None:
    """Waits until it has, whoever cancels this meanwhile, and however often.

    Raises:
        CancelledError: somebody did. What became of the work interests nobody any more.
    """
    cancelled = False
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            cancelled = True
    if not future.cancelled():
        future.exception()  # seen, so that asyncio does not complain of an error that nobody took
    if cancelled:
        raise asyncio.CancelledError
