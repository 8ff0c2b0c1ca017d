"""What is PostgreSQL's own: its tables, its deadlines, and what it says when it cannot be used."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import traceback
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import Connection, MetaData, func, select, text
from tests.awaited import DEADLINE, awaited
from tests.contract.stores import opened
from tests.postgres import Postgres
from tests.unit.cli.conftest import Shell

from localmodels.core.access import Key, Use
from localmodels.core.errors import Conflict, DatabaseUnavailable, DiskFull, LocalModelsError, StoreFailed
from localmodels.core.fleet import ServerRow
from localmodels.core.secrets import Secret
from localmodels.flows.access.keys import fingerprint
from localmodels.state import migrating, starting, tables
from localmodels.state.choosing import postgres as postgres_module
from localmodels.state.choosing import state_in
from localmodels.state.files import StateError
from localmodels.state.postgres.database import CONNECTIONS, HEAD, HISTORY, SCHEMA, Database, Deadlines
from localmodels.state.postgres.refusals import refused
from localmodels.state.postgres.state import PostgresState
from localmodels.state.state import State

PASSWORD = "hunter2-of-the-database"
IMPATIENT = Deadlines(start=0.0)

COLUMNS = """
SELECT table_name, column_name, ordinal_position, data_type, is_nullable, column_default, collation_name
FROM information_schema.columns WHERE table_schema = current_schema() AND table_name != 'alembic_version'
ORDER BY 1, 3
"""
INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema() AND tablename != 'alembic_version'"
CONSTRAINTS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(pg_constraint.oid) FROM pg_constraint
JOIN pg_class ON pg_class.oid = conrelid
WHERE relnamespace = current_schema()::regnamespace AND relname != 'alembic_version' ORDER BY 1, 2
"""
KINDS = """
SELECT relname, relpersistence::text FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relname != 'alembic_version' ORDER BY 1
"""


@pytest.fixture
def url(postgres: Postgres) -> Secret:
    """Of an empty database."""
    return postgres.database()


def shape(connection: Connection) -> list[object]:
    """Everything that the tables are."""
    found = [tuple(row) for asked in (COLUMNS, CONSTRAINTS, KINDS) for row in connection.execute(text(asked))]
    return [*found, *sorted(connection.execute(text(INDEXES)).scalars())]


@awaited
async def test_tables_and_migrations_make_the_same(postgres: Postgres, url: Secret) -> None:
    def make(connection: Connection) -> list[object]:
        for metadata in (tables.STATE, tables.RESPONSES, tables.SHARED):
            metadata.drop_all(connection)
        assert shape(connection) == []
        every: list[MetaData] = [tables.STATE, tables.RESPONSES, tables.SHARED]
        for metadata in every:
            metadata.create_all(connection)
        return shape(connection)

    async with Database(url) as database:
        migrated = await database.look(shape)
        assert migrated == await database.write(make)
        assert ("gateway", "u") in migrated
        assert ("key", "p") in migrated
        assert len(migrated) > 60


def test_the_newest_migration_is_the_version_of_the_tables() -> None:
    assert migrating.scripts(HISTORY).get_current_head() == HEAD


@awaited
async def test_nothing_of_others_is_touched(postgres: Postgres, url: Secret) -> None:
    """A database may have tables of our names already, for another program."""
    await asyncio.to_thread(postgres.execute, "CREATE TABLE key (mine int)", url)
    await asyncio.to_thread(postgres.execute, "CREATE TABLE alembic_version (version_num text)", url)
    async with opened(url) as state:
        await state.usage.add([Use("k", "m", "local", 1, 1)])
    asked = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    found = await asyncio.to_thread(postgres.execute, asked, url)
    assert {name for schema, name in found if schema == "public"} == {"key", "alembic_version"}
    assert {schema for schema, _ in found} == {"public", SCHEMA}


@awaited
async def test_tables_of_a_newer_program_are_refused(postgres: Postgres, url: Secret) -> None:
    async with Database(url):
        pass
    await asyncio.to_thread(postgres.execute, "UPDATE localmodels.alembic_version SET version_num = '9999'", url)
    with pytest.raises(StoreFailed, match="newer version"):
        async with Database(url, IMPATIENT):
            pass
    with pytest.raises(StateError, match="newer version"):
        await asyncio.to_thread(starting.known_keys, Path(), url)


