"""Keys: how one is made, found by what a request shows, and taken away.

The one rule: a key's text is made here, given once to who asked for it, and kept nowhere; what is kept is its SHA-256.
256 random bits cannot be guessed, so no slow hash is needed, and a look into a dict by the hash tells no prefix: the
bytes compared are not the caller's to choose (threat V-27).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from hmac import compare_digest
from secrets import token_hex, token_urlsafe
from time import time_ns
from typing import Protocol, get_args

from msgspec.structs import replace

from localmodels.core.access import EVERY_MODEL, GRANTS, UNLIMITED, Allowance, Caller, Key, Period, Wish
from localmodels.core.errors import Forbidden, InvalidValue, NotFound, Unauthenticated
from localmodels.core.secrets import Secret

PREFIX = "lm-"
RANDOM_BYTES = 32
MOST_MODELS = 64
MOST_COUNT = 10**15
MOST_WEIGHT = 100
# No credential that anybody was given is longer; what is longer is not hashed.
MOST_CREDENTIAL = 512

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@+-]{0,62}[A-Za-z0-9]|[A-Za-z0-9]")
_PATTERN = re.compile(r"[\x21-\x7e]{1,300}")


class KeyStore(Protocol):
    """Keeps keys."""

    async def known(self) -> tuple[int, tuple[Key, ...]]:
        """The generation, and all keys of it: also those that open nothing any more."""
        ...

    async def add(self, key: Key) -> None:
        """Keeps a new one.

        Raises:
            Conflict: another key that is not revoked has its name.
        """
        ...

    async def revoke(self, key_id: str, now: int) -> bool:
        """Makes one open nothing from now on; is there such a key?"""
        ...

    async def generation(self) -> int:
        """Raised by every change."""
        ...


def make_key(wish: Wish, now: int, *, maker: str = "") -> tuple[Key, Secret]:
    """A new key and its text, which nobody can find again.

    Args:
        wish: what it shall be.
        now: nanoseconds since 1970.
        maker: id of the key that makes it.

    Raises:
        InvalidValue: there can be no such key; says what would be right.
    """
    check(wish, now)
    text = PREFIX + token_urlsafe(RANDOM_BYTES)
    key = Key(
        id=f"key_{token_hex(8)}",
        name=wish.name,
        hash=fingerprint(text),
        shown=f"{text[:7]}…{text[-4:]}",
        scopes=frozenset(scope for scope in GRANTS if scope in wish.scopes),
        models=wish.models or EVERY_MODEL,
        allowance=wish.allowance,
        weight=wish.weight,
        created_at=now,
        created_by=maker,
        expires_at=wish.expires_at,
    )
    return key, Secret(text)


def fingerprint(text: str) -> bytes:
    """What is kept of a key's text."""
    return sha256(text.encode("utf-8", "surrogateescape")).digest()


def check(wish: Wish, now: int) -> None:
    """Looks at every part of a wish.

    Raises:
        InvalidValue: one cannot be.
    """
    if not _NAME.fullmatch(wish.name):
        raise InvalidValue("name must be 1 to 64 letters, digits, spaces and . _ @ + -", param="name")
    unknown = wish.scopes - set(GRANTS)
    if unknown or not wish.scopes:
        hint = f", not {', '.join(sorted(unknown))[:60]!r}" if unknown else ""
        raise InvalidValue(f"scopes must be some of {', '.join(GRANTS)}{hint}", param="scopes")
    if len(wish.models) > MOST_MODELS or not all(map(_PATTERN.fullmatch, wish.models)):
        words = f"models must be at most {MOST_MODELS} names or patterns, such as qwen3 or openai/*"
        raise InvalidValue(words, param="models")
    for field in ("requests_per_minute", "tokens_per_minute", "token_quota"):
        count = getattr(wish.allowance, field)
        if count is not None and not 1 <= count <= MOST_COUNT:
            raise InvalidValue(f"{field} must be a whole number from 1 to {MOST_COUNT}", param=field)
    if wish.allowance.quota_period not in get_args(Period):
        raise InvalidValue(f"quota_period must be one of {', '.join(get_args(Period))}", param="quota_period")
    if not 1 <= wish.weight <= MOST_WEIGHT:
        raise InvalidValue(f"weight must be a whole number from 1 to {MOST_WEIGHT}", param="weight")
    if wish.expires_at is not None and wish.expires_at <= now:
        raise InvalidValue("a key must expire in the future", param="expires_at")


