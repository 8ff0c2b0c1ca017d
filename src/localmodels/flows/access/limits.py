"""How much a caller may in a minute: a bucket of requests and one of tokens for each key that has limits.

A bucket holds one minute's worth and fills all the time. Nobody knows beforehand how long an answer becomes, so tokens
are set aside when a request begins, and what was set aside is settled with what was used when it ends: a burst of long
answers cannot run away by more than that. Counted in whole numbers, so nothing is lost to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns
from typing import Protocol

from localmodels.core.access import UNLIMITED, Allowance, Caller, Level, Standing
from localmodels.core.errors import QuotaExceeded, RateLimited
from localmodels.flows.visit import Visit

# A bucket is counted in tokens times nanoseconds of a minute: what comes in a nanosecond is then the rate itself.
MINUTE = 60 * 10**9
# Minutes' worth that a bucket may owe: a figure that is wrong locks nobody out for longer than an hour.
MOST_OWED = 60


class Bucket:
    """Holds ``rate`` things, and as many come in a minute. It may owe some, after more was used than was set aside."""

    __slots__ = ("_at", "_full", "_level", "rate")

    def __init__(self, rate: int, now: int) -> None:
        self.rate = rate
        self._level = self._full = rate * MINUTE
        self._at = now

    def take(self, count: int, now: int) -> int:
        """Takes as many, if they are there; else the nanoseconds until they will be, and nothing is taken."""
        lacking = count * MINUTE - self._filled(now)
        if lacking > 0:
            return -(-lacking // self.rate)
        self._level = -lacking
        return 0

    def give(self, count: int, now: int) -> None:
        """Puts back what was not used; a negative count takes what was used beyond, but for more than is ever owed."""
        self._level = max(min(self._filled(now) + count * MINUTE, self._full), -MOST_OWED * self._full)

    def level(self, now: int) -> Level:
        """How it stands: the whole things in it, and the seconds until it is full."""
        level = self._filled(now)
        return Level(self.rate, max(0, level // MINUTE), -(-(self._full - level) // self.rate) / 1e9)

    def _filled(self, now: int) -> int:
        level = self._level + (now - self._at) * self.rate
        self._level = level = level if level < self._full else self._full  # noqa: FURB136 - a call costs as much as this
        self._at = now
        return level


class Quotas(Protocol):
    """Knows what is left of the tokens that a key may use in its period."""

    def left(self, caller: Caller) -> int | None:
        """Tokens; None without a quota."""
        ...

    def renews(self, caller: Caller) -> float | None:
        """Seconds until the period ends; None if it never does."""
        ...


class _Account:
    """The buckets of one caller, and the tokens that are set aside for what he asks now."""

    __slots__ = ("allowance", "held", "requests", "tokens")

    def __init__(self, allowance: Allowance, now: int) -> None:
        self.allowance = allowance
        self.requests = Bucket(allowance.requests_per_minute, now) if allowance.requests_per_minute else None
        self.tokens = Bucket(allowance.tokens_per_minute, now) if allowance.tokens_per_minute else None
        self.held = 0


class Limiter:
    """Admits requests and sets tokens aside; callers without limits cost one comparison.

    Args:
        quotas: what is left of each key's tokens.
        clock: nanoseconds that only ever grow.
    """

    def __init__(self, quotas: Quotas, clock: Callable[[], int] = monotonic_ns) -> None:
        self._quotas = quotas
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def admit(self, visit: Visit) -> None:
        """Counts a request.

        Raises:
            RateLimited: it is one too many in this minute.
            QuotaExceeded: it asks a model, and the key's tokens are used up.
        """
        account = self._account(visit.caller)
        if account is None:
            return
        if visit.operation:
            self._check_quota(visit.caller, account)
        if account.requests is not None and (wait := account.requests.take(1, self._clock())):
            raise RateLimited(
                f"this key may make {account.requests.rate} requests a minute; the next one in {wait / 1e9:.2f} s",
                retry_after=wait / 1e9,
            )

    def reserve(self, visit: Visit, prompt: int, answer: int) -> None:
        """Sets tokens aside for a request that is about to ask a model.

        Args:
            visit: of the request; the estimate is noted in it.
            prompt: tokens that its prompt has, as far as one can guess.
            answer: most tokens that are to be expected of the answer.

        Raises:
            RateLimited: there are not as many in this minute. What is more than a whole minute's waits for a full one.
            QuotaExceeded: what others of this key's requests set aside leaves none.
        """
        if visit.tried:  # as many were set aside when it was sent to those
            return
        visit.asked = prompt
        account = self._account(visit.caller)
        if account is None:
            return
        self._check_quota(visit.caller, account)
        count = prompt + answer
        if account.tokens is not None:
            count = min(count, account.tokens.rate)
            if wait := account.tokens.take(count, self._clock()):
                raise RateLimited(
                    f"this key may use {account.tokens.rate} tokens a minute, and this request may take {count}; "
                    f"as many are there in {wait / 1e9:.2f} s",
                    retry_after=wait / 1e9,
                )
        account.held += count
        visit.reserved += count

    def settle(self, visit: Visit) -> None:
        """Exchanges what was set aside for what was used; at the end of a request, whatever its end was."""
        account = self._account(visit.caller)
        if account is None:
            return
        if account.tokens is not None:
            account.tokens.give(visit.reserved - visit.tokens, self._clock())
        account.held -= visit.reserved
        visit.reserved = 0

    def standing(self, visit: Visit) -> Standing | None:
        """What the caller has left; None without limits."""
        account = self._account(visit.caller)
        if account is None or (account.requests is None and account.tokens is None):
            return None
        now, requests, tokens = self._clock(), account.requests, account.tokens
        return Standing(requests.level(now) if requests else None, tokens.level(now) if tokens else None)

    def _account(self, caller: Caller) -> _Account | None:
        allowance = caller.allowance
        if allowance is UNLIMITED:
            return None
        account = self._accounts.get(caller.id)
        if account is not None and account.allowance is allowance:  # the same object, until the keys are read again
            return account
        if allowance == UNLIMITED:
            return None
        if account is None or account.allowance != allowance:
            account = self._accounts[caller.id] = _Account(allowance, self._clock())
        account.allowance = allowance
        return account

    def _check_quota(self, caller: Caller, account: _Account) -> None:
        left = self._quotas.left(caller)
        if left is None or left - account.held > 0:
            return
        period = caller.allowance.quota_period
        words = {"ever": "", "day": " a day", "month": " a month"}[period]
        raise QuotaExceeded(
            f"this key's quota of {caller.allowance.token_quota} tokens{words} is used up"
            + ("" if left <= 0 else ", or set aside for what it asks now"),
            retry_after=self._quotas.renews(caller) if left <= 0 else None,
        )
