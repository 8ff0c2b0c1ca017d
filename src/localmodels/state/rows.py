"""Keys as rows and back: what SQLite and SQLAlchemy are both handed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localmodels.core.access import GRANTS, Allowance, Key


def row_of(key: Key) -> dict[str, Any]:
    """The columns of a key."""
    return {
        "id": key.id,
        "name": key.name,
        "hash": key.hash,
        "shown": key.shown,
        "scopes": " ".join(scope for scope in GRANTS if scope in key.scopes),
        "models": " ".join(key.models),
        "requests_per_minute": key.allowance.requests_per_minute,
        "tokens_per_minute": key.allowance.tokens_per_minute,
        "token_quota": key.allowance.token_quota,
        "quota_period": key.allowance.quota_period,
        "weight": key.weight,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }


def key_of(row: Mapping[str, Any]) -> Key:
    """The key in these columns; a scope that this version does not know opens nothing."""
    words = row["scopes"].split()
    return Key(
        id=row["id"],
        name=row["name"],
        hash=row["hash"],
        shown=row["shown"],
        scopes=frozenset(scope for scope in GRANTS if scope in words),
        models=tuple(row["models"].split()),
        allowance=Allowance(
            requests_per_minute=row["requests_per_minute"],
            tokens_per_minute=row["tokens_per_minute"],
            token_quota=row["token_quota"],
            quota_period=row["quota_period"],
        ),
        weight=row["weight"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )
