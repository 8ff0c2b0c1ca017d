"""One line for each request that ended: what was asked of whom, how it went, and what it took. Never what was said.

The route is written as a pattern and the key by its id, so that neither an address nor a secret of somebody's gets into
a log. Prompts and answers never come near this module.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic_ns

from msgspec import Struct

from localmodels.flows.visit import HERE
from localmodels.server.app import Outcome

LOGGER = "localmodels.requests"
log = logging.getLogger(LOGGER)

MILLISECOND = 1e6


class Logged(Struct, frozen=True, omit_defaults=True):
    """A request, as the log tells of it; durations in milliseconds.

    Attributes:
        route: the pattern that matched; empty where none did.
        status: 0 where the client had left before it was told anything.
        key: id of the caller's key, or ``local``.
        first_ms: until the first piece of the answer; ``queue_ms`` until a model took the request.
        error: its code.
    """

    id: str
    method: str
    route: str
    status: int
    ms: float
    dialect: str = ""
    operation: str = ""
    model: str = ""
    server: str = ""
    key: str = ""
    queue_ms: float | None = None
    first_ms: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reason: str = ""
    error: str = ""

    def __str__(self) -> str:
        """For people."""
        words = [self.method, self.route or "no route", str(self.status or "left"), f"{self.ms:.0f} ms"]
        if self.model:
            words.append(self.model if self.server in {"", HERE} else f"{self.model} at {self.server}")
        if self.completion_tokens is not None:
            words.append(f"{self.prompt_tokens} + {self.completion_tokens} tokens")
        if self.error:
            words.append(self.error)
        return "  ".join(words)


class AccessLog:
    """A :data:`~localmodels.server.app.Watcher` that writes lines while it is ``on``."""

    def __init__(self, clock: Callable[[], int] = monotonic_ns, *, on: bool = True) -> None:
        self._clock = clock
        self.on = on

    def __call__(self, outcome: Outcome) -> None:
        """One request ended."""
        if self.on and log.isEnabledFor(logging.INFO):
            log.info("%s", request_of(outcome, self._clock()))


def request_of(outcome: Outcome, now: int) -> Logged:
    """What the log tells of it."""
    row, visit, usage = outcome.row, outcome.visit, outcome.visit.usage
    return Logged(
        id=visit.id,
        method=outcome.method if row else "-",  # without a row it is any word that a stranger wrote
        route=row.path if row else "",
        status=outcome.status,
        ms=_after(visit.started, now) or 0.0,
        dialect=visit.dialect,
        operation=visit.operation,
        model=visit.label,
        server=visit.server if visit.model else "",
        key=visit.caller.id,
        queue_ms=_after(visit.started, visit.admitted),
        first_ms=_after(visit.started, visit.first),
        prompt_tokens=usage.prompt_tokens if usage else None,
        cached_tokens=usage.cached_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
        reason=visit.reason,
        error=visit.error.code if visit.error else "",
    )


def _after(start: int, end: int) -> float | None:
    return round((end - start) / MILLISECOND, 2) if end else None
