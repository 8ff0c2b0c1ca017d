"""What a server looks at before and beside its work, by SQLite alone: keys, what they used, tasks, servers.

A start must know the keys before it listens, and SQLAlchemy takes half a second to import; so reading is done here and
writing there. Nothing here changes a file that exists, but for the very first key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from localmodels.core.access import Key, Use
from localmodels.core.fleet import ModelRow, ServerRow
from localmodels.core.secrets import Secret
from localmodels.core.tasks import Event, Task
from localmodels.state.files import HEADS, SMALL_CACHE, STATE, StateError, begin
from localmodels.state.fleet_rows import model_of, server_of
from localmodels.state.rows import key_of, row_of
from localmodels.state.task_rows import event_of, listed_task_of, task_of

# Seconds for another program's transaction to end.
PATIENCE = 5

_VERSION = "SELECT version_num FROM alembic_version"
_GENERATION = "SELECT value FROM meta WHERE name = 'keys_generation'"
_FLEET_GENERATION = "SELECT value FROM meta WHERE name = 'fleet_generation'"
_SERVERS = "SELECT * FROM server ORDER BY created_at, id"
_SERVER_KEYS = "SELECT server_id, key FROM server_key"
_MODELS = "SELECT * FROM server_model WHERE ? IS NULL OR server_id = ? ORDER BY model, id"
_CHANGED = """
INSERT INTO meta (name, value) VALUES ('keys_generation', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1
"""
_ANY_KEY = "SELECT EXISTS (SELECT 1 FROM key)"
_KEYS = "SELECT * FROM key ORDER BY created_at, id"
_SPENT = "SELECT coalesce(sum(prompt_tokens + completion_tokens), 0) FROM usage WHERE key_id = ? AND hour >= ?"
_USES = """
SELECT key_id, model, server, hour, requests, failed, prompt_tokens, cached_tokens, completion_tokens, estimated
FROM usage WHERE hour >= ? AND (? IS NULL OR key_id = ?) ORDER BY hour DESC, key_id, model, server
"""
_TASK = "SELECT * FROM task WHERE id = ?"
_TASKS = """
SELECT id, kind, subject, owner, state, reached, action, ratio, failure, retry_of, origin,
       created_at, started_at, ended_at
FROM task WHERE (? IS NULL OR owner = ?) AND (? IS NULL OR state = ?)
ORDER BY created_at DESC, id LIMIT ?
"""
_LINE = """
SELECT id, kind, subject, owner, state, reached, action, ratio, failure, retry_of, origin,
       created_at, started_at, ended_at
FROM task WHERE origin = ? ORDER BY created_at DESC, id
"""
_UNFINISHED = "SELECT * FROM task WHERE state IN ('queued', 'running') ORDER BY created_at, id"
_EVENTS = "SELECT * FROM task_event WHERE task_id = ? AND number > ? ORDER BY number"
_INSERT = """
INSERT INTO key (id, name, hash, shown, scopes, models, requests_per_minute, tokens_per_minute, token_quota,
                 quota_period, weight, created_at, created_by, expires_at, revoked_at)
VALUES (:id, :name, :hash, :shown, :scopes, :models, :requests_per_minute, :tokens_per_minute, :token_quota,
        :quota_period, :weight, :created_at, :created_by, :expires_at, :revoked_at)
"""


def begin_with(home: Path, first: Key) -> bool:
    """Puts the first key into the state, and makes that where there is none; was there none before?"""
    begin(home, STATE)
    with closing(sqlite3.connect(home / STATE, timeout=PATIENCE, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")  # another server of this home may want to do the same
        try:
            if is_first := not connection.execute(_ANY_KEY).fetchone()[0]:
                connection.execute(_INSERT, row_of(first))
                connection.execute(_CHANGED)
        except BaseException:  # whatever it was, the lock on the file must not stay
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    return is_first


class Glance:
    """Looks at ``state.db``; for one thread.

    The connection is kept, since the last one that closes makes SQLite tidy up; it is opened anew when the file is
    another one.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / STATE
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] = (0, 0)

    def generation(self) -> int:
        """Of the keys; raised by every change. Raises as :meth:`keys` does."""
        found = self._open().execute(_GENERATION).fetchone()
        return found[0] if found else 0

    def keys(self) -> tuple[int, tuple[Key, ...]]:
        """The generation, and all keys of it: also those that open nothing any more.

        Raises:
            FileNotFoundError: there is no state in this home.
            StateError: the file has another version.
            sqlite3.Error: it cannot be read, or is no database.
        """
        connection = self._open()
        connection.execute("BEGIN")  # both of one moment
        try:
            generation = self.generation()
            rows = connection.execute(_KEYS).fetchall()
        finally:
            connection.execute("ROLLBACK")
        return generation, tuple(map(key_of, rows))

    def spent(self, since: Mapping[str, int]) -> dict[str, int]:
        """Tokens that these keys used since these hours."""
        connection = self._open()
        return {key: connection.execute(_SPENT, (key, hour)).fetchone()[0] for key, hour in since.items()}

    def uses(self, since: int, key: str | None) -> tuple[Use, ...]:
        """What was used since this hour, latest first; of one key, or of all."""
        return tuple(Use(*row) for row in self._open().execute(_USES, (since, key, key)))

    def task(self, id: str) -> Task | None:  # noqa: A002
        """A task."""
        row = self._open().execute(_TASK, (id,)).fetchone()
        return task_of(row) if row else None

    def tasks(self, owner: str | None, state: str | None, most: int) -> tuple[Task, ...]:
        """The newest first, without what was asked; None means every owner, and every state."""
        return tuple(map(listed_task_of, self._open().execute(_TASKS, (owner, owner, state, state, most))))

    def line(self, origin: str) -> tuple[Task, ...]:
        """All tasks of this origin, the newest first, without what was asked."""
        return tuple(map(listed_task_of, self._open().execute(_LINE, (origin,))))

    def unfinished(self) -> tuple[Task, ...]:
        """All tasks that have not ended, the oldest first."""
        return tuple(map(task_of, self._open().execute(_UNFINISHED)))

    def keeper(self, id: str) -> str:  # noqa: A002
        """A home has one server."""
        return ""

    def silent(self) -> dict[str, tuple[Task, ...]]:
        """A home has one server."""
        return {}

    def events(self, id: str, after: int) -> tuple[Event, ...]:  # noqa: A002
        """A task's events after this number, in order."""
        return tuple(map(event_of, self._open().execute(_EVENTS, (id, after))))

    def fleet_generation(self) -> int:
        """Of the fleet; raised by every change."""
        found = self._open().execute(_FLEET_GENERATION).fetchone()
        return found[0] if found else 0

    def servers(self) -> tuple[ServerRow, ...]:
        """All, the oldest first."""
        return tuple(map(server_of, self._open().execute(_SERVERS)))

    def server_keys(self) -> dict[str, Secret]:
        """The keys of those servers that have one."""
        return {server: Secret(key) for server, key in self._open().execute(_SERVER_KEYS)}

    def models(self, server_id: str | None) -> tuple[ModelRow, ...]:
        """All, or those of one server, by their names."""
        return tuple(map(model_of, self._open().execute(_MODELS, (server_id, server_id))))

    def version(self) -> str:
        """Of the tables in the file."""
        with closing(sqlite3.connect(self._path, timeout=PATIENCE)) as connection:
            return str(connection.execute(_VERSION).fetchone()[0])

    def close(self) -> None:
        """Gives back the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        found = self._path.stat()
        file = found.st_dev, found.st_ino
        if self._connection is None or file != self._file:
            self.close()
            connection = sqlite3.connect(self._path, timeout=PATIENCE, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.execute(SMALL_CACHE)
            self._connection, self._file = connection, file
            version = connection.execute(_VERSION).fetchone()[0]
            if version != HEADS[STATE]:
                self.close()
                raise StateError(f"{STATE} has the version {version}; this program reads {HEADS[STATE]}")
        return self._connection
