"""Buckets that lose nothing to rounding, and tokens that are set aside and settled."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.core.access import LOCAL, Allowance, Caller, Level, Standing
from localmodels.core.chat import Usage
from localmodels.core.errors import QuotaExceeded, RateLimited
from localmodels.flows.access.limits import MINUTE, MOST_OWED, Bucket, Limiter
from localmodels.flows.visit import Visit

SECOND = 10**9


class Clock:
    def __init__(self) -> None:
        self.now = 5 * SECOND

    def __call__(self) -> int:
        return self.now


class Quota:
    def __init__(self, left: int | None = None) -> None:
        self.tokens = left

    def left(self, caller: Caller) -> int | None:
        return self.tokens

    def renews(self, caller: Caller) -> float | None:
        return 3600.0


def visit_of(allowance: Allowance, operation: str = "chat") -> Visit:
    visit = Visit("r", Caller("key_1", "bob", allowance=allowance))
    visit.operation = operation
    return visit


@given(st.integers(1, 10**6), st.lists(st.tuples(st.integers(0, 90 * SECOND), st.integers(-2000, 2000))))
def test_a_bucket_is_exact(rate: int, moves: list[tuple[int, int]]) -> None:
    """Against the same bucket in fractions: no move is lost to rounding, and a wait is as long as it must be."""
    now = 0
    bucket, level = Bucket(rate, now), Fraction(rate)
    for passed, count in moves:
        now += passed
        level = min(level + Fraction(passed * rate, MINUTE), Fraction(rate))
        if count < 0:
            bucket.give(count, now)
            level = max(min(level + count, Fraction(rate)), -Fraction(MOST_OWED * rate))
            continue
        wait = bucket.take(count, now)
        assert (wait == 0) == (level >= count)
        if wait:
            assert level + Fraction(wait * rate, MINUTE) >= count > level + Fraction((wait - 1) * rate, MINUTE)
        else:
            level -= count
        told = bucket.level(now)
        assert (told.limit, told.remaining) == (rate, max(0, level.__floor__()))
        assert told.reset == pytest.approx(float((rate - level) * MINUTE / rate) / SECOND, abs=1e-8)


def test_requests_are_counted_to_the_last() -> None:
    clock = Clock()
    limiter = Limiter(Quota(), clock)
    for _ in range(60):
        limiter.admit(visit_of(Allowance(requests_per_minute=60)))
    with pytest.raises(RateLimited) as caught:
        limiter.admit(visit_of(Allowance(requests_per_minute=60)))
    assert caught.value.retry_after == 1.0
    clock.now += SECOND - 1
    with pytest.raises(RateLimited):
        limiter.admit(visit_of(Allowance(requests_per_minute=60)))
    clock.now += 1
    limiter.admit(visit_of(Allowance(requests_per_minute=60)))


def test_tokens_are_set_aside_and_settled() -> None:
    clock = Clock()
    limiter = Limiter(Quota(), clock)
    allowance = Allowance(tokens_per_minute=600)
    first = visit_of(allowance)
    limiter.reserve(first, 100, 400)
    assert limiter.standing(first) == Standing(None, Level(600, 100, 50.0))
    with pytest.raises(RateLimited, match="600 tokens a minute") as caught:
        limiter.reserve(visit_of(allowance), 100, 20)
    assert caught.value.retry_after == 2.0
    first.usage = Usage(prompt_tokens=90, completion_tokens=10)
    limiter.settle(first)
    limiter.settle(first)  # of a second charge only what was used counts
    standing = limiter.standing(first)
    assert standing is not None
    assert standing.tokens == Level(600, 400, 20.0)


def test_what_was_used_beyond_is_owed() -> None:
    clock = Clock()
    limiter = Limiter(Quota(), clock)
    allowance = Allowance(tokens_per_minute=60)
    long = visit_of(allowance)
    limiter.reserve(long, 10, 10**6)  # more than a minute's worth waits for a full bucket, no longer
    long.usage = Usage(prompt_tokens=60, completion_tokens=60)
    limiter.settle(long)
    with pytest.raises(RateLimited) as caught:
        limiter.reserve(visit_of(allowance), 1, 0)
    assert caught.value.retry_after == 61.0


def test_a_figure_that_is_wrong_locks_nobody_out() -> None:
    clock = Clock()
    limiter = Limiter(Quota(), clock)
    allowance = Allowance(tokens_per_minute=60)
    for absurd in (2**31, 10**30):
        wrong = visit_of(allowance)
        wrong.usage = Usage(prompt_tokens=absurd)
        limiter.settle(wrong)
        with pytest.raises(RateLimited) as caught:
            limiter.reserve(visit_of(allowance), 60, 0)
        assert caught.value.retry_after == 61 * 60.0
    clock.now += 61 * MINUTE
    limiter.reserve(visit_of(allowance), 60, 0)


def test_a_stream_that_was_left_costs_what_it_gave() -> None:
    limiter = Limiter(Quota(), Clock())
    left, refused = visit_of(Allowance(tokens_per_minute=600)), visit_of(Allowance(tokens_per_minute=600))
    limiter.reserve(left, 50, 100)
    limiter.reserve(refused, 50, 100)
    left.admitted = 1
    for _ in range(7):
        left.piece(2)
    limiter.settle(left)
    limiter.settle(refused)
    standing = limiter.standing(left)
    assert standing is not None
    assert standing.tokens is not None
    assert standing.tokens.remaining == 600 - 57


def test_a_quota_is_for_what_asks_a_model() -> None:
    quota = Quota(1)
    limiter = Limiter(quota, Clock())
    allowance = Allowance(token_quota=1000, quota_period="day")
    limiter.admit(visit_of(allowance))
    quota.tokens = 0
    limiter.admit(visit_of(allowance, operation=""))
    with pytest.raises(QuotaExceeded, match="1000 tokens a day") as caught:
        limiter.admit(visit_of(allowance))
    assert caught.value.retry_after == 3600.0


def test_requests_at_once_do_not_share_one_token() -> None:
    quota = Quota(500)
    limiter = Limiter(quota, Clock())
    allowance = Allowance(token_quota=1000)
    first = visit_of(allowance)
    limiter.reserve(first, 100, 400)
    with pytest.raises(QuotaExceeded, match="set aside") as caught:
        limiter.reserve(visit_of(allowance), 1, 1)
    assert caught.value.retry_after is None
    limiter.settle(first)
    limiter.reserve(visit_of(allowance), 1, 1)


def test_who_has_no_limits_is_told_of_none() -> None:
    limiter = Limiter(Quota(), Clock())
    visit = Visit("r", LOCAL)
    limiter.admit(visit)
    limiter.reserve(visit, 10, 10)
    limiter.settle(visit)
    assert limiter.standing(visit) is None
    assert visit.asked == 10


def test_other_limits_begin_anew() -> None:
    limiter = Limiter(Quota(), Clock())
    limiter.admit(visit_of(Allowance(requests_per_minute=1)))
    limiter.admit(visit_of(Allowance(requests_per_minute=2)))
