"""Names on a fleet of registered servers: which hosts each means, what is listed, and who is switched off."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, NoReturn

import pytest
from tests.awaited import awaited
from tests.fleet_world import Ollama
from tests.fleet_world import World as FleetOfPlayed
from tests.unit.flows.routing.test_name_resolution import Library, World, spec

from localmodels.core.access import LOCAL, USUAL, Caller, Guarded
from localmodels.core.catalog import Description, Model
from localmodels.core.errors import (
    Conflict,
    Forbidden,
    LocalModelsError,
    ModelDamaged,
    ModelNotFound,
    StoreFailed,
    Unsupported,
)
from localmodels.core.fleet import ModelRow
from localmodels.core.servers import AnyKind, ServerSpec
from localmodels.dialects.told import Told
from localmodels.flows.answering.chat import Found, permitted
from localmodels.flows.connections.server_names import Astray
from localmodels.flows.routing.name_resolution import Finders
from localmodels.flows.routing.pull_missing import Missing, Pulls
from localmodels.flows.routing.routed_model import RoutedTarget
from localmodels.flows.visit import Visit


def member(name: str, *models: str, kind: AnyKind = "ollama", **more: Any) -> tuple[ServerSpec, tuple[str, ...]]:
    """A registered server, or this machine, and what it has told."""
    said = {"registered": kind != "local", **more}
    return ServerSpec(name=name, id=f"id-{name}", url=f"http://{name}:1", kind=kind, **said), models


class FleetWorld(World):
    """The same, with servers that have told their models."""

    async def adopt(self, *members: tuple[ServerSpec, tuple[str, ...]], file: tuple[ServerSpec, ...] = ()) -> None:
        await self.remotes.adopt([*file, *(one for one, _ in members)])
        for one, models in members:
            host = self.remotes.fleet.named(one.name)
            assert host is not None
            self.remotes.fleet.saw(host, Told(tuple(Model(name, 7, "", "") for name in models)))

    async def found(self, name: str) -> str:
        found = await self.finders.find(name)
        if isinstance(found, RoutedTarget):
            return f"{found.name} at {', '.join(host.spec.name for host in found.meant.hosts)}"
        return await super().found(name)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("llama3", "llama3:latest at box1, box2, local"),
        ("llama3:latest", "llama3:latest at box1, box2, local"),
        ("gpt", "gpt at box2"),
        ("", "gpt at box2"),
        ("friend", "box1/llama3"),
        ("box1/llama3", "box1/llama3"),
        ("box1/anything", "box1/anything"),
        ("BOX2/gpt", "box2/gpt"),
        ("big", "cloud/big"),
        ("mine", "here: mine"),
        ("local/llama3", "local/llama3:latest at local"),
        ("LOCAL/Llama3", "local/llama3:latest at local"),
        ("local/library/llama3", "local/llama3:latest at local"),
        ("local/gpt", None),
        ("off/llama3", None),
        ("local/", None),
        ("auto", "auto at box1, box2, local"),
        ("auto:code", "auto:code at box1, box2, local"),
        ("openai/big", "cloud/big"),
        ("nothing", None),
    ],
)
@awaited
async def test_names_on_a_fleet(asked: str, found: str | None) -> None:
    world = FleetWorld("mine", "openai/m", "llama3:latest", default="gpt", aliases={"friend": "box1/llama3"})
    await world.adopt(
        member("box1", "llama3:latest"),
        member("box2", "llama3:latest", "gpt", kind="llamacpp"),
        member("off", "llama3:latest", is_active=False),
        member("local", "llama3:latest", kind="local"),
        file=(spec("cloud", "openai", "big"),),
    )
    if found is None:
        with pytest.raises(ModelNotFound):
            await world.found(asked)
    else:
        assert await world.found(asked) == found


@awaited
async def test_a_model_may_be_called_auto() -> None:
    world = FleetWorld("auto")
    await world.adopt(member("box", "m"))
    assert await world.found("auto") == "here: auto"
    other = FleetWorld()
    await other.adopt(member("box", "m", "auto:latest"))
    assert await other.found("auto") == "auto:latest at box"


@awaited
async def test_a_model_of_this_machine_that_is_switched_off_is_found_by_no_name() -> None:
    world = FleetWorld("m", "n")
    await world.adopt(member("local", "m", "n", kind="local"))
    off = ModelRow(id="1", server_id="id-local", model="m:latest", name="m", is_active=False)
    world.remotes.fleet.restrict([off])
    for name in ("m", "M:latest", "local/m", "library/m"):
        with pytest.raises(ModelNotFound):
            await world.found(name)
    assert await world.found("n") == "here: n"
    assert [one.name for one in await world.finders.models()] == ["n"]


@awaited
async def test_a_machine_that_is_switched_off_answers_nothing() -> None:
    world = FleetWorld("m")
    await world.adopt(member("local", "m", kind="local", is_active=False))
    for name in ("m", "local/m", "auto"):
        with pytest.raises(ModelNotFound):
            await world.found(name)
    await world.adopt(member("local", "m", kind="local"))
    assert await world.found("m") == "here: m"


@awaited
async def test_a_model_of_the_fleet_never_waits_for_the_library() -> None:
    world = FleetWorld("m")
    await world.adopt(member("box", "m"), member("local", "m", kind="local"))
    assert await world.found("m") == "m at box, local"
    assert world.library.asked == []


@awaited
async def test_what_nobody_has_may_be_fetched_where_that_is_allowed() -> None:
    world = FleetWorld("m")
    await world.adopt(member("box", "m"))
    with pytest.raises(ModelNotFound):
        await world.finders.find("new")
    world.finders.pulls = Pulls(world.remotes.fleet, no_pull, no_look)
    assert isinstance(await world.finders.find("new"), Missing)
    assert await world.found("m") == "m at box"


def no_pull(model: str, host: str) -> NoReturn:
    raise AssertionError("nobody asked for it yet")


async def no_look(host: str) -> None:
    """Nobody is there."""


@awaited
async def test_a_fleet_s_models_are_listed_once_under_their_bare_names() -> None:
    world = FleetWorld("m:latest")
    await world.adopt(
        member("box1", "m:latest", "n:1"),
        member("box2", "n:1"),
        member("local", "m:latest", kind="local"),
        file=(spec("cloud", "openai", "big"),),
    )
    listed = {model.name: model.servers for model in await world.finders.models()}
    assert listed == {"m:latest": ("local", "box1"), "n:1": ("box1", "box2"), "cloud/big": ("cloud",)}


@awaited
async def test_a_model_of_several_servers_is_managed_where_one_says() -> None:
    world = FleetWorld()
    await world.adopt(member("box1", "m"), member("box2", "m"), member("local", "n", kind="local"))
    with pytest.raises(Conflict, match="m is on the servers 'box1', 'box2'; say with `server` where"):
        world.finders.require_here("m")
    world.finders.require_here("n")
    target = world.finders.quick("m")
    assert isinstance(target, RoutedTarget)
    with pytest.raises(Unsupported, match="'box1', 'box2'"):
        await target.unload()


@awaited
async def test_a_model_that_is_switched_off_is_found_by_no_name() -> None:
    world = FleetWorld()
    await world.adopt(member("box", "m", "n"))
    world.remotes.fleet.restrict([ModelRow(id="1", server_id="id-box", model="m:latest", name="m", is_active=False)])
    for name in ("m", "box/m", "box/m:latest", "box/M", "box/library/m", "box/registry.ollama.ai/library/m:latest"):
        with pytest.raises(ModelNotFound):
            await world.found(name)
    for name in ("ollama/m", "ollama/M:latest"):  # nor by the kind of its server
        with pytest.raises(ModelNotFound):
            await world.found(name)
    assert await world.found("ollama/n") == "box/n"
    assert await world.found("box/n") == "box/n"
    assert await world.found("box/not-told") == "box/not-told"


@pytest.mark.parametrize(
    ("patterns", "listed"),
    [
        ("*", ["m:latest", "local/friend", "box/big", "n:1", "cloud/big", "auto"]),
        ("box/*", ["box/m:latest", "box/n:1", "box/big"]),
        ("local/*", ["local/m:latest", "local/friend"]),
        ("big", []),
        ("cloud/*", ["cloud/big"]),
        ("friend", []),
        ("*/friend", ["local/friend"]),
        ("auto n:1", ["n:1", "auto"]),
    ],
)
@awaited
async def test_a_list_has_the_names_by_which_its_reader_may_ask_and_no_others(patterns: str, listed: list[str]) -> None:
    world = FleetWorld("m:latest", "friend", aliases={"auto:code": "n:1", "friend": "n:1"})
    await world.adopt(
        member("box", "m:latest", "n:1", "big"),
        member("local", "m:latest", "friend", kind="local"),
        file=(spec("cloud", "openai", "big"),),
    )
    caller = Caller("k", "k", USUAL, models=tuple(patterns.split()))
    models = [model.name for model in await world.finders.models(caller, choices=True)]
    assert sorted(models) == sorted(listed)
    for name in models:
        await permitted(world.finders, name, Visit("req", caller))  # it may be asked by each


@awaited
async def test_our_own_models_are_described_by_both_their_names() -> None:
    world = FleetWorld("m:latest")
    await world.adopt(member("local", "m:latest", kind="local"), member("box", "n"))
    assert (await world.finders.describe("local/m:latest", verbose=False)).model.name == "local/m:latest"
    with pytest.raises(ModelNotFound):
        await world.finders.describe("local/n", verbose=False)


@pytest.mark.parametrize("off", ["model", "only tag", "machine"])
@awaited
async def test_what_is_switched_off_here_is_neither_asked_nor_described(off: str) -> None:
    own = "m:7b" if off == "only tag" else "m:latest"
    world = FleetWorld(own, "n")
    local = member("local", own, "n", kind="local", is_active=off != "machine")
    await world.adopt(local, member("s2", "x"))
    if off != "machine":
        world.remotes.fleet.restrict([ModelRow(id="1", server_id="id-local", model=own, name=own, is_active=False)])
    for name in ("m", "M", "library/m", "local/m", "LOCAL/library/M"):
        with pytest.raises(ModelNotFound):
            await world.found(name)
        with pytest.raises(ModelNotFound):
            await world.finders.describe(name, verbose=False)
    if off != "machine":
        assert (await world.finders.describe("local/N", verbose=False)).model.name == "local/n"


@awaited
async def test_a_limited_key_hears_the_same_of_what_there_is_and_of_what_there_is_not() -> None:
    world = FleetWorld("mine:latest", aliases={"al": "box/secret", "lost": "gone/secret"}, default="mine")
    await world.adopt(
        member("box", "secret", "pub"),
        member("off", "other", is_active=False),
        member("local", "mine:latest", kind="local"),
    )
    world.remotes.fleet.restrict([ModelRow(id="1", server_id="id-box", model="x", name="x", is_active=False)])
    caller = Caller("k", "k", USUAL, models=("pub*",))
    words = (
        *("secret", "x", "none", "other", "al", "lost", "mine", "library/mine", "library/none", "openai/m", "/mine"),
        *("box/secret", "box/x", "box/none", "gone/secret", "off/other", "local/mine", "local/none"),
    )
    for name in words:
        visit = Visit("req", caller)
        errors: list[LocalModelsError] = []
        for asking in (
            permitted(world.finders, name, visit),
            world.finders.describe(name, verbose=False, caller=caller),
        ):
            with pytest.raises(LocalModelsError) as refused:
                await asking
            error = refused.value
            errors.append(error.told_to(caller) if isinstance(error, Guarded) else error)
        assert [(type(one), one.message) for one in errors] == [
            (Forbidden, f"this key may not use model '{name}'")
        ] * 2, name
        assert visit.model == ""
    with pytest.raises(Forbidden, match="may not use the model that answers where none is named"):
        await permitted(world.finders, "", Visit("req", caller))
    for name in ("pub:1", "pubs/none"):  # he might ask these
        with pytest.raises(ModelNotFound):
            await permitted(world.finders, name, Visit("req", caller))
    assert (await permitted(world.finders, "pub", Visit("req", caller))).name == "pub"


class Failing(Library):
    """A library that fails with what it knows of ``secret``, and has no ``none``."""

    def __init__(self, error: LocalModelsError) -> None:
        super().__init__("secret:latest")
        self.error = error

    def _fail(self, name: str) -> None:
        self._listed({"al": "secret", "": "secret"}.get(name, name))  # as the real one, which knows the other names
        raise self.error

    async def find(self, name: str) -> Found:
        self._fail(name)
        raise AssertionError

    async def describe(self, name: str, *, verbose: bool) -> Description:
        self._fail(name)
        raise AssertionError


async def refusals(world: FleetWorld, name: str, caller: Caller) -> list[tuple[type[LocalModelsError], str]]:
    """What a caller hears of a name that answers nobody, by the three ways on which one asks for one."""
    heard = []
    for asking in (
        permitted(world.finders, name, Visit("req", caller)),
        world.finders.describe(name, verbose=False, caller=caller),
        world.finders.explained(name, "", "", caller),
    ):
        with pytest.raises(LocalModelsError) as refused:
            await asking
        error = refused.value.told_to(caller) if isinstance(refused.value, Guarded) else refused.value
        heard.append((type(error), error.message))
    return heard


@pytest.mark.parametrize("error", [ModelDamaged("its blob sha256:ab is cut"), StoreFailed("secret cannot be read")])
@awaited
async def test_a_limited_key_does_not_learn_of_a_model_by_what_is_wrong_with_it(error: LocalModelsError) -> None:
    world = FleetWorld(aliases={"al": "secret", "here": "local/secret"}, default="secret")
    world.library = world.finders._here = Failing(error)
    await world.adopt(member("local", kind="local"), member("box", "m"))
    limited = Caller("k", "k", USUAL, models=("m", "local/m"))
    for name in ("secret", "SECRET:latest", "local/secret", "al", "here", "none", "local/none"):
        assert await refusals(world, name, limited) == [(Forbidden, f"this key may not use model '{name}'")] * 3
    which = "this key may not use the model that answers where none is named"
    with pytest.raises(Forbidden, match=which):
        await permitted(world.finders, "", Visit("req", limited))
    for pattern, name in (("secret", "secret"), ("secret", "al"), ("*", "secret"), ("local/*", "local/secret")):
        told = await refusals(world, name, Caller("k", "k", USUAL, models=(pattern,)))
        assert told[:2] == [(type(error), error.message)] * 2
    with pytest.raises(Forbidden, match=which):  # whoever forgets to ask for whom it is says too little
        await world.finders.find("")


@awaited
async def test_what_answers_where_none_is_named_is_not_told_to_who_may_not_ask_it() -> None:
    world = FleetWorld(default="box/secret")
    await world.adopt(member("box", "m", is_active=False))
    with pytest.raises(Forbidden, match=r"^this key may not use the model that answers where none is named$"):
        await permitted(world.finders, "", Visit("req", Caller("k", "k", USUAL, models=("m",))))
    with pytest.raises(ModelNotFound, match=r"^model 'box/secret' not found: the server 'box' is switched off$"):
        await permitted(world.finders, "", Visit("req", LOCAL))


async def left(asking: Coroutine[Any, Any, object]) -> LocalModelsError:
    with pytest.raises(LocalModelsError) as error:
        await asking
    return error.value


@awaited
async def test_where_a_request_would_go_is_told_to_who_may_ask_for_it() -> None:
    world = FleetWorld("m", aliases={"al": "box/secret"})
    table = spec("f0", "openai", "tabled")
    await world.adopt(member("box", "secret", "off"), member("local", "m", kind="local"), file=(table,))
    world.remotes.fleet.restrict([ModelRow(id="1", server_id="id-box", model="off", name="off", is_active=False)])
    limited = Caller("k", "k", frozenset({"observe"}), models=("m", "tabled"))
    for name in ("secret", "box/secret", "box/none", "al", "off", "none", "local/none", "local/m", "tabled", "auto"):
        told = await left(world.finders.explained(name, "", "", limited))
        told = told.told_to(limited) if isinstance(told, Guarded) else told
        assert (type(told), told.message) == (Forbidden, f"this key may not use model '{name}'")
    for pattern, name in (("m", "m"), ("f0/*", "tabled"), ("auto", "auto"), ("box/*", "al"), ("local/m", "local/m")):
        told_all = await world.finders.explained(name, "", "", Caller("k", "k", frozenset({"observe"}), (pattern,)))
        assert bool(told_all.targets) is (name != "auto"), name


@awaited
async def test_where_a_request_for_this_machine_alone_would_go() -> None:
    world = FleetWorld("m:latest", aliases={"al": "LOCAL/M"})
    await world.adopt(member("local", "m:latest", kind="local"), member("box", "m", "n"))
    for name in ("local/m", "LOCAL/M:latest", "al"):
        told = await world.finders.explained(name, "", "", LOCAL)
        assert (told.model, [one.host.spec.name for one in told.targets]) == ("m:latest", ["local"])
    with pytest.raises(Astray) as lost:
        await world.finders.explained("local/n", "", "", LOCAL)
    assert lost.value.told_to(LOCAL).message.endswith("the server 'local' has no model 'n'; 'box' has it: ask for 'n'")


@awaited
async def test_an_alias_and_the_default_may_mean_a_model_of_this_machine_alone() -> None:
    world = FleetWorld("m", aliases={"fast": "local/m", "lost": "local/n"}, default="local/m")
    await world.adopt(member("box", "m"), member("local", "m", kind="local"))
    for name in ("local/m", "fast", ""):
        assert await world.found(name) == "local/m at local"
        assert (await world.finders.describe(name, verbose=False)).model.name == "local/m"
    with pytest.raises(Astray) as astray:
        await world.finders.find("lost")
    assert astray.value.told_to(LOCAL).message == "model 'lost' not found: the server 'local' has no model 'n'"


@pytest.mark.parametrize("tables", [1, 2])
@awaited
async def test_a_name_that_tables_take_is_listed_as_those_have_it_who_are_listed(tables: int) -> None:
    file = tuple(spec(f"f{number}", "openai", "m") for number in range(tables))
    world = FleetWorld("m")
    await world.adopt(member("local", "m", kind="local"), member("reg", "m"), file=file)
    names = {model.name: model.servers for model in await world.finders.models()}
    assert names == {"local/m": ("local",), "reg/m": ("reg",), **{f"{one.name}/m": (one.name,) for one in file}}
    for name, servers in names.items():
        found = await world.found(name)
        assert found in {name, f"{name} at {servers[0]}"}


@awaited
async def test_a_model_whose_name_begins_like_a_server_s_is_listed_as_one_that_can_be_asked() -> None:
    world = FleetWorld("box/m")
    await world.adopt(member("local", "box/m", kind="local"), member("box", "m"))
    names = {model.name: model.servers for model in await world.finders.models()}
    assert names == {"local/box/m": ("local",), "m": ("box",)}
    assert await world.found("local/box/m") == "local/box/m at local"
    assert await world.found("box/m") == "box/m"


@awaited
async def test_what_only_a_server_s_list_tells_of_a_model_stands_in_its_description() -> None:
    async with FleetOfPlayed() as world:
        world.net["http://10.39.0.101:11434"] = ollama = Ollama(m=1)
        ollama.context = 4096
        await world.add("box", "http://10.39.0.101:11434", ollama)
        finders = Finders(Library(), world.remotes)
        for name in ("box/m", "m"):
            told = await finders.describe(name, verbose=False)
            assert (told.model.name, told.model.context_length) == (name, 4096)
