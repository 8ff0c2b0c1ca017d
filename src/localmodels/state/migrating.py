"""Brings a file of an earlier version up to today's, by alembic. Loaded when a file needs it, which is once a version.

A change of the tables is a script in ``migrations/state`` or ``migrations/responses`` and a new number in
``files.HEADS``; a test compares what the scripts make with what ``tables`` says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection

from localmodels.state.files import StateError

MIGRATIONS = Path(__file__).parent / "migrations"


def scripts(name: str) -> ScriptDirectory:
    """The scripts for a file."""
    return ScriptDirectory(str(MIGRATIONS), version_locations=[str(MIGRATIONS / Path(name).stem)])


def upgrade(connection: Connection, name: str) -> None:
    """Runs the scripts that the file lacks, in the transaction of the connection.

    Raises:
        StateError: the file comes from a newer version of this program.
    """
    directory = scripts(name)

    def missing(version: Any, context: MigrationContext) -> Any:
        return directory._upgrade_revs("head", version)

    environment = EnvironmentContext(Config(), directory)
    environment.configure(connection=connection, fn=missing)
    try:
        environment.run_migrations()
    except CommandError as error:
        raise StateError(
            f"{name} was written by a newer version of this program, which has to be used again"
        ) from error
