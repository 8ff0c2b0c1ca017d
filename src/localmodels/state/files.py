"""The files of the state: where they lie, for whose eyes they are, and how a new one begins.

A new file is made by SQLite alone, of the statements in ``schema/``, which a test compares with ``tables`` and with the
migrations: SQLAlchemy takes half a second to import, and a first start has none to spare. It appears under its name
when it is whole.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from uuid import UUID, uuid4

STATE, RESPONSES = "state.db", "responses.db"
GATEWAY = "gateway.id"
# The newest version of each file; one that says another is migrated, or refused if it comes from the future.
HEADS = {STATE: "0003", RESPONSES: "0002"}
PRIVATE = 0o600
# KiB of pages that a connection keeps. SQLite's own 2 MiB fill up over an hour, and look like a leak; the files are
# small, and the system has them in memory anyhow.
SMALL_CACHE = "PRAGMA cache_size = -256"
SCHEMA = Path(__file__).parent / "schema"

_STAMP = """
CREATE TABLE alembic_version (
  version_num VARCHAR(32) NOT NULL,
  CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
"""
_STAMPED = "INSERT INTO alembic_version (version_num) VALUES (?)"


class StateError(Exception):
    """A file of the state that cannot be used; the message is for its owner."""


def gateway_of(home: Path) -> str:
    """The id of a home among those that share a database: a UUID, made by the first who asks, and kept.

    Raises:
        StateError: it cannot be kept, or is none.
    """
    path = home / GATEWAY
    try:
        if not path.exists():
            new = home / f"{GATEWAY}.{os.getpid()}.new"
            new.write_text(str(uuid4()) + "\n")
            try:
                path.hardlink_to(new)  # not a rename: another program may have made one in these milliseconds
            except FileExistsError:
                pass
            finally:
                new.unlink()
            _sync(home)
        return str(UUID(path.read_text().strip()))
    except (OSError, ValueError) as error:
        raise StateError(f"{path} cannot be used: {getattr(error, 'strerror', None) or 'it holds no UUID'}") from error


def nothing(connection: sqlite3.Connection) -> None:
    """Leaves a new file as it is."""


def begin(home: Path, name: str, fill: Callable[[sqlite3.Connection], None] = nothing) -> bool:
    """Makes the file if there is none; was there none?

    Args:
        home: directory of the file.
        name: of the file.
        fill: puts in what it has from the first moment on.

    Raises:
        OSError, sqlite3.Error: it cannot be made.
    """
    path = home / name
    if path.exists():
        guard(path)
        return False
    new = home / f"{name}.{os.getpid()}.new"
    new.unlink(missing_ok=True)
    try:
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, PRIVATE))
        with closing(sqlite3.connect(new)) as connection:
            connection.executescript((SCHEMA / name).with_suffix(".sql").read_text() + _STAMP)
            with connection:
                connection.execute(_STAMPED, (HEADS[name],))
                fill(connection)
        try:
            path.hardlink_to(new)  # not a rename: another program may have begun it in these milliseconds
        except FileExistsError:
            return False
    finally:
        new.unlink(missing_ok=True)
    _sync(home)
    return True


def guard(path: Path) -> None:
    """Takes from everybody else what he may do with the file."""
    if path.stat().st_mode & 0o077:
        path.chmod(PRIVATE)


def _sync(directory: Path) -> None:
    """A name is safe when its directory is written."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
