"""Who a request comes from, by where it arrived, the name it asked for and the key it showed; and what it is told."""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest
from msgspec.structs import replace

from localmodels.core.access import ANYBODY, LOCAL, STRANGER, Allowance, Caller, Key, Wish
from localmodels.core.chat import Usage
from localmodels.core.errors import InvalidRequest, QuotaExceeded, RateLimited, Unauthenticated
from localmodels.dialects.allowances import go_duration
from localmodels.flows.access.keys import Keyring, make_key
from localmodels.flows.access.ledger import Ledger
from localmodels.flows.access.limits import Limiter
from localmodels.flows.visit import Visit
from localmodels.server.identify import Doorkeeper
from localmodels.state.memory import MemoryUsage

BOB, TEXT = make_key(Wish("bob", allowance=Allowance(60, 6000)), 1)
DEAD, DEAD_TEXT = make_key(Wish("eve"), 1)
GOOD, GONE = TEXT.reveal(), DEAD_TEXT.reveal()
NOBODY = "lm-" + "x" * 43


def door(*, require_key: bool = False, anybody: bool = False) -> Doorkeeper:
    ring = Keyring()
    ring.take(1, [BOB, replace(DEAD, revoked_at=5)])
    ledger = Ledger(MemoryUsage(), ring)
    return Doorkeeper(ring, Limiter(ledger, lambda: 0), ledger, require_key=require_key, anybody=anybody)


def scope(
    headers: Sequence[tuple[str, str]] = (), host: str = "localhost:8000", reached: str = "127.0.0.1"
) -> dict[str, Any]:
    every = [("host", host), *headers]
    return {"server": (reached, 8000), "headers": [(name.encode(), value.encode("latin-1")) for name, value in every]}


def bearer(text: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {text}")]


ELSEWHERE = {"host": "10.0.0.5:8000", "reached": "10.0.0.5"}


@pytest.mark.parametrize(
    "headers",
    [
        bearer(GOOD),
        [("authorization", f"bearer {GOOD}")],
        [("authorization", f"BEARER   {GOOD} ")],
        [("x-api-key", GOOD)],
        [*bearer(GOOD), ("x-api-key", GOOD)],
        [*bearer(GOOD), ("authorization", "Basic Zm9vOmJhcg==")],
        [("x-api-key", ""), *bearer(GOOD)],
    ],
)
@pytest.mark.parametrize("where", [{}, ELSEWHERE])
def test_a_key_of_ours_is_its_caller_everywhere(headers: list[tuple[str, str]], where: dict[str, str]) -> None:
    for keeper in (door(), door(require_key=True), door(anybody=True)):
        caller = keeper.caller(scope(headers, **where))
        assert (caller.id, caller.name) == (BOB.id, "bob")


@pytest.mark.parametrize("where", [{}, ELSEWHERE])
@pytest.mark.parametrize("carrier", ["authorization", "x-api-key"])
def test_a_revoked_key_opens_nothing_anywhere(where: dict[str, str], carrier: str) -> None:
    shown = GONE if carrier == "x-api-key" else f"Bearer {GONE}"
    for keeper in (door(), door(require_key=True), door(anybody=True)):
        with pytest.raises(Unauthenticated, match="revoked"):
            keeper.caller(scope([(carrier, shown)], **where))


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("localhost", "127.0.0.1"),
        ("LOCALHOST.:8000", "127.0.0.1"),
        ("127.0.0.1:8000", "127.0.0.1"),
        ("127.8.8.8", "127.8.8.8"),
        ("[::1]:8000", "::1"),
        ("localhost:11434", "::ffff:127.0.0.1"),
    ],
)
@pytest.mark.parametrize("headers", [[], bearer("sk-dummy"), [("x-api-key", "ollama")], bearer(NOBODY)])
def test_programs_of_this_machine_need_none(host: str, reached: str, headers: list[tuple[str, str]]) -> None:
    assert door().caller(scope(headers, host, reached)) is LOCAL
    with pytest.raises(Unauthenticated) if headers else nullcontext():
        assert door(require_key=True).caller(scope(headers, host, reached)) is STRANGER


