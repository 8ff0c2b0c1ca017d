"""The fleet is kept alike by the fake, by the files and by PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec import convert
from msgspec.structs import asdict, replace
from tests.awaited import DEADLINE
from tests.contract.stores import STORES, opened

from localmodels.core.errors import Conflict, NotFound
from localmodels.core.fleet import FleetStore, ModelChange, ModelRow, ServerChange, ServerRow
from localmodels.core.secrets import Secret
from localmodels.state.memory import MemoryFleet

Story = Callable[[FleetStore], Awaitable[None]]


@pytest.fixture(params=["memory", *STORES])
def tell(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Story], None]:
    """Tells a story to one of them."""
    place = None if request.param == "memory" else STORES[request.param](request, tmp_path)

    async def bounded(story: Story) -> None:
        async with asyncio.timeout(DEADLINE):
            if place is None:
                await story(MemoryFleet())
                return
            async with opened(place) as state:
                await story(state.fleet)

    return lambda story: asyncio.run(bounded(story))


PLAIN = ServerRow(id="id-1", name="one", url="http://10.0.0.1:11434", kind="ollama", created_at=10, updated_at=10)
FULL = ServerRow(
    id="id-2",
    name="two",
    url="https://models.example/base",
    kind="openai",
    api_version="v2",
    description="the one in the \u2603 cellar; 'quoted' \\ and \"so\"\n",
    capabilities=("general purpose", "code", "\u2603"),
    max_concurrent=17,
    max_queue=0,
    priority=-(2**40),
    weight=0.1,
    is_default=True,
    is_active=False,
    first_byte=0.25,
    idle=3.5,
    reach="public",
    created_at=2**60,
    updated_at=2**60 + 1,
)
MODEL = ModelRow(
    id="m-1",
    server_id="id-1",
    model="qwen3:latest",
    name="qwen3:latest",
    digest="ab" * 32,
    size=2**40,
    told=("completion", "tools"),
    context_length=2**17,
    modified_at="2026-11-22T01:02:03Z",
    created_at=20,
    updated_at=20,
)


def test_a_server_comes_back_as_it_was(tell: Callable[[Story], None]) -> None:
    async def story(fleet: FleetStore) -> None:
        assert (await fleet.servers(), await fleet.keys(), await fleet.models()) == ((), {}, ())
        assert await fleet.generation() == 0
        await fleet.add(FULL, Secret("sk-\u2603"))
        await fleet.add(PLAIN)
        assert await fleet.servers() == (PLAIN, FULL)
        assert await fleet.keys() == {"id-2": Secret("sk-\u2603")}
        assert await fleet.generation() == 2

    tell(story)


@pytest.mark.parametrize(("field", "value"), [("name", "one"), ("url", "http://10.0.0.1:11434")])
def test_a_name_and_an_address_are_one_server_s(field: str, value: str, tell: Callable[[Story], None]) -> None:
    wanted = convert({field: value}, ServerChange)

    async def story(fleet: FleetStore) -> None:
        await fleet.add(PLAIN)
        await fleet.add(FULL)
        for attempt in (
            fleet.add(FULL) if field == "name" else fleet.add(replace(FULL, name="three")),
            fleet.add(replace(FULL, id="id-3", **({"name": "three", "url": "http://c"} | {field: value}))),
            fleet.change("id-2", wanted, 99),
        ):
            with pytest.raises(Conflict, match="already") as caught:
                await attempt
            assert caught.value.param == field
            assert (caught.value.__cause__, caught.value.__context__) == (None, None)
        assert await fleet.servers() == (PLAIN, FULL)
        assert await fleet.generation() == 2
        # Its own are no other's.
        assert (await fleet.change("id-1", wanted, 99)) == replace(PLAIN, updated_at=99)

    tell(story)


def test_every_gateway_has_a_row_of_its_own_engine(tell: Callable[[Story], None]) -> None:
    mine = ServerRow(id="l-1", name="local", url="local", kind="local", gateway="home-1")

    async def story(fleet: FleetStore) -> None:
        await fleet.add(mine)
        await fleet.add(replace(mine, id="l-2", gateway="home-2"))
        with pytest.raises(Conflict):
            await fleet.add(replace(mine, id="l-3", gateway="home-2", url="other"))
        assert [row.gateway for row in await fleet.servers()] == ["home-1", "home-2"]

    tell(story)


def test_at_most_one_is_the_default(tell: Callable[[Story], None]) -> None:
    async def default(fleet: FleetStore) -> list[str]:
        return [row.id for row in await fleet.servers() if row.is_default]

    async def story(fleet: FleetStore) -> None:
        await fleet.add(FULL)
        await fleet.add(replace(PLAIN, is_default=True))
        assert await default(fleet) == ["id-1"]
        await fleet.change("id-2", ServerChange(is_default=True), 30)
        assert await default(fleet) == ["id-2"]
        with pytest.raises(Conflict):  # and nothing of it is done
            await fleet.change("id-1", ServerChange(is_default=True, name="two"), 30)
        assert await default(fleet) == ["id-2"]
        await fleet.change("id-2", ServerChange(is_default=False), 31)
        assert await default(fleet) == []
        wanted = ServerChange(is_default=True)
        await asyncio.gather(*(fleet.change(server, wanted, 32) for server in ("id-1", "id-2") * 5))
        assert len(await default(fleet)) == 1

    tell(story)


CHANGES = {
    "name": "three",
    "url": "http://c",
    "kind": "anthropic",
    "api_version": "",
    "description": "x",
    "capabilities": (),
    "max_concurrent": 1,
    "max_queue": 5,
    "priority": 2**40,
    "weight": 2.5,
    "is_default": False,
    "is_active": True,
    "first_byte": 1.5,
    "idle": 2.5,
    "reach": "loopback",
}


def test_a_change_touches_what_it_names(tell: Callable[[Story], None]) -> None:
    assert set(CHANGES) == set(ServerChange.__struct_fields__)

    async def story(fleet: FleetStore) -> None:
        await fleet.add(PLAIN)
        await fleet.add(FULL, Secret("kept"))
        expected = FULL
        for number, (field, value) in enumerate(CHANGES.items()):
            expected = replace(expected, **{field: value}, updated_at=number)
            assert await fleet.change("id-2", convert({field: value}, ServerChange), number) == expected
            assert await fleet.servers() == (PLAIN, expected)
        assert await fleet.change("id-2", ServerChange(), 77) == replace(expected, updated_at=77)
        assert await fleet.keys() == {"id-2": Secret("kept")}
        assert await fleet.generation() == 2 + len(CHANGES) + 1
        with pytest.raises(NotFound, match="id-9"):
            await fleet.change("id-9", ServerChange(name="x"), 1, key=Secret("k"))
        assert await fleet.keys() == {"id-2": Secret("kept")}

    tell(story)


def test_a_key_is_put_in_replaced_and_taken_away(tell: Callable[[Story], None]) -> None:
    async def story(fleet: FleetStore) -> None:
        await fleet.add(PLAIN, Secret(""))
        assert await fleet.keys() == {}
        for key in ("first", "second"):
            await fleet.change("id-1", ServerChange(), 11, key=Secret(key))
            assert await fleet.keys() == {"id-1": Secret(key)}
        await fleet.change("id-1", ServerChange(), 12, key=Secret(""))
        assert await fleet.keys() == {}
        await fleet.change("id-1", ServerChange(), 12, key=Secret(""))
        assert await fleet.keys() == {}

    tell(story)


def test_a_server_goes_with_its_key_and_models(tell: Callable[[Story], None]) -> None:
    other = replace(MODEL, id="m-2", server_id="id-2")

    async def story(fleet: FleetStore) -> None:
        await fleet.add(PLAIN, Secret("k"))
        await fleet.add(FULL, Secret("l"))
        await fleet.keep_models("id-1", [MODEL])
        await fleet.keep_models("id-2", [other])
        before = await fleet.generation()
        assert await fleet.remove("id-1")
        assert await fleet.generation() == before + 1
        assert not await fleet.remove("id-1")
        assert await fleet.generation() == before + 1
        assert (await fleet.servers(), await fleet.keys()) == ((FULL,), {"id-2": Secret("l")})
        assert await fleet.models() == (other,)
        await fleet.add(PLAIN)  # comes back as a new one
        assert await fleet.models("id-1") == ()
        assert set(await fleet.keys()) == {"id-2"}

    tell(story)


def test_what_is_found_leaves_its_owner_s_word(tell: Callable[[Story], None]) -> None:
    owners = ModelChange(name="Qwen", capabilities=("code review",), priority=9, is_active=False)
    found = replace(
        MODEL, digest="cd" * 32, size=1, told=(), context_length=1, modified_at="", present=False, updated_at=40
    )

    async def story(fleet: FleetStore) -> None:
        await fleet.add(PLAIN)
        await fleet.keep_models("id-1", [MODEL])
        assert await fleet.models() == (MODEL,)
        said = await fleet.change_model("m-1", owners, 30)
        assert said == replace(MODEL, **asdict(owners), updated_at=30)
        assert await fleet.models("id-1") == (said,)
        await fleet.keep_models("id-1", [found])
        assert await fleet.models() == (replace(found, **asdict(owners)),)
        assert await fleet.generation() == 4
        for field in ModelChange.__struct_fields__:  # one at a time
            back = await fleet.change_model("m-1", ModelChange(**{field: getattr(MODEL, field)}), 50)
            assert getattr(back, field) == getattr(MODEL, field)
        assert await fleet.models() == (replace(found, updated_at=50),)
        with pytest.raises(NotFound, match="m-9"):
            await fleet.change_model("m-9", ModelChange(name="x"), 1)

    tell(story)


def test_what_is_gone_can_be_forgotten_and_nothing_else(tell: Callable[[Story], None]) -> None:
    async def story(fleet: FleetStore) -> None:
        await fleet.add(PLAIN)
        other = replace(MODEL, id="m-2", model="other")
        await fleet.keep_models("id-1", [MODEL, other])
        before = await fleet.generation()
        assert [await fleet.forget_model(one) for one in ("m-1", "m-9")] == [False, False]
        assert await fleet.generation() == before
        await fleet.keep_models("id-1", [replace(MODEL, present=False)])
        assert await fleet.forget_model("m-1")
        assert await fleet.models() == (other,)
        assert await fleet.generation() == before + 2
        assert not await fleet.forget_model("m-1")
        await fleet.keep_models("id-1", [MODEL])  # it came back, as if it were new
        assert len(await fleet.models()) == 2

    tell(story)


def test_rows_that_are_not_named_stay(tell: Callable[[Story], None]) -> None:
    many = [replace(MODEL, id=f"m-{number}", model=f"{name}:latest") for number, name in enumerate("Bab_")]

    async def story(fleet: FleetStore) -> None:
        await fleet.add(PLAIN)
        await fleet.keep_models("id-1", many)
        assert [row.model[0] for row in await fleet.models()] == ["B", "_", "a", "b"]  # in the order of bytes
        before = await fleet.generation()
        await fleet.keep_models("id-1", [replace(many[0], size=7)])
        assert {row.id: row.size for row in await fleet.models("id-1")} == {
            "m-0": 7,
            "m-1": 2**40,
            "m-2": 2**40,
            "m-3": 2**40,
        }
        assert await fleet.generation() == before + 1
        await fleet.keep_models("id-1", [replace(row, updated_at=99) for row in many[1:]])
        await fleet.keep_models("id-1", [])
        assert await fleet.generation() == before + 1  # found again as they were: nobody need look

    tell(story)


def test_a_model_that_two_found_at_once_is_one(tell: Callable[[Story], None]) -> None:
    async def story(fleet: FleetStore) -> None:
        await fleet.add(PLAIN)
        twins = [replace(MODEL, id=f"m-{number}", created_at=number) for number in range(5)]
        await asyncio.gather(*(fleet.keep_models("id-1", [twin]) for twin in twins))
        (kept,) = await fleet.models()
        assert kept in twins
        await fleet.keep_models("id-1", [replace(MODEL, id="a", size=1), replace(MODEL, id="b", size=2)])
        assert await fleet.models() == (replace(kept, size=2),)

    tell(story)


def test_a_server_that_is_gone_keeps_no_models(tell: Callable[[Story], None]) -> None:
    async def story(fleet: FleetStore) -> None:
        await fleet.keep_models("id-1", [MODEL])
        assert (await fleet.models(), await fleet.generation()) == ((), 0)

    tell(story)


def test_hostile_texts_are_texts(tell: Callable[[Story], None]) -> None:
    """Threat V-28."""
    texts = ["'; DROP TABLE server; --", "' OR 1=1 --", "\0' OR 1=1", "\x1a0", "%27", "${X}", ":id", "?", "$1", "\\'"]

    async def story(fleet: FleetStore) -> None:
        await fleet.add(PLAIN)
        for text in texts:
            assert not await fleet.remove(text)
            assert await fleet.models(text) == ()
            with pytest.raises(NotFound):
                await fleet.change(text, ServerChange(name=text), 1)
            with pytest.raises(NotFound):
                await fleet.change_model(text, ModelChange(name=text), 1)
        assert await fleet.servers() == (PLAIN,)
        rows = [
            replace(PLAIN, id=text, name=text, url=text, description=text, capabilities=(text,), created_at=number + 20)
            for number, text in enumerate(texts)
        ]
        for row in rows:
            await fleet.add(row, Secret(row.name))
        assert await fleet.servers() == (PLAIN, *rows)
        assert await fleet.keys() == {text: Secret(text) for text in texts}

    tell(story)