def broken(postgres: Postgres) -> list[tuple[str, str]]:
    """URLs with a password that do not work, and what is said of each."""
    socket = postgres.url().reveal().partition("?")[2]
    login = f"postgresql://postgres:{PASSWORD}@"
    return [
        (f"{login}127.0.0.1:1/x", "Connect call failed"),
        (f"{login}/nowhere?{socket}", 'database "nowhere" does not exist'),
        (f"postgresql://nobody:{PASSWORD}@/postgres?{socket}", 'role "nobody" does not exist'),
        (f"{login}/postgres?{socket}&sslmode={PASSWORD}", "database_url"),
        (f"{login}host:{PASSWORD}/x", "database_url"),
        (f"{login}127.0.0.1:1/x?sslmode=verify-full&sslrootcert=/no/such", "No such file"),
        (f"{login}/postgres?{socket}&no_such_setting=1", "no_such_setting"),
    ]


def test_what_is_said_has_no_password(postgres: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "localmodels")
    for link, words in broken(postgres):

        async def opens(link: str = link) -> None:
            async with asyncio.timeout(DEADLINE), Database(Secret(link), IMPATIENT):
                pass

        with pytest.raises(LocalModelsError) as caught:
            asyncio.run(opens())
        told = "".join(traceback.format_exception(caught.value, chain=True))
        lines = [line for line in told.splitlines() if not line.startswith(" ")]
        assert re.search(words, str(caught.value)), (link, str(caught.value))
        assert PASSWORD not in str(caught.value), words
        assert PASSWORD not in "".join(lines), words
        assert PASSWORD not in caplog.text, words


