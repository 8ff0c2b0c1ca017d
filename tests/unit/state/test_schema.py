"""The three places that say what the tables are: the statements, SQLAlchemy's tables and the migrations."""

import ast
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event

import localmodels.state
from localmodels.state import engine, files, migrating, tables

METADATA = {files.STATE: tables.STATE, files.RESPONSES: tables.RESPONSES}


def shape(path: Path) -> list[str]:
    """Every statement of a file's schema, but for spaces."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return sorted(re.sub(r"\s+", " ", sql).replace("( ", "(").replace(" )", ")") for (sql,) in rows)


@pytest.mark.parametrize("name", METADATA)
def test_statements_tables_and_migrations_make_the_same_schema(name: str, tmp_path: Path) -> None:
    files.begin(tmp_path, name)
    made, migrated = tmp_path / "made.db", tmp_path / "migrated.db"
    opened = engine.connected(made, "PRAGMA synchronous = OFF")
    with opened.begin() as connection:
        METADATA[name].create_all(connection)
    opened.dispose()
    opened = engine.connected(migrated, "PRAGMA synchronous = OFF")
    with opened.begin() as connection:
        migrating.upgrade(connection, name)
    opened.dispose()
    assert shape(migrated) == shape(tmp_path / name)
    version = [sql for sql in shape(tmp_path / name) if "alembic_version" in sql]
    assert shape(made) == sorted(set(shape(tmp_path / name)) - set(version))


@pytest.mark.parametrize("name", METADATA)
def test_the_newest_migration_is_the_version_of_a_new_file(name: str) -> None:
    assert migrating.scripts(name).get_current_head() == files.HEADS[name]


@pytest.mark.parametrize("name", METADATA)
def test_a_file_of_an_unknown_version_is_refused(name: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / name)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    (tmp_path / name).chmod(0o644)
    with closing(sqlite3.connect(tmp_path / name)) as connection, connection:
        connection.execute("INSERT INTO alembic_version VALUES ('0000')")
    with pytest.raises(files.StateError, match="newer version"):
        engine.open_engine(tmp_path, name)
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", METADATA)
def test_a_new_file_is_for_its_owner_alone_and_appears_whole(name: str, tmp_path: Path) -> None:
    assert files.begin(tmp_path, name)
    assert not files.begin(tmp_path, name)
    opened = engine.open_engine(tmp_path, name)
    with opened.begin():
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
        assert {path.name for path in tmp_path.iterdir()} >= {name, f"{name}-wal"}
    opened.dispose()


def test_a_file_that_could_not_be_filled_is_not_there(tmp_path: Path) -> None:
    def fails(connection: sqlite3.Connection) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        files.begin(tmp_path, files.STATE, fails)
    assert list(tmp_path.iterdir()) == []


def test_statements_hold_no_parameters() -> None:
    """Threat V-28: what is executed is a constant, or made by SQLAlchemy; values are bound."""
    sources = Path(next(iter(localmodels.state.__path__))).rglob("*.py")
    bad = [
        f"{path.name}:{node.lineno}"
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, (ast.Attribute, ast.Name))
        and (node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id)
        in {"execute", "executemany", "exec_driver_sql", "text"}
        and node.args
        and isinstance(node.args[0], (ast.JoinedStr, ast.BinOp))
    ]
    assert bad == []


def test_sqlalchemy_logs_no_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    opened = engine.open_engine(tmp_path, files.STATE)
    seen: list[str] = []
    event.listen(opened, "before_cursor_execute", lambda *args: seen.append(args[2]))
    with opened.begin() as connection:
        connection.exec_driver_sql("SELECT 'secret'").scalar()
    opened.dispose()
    assert seen == ["BEGIN IMMEDIATE", "SELECT 'secret'"]
    assert "secret" not in caplog.text


def test_a_server_starts_without_sqlalchemy() -> None:
    """It takes half a second and 20 MB; who only reads keys needs none of it."""
    program = "import sys, localmodels.server.system, localmodels.state.choosing; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "localmodels.state.state" in loaded
    assert not loaded & {"sqlalchemy", "alembic", "asyncpg", "greenlet"}
