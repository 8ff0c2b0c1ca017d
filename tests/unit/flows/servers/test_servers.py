"""The registry of the fleet: what is kept, what is refused, what others change, and what a broken store leaves."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import asdict, replace
from tests.awaited import awaited
from tests.fleet_world import Answer, Line, Ollama, Store, World

from localmodels.core.errors import (
    BackendError,
    Conflict,
    InvalidRequest,
    InvalidValue,
    LoadFailed,
    NotFound,
    QueueFull,
    StoreFailed,
    Unauthenticated,
    Unreachable,
    Unsupported,
)
from localmodels.core.fleet import ModelChange, ServerChange
from localmodels.core.roster import Wish
from localmodels.core.secrets import Secret
from localmodels.core.servers import ServerSpec
from localmodels.fleet.hosts import same_name
from localmodels.flows.servers import roster as rosters
from localmodels.flows.servers.roster import roster
from localmodels.flows.visit import Visit

A, B = "http://10.39.0.101:11434", "http://10.39.0.102:11434"
FILE = ServerSpec(name="gpu", url="http://10.0.0.9:8000/", kind="openai", key=Secret("file-key"))


def change(**said: object) -> Wish:
    return Wish(said=ServerChange(**said))  # type: ignore[arg-type]


@awaited
async def test_a_server_is_registered_with_its_models_and_offers_them() -> None:
    async with World() as world:
        world.net[A] = Ollama(qwen3_8b=1, plain=2)
        server = await world.servers.add(change(name="Ollama Server 1", url=f"{A}/api/", capabilities=("code",)))
        assert (server.row.url, server.row.kind, server.row.reach, server.prefix) == (
            A,
            "ollama",
            "private",
            "ollama-server-1",
        )
        assert (server.available, server.state, server.version, server.source) == (True, "up", "0.12.0", "api")
        assert {one.model for one in server.models} == {"qwen3:8b", "plain"}
        assert UUID(server.row.id).version == 4
        rows = world.servers.models(server.row.id)
        assert [(one.row.model, one.available, one.loaded) for one in rows] == [
            ("plain", True, False),
            ("qwen3:8b", True, False),
        ]
        assert [host.spec.name for host in world.remotes.fleet.holders("qwen3:8b")] == ["ollama-server-1"]
        assert world.remotes.find("ollama-server-1/qwen3:8b") is not None


@awaited
async def test_one_that_does_not_answer_stays_registered_and_is_found_later() -> None:
    async with World() as world:
        server = await world.servers.add(change(name="a", url=A))
        assert (server.available, server.state, server.version, server.models) == (False, "down", None, ())
        assert "cannot be reached" in server.failure
        assert world.servers.models(server.row.id) == ()
        with pytest.raises(Unreachable) as caught:
            await world.servers.discover(server.row.id)
        assert caught.value.message == "the server 'a' cannot be reached"
        world.net[A] = Ollama(qwen3_8b=1)
        seen = await world.servers.discover(server.row.id)
        assert (seen.found, seen.added, seen.total) == (1, 1, 1)
        assert world.servers.one(server.row.id).available


@pytest.mark.parametrize(
    ("name", "url", "param", "words"),
    [
        ("OLLAMA server-1", B, "name", "there is a server 'Ollama Server 1' already, whose models are named"),
        ("Ollama Server 1", B, "name", "there is a server 'Ollama Server 1' already"),
        ("local", B, "name", "this program's own engine"),
        ("gpu", B, "name", "it stands in the configuration's file"),
        ("b", A, "url", "the server 'Ollama Server 1' is registered at"),
        ("b", "HTTP://10.39.0.101:11434/api", "url", "is registered at http://10.39.0.101:11434 already"),
        ("b", "http://10.0.0.9:8000", "url", "it stands in the configuration's file"),
    ],
)
@awaited
async def test_a_name_and_an_address_are_had_once(name: str, url: str, param: str, words: str) -> None:
    async with World(file=[FILE]) as world:
        await world.add("Ollama Server 1", A)
        other = await world.add("other", "http://10.39.0.103")
        with pytest.raises(Conflict, match=words) as caught:
            await world.servers.add(change(name=name, url=url))
        assert caught.value.param == param
        with pytest.raises(Conflict, match=words):
            await world.servers.change(other, change(**{param: name if param == "name" else url}))
        assert len(await world.store.servers()) == 3


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://169.254.169.254", "metadata"),
        ("http://nobody.example", "nobody knows its address"),
        ("http://user:word@10.0.0.1", "no user, password"),
        ("ftp://10.0.0.1", "begins with http"),
        ("http://metadata.google.internal", "metadata"),
        ("http://10.39.0.104:8000/v1/", "drop /v1, or say kind openai"),
    ],
)
@awaited
async def test_nobody_is_asked_where_no_server_can_be(url: str, words: str) -> None:
    async with World() as world:
        server = await world.add("a", A)
        for attempt in (world.servers.add(change(name="b", url=url)), world.servers.change(server, change(url=url))):
            with pytest.raises(InvalidValue, match=words) as caught:
                await attempt
            assert caught.value.param == "url"
            assert "word" not in caught.value.message.replace("password", "")
        assert [row.name for row in await world.store.servers()] == ["local", "a"]


@awaited
async def test_what_is_changed_counts_at_once_and_the_rest_stays() -> None:
    async with World() as world:
        first = await world.add("a", A, Ollama(m=1), priority=3, description="old")
        second = await world.add("b", B, Ollama(m=1), is_default=True)
        server = await world.servers.change(first, change(description="new", is_default=True, max_concurrent=9))
        assert (server.row.description, server.row.priority, server.row.max_concurrent) == ("new", 3, 9)
        assert not world.servers.one(second).row.is_default
        host = world.remotes.fleet.host(first)
        assert host is not None
        assert (host.spec.max_concurrent, host.spec.is_default, host.spec.priority) == (9, True, 3)


@awaited
async def test_one_that_is_switched_off_is_told_so_and_back_on_it_is_looked_at() -> None:
    async with World() as world:
        ollama = Ollama(m=1)
        server = await world.add("a", A, ollama)
        off = await world.servers.change(server, change(is_active=False))
        assert (off.available, off.state, off.models, off.version) == (False, "inactive", (), None)
        assert not world.servers.models(server)[0].available
        assert [one.row.name for one in world.servers.all(active_only=True)] == ["local"]
        assert [one.row.name for one in await world.servers.live()] == ["local"]
        ollama.models["n"] = 2
        on = await world.servers.change(server, change(is_active=True))
        assert (on.available, {one.model for one in on.models}) == (True, {"m", "n"})


@awaited
async def test_a_key_goes_to_the_place_that_it_was_given_for() -> None:
    async with World() as world:
        first, second = Ollama(m=1), Ollama(m=1)
        world.net[B] = second
        server = await world.add("a", A, first, key="sk-sesame")
        assert set(first.keys) == {"sk-sesame"}
        assert world.servers.one(server).has_key
        assert "sk-sesame" not in repr(world.servers.one(server))
        with pytest.raises(InvalidRequest, match="was given for http://10") as caught:
            await world.servers.change(server, change(url=B))
        assert (caught.value.param, second.keys) == ("key", [])
        await world.servers.change(server, change(url=f"{A}/behind"))  # the same place
        assert (await world.store.keys())[server] == Secret("sk-sesame")
        moved = await world.servers.change(server, Wish(said=ServerChange(url=B), key=Secret("sk-new")))
        assert (moved.row.url, moved.has_key, set(second.keys)) == (B, True, {"sk-new"})
        bare = await world.servers.change(server, Wish(said=ServerChange(url=A), key=Secret("")))
        assert (bare.has_key, first.keys[-1], await world.store.keys()) == (False, "", {})


@awaited
async def test_a_key_that_another_gateway_has_just_kept_does_not_move() -> None:
    async with World() as world:
        second = Ollama(m=1)
        world.net[B] = second
        server = await world.add("a", A, Ollama(m=1))
        known = world.store.generation

        async def stale() -> int:  # the other's change comes in the moment after we looked
            generation = await known()
            world.store.generation = known  # type: ignore[method-assign]
            await world.store.change(server, ServerChange(), 1, key=Secret("sk-sesame"))
            return generation

        world.store.generation = stale  # type: ignore[method-assign]
        await world.servers.change(server, change(url=B))
        assert (set(second.keys), await world.store.keys()) == ({""}, {})


@awaited
async def test_one_that_is_forgotten_leaves_with_its_models_and_key() -> None:
    async with World() as world:
        server = await world.add("a", A, Ollama(m=1), key="k")
        [model] = world.servers.models(server)
        gone = await world.servers.remove(server)
        assert gone.row.name == "a"
        for ask in (world.servers.one, world.servers.models):
            with pytest.raises(NotFound, match="no server"):
                ask(server)
        with pytest.raises(NotFound, match="no model with the id"):
            world.servers.model(model.row.id)
        with pytest.raises(NotFound):
            await world.servers.remove(server)
        assert server not in {row.server_id for row in await world.store.models()}
        assert await world.store.keys() == {}
        assert world.remotes.fleet.host(server) is None
        assert [one.name for one in world.remotes.servers()] == []


@awaited
async def test_models_that_vanish_come_back_with_their_ids_and_what_their_owner_said() -> None:
    async with World() as world:
        ollama = Ollama(m=1, n=2)
        server = await world.add("a", A, ollama)
        before = {one.row.model: one.row for one in world.servers.models(server)}
        await world.servers.change_model(before["m"].id, ModelChange(capabilities=("code",), priority=5, name="Em"))
        del ollama.models["m"]
        ollama.models["n"] = 3
        seen = await world.servers.discover(server)
        assert asdict(seen) == {"found": 1, "added": 0, "updated": 1, "deactivated": 1, "total": 2}
        gone = world.servers.model(before["m"].id)
        assert (gone.row.present, gone.available) == (False, False)
        again = await world.servers.discover(server)
        assert (again.updated, again.deactivated) == (0, 0)
        ollama.models["m"] = 1
        seen = await world.servers.discover(server)
        assert (seen.found, seen.added, seen.updated, seen.total) == (2, 0, 1, 2)
        back = world.servers.model(before["m"].id)
        assert (back.available, back.row.name, back.row.capabilities, back.row.priority) == (True, "Em", ("code",), 5)


@awaited
async def test_what_a_server_has_no_more_can_be_forgotten() -> None:
    async with World() as world:
        ollama = Ollama(m=1, n=1)
        server = await world.add("a", A, ollama)
        m, n = world.servers.models(server)
        await world.servers.change_model(m.row.id, ModelChange(priority=5))
        with pytest.raises(Conflict, match="the server 'a' had m when it was asked last: only what is gone"):
            await world.servers.forget_model(m.row.id)
        del ollama.models["m"]
        await world.servers.discover(server)
        last = await world.servers.forget_model(m.row.id)
        assert (last.row.model, last.row.priority, last.row.present) == ("m", 5, False)
        assert [one.row.id for one in world.servers.models(server)] == [n.row.id]
        with pytest.raises(NotFound):
            await world.servers.forget_model(m.row.id)
        ollama.models["m"] = 1
        await world.servers.discover(server)
        assert world.servers.model(m.row.id).row.priority == 0  # what was said of it is forgotten, too
        own = world.servers.models(world.servers.roster.local.id)
        for one in own:
            with pytest.raises(Conflict):
                await world.servers.forget_model(one.row.id)


class Raced(Store):
    """Tables in which somebody else is quicker whenever a model is to be forgotten."""

    async def forget_model(self, model_id: str) -> bool:
        await super().forget_model(model_id)
        return await super().forget_model(model_id)


@awaited
async def test_a_model_that_somebody_else_has_just_forgotten_is_told_to_be_gone() -> None:
    async with World(store=Raced()) as world:
        ollama = Ollama(m=1)
        server = await world.add("a", A, ollama)
        [model] = world.servers.models(server)
        del ollama.models["m"]
        await world.servers.discover(server)
        with pytest.raises(NotFound, match="there is no model with the id"):
            await world.servers.forget_model(model.row.id)


@awaited
async def test_a_model_that_is_switched_off_is_not_held() -> None:
    async with World() as world:
        server = await world.add("a", A, Ollama(m=1))
        [model] = world.servers.models(server)
        off = await world.servers.change_model(model.row.id, ModelChange(is_active=False))
        assert (off.available, off.row.present) == (False, True)
        assert world.remotes.fleet.holders(same_name("m")) == ()
        seen = await world.servers.discover(server)
        assert (seen.found, seen.updated, seen.deactivated) == (1, 0, 0)
        await world.servers.change_model(model.row.id, ModelChange(is_active=True))
        assert len(world.remotes.fleet.holders(same_name("m"))) == 1
        with pytest.raises(NotFound):
            await world.servers.change_model("none", ModelChange(is_active=True))


@awaited
async def test_our_own_engine_is_one_of_them_from_the_first_start() -> None:
    store = Store()
    async with World(store=store) as world:
        [local] = world.servers.all()
        assert (local.row.kind, local.row.name, local.row.url, local.source) == (
            "local",
            "local",
            "http://127.0.0.1:8000",
            "local",
        )
        await world.servers.discover(local.row.id)
        [model] = world.servers.models(local.row.id)
        assert (model.row.model, model.available, model.loaded) == ("localmodels:latest", True, False)
        said = change(name="local", kind="local", url="http://127.0.0.1:8000", max_concurrent=7, capabilities=("code",))
        assert (await world.servers.change(local.row.id, said)).row.max_concurrent == 7
        for wrong in ({"name": "mine"}, {"url": B}, {"kind": "ollama"}, {"first_byte": 5.0}):
            with pytest.raises(Conflict, match="cannot be changed; description, capabilities"):
                await world.servers.change(local.row.id, change(**wrong))
        with pytest.raises(Conflict, match="key of this program"):
            await world.servers.change(local.row.id, Wish(key=Secret("k")))
        with pytest.raises(Conflict, match="cannot be taken away"):
            await world.servers.remove(local.row.id)
    async with World(store=store) as world:
        assert [(one.row.id, one.row.max_concurrent) for one in world.servers.all()] == [(local.row.id, 7)]
    async with World(store=store, gateway="another home") as world:
        [other] = world.servers.all()
        assert other.row.id != local.row.id
        with pytest.raises(NotFound):
            world.servers.one(local.row.id)
        with pytest.raises(NotFound):
            world.servers.model(model.row.id)


@awaited
async def test_servers_of_the_file_are_listed_and_changed_there_alone() -> None:
    async with World(file=[FILE]) as world:
        world.net[FILE.url] = Ollama(gpt=1)
        await world.monitor.looked()
        server = world.servers.all()[-1]
        assert (server.row.name, server.source, server.has_key, server.row.created_at) == ("gpu", "file", True, 0)
        assert (await world.servers.discover(server.row.id)).found == 1
        [model] = world.servers.models(server.row.id)
        assert world.servers.model(model.row.id) == model
        for attempt in (
            world.servers.change(server.row.id, change(priority=1)),
            world.servers.remove(server.row.id),
            world.servers.change_model(model.row.id, ModelChange(priority=1)),
        ):
            with pytest.raises(Conflict, match=r"the configuration's file, which `localmodels config`.*SIGHUP") as no:
                await attempt
            assert "file-key" not in no.value.message
        await world.servers.adopt([replace(FILE, name="other")])
        assert [one.row.name for one in world.servers.all()] == ["local", "other"]
        with pytest.raises(NotFound):
            world.servers.one(server.row.id)


@awaited
async def test_a_name_that_the_file_takes_later_is_the_file_s() -> None:
    async with World() as world:
        server = await world.add("gpu", A, Ollama(m=1))
        await world.servers.adopt([FILE])
        assert world.servers.one(server).prefix == f"gpu-{server[:8]}"
        assert world.servers.one(server).row.name == "gpu"
        found = world.remotes.find("gpu/x")
        assert found is not None
        assert found[0].spec.url == FILE.url


@awaited
async def test_the_list_does_not_wait_for_one_that_hangs() -> None:
    async with World() as world:
        await world.add("a", A, Ollama(m=1))
        ollama = Ollama(m=1)
        await world.add("b", B, ollama)
        ollama.silent = True
        world.seconds += 60  # what was seen is old
        listing = asyncio.ensure_future(world.servers.live())
        await world.settled()
        assert not listing.done()
        world.later()  # the seconds for which it waits are over
        rows = {one.row.name: one for one in await listing}
        assert rows["a"].available
        assert (rows["b"].available, rows["b"].models, rows["b"].version) == (False, (), None)


@pytest.mark.parametrize("url", [A, f"{A}/", "HTTP://10.39.0.101:11434", f"{A}/api"])
@awaited
async def test_a_server_is_found_by_any_spelling_of_its_address(url: str) -> None:
    async with World() as world:
        await world.add("a", A, Ollama(m=1))
        assert [one.model for one in (await world.servers.at(url)).models] == ["m"]


@pytest.mark.parametrize(
    "url",
    [B, "http://169.254.169.254", "", "nonsense", "http://a@10.39.0.101:11434", "local:home", "http://10.39.0.101"],
)
@awaited
async def test_a_stranger_is_never_asked(url: str) -> None:
    async with World() as world:
        stranger = world.net[B] = world.net["http://10.39.0.101"] = Ollama(m=1)
        await world.add("a", A, Ollama(m=1))
        with pytest.raises(NotFound, match="no server is registered at") as caught:
            await world.servers.at(url)
        assert (caught.value.param, stranger.asked) == ("server_url", [])


@awaited
async def test_our_own_engine_is_found_where_people_find_this_program() -> None:
    async with World() as world:
        assert (await world.servers.at("http://127.0.0.1:8000/")).row.kind == "local"


@awaited
async def test_what_another_gateway_changes_counts_here_and_a_broken_store_changes_nothing() -> None:
    store = Store()
    async with World(store=store) as one, World(store=store) as other:
        server = await one.add("a", A, Ollama(m=1))
        other.net = one.net
        adopted = asyncio.Event()
        other.remotes.fleet.listen(lambda _: adopted.set())
        other.others.say()
        await adopted.wait()
        assert other.servers.one(server).row.name == "a"
        store.failure = StoreFailed("the disk is gone")
        for attempt in (other.servers.add(change(name="b", url=B)), other.servers.remove(server)):
            with pytest.raises(StoreFailed):
                await attempt
        store.read.clear()
        other.others.say()
        await store.read.wait()
        assert other.servers.one(server).row.name == "a"
        assert other.remotes.find("a/m") is not None
        store.failure = None
        await store.change(server, ServerChange(name="renamed"), 9)
        adopted.clear()
        other.later()
        await adopted.wait()
        assert other.servers.one(server).row.name == "renamed"


@awaited
async def test_a_start_without_its_tables_goes_on_with_the_file_and_recovers() -> None:
    store = Store()
    store.failure = StoreFailed("the disk is gone")
    async with World(store=store, file=[FILE]) as world:
        assert [one.row.name for one in world.servers.all()] == ["local", "gpu"]
        assert world.remotes.find("gpu/x") is not None
        registered = rosters.local_row("elsewhere", max_concurrent=1, now=1)
        store.failure = None
        await store.add(replace(registered, kind="ollama", name="a", url=A, gateway=""))
        world.others.say()
        while len(world.servers.all()) < 3:
            await world.settled()
            world.later()
        assert [one.row.name for one in world.servers.all()] == ["local", "a", "gpu"]


@awaited
async def test_as_long_as_our_own_engine_is_alone_nothing_is_written() -> None:
    async with World() as world:
        await world.servers.fresh()
        local = world.servers.one(world.servers.all()[0].row.id)
        assert (local.state, [one.model for one in local.models]) == ("up", ["localmodels:latest"])
        [model] = world.servers.models(local.row.id)
        assert world.servers.model(model.row.id) == model
        assert (await world.unloading.check(model.row.id)).is_available
        for _ in range(10):
            await world.settled()
            world.later()
        assert (await world.store.servers(), await world.store.models()) == ((), ())
        changed = await world.servers.change_model(model.row.id, ModelChange(priority=3))
        assert (changed.row.id, changed.row.priority) == (model.row.id, 3)
        assert [row.kind for row in await world.store.servers()] == ["local"]
        assert [row.priority for row in await world.store.models()] == [3]


@awaited
async def test_who_has_the_turn_writes_down_what_all_find() -> None:
    async with World() as world:
        ollama = Ollama(m=1)
        server = await world.add("a", A, ollama)
        world.others.ours = False
        ollama.models["n"] = 2
        world.others.asked.clear()
        await world.monitor.look(server)
        while not world.others.asked.is_set():
            await world.settled()
            world.later()
        assert [row.model for row in await world.store.models(server)] == ["m"]
        world.others.ours = True
        world.store.written.clear()
        while not world.store.written.is_set():
            await world.settled()
            world.later()
        assert [row.model for row in await world.store.models(server)] == ["m", "n"]


@awaited
async def test_what_our_own_engine_has_is_written_without_a_turn() -> None:
    async with World() as world:
        world.others.ours = False
        await world.add("a", A)
        await world.monitor.looked()
        while not world.store.written.is_set():
            await world.settled()
            world.later()
        assert [row.model for row in await world.store.models()] == ["localmodels:latest"]


@awaited
async def test_availability_is_looked_for_and_nothing_is_generated() -> None:
    async with World() as world:
        ollama = Ollama(foo=1, bar_8b=2)
        server = await world.add("a", A, ollama)
        ids = {one.row.model: one.row.id for one in world.servers.models(server)}
        ollama.models["foo:latest"] = ollama.models.pop("foo")  # the same model, as others spell it
        ollama.loaded = {"foo:latest": 3}
        seen = await world.unloading.check(ids["foo"])
        assert (seen.is_available, seen.is_loaded, seen.model_name, seen.error) == (True, True, "foo", "")
        seen = await world.unloading.check(ids["bar:8b"])
        assert (seen.is_available, seen.is_loaded) == (True, False)
        del ollama.models["bar:8b"]
        assert not (await world.unloading.check(ids["bar:8b"])).is_available
        ollama.failure = Unreachable("the server cannot be reached")
        seen = await world.unloading.check(ids["foo"])
        assert (seen.is_available, seen.is_loaded) == (False, None)
        assert seen.error == "the server 'a' cannot be reached"
        ollama.failure = Unauthenticated("no such key: sk-canary")
        seen = await world.unloading.check(ids["foo"])
        assert seen.error == "the server 'a' asks for a key; `localmodels servers set a --key-file FILE` gives it one"
        assert not [one for one in ollama.asked if "generate" in one or "chat" in one]
        with pytest.raises(NotFound):
            await world.unloading.check("none")


@awaited
async def test_one_that_is_switched_off_is_not_asked_for_its_models() -> None:
    async with World() as world:
        ollama = Ollama(m=1)
        server = await world.add("a", A, ollama)
        [model] = world.servers.models(server)
        await world.servers.change_model(model.row.id, ModelChange(is_active=False))
        before = len(ollama.asked)
        assert "the model is switched off" in (await world.unloading.check(model.row.id)).error
        await world.servers.change(server, change(is_active=False))
        assert "the server 'a' is switched off" in (await world.unloading.check(model.row.id)).error
        assert len(ollama.asked) == before


@awaited
async def test_a_model_is_unloaded_on_the_server_that_has_it() -> None:
    async with World() as world:
        ollama = Ollama(m=1)
        server = await world.add("a", A, ollama)
        [model] = world.servers.models(server)
        assert asdict(await world.unloading.unload(model.row.id)) == {
            "status": "not_loaded",
            "model_name": "m",
            "server_url": A,
        }
        ollama.loaded["m"] = 2**30
        assert (await world.unloading.unload(model.row.id)).status == "unloaded"
        assert (ollama.loaded, ollama.asked.count("POST /api/generate")) == ({}, 1)
        ollama.loaded["m"] = 2**30
        freed = await world.unloading.release(model.row.id, Visit(), keep_on_cpu=True)
        assert (freed.status, freed.freed_bytes, ollama.loaded) == ("unloaded", 2**30, {})
        freed = await world.unloading.release(model.row.id, Visit(), keep_on_cpu=False)
        assert (freed.status, freed.freed_bytes) == ("not_loaded", 0)
        ollama.loaded["m"], ollama.stays = 1, True
        with pytest.raises(Conflict, match="m still answers on 'a'"):
            await world.unloading.unload(model.row.id)
        ollama.failure = LoadFailed("out of order")
        with pytest.raises(BackendError, match="the server 'a': out of order"):
            await world.unloading.unload(model.row.id)


class Occupied(Ollama):
    """One that is too busy to tell, for so many questions after it was told to unload."""

    refuses = 0

    async def answer(self, method: str, path: str, body: bytes | None) -> Answer:
        if path != "/api/generate" and "POST /api/generate" in self.asked and self.refuses:
            self.refuses -= 1
            raise QueueFull("the server is busy", retry_after=1)
        return await super().answer(method, path, body)


@awaited
async def test_one_that_is_too_busy_to_tell_is_not_said_to_be_down() -> None:
    async with World() as world:
        ollama = Ollama(m=1)
        server = await world.add("a", A, ollama)
        ollama.failure = QueueFull("the server is busy", retry_after=1)
        with pytest.raises(QueueFull, match="the server 'a' is too busy to tell what it has") as caught:
            await world.servers.discover(server)
        assert (caught.value.retry_after, world.servers.one(server).available) == (1, True)
        assert "too busy" in (await world.unloading.check(world.servers.models(server)[0].row.id)).error


@awaited
async def test_a_model_is_out_when_its_server_has_time_to_say_so() -> None:
    async with World() as world:
        ollama = Occupied(m=1)
        server = await world.add("a", A, ollama)
        [model] = world.servers.models(server)
        ollama.loaded["m"], ollama.refuses = 2**30, 3
        assert (await world.unloading.unload(model.row.id)).status == "unloaded"
        assert (ollama.loaded, ollama.refuses) == ({}, 0)


@pytest.mark.parametrize("kind", ["openai", "llamacpp", "anthropic"])
@awaited
async def test_kinds_that_cannot_be_told_are_not_told(kind: str) -> None:
    async with World() as world:
        ollama = Ollama(m=1)
        server = await world.add("a", A, ollama, kind=kind)
        [model] = world.servers.models(server)
        for attempt in (
            world.unloading.unload(model.row.id),
            world.unloading.release(model.row.id, Visit(), keep_on_cpu=False),
        ):
            with pytest.raises(Unsupported, match="'a' decides itself what it has in memory; those of the kind ollama"):
                await attempt
        assert not [one for one in ollama.asked if one.startswith("POST /api/generate")]


@awaited
async def test_the_models_of_this_machine_stay_listed_when_the_first_server_is_registered() -> None:
    async with World() as world:
        local = world.servers.all()[0].row.id
        await world.servers.fresh()
        await world.settled()  # what is new was written down a moment ago; the next round is not yet
        before = [(model.row.id, model.row.model) for model in world.servers.models(local)]
        assert before
        await world.add("a", A, Ollama(m=1))
        assert [(model.row.id, model.row.model) for model in world.servers.models(local)] == before


@awaited
async def test_our_own_engine_unloads_and_moves_to_the_processor() -> None:
    async with World() as world:
        local = world.servers.all()[0].row.id
        await world.servers.discover(local)
        [model] = world.servers.models(local)
        world.here.models["localmodels:latest"] = 512
        freed = await world.unloading.release(model.row.id, Visit(), keep_on_cpu=True)
        assert (freed.status, freed.freed_bytes, world.here.moved) == ("moved", 512, ["localmodels:latest"])
        assert (await world.unloading.release(model.row.id, Visit(), keep_on_cpu=False)).status == "unloaded"
        gone = await world.unloading.unload(model.row.id)
        assert (gone.status, gone.server_url) == ("not_loaded", "http://127.0.0.1:8000")
        assert (await world.unloading.release(model.row.id, Visit(), keep_on_cpu=True)).status == "not_loaded"


@awaited
async def test_our_own_listeners_are_no_server_behind_us() -> None:
    async with World() as world:
        with pytest.raises(InvalidValue, match="is this very server"):
            await world.servers.add(change(name="me", url="http://127.0.0.1:8000"))


def test_ids_of_the_file_s_servers_stay() -> None:
    def ids() -> list[str]:
        known = roster(World().servers.roster.local, [FILE], (), {}, ())
        return [spec.id for spec in known.file]

    assert ids() == ids()


@awaited
async def test_what_somebody_has_taken_away_leaves_the_list_at_once() -> None:
    async with World() as world:
        ollama = Ollama(m=1, n=2, lost=3)
        server = await world.add("a", A, ollama)
        for name in ("m", "lost"):
            del ollama.models[name]
        await world.servers.removed(server, "m")
        rows = {one.row.model: one for one in world.servers.models(server)}
        assert {name: one.available for name, one in rows.items()} == {"n": True, "lost": False}, "that one is gone"
        assert {row.model for row in await world.store.models(server)} == {"n", "lost"}
        assert not world.remotes.fleet.holders(same_name("m"))


@pytest.mark.parametrize("said", [{"is_active": False}, {"priority": 3}, {"capabilities": ("code",)}, {"name": "Em"}])
@awaited
async def test_what_its_owner_has_said_of_a_model_stays_though_it_is_taken_away(said: dict[str, Any]) -> None:
    async with World() as world:
        ollama = Ollama(m=1)
        server = await world.add("a", A, ollama)
        [model] = world.servers.models(server)
        await world.servers.change_model(model.row.id, ModelChange(**said))
        ollama.models.clear()
        await world.servers.removed(server, "m")
        [gone] = world.servers.models(server)
        assert (gone.row.id, gone.row.present) == (model.row.id, False)


@awaited
async def test_of_this_machine_it_is_as_of_all_others() -> None:
    async with World() as world:
        local = world.servers.roster.local.id
        await world.servers.removed(local, "localmodels")
        assert world.store.written.is_set() is False, "it is alone, and nothing is kept of it"
        await world.add("a", A, Ollama(m=1))
        world.here.models.clear()
        await world.servers.removed(local, "LocalModels")
        assert world.servers.models(local) == ()


@awaited
async def test_what_cannot_be_looked_after_is_told_to_be_gone_later() -> None:
    async with World() as world:
        ollama = Ollama(m=1, n=1)
        server = await world.add("a", A, ollama)
        ollama.failure = Unreachable("the server cannot be reached")
        await world.servers.removed(server, "m")
        ollama.failure = None
        await world.servers.removed(server, "n")  # it is there again, or another has put it there
        assert {one.row.model for one in world.servers.models(server) if one.row.present} == {"m", "n"}
        await world.servers.removed("nobody", "m")


class Closing(World):
    """Servers whose connections take their time to close, as those by TLS do: until the test says so."""

    def __init__(self) -> None:
        self.closing, self.closed = asyncio.Event(), asyncio.Event()
        super().__init__(connect=lambda spec: Slow(self, spec))


class Slow(Line):
    """One of them."""

    def __init__(self, world: Closing, spec: ServerSpec) -> None:
        super().__init__(world, spec)
        self._slow = world

    async def close(self) -> None:
        self._slow.closing.set()
        await self._slow.closed.wait()


@awaited
async def test_whoever_leaves_while_a_change_is_taken_over_leaves_nothing_half_done() -> None:
    async with Closing() as world:
        ids = [await world.add(name, url, Ollama(m=1)) for name, url in (("a", A), ("b", B))]
        c = await world.add("c", "http://10.39.0.103:11434", Ollama(m=1))
        (row,) = world.servers.models(c)
        for one in ids:  # another gateway has taken them away, and switched a model off
            await world.store.remove(one)
        await world.store.change_model(row.row.id, ModelChange(is_active=False), 1)
        reading = asyncio.ensure_future(world.servers.remove("nobody"))  # as every change, it reads first
        await world.closing.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        host = world.remotes.fleet.host(c)
        assert host is not None
        assert world.remotes.fleet.off(host) == {"m"}
        assert host.holds(same_name("m")) is None
        assert [one.name for one in world.remotes.servers()] == ["c"]
        world.closed.set()
        with pytest.raises(NotFound):
            await world.servers.remove("nobody")
        assert world.remotes.fleet.off(host) == {"m"}
