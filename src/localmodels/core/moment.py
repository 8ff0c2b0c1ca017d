"""Times as texts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def rfc3339(nanoseconds: int) -> str:
    """RFC 3339 in UTC of nanoseconds since 1970; always with nine digits, so that the texts sort as the times do."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def nanoseconds(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 moment, to the microsecond.

    Raises:
        ValueError: it is none, or says no offset from UTC.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment needs its offset from UTC")
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
