"""Whether a request may be sent a second time where nobody knows what became of the first.

A caller may forbid it with :data:`HEADER`. The one rule: what he forbids is forbidden on the whole way. No connection
on which it could be lost without a word is taken for it, and the servers behind, which may have others behind them, are
told the same.

The word belongs to the task that sends the request, as its way does (``core.via``).
"""

from __future__ import annotations

from contextvars import ContextVar

HEADER = "X-LocalModels-Once"

_once: ContextVar[bool] = ContextVar("once", default=False)


def say(*, once: bool) -> None:
    """What this task sends from now on may be sent only once, or again where that does no harm."""
    _once.set(once)


def is_said() -> bool:
    """May what this task sends be sent only once?"""
    return _once.get()
