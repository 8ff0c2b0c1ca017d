"""Keys: what a new one is, whom it stands for, and that it never may more than who made it."""

import asyncio
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from localmodels.core.access import ANYBODY, GRANTS, LOCAL, STRANGER, UNLIMITED, Allowance, Caller, Key, Wish
from localmodels.core.errors import Forbidden, InvalidValue, NotFound, Unauthenticated
from localmodels.flows.access.keys import Issuer, Keyring, caller_of, fingerprint, make_key, within
from localmodels.state.memory import MemoryKeys

NOW = 1_000


def ring_of(*keys: Key, now: int = NOW) -> Keyring:
    ring = Keyring(lambda: now)
    ring.take(1, keys)
    return ring


def test_a_new_key_is_random_and_kept_as_its_hash() -> None:
    made, text = make_key(Wish("bob"), NOW, maker="key_0")
    other, _ = make_key(Wish("bob"), NOW)
    plain = text.reveal()
    assert plain.startswith("lm-")
    assert len(plain) == 46
    assert made.hash == fingerprint(plain) != other.hash
    assert made.shown == f"{plain[:7]}…{plain[-4:]}"
    assert made.scopes == {"infer", "list"}
    assert (made.models, made.created_at, made.created_by) == (("*",), NOW, "key_0")
    assert made.id != other.id
    for shown in (repr(made), str(made), repr(text), str(text), repr(caller_of(made))):
        assert plain not in shown
        assert plain[3:20] not in shown
    with pytest.raises(TypeError):
        pickle.dumps(text)


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        (Wish(""), "name"),
        (Wish(" bob"), "name"),
        (Wish("b\nob"), "name"),
        (Wish("b" * 65), "name"),
        (Wish("бob"), "name"),
        (Wish("bob", frozenset()), "scopes"),
        (Wish("bob", frozenset({"infer", "root"})), "scopes"),
        (Wish("bob", frozenset({"open"})), "scopes"),
        (Wish("bob", models=("a b",)), "models"),
        (Wish("bob", models=("",)), "models"),
        (Wish("bob", models=("a",) * 65), "models"),
        (Wish("bob", allowance=Allowance(requests_per_minute=0)), "requests_per_minute"),
        (Wish("bob", allowance=Allowance(tokens_per_minute=-1)), "tokens_per_minute"),
        (Wish("bob", allowance=Allowance(token_quota=10**16)), "token_quota"),
        (Wish("bob", allowance=Allowance(quota_period="year")), "quota_period"),  # type: ignore[arg-type]
        (Wish("bob", weight=0), "weight"),
        (Wish("bob", weight=101), "weight"),
        (Wish("bob", expires_at=NOW), "expires_at"),
    ],
)
def test_a_wish_that_cannot_be_is_named(wish: Wish, param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        make_key(wish, NOW)
    assert caught.value.param == param


def test_a_key_stands_for_its_caller_until_it_does_not() -> None:
    made, text = make_key(Wish("bob", expires_at=NOW + 2), NOW)
    plain = text.reveal()
    assert ring_of(made).caller(plain) == Caller(made.id, "bob", made.scopes)
    assert ring_of(made).caller(plain[:-1]) is None
    assert ring_of(made).caller(plain + "x") is None
    assert ring_of(made).caller(plain.upper()) is None
    assert ring_of().caller(plain) is None
    assert ring_of(made).caller("x" * 10**6) is None
    assert ring_of(made).caller("\udcff") is None
    with pytest.raises(Unauthenticated, match="expired"):
        ring_of(made, now=NOW + 2).caller(plain)
    with pytest.raises(Unauthenticated, match="revoked"):
        ring_of(replace(made, revoked_at=NOW)).caller(plain)


GRANTED = st.frozensets(st.sampled_from(GRANTS), min_size=1)
LIMIT = st.none() | st.integers(1, 100)
ALLOWANCES = st.builds(Allowance, LIMIT, LIMIT, LIMIT, st.sampled_from(("ever", "day", "month")))
PATTERNS = st.lists(st.text("ab*:", min_size=1, max_size=5), min_size=1, max_size=3).map(tuple)
MAKERS = st.builds(Caller, st.just("key_m"), st.just("maker"), GRANTED, PATTERNS, ALLOWANCES, st.integers(1, 3))
WISHES = st.builds(
    Wish, st.just("bob"), GRANTED, PATTERNS | st.just(()), ALLOWANCES, st.integers(1, 3), st.none() | st.integers(1, 9)
)


@given(wish=WISHES, maker=MAKERS, dies=st.none() | st.integers(1, 9), names=st.lists(st.text("ab*:", max_size=6)))
def test_a_key_never_exceeds_its_maker(wish: Wish, maker: Caller, dies: int | None, names: list[str]) -> None:
    """Threat V-26: whatever is wished, what is made is a part of what its maker has."""
    try:
        made = within(wish, maker, dies)
    except Forbidden:
        return
    assert all(maker.may(scope) for scope in made.scopes)  # type: ignore[arg-type]
    child = Caller("key_c", "bob", frozenset(made.scopes), made.models)  # type: ignore[arg-type]
    # Also names made of the very patterns: `*` stands for `*`, for nothing and for much.
    grown = [text.replace("*", by) for text in made.models for by in ("", "*", "ab", "b:latest")]
    for name in [*names, *grown]:
        assert not child.may_ask(name) or maker.may_ask(name), name
    for field in ("requests_per_minute", "tokens_per_minute", "token_quota"):
        most = getattr(maker.allowance, field)
        assert most is None or getattr(made.allowance, field) <= most
    if maker.allowance.token_quota is not None:
        assert made.allowance.quota_period == maker.allowance.quota_period
    assert dies is None or (made.expires_at is not None and made.expires_at <= dies)
    assert made.weight <= maker.weight or maker.allowance == UNLIMITED


def test_a_part_of_what_the_maker_has_can_be_made() -> None:
    maker = Caller("m", "m", frozenset({"admin"}), ("qwen3:*", "openai/*"), Allowance(60, None, 1000, "day"), 2)
    made = within(Wish("bob", models=("qwen3:0.6b", "openai/gpt-*"), allowance=Allowance(10)), maker, 50)
    assert made.allowance == Allowance(10, None, 1000, "day")
    assert made.expires_at == 50
    assert within(Wish("bob"), maker, None).models == maker.models
    assert within(Wish("bob", frozenset(GRANTS)), LOCAL, None).allowance == UNLIMITED


def test_a_pattern_may_leave_out_the_usual_tag() -> None:
    caller = Caller("k", "k", models=("Tiny", "openai/gpt-5", "q*:small"))
    asked = ("tiny:latest", "tiny", "tiny:1b", "openai/gpt-5", "openai/gpt-50", "qwen:small", "qwen:smaller", "xtiny")
    assert [name for name in asked if caller.may_ask(name)] == ["tiny:latest", "tiny", "openai/gpt-5", "qwen:small"]


def test_who_may_what() -> None:
    assert LOCAL.may("admin")
    assert ANYBODY.may("manage")
    assert not ANYBODY.may("admin")
    assert not STRANGER.may("known")
    assert STRANGER.may("open")
    assert Caller("k", "k", frozenset({"observe"})).may("known")
    assert Caller("k", "k", frozenset({"admin"})).may("infer")


def test_keys_that_are_made_and_revoked_count_at_once() -> None:
    async def story() -> None:
        ring = Keyring(lambda: NOW)
        keys = Issuer(MemoryKeys(), ring, lambda: NOW)
        admin, text = await keys.add(Wish("admin", frozenset({"admin"})), LOCAL)
        caller = ring.caller(text.reveal())
        assert caller is not None
        assert admin.created_by == ""
        bob, secret = await keys.add(Wish("bob"), caller)
        assert bob.created_by == admin.id
        assert ring.caller(secret.reveal())
        assert {one.id for one in await keys.all()} == {admin.id, bob.id}
        assert (await keys.revoke(bob.id)).revoked_at == NOW
        with pytest.raises(Unauthenticated):
            ring.caller(secret.reveal())
        with pytest.raises(NotFound):
            await keys.revoke("key_nobody")

    asyncio.run(story())


def test_another_program_s_changes_are_noticed() -> None:
    async def story() -> None:
        store = MemoryKeys()
        ring = Keyring(lambda: NOW)
        keys = Issuer(store, ring)
        assert await keys.refresh()
        assert not await keys.refresh()
        made, text = make_key(Wish("bob"), NOW)
        await store.add(made)
        assert ring.caller(text.reveal()) is None
        assert await keys.refresh()
        assert ring.caller(text.reveal())

    asyncio.run(story())