@awaited
async def test_what_is_refused_names_no_row(url: Secret, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = Secret("sk-secret-of-a-server")
    row = ServerRow(id="id-1", name="one", url="http://h", kind="ollama")
    async with opened(url) as state:
        await state.fleet.add(row, secret)
        with pytest.raises(Conflict):
            await state.fleet.add(row, secret)
        again = ServerRow(id="id-1", name="two", url="http://i", kind="ollama", description=secret.reveal())
        with pytest.raises(StoreFailed) as caught:  # the same id
            await state.fleet.add(again, secret)
    told = "".join(traceback.format_exception(caught.value, chain=True))
    assert "duplicate key value" in told
    assert secret.reveal() not in told
    assert secret.reveal() not in caplog.text


@awaited
async def test_who_may_make_nothing_is_told_so(postgres: Postgres, url: Secret) -> None:
    await asyncio.to_thread(postgres.execute, "CREATE ROLE lodger LOGIN", url)
    lodger = Secret(url.reveal().replace("postgres:", "lodger:", 1))
    with pytest.raises(StoreFailed, match="permission denied for database"):
        async with Database(lodger, IMPATIENT):
            pass
    await asyncio.to_thread(postgres.execute, "CREATE SCHEMA localmodels AUTHORIZATION lodger", url)
    async with opened(lodger) as state:
        assert await state.keys.known() == (0, ())


def holds(connection: Connection, number: int) -> None:
    connection.execute(select(func.pg_advisory_xact_lock(number)))


@awaited
async def test_nobody_waits_longer_than_the_deadline(url: Secret) -> None:
    deadlines = Deadlines(statement=0.2)
    taken = asyncio.Event()
    async with Database(url) as other, Database(url, deadlines) as database:

        async def keeps() -> None:
            async with other._engine.begin() as connection:
                await connection.run_sync(holds, 7)
                taken.set()
                await asyncio.Event().wait()

        keeper = asyncio.create_task(keeps())
        await taken.wait()
        for asked in (database.look, database.write):
            with pytest.raises(DatabaseUnavailable, match="it took too long"):
                await asked(lambda connection: holds(connection, 7))
        keeper.cancel()
        await asyncio.wait([keeper])
        await database.look(lambda connection: holds(connection, 7))


@awaited
async def test_two_that_waited_for_each_other_both_do_it(url: Secret) -> None:
    async with Database(url) as database:
        times = {1: 0, 2: 0}

        def work(first: int, second: int, connection: Connection) -> int:
            times[first] += 1
            holds(connection, first)
            connection.execute(select(func.pg_sleep(0.1)))
            holds(connection, second)
            return first

        both = await asyncio.gather(
            database.write(lambda connection: work(1, 2, connection)),
            database.write(lambda connection: work(2, 1, connection)),
        )
        assert [*both] == [1, 2]
        assert sum(times.values()) == 3


@awaited
async def test_many_share_few_connections_and_who_leaves_loses_none(postgres: Postgres, url: Secret) -> None:
    async with opened(url) as state:
        asked = [asyncio.ensure_future(state.fleet.servers()) for _ in range(60)]
        for place, task in enumerate(asked):
            if place % 2:
                await asyncio.sleep(0)
                task.cancel()
        await asyncio.wait(asked)
        await asyncio.gather(*(state.usage.add([Use("k", f"m{i % 7}", "local", 1, 1)]) for i in range(60)))
        assert sum(use.requests for use in await state.usage.of(since=0)) == 60
        count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
        assert await asyncio.to_thread(postgres.execute, count, url) <= [(CONNECTIONS + 1,)]
        busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        assert await asyncio.to_thread(postgres.execute, busy, url) == [(0,)]


@pytest.mark.parametrize(
    ("reason", "what"),
    [
        (asyncpg.DiskFullError("could not extend file"), DiskFull),
        (asyncpg.CannotConnectNowError("the database system is starting up"), DatabaseUnavailable),
        (asyncpg.AdminShutdownError("terminating connection"), DatabaseUnavailable),
        (asyncpg.TooManyConnectionsError("sorry, too many clients already"), DatabaseUnavailable),
        (asyncpg.ConnectionDoesNotExistError("closed in the middle of operation"), DatabaseUnavailable),
        (asyncpg.QueryCanceledError("canceling statement due to statement timeout"), DatabaseUnavailable),
        (asyncpg.SerializationError("could not serialize access"), DatabaseUnavailable),
        (asyncpg.InterfaceError("connection is closed"), DatabaseUnavailable),
        (ConnectionRefusedError(111, "Connection refused"), DatabaseUnavailable),
        (TimeoutError(), DatabaseUnavailable),
        (asyncpg.InsufficientPrivilegeError("permission denied for table key"), StoreFailed),
        (asyncpg.InvalidCatalogNameError('database "x" does not exist'), StoreFailed),
        (asyncpg.UniqueViolationError("duplicate key value"), StoreFailed),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, BaseException) else one.__name__,
)
def test_what_may_be_good_later_is_told_apart(reason: BaseException, what: type[LocalModelsError]) -> None:
    error = refused(reason)
    assert isinstance(error, what)
    assert (error.status, error.retry_after) == ((503, 5.0) if what is DatabaseUnavailable else (error.status, None))


@awaited
async def test_a_failure_of_the_program_s_own_is_not_the_database_s(url: Secret) -> None:
    async with Database(url) as database:
        with pytest.raises(ValueError, match="a defect"):
            await database.look(defect)


def defect(connection: Connection) -> None:
    raise ValueError("a defect")


def test_where_it_is_kept_is_chosen_by_a_url(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.url()
    assert type(state_in(tmp_path)) is State
    assert type(state_in(tmp_path, Secret(""))) is State
    assert type(state_in(tmp_path, url, gateway="g", quota=1)) is PostgresState
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        postgres_module("nothing")


def test_a_start_reads_keys_where_a_loop_runs_already(url: Secret) -> None:
    key = Key("key_1", "admin", b"\0" * 32, "lm-…", created_at=1)

    async def story() -> None:
        assert starting.known_keys(Path(), url) == ()
        assert starting.first_key(Path(), key, url) == (1, (key,))
        assert starting.first_key(Path(), key, url) is None
        assert starting.known_keys(Path(), url) == (key,)

    asyncio.run(story())


def test_keys_are_made_and_taken_away_in_the_database(url: Secret, tmp_path: Path) -> None:
    shell = Shell(tmp_path, environ={"LOCALMODELS_DATABASE_URL": url.reveal()})
    text = shell("keys", "add", "bob").out.strip()
    (bob,) = starting.known_keys(tmp_path, url)
    assert bob.hash == fingerprint(text)
    assert shell("keys", "rm", "bob").code == 0
    (bob,) = starting.known_keys(tmp_path, url)
    assert bob.revoked_at is not None
    assert not (tmp_path / "state.db").exists()
    gone = Shell(tmp_path, environ={"LOCALMODELS_DATABASE_URL": f"postgresql://x:{PASSWORD}@/y?no=1&sslmode=z"})
    for words in (("keys", "list"), ("keys", "add", "eve")):
        failed = gone(*words)
        assert failed.code != 0
        assert "database_url" in failed.err
        assert PASSWORD not in failed.err + failed.out


def test_without_the_extra_it_says_which() -> None:
    program = """
import sys
from pathlib import Path
from localmodels.core.secrets import Secret
from localmodels.state.choosing import state_in
sys.modules["asyncpg"] = None
state_in(Path(), Secret("postgresql://h/d"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "StateError: database_url needs the extra `postgres`" in done.stderr
