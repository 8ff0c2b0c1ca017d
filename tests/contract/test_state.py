"""Keys, usage and responses are kept alike by the fake, by the files and by PostgreSQL; and what only files can."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import time_ns

import pytest
from msgspec.structs import replace
from tests.contract.stores import STORES, Place, opened

from localmodels.core.access import Allowance, Caller, Key, Unwritable, Use, Wish
from localmodels.core.chat import Usage
from localmodels.core.errors import Conflict, DiskFull, StoreFailed
from localmodels.core.responses import StoredResponse
from localmodels.core.secrets import Secret
from localmodels.flows.access.keys import Keyring, KeyStore, make_key
from localmodels.flows.access.ledger import Ledger, UsageStore
from localmodels.flows.visit import Visit
from localmodels.state import starting
from localmodels.state.files import STATE, StateError, begin
from localmodels.state.kept import Kept as AnyState
from localmodels.state.memory import MemoryKeys, MemoryUsage
from localmodels.state.state import State, guarded

HOUR = 495_000


@dataclass
class Kept:
    keys: KeyStore
    usage: UsageStore


Story = Callable[[Kept], Awaitable[None]]


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where it is really kept: in a home, or in a database."""
    return STORES[request.param](request, tmp_path)


@pytest.fixture(params=["memory", *STORES])
def tell(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Story], None]:
    """Runs a story on one of them."""
    place = None if request.param == "memory" else STORES[request.param](request, tmp_path)

    async def run(story: Story) -> None:
        if place is None:
            await story(Kept(MemoryKeys(), MemoryUsage()))
            return
        async with opened(place) as state:
            await story(Kept(state.keys, state.usage))

    return lambda story: asyncio.run(run(story))


def known(place: Place) -> tuple[Key, ...]:
    """What a start finds."""
    return starting.known_keys(Path(), place) if isinstance(place, Secret) else starting.known_keys(place)


def first(place: Place, key: Key) -> tuple[int, tuple[Key, ...]] | None:
    """What a start makes."""
    return starting.first_key(Path(), key, place) if isinstance(place, Secret) else starting.first_key(place, key)


def key(name: str, **fields: object) -> tuple[Key, Secret]:
    made, text = make_key(Wish(name), 10)
    return replace(made, **fields), text


FULL = {
    "scopes": frozenset({"infer", "observe"}),
    "models": ("qwen3:*", "openai/gpt-5"),
    "allowance": Allowance(60, 10_000, 10**12, "month"),
    "weight": 7,
    "created_by": "key_0",
    "expires_at": 2**62,
}


def test_a_key_comes_back_as_it_was(tell: Callable[[Story], None]) -> None:
    first, second = key("plain")[0], key("full", created_at=11, **FULL)[0]

    async def story(kept: Kept) -> None:
        assert await kept.keys.known() == (0, ())
        await kept.keys.add(first)
        await kept.keys.add(second)
        assert await kept.keys.known() == (2, (first, second))
        assert await kept.keys.generation() == 2

    tell(story)


def test_a_revoked_key_stays_and_frees_its_name(tell: Callable[[Story], None]) -> None:
    first, again = key("bob")[0], key("bob")[0]

    async def story(kept: Kept) -> None:
        await kept.keys.add(first)
        with pytest.raises(Conflict, match="'bob'") as caught:
            await kept.keys.add(again)
        assert caught.value.__cause__ is None
        assert await kept.keys.generation() == 1
        assert not await kept.keys.revoke("key_nobody", 20)
        assert await kept.keys.revoke(first.id, 20)
        assert await kept.keys.revoke(first.id, 30)
        assert await kept.keys.generation() == 2
        await kept.keys.add(again)
        assert {one.id: one.revoked_at for one in (await kept.keys.known())[1]} == {first.id: 20, again.id: None}

    tell(story)


