"""The table of usage, as it is written: what each key used of each model, by the hour."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import asdict
from sqlalchemy import Engine
from sqlalchemy.dialects.sqlite import insert

from localmodels.core.access import Use
from localmodels.state.tables import USAGE

_PLACE = ("key_id", "model", "server", "hour")
_COUNTS = ("requests", "failed", "prompt_tokens", "cached_tokens", "completion_tokens", "estimated")


class Usage:
    """Adds up. What comes in one call is written whole or not at all, so that nothing is counted twice."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        new = insert(USAGE)
        self._add = new.on_conflict_do_update(
            index_elements=list(_PLACE), set_={name: USAGE.c[name] + new.excluded[name] for name in _COUNTS}
        )

    def add(self, uses: Sequence[Use]) -> None:
        """Adds these to what is there."""
        rows = [{("key_id" if name == "key" else name): value for name, value in asdict(use).items()} for use in uses]
        if rows:
            with self._engine.begin() as connection:
                connection.execute(self._add, rows)