@pytest.mark.parametrize(
    ("headers", "host", "reached"),
    [
        ([], "10.0.0.5:8000", "10.0.0.5"),
        ([], "localhost", "10.0.0.5"),  # whatever it calls us, it did not come in by loopback
        ([], "models.example.org", "127.0.0.1"),  # a proxy that passes the public name on
        ([], "localhost.evil.example", "127.0.0.1"),
        ([], "127.0.0.1.nip.io", "127.0.0.1"),
        ([], "0.0.0.0", "127.0.0.1"),
        ([], "[::]", "::1"),
        ([], "::1", "::1"),  # without brackets it is no Host
        ([], "", "127.0.0.1"),
        ([], "localhost", ""),
        ([("x-forwarded-for", "203.0.113.9")], "localhost", "127.0.0.1"),
        ([("forwarded", "for=203.0.113.9")], "localhost", "127.0.0.1"),
        ([("x-real-ip", "127.0.0.1")], "localhost", "127.0.0.1"),
    ],
)
def test_whoever_comes_from_elsewhere_is_a_stranger(headers: list[tuple[str, str]], host: str, reached: str) -> None:
    assert door().caller(scope(headers, host, reached)) is STRANGER
    assert door(anybody=True).caller(scope(headers, host, reached)) is ANYBODY
    with pytest.raises(Unauthenticated, match="no key of this server"):
        door().caller(scope([*headers, *bearer(NOBODY)], host, reached))


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", f"Basic {GOOD}")],
        [("authorization", GOOD)],
        [("authorization", f"Bearer{GOOD}")],
        [("authorization", f"Token {GOOD}")],
        [("cookie", f"key={GOOD}; x-api-key={GOOD}")],
        [("api-key", GOOD)],
        [("x-goog-api-key", GOOD)],
        [("proxy-authorization", f"Bearer {GOOD}")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("x-api-key", " ")],
    ],
)
def test_a_key_is_looked_for_in_two_places_and_nowhere_else(headers: list[tuple[str, str]]) -> None:
    assert door().caller(scope(headers, **ELSEWHERE)) is STRANGER


@pytest.mark.parametrize(
    "headers",
    [
        [*bearer(GOOD), ("x-api-key", NOBODY)],
        [*bearer(NOBODY), ("x-api-key", GOOD)],
        [*bearer(GOOD), *bearer(NOBODY)],
        [("x-api-key", GOOD), ("x-api-key", GONE)],
    ],
)
def test_two_keys_that_differ_are_none(headers: list[tuple[str, str]]) -> None:
    for where in ({}, ELSEWHERE):
        with pytest.raises(InvalidRequest, match="one key, not two"):
            door().caller(scope(headers, **where))


def visit_of(key: Key, dialect: str) -> Visit:
    visit = Visit("r", Caller(key.id, key.name, key.scopes, allowance=key.allowance))
    visit.operation, visit.dialect, visit.model = "chat", dialect, "m"
    return visit


def test_limits_are_told_in_the_words_of_the_dialect() -> None:
    keeper = door()
    visit = visit_of(BOB, "openai")
    keeper.admit(visit)
    assert dict(keeper.told(visit)) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"1s",
        b"x-ratelimit-limit-tokens": b"6000",
        b"x-ratelimit-remaining-tokens": b"6000",
        b"x-ratelimit-reset-tokens": b"0ms",
    }
    told = dict(keeper.told(visit_of(BOB, "anthropic")))
    assert told[b"anthropic-ratelimit-requests-limit"] == b"60"
    assert told[b"anthropic-ratelimit-tokens-remaining"] == b"6000"
    assert told[b"anthropic-ratelimit-requests-reset"].endswith(b"Z")
    assert len(told) == 6
    assert dict(keeper.told(Visit("r", LOCAL))) == {}


def test_a_refusal_tells_when_to_come_back_and_whether() -> None:
    keeper = door()
    visit = visit_of(BOB, "openai")
    visit.error = RateLimited("slow down", retry_after=0.2501)
    assert dict(keeper.told(visit))[b"retry-after-ms"] == b"251"
    visit.error = QuotaExceeded("all used", retry_after=7200)
    assert dict(keeper.told(visit))[b"x-should-retry"] == b"false"
    assert b"retry-after-ms" not in dict(keeper.told(visit))


def test_what_ended_is_charged() -> None:
    async def story() -> None:
        keeper = door()
        visit = visit_of(BOB, "openai")
        visit.usage = Usage(100, 50)
        keeper.charge(visit)
        assert dict(keeper.told(visit))[b"x-ratelimit-remaining-tokens"] == b"5850"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0121, "13ms"),
        (0.9999, "1s"),
        (1, "1s"),
        (1.2, "2s"),
        (59.5, "1m0s"),
        (360, "6m0s"),
        (90, "1m30s"),
    ],
)
def test_durations_are_go_s(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text