def test_what_is_used_is_added_up(tell: Callable[[Story], None]) -> None:
    use = Use("k", "m", "local", HOUR, 1, 0, 10, 2, 5, 0)

    async def story(kept: Kept) -> None:
        await kept.usage.add([use, replace(use, key="other")])
        await kept.usage.add([replace(use, failed=1, estimated=15)])
        await kept.usage.add([replace(use, hour=HOUR + 1)])
        await kept.usage.add([])
        both = Use("k", "m", "local", HOUR, 2, 1, 20, 4, 10, 15)
        assert await kept.usage.of(since=0, key="k") == (replace(use, hour=HOUR + 1), both)
        assert await kept.usage.of(since=HOUR + 1) == (replace(use, hour=HOUR + 1),)
        assert len(await kept.usage.of(since=0)) == 3
        assert await kept.usage.spent({"k": 0, "other": HOUR + 1, "none": 0}) == {"k": 45, "other": 0, "none": 0}

    tell(story)


@pytest.mark.parametrize(
    "wrong",
    [
        Use("b", "m", "local", HOUR, prompt_tokens=2**63),
        Use("b", "m", "local", HOUR, 10**30),
        Use("b", "\ud800", "x", 1),
    ],
    ids=["64 bits", "more", "no text"],
)
def test_a_row_that_can_never_be_kept_is_told_apart(place: Place, wrong: Use) -> None:
    async def story() -> None:
        sound = Use("a", "m", "local", HOUR, 1)
        async with opened(place) as state:
            with pytest.raises(Unwritable) as caught:
                await state.usage.add([sound, wrong])
            assert "INSERT" not in str(caught.value)
            assert await state.usage.of(since=0) == ()
            ledger = Ledger(state.usage, Keyring())
            for key, tokens in (("a", 7), ("b", 2**63)):
                visit = Visit("r", Caller(key, key))
                visit.operation, visit.model, visit.usage = "chat", "m", Usage(tokens)
                ledger.note(visit)
            assert [(use.key, use.prompt_tokens) for use in await ledger.of(since=0)] == [("a", 7)]

    asyncio.run(story())


def test_everything_outlives_the_program(place: Place) -> None:
    kept = key("bob", **FULL)[0]

    async def before() -> None:
        async with opened(place) as state:
            await state.keys.add(kept)
            await state.usage.add([Use(kept.id, "m", "local", HOUR, 1)])

    async def after() -> None:
        async with opened(place) as state:
            assert await state.keys.known() == (1, (kept,))
            assert await state.usage.of(since=0) == (Use(kept.id, "m", "local", HOUR, 1),)

    asyncio.run(before())
    assert known(place) == (kept,)
    asyncio.run(after())


def test_files_are_their_owner_s_alone(tmp_path: Path) -> None:
    async def story() -> None:
        async with State(tmp_path) as state:
            await state.keys.add(key("bob")[0])

    asyncio.run(story())
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_two_programs_share_it(place: Place) -> None:
    async def story() -> None:
        async with opened(place) as one, opened(place, gateway="other") as other:
            bob = key("bob")[0]
            await one.keys.add(bob)
            assert (await other.keys.known())[1] == (bob,)
            await other.keys.revoke(bob.id, 5)
            assert await one.keys.generation() == 2
            use = Use("k", "m", "local", HOUR, 1)
            await asyncio.gather(*(state.usage.add([use]) for state in (one, other) for _ in range(50)))
            assert (await one.usage.of(since=0))[0].requests == 100

    asyncio.run(story())


def test_the_text_of_a_key_is_in_no_file(tmp_path: Path) -> None:
    bob, text = key("bob")

    async def story() -> None:
        async with State(tmp_path) as state:
            await state.keys.add(bob)
            ring = Keyring()
            ring.take(*await state.keys.known())
            assert ring.caller(text.reveal())
            written = b"".join(path.read_bytes() for path in tmp_path.iterdir())  # noqa: ASYNC240 - nobody waits
            assert bob.hash in written
            assert text.reveal()[3:30].encode() not in written

    asyncio.run(story())


HOSTILE = [
    template.replace("X", word)
    for word in ("1=1", "SLEEP(9)", "pg_sleep(9)", "randomblob(1e9)", "load_extension('x')")
    for template in (
        "' OR X --", "' OR 'a'='a' AND X", '" OR X --', "'; DROP TABLE key; --X", "') OR (X", "1 UNION SELECT X",
        "' UNION SELECT hash FROM key WHERE X --", "'/**/OR/**/X/**/--", "\\' OR X --", "' AND X AND '1'='1",
        "%27 OR X", "\u02bc OR X", "' || X || '", "'; ATTACH DATABASE '/tmp/x' AS x; --X", "${X}", "{{X}}",
        "lm-' OR X --", "\0' OR X", "' OR X\n--", "?", ":id", "NULL", "' GROUP BY X HAVING 1", "' ORDER BY X --",
    )
]  # fmt: skip


