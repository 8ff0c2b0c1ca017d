"""Tests that are coroutines on a clock that jumps: an hour of waiting takes no time, and the same hour every time.

The loop's own clock stands still while anybody has something to do, and jumps to the next timer when nobody has. So
``asyncio.sleep``, ``asyncio.timeout`` and ``loop.time`` agree with each other, and nothing is patched.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

P = ParamSpec("P")


class Jumping(selectors.DefaultSelector):
    """Waits for nothing: where the loop would, its time jumps."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """What is ready now."""
        ready: list[Any] = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise AssertionError("everybody waits for somebody else: a hang")
        self.now += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps."""

    def __init__(self) -> None:
        self._jumping = Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds since the start."""
        return self._jumping.now


def virtually(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """The test, run to its end."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


def clock() -> float:
    """Seconds of the loop that runs."""
    return asyncio.get_running_loop().time()
