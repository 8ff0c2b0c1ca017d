"""What follows when a host fails a request before it has answered: may another be asked, and how often?

The one rule: no request is answered twice behind its caller's back. A host that certainly did not take it up costs
nothing but the way to the next one; where it may have begun to answer, one other host is asked, and none if the caller
said so. What is wrong with the request itself is wrong everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Literal

from localmodels.backends.round_trip import Unanswered
from localmodels.core.errors import (
    BackendError,
    BackendTimeout,
    CallerError,
    Conflict,
    EngineError,
    ExpectationFailed,
    Forbidden,
    HeadTooLarge,
    LoadFailed,
    LocalModelsError,
    MethodNotAllowed,
    Misdirected,
    ModelDamaged,
    NotFound,
    RateLimited,
    RequestTimeout,
    RunnerDied,
    StoreFailed,
    TargetTooLong,
    Unauthenticated,
    Unavailable,
    Unreachable,
    UnsupportedMedia,
    VersionNotSupported,
)

# Retries may be so large a share of all requests, and so many more when they come at once or nearly nothing is asked:
# a fleet of which half is dead must not get twice the requests it got while it was whole.
SHARE = 0.2
RESERVE = 100.0
TRICKLE = 1.0  # a second, so that a fleet that was stormed and is quiet now has its reserve again in two minutes

Verdict = Literal["untouched", "perhaps", "refused"]
"""Of a request that failed: nobody has taken it up; somebody may have; or it is itself at fault."""

# What says something about our request to the server, and not about the caller's to us.
OURS = (
    Conflict,
    ExpectationFailed,
    HeadTooLarge,
    MethodNotAllowed,
    Misdirected,
    RequestTimeout,
    TargetTooLong,
    UnsupportedMedia,
    VersionNotSupported,
)

# The first row that fits counts.
_MEANS: Mapping[type[LocalModelsError] | tuple[type[LocalModelsError], ...], Verdict] = {
    Unanswered: "perhaps",
    Unreachable: "untouched",
    (Unavailable, RateLimited): "untouched",
    (Unauthenticated, Forbidden): "untouched",  # our key, not the caller's
    NotFound: "untouched",  # the model, or this kind of question, is not there
    (ModelDamaged, LoadFailed, StoreFailed): "untouched",
    BackendTimeout: "perhaps",
    RunnerDied: "perhaps",
    (BackendError, EngineError): "perhaps",
    OURS: "untouched",
    CallerError: "refused",
    LocalModelsError: "perhaps",
}


def verdict(error: LocalModelsError) -> Verdict:
    """What a host's error says of the request, before any of its answer has come."""
    return next(what for kinds, what in _MEANS.items() if isinstance(error, kinds))


class Retries:
    """How many requests may be sent once more.

    Args:
        share: of all requests.
        reserve: besides, while nothing is used up.
        trickle: by which the reserve comes back, a second.
        clock: seconds that only ever grow.
    """

    def __init__(
        self,
        share: float = SHARE,
        reserve: float = RESERVE,
        trickle: float = TRICKLE,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._share = share
        self._reserve = reserve
        self._trickle = trickle
        self._clock = clock
        self._left = reserve
        self._at = clock()

    def request(self) -> None:
        """A request came."""
        self._left = min(self._reserve, self._left + self._share)

    def take(self) -> bool:
        """May one be sent once more? It counts as sent."""
        now = self._clock()
        self._left = min(self._reserve, self._left + (now - self._at) * self._trickle)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
