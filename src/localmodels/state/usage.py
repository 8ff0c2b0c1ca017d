"""The table of usage, as it is written: what each key used of each model, by the hour."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import asdict
from sqlalchemy import Connection

from localmodels.core.access import Use
from localmodels.state.tables import USAGE
from localmodels.state.writing import insert_into

_PLACE = ("key_id", "model", "server", "hour")
_COUNTS = ("requests", "failed", "prompt_tokens", "cached_tokens", "completion_tokens", "estimated")


class Usage:
    """Adds up. What comes in one call is written whole or not at all, so that nothing is counted twice."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, uses: Sequence[Use]) -> None:
        """Adds these to what is there."""
        # In one order, since two gateways that lock the same rows in two would wait for each other.
        rows = sorted(map(_row_of, uses), key=lambda row: [row[name] for name in _PLACE])
        if rows:
            new = insert_into(self._connection, USAGE)
            sums = {name: USAGE.c[name] + new.excluded[name] for name in _COUNTS}
            self._connection.execute(new.on_conflict_do_update(index_elements=list(_PLACE), set_=sums), rows)


def _row_of(use: Use) -> dict[str, str | int]:
    return {("key_id" if name == "key" else name): value for name, value in asdict(use).items()}