class Keyring:
    """All keys in memory, found by what a request shows; replaced whole when they change.

    Args:
        now: nanoseconds since 1970.
    """

    def __init__(self, now: Callable[[], int] = time_ns) -> None:
        self._now = now
        self._known: Mapping[bytes, tuple[Key, Caller]] = {}
        self._by_id: Mapping[str, Key] = {}
        self.generation = -1

    def take(self, generation: int, keys: Iterable[Key]) -> None:
        """These are the keys from now on."""
        self._by_id = {key.id: key for key in keys}
        self._known = {key.hash: (key, caller_of(key)) for key in self._by_id.values()}
        self.generation = generation

    def caller(self, credential: str) -> Caller | None:
        """Whose key this is; None if it is none of ours.

        Raises:
            Unauthenticated: it was revoked or has expired.
        """
        if len(credential) > MOST_CREDENTIAL:
            return None
        digest = fingerprint(credential)
        key, caller = self._known.get(digest, (None, None))
        if key is None or not compare_digest(key.hash, digest):
            return None
        if key.revoked_at is not None:
            raise Unauthenticated("this key was revoked")
        if not key.alive(self._now()):
            raise Unauthenticated("this key has expired")
        return caller

    def key(self, key_id: str) -> Key | None:
        """The key of this id."""
        return self._by_id.get(key_id)

    def every(self) -> tuple[Key, ...]:
        """All of them."""
        return tuple(self._by_id.values())


def caller_of(key: Key) -> Caller:
    """Who shows this key."""
    return Caller(key.id, key.name, key.scopes, key.models, key.allowance, key.weight)


class Issuer:
    """Makes keys and takes them away, for callers who may; what changes counts here at once.

    Args:
        store: keeps them.
        ring: of this server.
        now: nanoseconds since 1970.
    """

    def __init__(self, store: KeyStore, ring: Keyring, now: Callable[[], int] = time_ns) -> None:
        self._store = store
        self._ring = ring
        self._now = now

    async def refresh(self) -> bool:
        """Looks whether another program changed them; did it?"""
        if await self._store.generation() == self._ring.generation:
            return False
        self._ring.take(*await self._store.known())
        return True

    async def all(self) -> tuple[Key, ...]:
        """All of them, oldest first."""
        await self.refresh()
        return self._ring.every()

    async def add(self, wish: Wish, maker: Caller) -> tuple[Key, Secret]:
        """A new key and its text. What the wish leaves open becomes what its maker may.

        Raises:
            Forbidden: it could do what its maker cannot.
            InvalidValue: there can be no such key.
            Conflict: its name is taken.
        """
        key = self._ring.key(maker.id)
        wish = within(wish, maker, key.expires_at if key else None)
        made, text = make_key(wish, self._now(), maker=key.id if key else "")
        await self._store.add(made)
        await self.refresh()
        return made, text

    async def revoke(self, key_id: str) -> Key:
        """Makes a key open nothing from now on; one that was revoked before stays as it was.

        Raises:
            NotFound: there is no such key.
        """
        if not await self._store.revoke(key_id, self._now()):
            raise NotFound(f"there is no key '{key_id[:40]}'")
        await self.refresh()
        revoked = self._ring.key(key_id)
        if revoked is None:
            raise NotFound(f"there is no key '{key_id[:40]}'")
        return revoked


def within(wish: Wish, maker: Caller, expires_at: int | None) -> Wish:
    """The wish with what it leaves open taken from its maker.

    Raises:
        Forbidden: it asks for more than its maker has; says what.
    """
    if not all(maker.may(scope) for scope in wish.scopes if scope in GRANTS):
        raise Forbidden("a key cannot have scopes that its maker has not", param="scopes")
    # A pattern matched as a text, `*` for `*`, by a maker's pattern: whatever it matches, the maker's matches too.
    if not all(map(maker.may_ask, wish.models)):
        raise Forbidden("a key cannot ask models that its maker may not", param="models")
    # A share is nothing that the owner could be short of; who has limits has one more.
    if maker.allowance != UNLIMITED and wish.weight > maker.weight:
        raise Forbidden("a key cannot weigh more than its maker", param="weight")
    if expires_at is not None and (wish.expires_at or expires_at) > expires_at:
        raise Forbidden("a key cannot outlive its maker", param="expires_at")
    return replace(
        wish,
        models=wish.models or maker.models,
        allowance=_within(wish.allowance, maker.allowance),
        expires_at=wish.expires_at or expires_at,
    )


def _within(wish: Allowance, maker: Allowance) -> Allowance:
    for field in ("requests_per_minute", "tokens_per_minute", "token_quota"):
        most, wished = getattr(maker, field), getattr(wish, field)
        if most is None:
            continue
        if wished is None:
            wish = replace(wish, **{field: most})
            if field == "token_quota":
                wish = replace(wish, quota_period=maker.quota_period)
        elif wished > most or (field == "token_quota" and wish.quota_period != maker.quota_period):
            raise Forbidden(f"a key cannot have a larger {field} than its maker, nor another period", param=field)
    return wish
