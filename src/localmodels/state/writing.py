"""Where the two databases want different statements for the same thing."""

from __future__ import annotations

import importlib
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Float, Table, cast, func


def insert_into(connection: Connection, table: Table) -> Any:
    """An ``INSERT`` that can say ``ON CONFLICT``: both databases know it, SQLAlchemy has one for each."""
    # By name: the database's own module is loaded, and the other one would be memory for nobody.
    return importlib.import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(table)


def age_of(moment: Column[Any]) -> ColumnElement[float]:
    """Seconds since a moment of PostgreSQL's own clock."""
    return cast(func.extract("epoch", func.clock_timestamp() - moment), Float)
