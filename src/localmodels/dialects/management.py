"""Keys and usage as JSON, in both roles: what the routes of management take and give, and what their client says.

The rule: a key's text is in one answer, that which made it, and in no other.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, TypeVar
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from localmodels.core.access import GRANTS, USUAL, Allowance, Key, Period, Use, Wish
from localmodels.core.errors import Garbled, InvalidValue
from localmodels.core.moment import nanoseconds, rfc3339
from localmodels.core.secrets import Secret
from localmodels.dialects import failures, strict_json
from localmodels.dialects.allowances import openai_level
from localmodels.dialects.ollama.answers import write_error
from localmodels.dialects.ollama.wire import Failure

T = TypeVar("T")
HOUR = 3_600 * 10**9
State = Literal["active", "expired", "revoked"]


class AskedKey(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A key as it is asked for; what is left out becomes what the one who asks may, or what is usual."""

    name: str
    scopes: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    token_quota: int | None = None
    quota_period: Period = "ever"
    weight: int = 1
    expires_at: str | None = None


class ShownKey(Struct, frozen=True):
    """A key as it is shown: all about it but what opens doors. Moments are RFC 3339.

    Attributes:
        id: what takes it away; ``name`` is the word of whoever made it.
        shown: the first and last characters of its text.
        created_by: id of the key that made it; empty for the command line and for programs that need none.
        state: does it open anything now?
    """

    id: str
    name: str
    shown: str
    scopes: tuple[str, ...]
    models: tuple[str, ...]
    requests_per_minute: int | None
    tokens_per_minute: int | None
    token_quota: int | None
    quota_period: Period
    weight: int
    created_at: str
    created_by: str
    expires_at: str | None
    revoked_at: str | None
    state: State


class MadeKey(ShownKey, frozen=True, kw_only=True):
    """A new key; ``key`` is its text."""

    key: str


class ShownKeys(Struct, frozen=True):
    """All of them."""

    keys: tuple[ShownKey, ...]


class _Use(Struct, frozen=True):
    key: str
    model: str
    server: str
    hour: str
    requests: int
    failed: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    estimated: int


class ShownUsage(Struct, frozen=True):
    """What was used, latest first."""

    usage: tuple[_Use, ...]


_WISH = msgspec.json.Decoder(AskedKey)
_ENCODER = msgspec.json.Encoder()


def read_wish(body: bytes) -> Wish:
    """A key as somebody wants it.

    Raises:
        InvalidRequest, InvalidValue: it is no such object.
    """
    asked = strict_json.read(body, _WISH)
    return Wish(
        name=asked.name,
        scopes=frozenset(USUAL if asked.scopes is None else asked.scopes),
        models=asked.models or (),
        allowance=Allowance(
            requests_per_minute=asked.requests_per_minute,
            tokens_per_minute=asked.tokens_per_minute,
            token_quota=asked.token_quota,
            quota_period=asked.quota_period,
        ),
        weight=asked.weight,
        expires_at=None if asked.expires_at is None else _moment("expires_at", asked.expires_at),
    )


def write_wish(wish: Wish) -> bytes:
    """The same, as a client sends it."""
    allowance = wish.allowance
    return _ENCODER.encode(
        AskedKey(
            name=wish.name,
            scopes=tuple(sorted(wish.scopes)),
            models=wish.models or None,
            requests_per_minute=allowance.requests_per_minute,
            tokens_per_minute=allowance.tokens_per_minute,
            token_quota=allowance.token_quota,
            quota_period=allowance.quota_period,
            weight=wish.weight,
            expires_at=None if wish.expires_at is None else rfc3339(wish.expires_at),
        )
    )


def shown(key: Key, now: int) -> ShownKey:
    """A key without what opens doors."""
    allowance = key.allowance
    return ShownKey(
        id=key.id,
        name=key.name,
        shown=key.shown,
        scopes=tuple(scope for scope in GRANTS if scope in key.scopes),
        models=key.models,
        requests_per_minute=allowance.requests_per_minute,
        tokens_per_minute=allowance.tokens_per_minute,
        token_quota=allowance.token_quota,
        quota_period=allowance.quota_period,
        weight=key.weight,
        created_at=rfc3339(key.created_at),
        created_by=key.created_by,
        expires_at=None if key.expires_at is None else rfc3339(key.expires_at),
        revoked_at=None if key.revoked_at is None else rfc3339(key.revoked_at),
        state="revoked" if key.revoked_at is not None else "active" if key.alive(now) else "expired",
    )


def write_keys(keys: Iterable[Key], now: int) -> bytes:
    """All keys, as they are at this time (nanoseconds since 1970, UTC)."""
    return _ENCODER.encode(ShownKeys(tuple(shown(key, now) for key in keys)))


def write_key(key: Key, now: int) -> bytes:
    """One key."""
    return _ENCODER.encode(shown(key, now))


def write_made(key: Key, text: Secret, now: int) -> bytes:
    """A new key with its text, for the only time."""
    fields = msgspec.structs.asdict(shown(key, now))
    return _ENCODER.encode(MadeKey(**fields, key=text.reveal()))


def read_keys(body: bytes) -> tuple[ShownKey, ...]:
    """All keys, as a client reads them."""
    return _read(body, ShownKeys).keys


def read_key(body: bytes) -> ShownKey:
    """One key."""
    return _read(body, ShownKey)


def read_made(body: bytes) -> tuple[ShownKey, Secret]:
    """A new key and its text."""
    made = _read(body, MadeKey)
    fields = {name: getattr(made, name) for name in ShownKey.__struct_fields__}
    return ShownKey(**fields), Secret(made.key)


def write_usage(uses: Iterable[Use]) -> bytes:
    """What was used; the hours as the moments at which they begin."""
    rows = ((use, rfc3339(use.hour * HOUR)) for use in uses)
    return _ENCODER.encode(
        ShownUsage(tuple(_Use(**{**msgspec.structs.asdict(use), "hour": moment}) for use, moment in rows))
    )


def read_usage(body: bytes) -> tuple[Use, ...]:
    """What was used, as a client reads it."""
    return tuple(
        Use(**{**msgspec.structs.asdict(use), "hour": nanoseconds(use.hour) // HOUR})
        for use in _read(body, ShownUsage).usage
    )


def usage_query(key: str | None, since: datetime | None) -> str:
    """The query that narrows it to a key, and to what was used since a moment; empty for neither."""
    asked = {"key": key, "since": None if since is None else since.astimezone(UTC).isoformat()}
    query = urlencode({name: text for name, text in asked.items() if text})
    return f"?{query}" if query else ""


def read_since(text: str) -> int:
    """The hour of a moment in a query.

    Raises:
        InvalidValue: it is no moment.
    """
    return _moment("since", text) // HOUR


class Management:
    """The dialect of these routes; its errors are Ollama's, under whose paths they stand."""

    name: str = "management"
    title: str = "Keys and usage"
    roots: tuple[str, ...] = ()
    failure: type[Struct] = Failure

    write_error = staticmethod(write_error)
    status = staticmethod(failures.status)
    write_level = staticmethod(openai_level)


def _moment(field: str, text: str) -> int:
    try:
        return nanoseconds(text)
    except ValueError as error:
        words = f"{field} must be a moment with an offset, such as 2027-01-31T00:00:00Z"
        raise InvalidValue(words, param=field) from error


def _read(body: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Garbled(f"the server's answer is not what it should be: {error}") from error
