"""Text as both databases keep it: whole, and in the order of its bytes.

SQLite takes any text and compares bytes. PostgreSQL sorts as the language of its machine does unless it is told not to,
and takes no NUL, which a stranger may well send.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Dialect, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

POSTGRES = "postgresql"
"""SQLAlchemy's word for it."""

# Written in place of a NUL, and of itself; no text of people has it.
_ESCAPE = "\x1a"


class Words(TypeDecorator[str]):
    """``TEXT`` that gives back what it was given, and sorts by its bytes."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Of the database's own."""
        return Text(collation="C") if dialect.name == POSTGRES else Text()

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """As it is written."""
        if value is None or dialect.name != POSTGRES or not ("\0" in value or _ESCAPE in value):
            return value
        return value.replace(_ESCAPE, f"{_ESCAPE}1").replace("\0", f"{_ESCAPE}0")

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """As it was given."""
        if value is None or _ESCAPE not in value or dialect.name != POSTGRES:
            return value
        return value.replace(f"{_ESCAPE}0", "\0").replace(f"{_ESCAPE}1", _ESCAPE)