def test_hostile_texts_find_nothing_and_change_nothing(place: Place) -> None:
    """Threat V-28, on every place where a stranger's text meets the tables."""

    async def story() -> None:
        async with opened(place) as state:
            await state.keys.add(key("bob")[0])
            await state.usage.add([Use("k", "m", "local", HOUR, 1)])
            ring = Keyring()
            ring.take(*await state.keys.known())
            before = await everything(state)
            for text in HOSTILE:
                assert ring.caller(text) is None
                assert not await state.keys.revoke(text, 1)
                assert await state.usage.of(since=0, key=text) == ()
                assert await state.usage.spent({text: 0}) == {text: 0}
                assert await state.responses.get(text, text) is None
                assert not await state.responses.delete(text, text)
                assert await state.tasks.get(text) is None
                assert await state.tasks.all(owner=text) == ()
                assert not await state.tasks.remove(text)
            assert await everything(state) == before
            names = [replace(key("n")[0], name=text) for text in dict.fromkeys(HOSTILE)]
            for one in names:
                await state.keys.add(one)
            assert {one.name for one in (await state.keys.known())[1]} == {"bob", *HOSTILE}

    asyncio.run(story())


def test_large_numbers_are_numbers(place: Place) -> None:
    most = 2**62

    async def story() -> None:
        async with opened(place, quota=most) as state:
            assert await state.tasks.all(most=2**31) == ()
            assert await state.tasks.events("t", 2**40) == ()
            assert await state.tasks.sweep(most=2**40) == ()
            await state.responses.put(response(1))
            assert await state.responses.sweep() == 0
            await state.usage.add([Use("k", "m", "local", HOUR, 1, 0, 2**61, 0, 2**61)])
            assert await state.usage.spent({"k": HOUR}) == {"k": most}

    asyncio.run(story())


async def everything(state: AnyState) -> list[object]:
    """All that can be seen."""
    return [
        await state.keys.known(),
        await state.usage.of(since=0),
        await state.tasks.all(),
        await state.responses.unfinished(),
        await state.fleet.servers(),
    ]


