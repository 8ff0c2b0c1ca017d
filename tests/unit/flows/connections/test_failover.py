"""What follows on a failure, class by class, and how many requests may be sent once more."""

from __future__ import annotations

import pytest

from localmodels.backends.round_trip import Unanswered
from localmodels.core import errors
from localmodels.core.errors import LocalModelsError
from localmodels.flows.connections.failover import RESERVE, SHARE, TRICKLE, Retries, Verdict, verdict

MADE: dict[type[LocalModelsError], LocalModelsError] = {
    errors.ContextLengthExceeded: errors.ContextLengthExceeded(9, 8),
    errors.OutOfMemory: errors.OutOfMemory(2, 1),
}
EXPECTED: dict[Verdict, tuple[type[LocalModelsError], ...]] = {
    "untouched": (
        errors.Unreachable, errors.Unavailable, errors.QueueFull, errors.OutOfMemory, errors.DiskFull,
        errors.ShuttingDown, errors.LoopDetected, errors.RateLimited, errors.QuotaExceeded, errors.Unauthenticated,
        errors.DatabaseUnavailable, errors.Forbidden, errors.NotFound, errors.ModelNotFound, errors.ModelDamaged,
        errors.LoadFailed, errors.StoreFailed, errors.Conflict, errors.MethodNotAllowed, errors.Misdirected,
        errors.RequestTimeout, errors.HeadTooLarge, errors.TargetTooLong, errors.UnsupportedMedia,
        errors.ExpectationFailed, errors.VersionNotSupported,
    ),
    "perhaps": (
        Unanswered, errors.BackendTimeout, errors.StreamCut, errors.Garbled, errors.BackendError, errors.RunnerDied,
        errors.EngineError, errors.LocalModelsError,
    ),
    "refused": (
        errors.CallerError, errors.InvalidRequest, errors.InvalidValue, errors.Unsupported, errors.TooLarge,
        errors.QuotaFull, errors.ContentMismatch, errors.ContextLengthExceeded, errors.Cancelled,
    ),
}  # fmt: skip
CASES = [(kind, what) for what, kinds in EXPECTED.items() for kind in kinds]


@pytest.mark.parametrize(("kind", "what"), CASES, ids=lambda one: getattr(one, "__name__", one))
def test_what_an_error_says_of_the_request(kind: type[LocalModelsError], what: Verdict) -> None:
    assert verdict(MADE.get(kind) or kind("no")) == what


def test_every_error_has_been_thought_of() -> None:
    known = {kind for kind, _ in CASES}
    ours = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LocalModelsError)}
    assert ours <= known


class Clock:
    """Seconds, as a test says them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(retries: Retries) -> int:
    """How many there are."""
    count = 0
    while retries.take():
        count += 1
    return count


def test_a_reserve_and_no_more() -> None:
    assert taken(Retries(clock=Clock())) == RESERVE


def test_a_fifth_of_all_requests() -> None:
    retries = Retries(clock=Clock())
    taken(retries)
    for _ in range(1000):
        retries.request()
    # A reserve is not filled beyond what it was.
    assert taken(retries) == min(RESERVE, 1000 * SHARE)
    sent = 0
    for _ in range(5000):
        retries.request()
        sent += retries.take()
    assert abs(sent - 5000 * SHARE) <= 1


def test_a_reserve_comes_back_in_time() -> None:
    clock = Clock()
    retries = Retries(clock=clock)
    taken(retries)
    clock.now += 5 / TRICKLE
    assert taken(retries) == 5
    clock.now += 1e6
    assert taken(retries) == RESERVE
