"""Servers and their models as rows and back: what SQLite and SQLAlchemy are both handed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from localmodels.core.fleet import ModelRow, ServerRow

# What only its owner looks into; a capability is a word of people's, and may hold spaces.
_LISTS = frozenset({"capabilities", "told"})
_SWITCHES = frozenset({"is_default", "is_active", "present"})
# Fields of a model that its server has no say in.
OWNERS = ("id", "server_id", "name", "capabilities", "priority", "is_active", "created_at")
_NEVER = 0
_WORDS = msgspec.json.Decoder(tuple[str, ...])


def columns_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """These fields of a server or model as they are written."""
    return {
        name: msgspec.json.encode(value).decode() if name in _LISTS else value
        for name, value in fields.items()
        if value is not msgspec.UNSET
    }


def server_of(row: Mapping[str, Any]) -> ServerRow:
    """The server in these columns."""
    return ServerRow(**_fields(row, ServerRow.__struct_fields__))


def model_of(row: Mapping[str, Any]) -> ModelRow:
    """The model in these columns."""
    return ModelRow(**_fields(row, ModelRow.__struct_fields__))


def _fields(row: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: _read(name, row[name]) for name in names}


def _read(name: str, value: Any) -> Any:
    if name in _LISTS:
        return _WORDS.decode(value)
    return bool(value) if name in _SWITCHES else value


def differing(kept: Iterable[ModelRow], rows: Iterable[ModelRow]) -> list[ModelRow]:
    """What is to be written for these rows of a server: what it tells, beside what their owner says.

    A row of another id than the kept one of its model becomes that one, since two gateways may have found it at the
    same time. What differs by its ``updated_at`` alone does not differ.

    Args:
        kept: all rows of the server.
        rows: as they were found.
    """
    known = list(kept)
    by_id, by_model = {row.id: row for row in known}, {row.model: row for row in known}
    changed: dict[str, ModelRow] = {}
    for row in rows:
        old = by_model.get(row.model) or by_id.get(row.id)
        new = replace(row, **{name: getattr(old, name) for name in OWNERS}) if old else row
        if old is None or replace(new, updated_at=_NEVER) != replace(old, updated_at=_NEVER):
            changed[new.id] = by_model[new.model] = new
    return sorted(changed.values(), key=lambda row: row.id)