@pytest.mark.parametrize("damage", [b"no database", b"SQLite format 3\0" + bytes(4000)])
def test_a_damaged_file_is_never_taken_for_no_keys(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(damage)
    with pytest.raises(StateError, match=r"state\.db cannot be used"):
        starting.known_keys(tmp_path)

    async def story() -> None:
        async with State(tmp_path) as state:
            with pytest.raises(StoreFailed):
                await state.keys.known()

    asyncio.run(story())


WRITER = """
import asyncio, sys
from pathlib import Path
from localmodels.core.access import Use
from localmodels.state.state import State, guarded

async def main():
    async with State(Path(sys.argv[1])) as state:
        while True:
            await state.usage.add([Use("k", model, "local", 1, 1, 0, 10, 0, 10) for model in "abcdefgh"])
            print("written", flush=True)

asyncio.run(main())
"""


def test_a_kill_in_the_middle_loses_or_keeps_a_batch_whole(tmp_path: Path) -> None:
    told = 0
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        assert child.stdout is not None
        for _ in range(20):
            assert child.stdout.readline() == "written\n"
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate()
        told += 20 + rest.count("written\n")

    async def story() -> None:
        async with State(tmp_path) as state:
            counts = {use.requests for use in await state.usage.of(since=0, key="k")}
            assert len(counts) == 1
            # What was said to be written is there; of each process at most one batch that it could not tell of.
            assert told <= counts.pop() <= told + 3

    asyncio.run(story())


def response(number: int, owner: str = "bob", **fields: object) -> StoredResponse:
    now = time_ns()
    made = StoredResponse(
        f"resp_{number}", owner, "m", "completed", now - 10**9 + number, now + 10**12, b"[1]", b"{}", "", now
    )
    return replace(made, **fields)


def test_a_response_is_its_owner_s_alone(place: Place) -> None:
    one = response(1)

    async def story() -> None:
        async with opened(place) as state:
            kept = state.responses
            assert await kept.unfinished() == ()
            assert await kept.sweep() == 0
            if isinstance(place, Path):
                assert not (place / "responses.db").exists()
            await kept.put(one)
            await kept.put(response(1, "eve", body=b"{2}"))
            assert await kept.get(one.id, "bob") == one
            assert await kept.get(one.id, "mallory") is None
            assert not await kept.delete(one.id, "mallory")
            await kept.put(replace(one, status="failed", body=b"{3}"))
            changed = await kept.get(one.id, "bob")
            assert changed is not None
            assert (changed.status, changed.body) == ("failed", b"{3}")
            assert await kept.delete(one.id, "bob")
            assert not await kept.delete(one.id, "bob")
            assert await kept.get(one.id, "eve") is not None
            if isinstance(place, Path):
                assert (place / "responses.db").stat().st_mode & 0o777 == 0o600

    asyncio.run(story())


def test_a_chain_ends_where_it_is_not_the_owner_s(place: Place) -> None:
    links = [response(number, previous_id=f"resp_{number - 1}" if number else "") for number in range(5)]

    async def story() -> None:
        async with opened(place) as state:
            for link in links:
                await state.responses.put(link)
            assert await state.responses.chain("resp_4", "bob", 100) == tuple(links)
            assert await state.responses.chain("resp_4", "bob", 2) == tuple(links[3:])
            assert await state.responses.chain("resp_4", "eve", 100) == ()
            await state.responses.delete("resp_2", "bob")
            assert await state.responses.chain("resp_4", "bob", 100) == tuple(links[3:])
            await state.responses.put(response(0, previous_id="resp_1"))  # a ring
            assert len(await state.responses.chain("resp_1", "bob", 100)) == 2

    asyncio.run(story())


def test_what_expired_is_not_there_and_the_oldest_go_first(place: Place) -> None:
    async def story() -> None:
        async with opened(place, quota=10 * 1000) as state:
            kept = state.responses
            await kept.put(response(0, expires_at=time_ns() - 1, status="queued"))
            assert await kept.get("resp_0", "bob") is None
            assert not await kept.delete("resp_0", "bob")
            await kept.put(response(99, expires_at=time_ns() - 1))
            for number in range(1, 16):
                await kept.put(response(number, body=bytes(997), status="in_progress"))
            assert [one.id for one in await kept.unfinished()] == [f"resp_{number}" for number in range(1, 16)]
            assert await kept.sweep() == 6  # one expired, five beyond the quota
            assert [one.id for one in await kept.unfinished()] == [f"resp_{number}" for number in range(6, 16)]

    asyncio.run(story())


def test_the_first_key_is_made_where_none_ever_was(place: Place) -> None:
    """Also where a start failed that had made the file; never where one was taken away."""

    async def story() -> None:
        admin, text = key("admin")
        async with opened(place) as state:
            assert await state.keys.known() == (0, ())
            made = first(place, admin)
            assert made == await state.keys.known() == (1, (admin,))
            ring = Keyring()
            ring.take(*made)
            assert ring.caller(text.reveal())
            assert first(place, key("second")[0]) is None
            await state.keys.revoke(admin.id, 20)
            assert first(place, key("third")[0]) is None
            assert (await state.keys.known())[0] == 2

    asyncio.run(story())


def test_of_servers_that_start_at_once_one_makes_the_first_key(place: Place) -> None:
    if isinstance(place, Path):
        begin(place, STATE)  # a file is made under a name of its process, and here are threads
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda number: first(place, key(f"admin{number}")[0]), range(8)))
    (one,) = filter(None, made)
    assert known(place) == one[1]


def test_a_full_disk_is_told_as_one() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA max_page_count = 2")

        def fill() -> None:
            connection.execute("CREATE TABLE filler (words TEXT)")
            connection.execute("INSERT INTO filler VALUES (?)", ("x" * 100_000,))

        with pytest.raises(DiskFull, match="the disk is full"):
            guarded(fill)
