"""Names that lead nowhere: what is said of each, and to whom."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from tests.awaited import awaited
from tests.unit.flows.routing.test_name_resolution_fleet import FleetWorld, member, no_look, no_pull

from localmodels.core.access import ANYBODY, USUAL, Caller
from localmodels.core.catalog import Model
from localmodels.core.chat import ChatRequest, Message, Text
from localmodels.core.errors import Forbidden, ModelNotFound
from localmodels.core.fleet import ModelRow
from localmodels.core.servers import AnyKind, ServerSpec
from localmodels.dialects.told import Told
from localmodels.fleet.fleet import Fleet
from localmodels.flows.answering.chat import permitted
from localmodels.flows.connections.server_names import SHOWN, Astray, astray, server_meant
from localmodels.flows.routing.pull_missing import Missing, Pulls
from localmodels.flows.visit import Visit


def spec(name: str, kind: AnyKind = "ollama", **more: Any) -> ServerSpec:
    return ServerSpec(
        name=name, id=f"id-{name}", url=f"http://{name}", kind=kind, **{"registered": kind != "local", **more}
    )


def fleet() -> Fleet:
    """``box`` may not answer by ``b`` and ``only``; ``s2`` and ``s3`` have ``c``; ``off`` is switched off."""
    made = Fleet()
    servers = {
        spec("box"): ("a", "b:latest", "only"),
        spec("s2"): ("c", "a"),
        spec("s3"): ("c:latest",),
        spec("off", is_active=False): ("d", "c", "a"),
        spec("cloud", "openai", registered=False): ("e",),
        spec("table", "openai", registered=False, models=("big",)): ("big", "c"),
        spec("local", "local"): ("mine",),
    }
    made.adopt(servers)
    for one, models in servers.items():
        host = made.named(one.name)
        assert host is not None
        made.saw(host, Told(tuple(Model(name, 0, "", "") for name in models)))
    off = [("box", "b:latest"), ("box", "only")]
    made.restrict(
        ModelRow(id=model, server_id=f"id-{server}", model=model, name=model, is_active=False) for server, model in off
    )
    return made


SAID = {
    "box/b": "it is switched off on the server 'box'",
    "box/library/b": "it is switched off on the server 'box'",
    "BOX/c": "the server 'box' has no model 'c'; 's2' and 's3' have it: ask for 'c'",
    "box/nothing": "the server 'box' has no model 'nothing'",
    "off/d": "the server 'off' is switched off",
    "off/c": "the server 'off' is switched off; 's2' and 's3' have it: ask for 'c'",
    "s3/c:7b": "the server 's3' has no model 'c:7b'",
    "nobox/c:latest": "there is no server 'nobox'; 's2' and 's3' have it: ask for 'c'",
    "nobox/e": "there is no server 'nobox'; 'cloud' has it: ask for 'cloud/e'",
    "table/c": "the server 'table' has no model 'c'; 's2' and 's3' have it: ask for 'c'",
    "box/big": "the server 'box' has no model 'big'; 'table' has it: ask for 'big'",
    "local/c": "the server 'local' has no model 'c'; 's2' and 's3' have it: ask for 'c'",
    "box/mine": "the server 'box' has no model 'mine'; 'local' has it: ask for 'mine'",
    "only": "it is switched off on the server 'box'",
    "library/only": "it is switched off on the server 'box'",
    "library/a": "there is no server 'library'; 'box' and 's2' have it: ask for 'a'",
    "/c": "",
    "d": "the server 'off' is switched off",
    "nobox/nothing": "",
    "nothing": "",
    "box/": "",
    "": "",
}


@pytest.mark.parametrize(("name", "said"), SAID.items())
def test_what_is_wrong_with_a_name_and_what_would_be_right(name: str, said: str) -> None:
    error = astray(name, fleet()).told_to(ANYBODY)
    assert error.message == f"model '{name}' not found" + (f": {said}" if said else "")
    assert isinstance(error, ModelNotFound)
    assert (type(error), error.name, error.code, error.status) == (ModelNotFound, name, "model_not_found", 404)


@pytest.mark.parametrize(
    ("models", "name", "said"),
    [
        (("box/*",), "box/c", "the server 'box' has no model 'c'"),
        (("box/*", "s3/*"), "box/c", "the server 'box' has no model 'c'; 's3' has it: ask for 's3/c'"),
        (("box/*", "c"), "box/c", "the server 'box' has no model 'c'; 's2' and 's3' have it: ask for 'c'"),
        (("nobox/*",), "nobox/c", ""),
    ],
)
def test_a_key_learns_only_of_what_it_may_ask(models: tuple[str, ...], name: str, said: str) -> None:
    caller = Caller("k", "k", USUAL, models=models)
    error = astray(name, fleet()).told_to(caller)
    assert error.message == f"model '{name}' not found" + (f": {said}" if said else "")


@pytest.mark.parametrize("name", ["box/c", "nobox/c", "off/c", "only", "library/b", "nothing", "box/nothing"])
def test_a_key_for_other_models_is_refused_as_if_there_were_the_model(name: str) -> None:
    error = astray(name, fleet(), said="word").told_to(Caller("k", "k", USUAL, models=("other",)))
    assert (type(error), error.message) == (Forbidden, "this key may not use model 'word'")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("box/c", "the server 'box' has no model 'c'; 's2' and 's3' have it: ask for 's2/c'"),
        ("box/n", "the server 'box' has no model 'n'; 'table' has it: ask for 'n'"),
        ("nobox/big", "there is no server 'nobox'; 'table' and 's2' have it: ask for 'big'"),
    ],
)
def test_no_name_is_recommended_that_leads_elsewhere(name: str, said: str) -> None:
    made = fleet()
    s2, table = made.named("s2"), made.named("table")
    assert s2 is not None
    assert table is not None
    made.adopt([replace(one.spec, models=("big", "n")) if one is table else one.spec for one in made.hosts()])
    made.saw(s2, Told((Model("c", 0, "", ""), Model("big", 0, "", ""))))
    table = made.named("table")
    assert table is not None
    made.saw(table, Told((Model("big", 0, "", ""), Model("n", 0, "", ""))))
    error = astray(name, made, aliases={"c": "box/a"}).told_to(ANYBODY)
    assert error.message == f"model '{name}' not found: {said}"


def test_before_it_is_known_who_asks_nothing_is_said() -> None:
    assert str(astray("box/c", fleet())) == "model 'box/c' not found"


def test_of_many_servers_some_are_named() -> None:
    made = Fleet()
    made.adopt([spec(f"s{number}") for number in range(SHOWN + 3)])
    for host in made.hosts()[1:]:
        made.saw(host, Told((Model("m", 0, "", ""),)))
    error = astray("s0/m", made).told_to(ANYBODY)
    assert error.message.endswith("the server 's0' has no model 'm'; 's1', 's2', 's3' and 2 more have it: ask for 'm'")


def test_who_leads_back_to_the_asker_is_not_recommended() -> None:
    made = Fleet()
    made.adopt([spec("box"), spec("back")])
    made.saw(made.hosts()[0], Told(()))
    made.saw(made.hosts()[1], Told((Model("m", 0, "", ""),), gateway="them"))
    assert "'back' has it" in astray("box/m", made).told_to(ANYBODY).message
    assert "'back'" not in astray("box/m", made, ("them", "us")).told_to(ANYBODY).message


@pytest.mark.parametrize(
    ("word", "server"),
    [
        ("box-1", "Box 1"),
        ("BOX-1", "Box 1"),
        ("Box 1", "Box 1"),
        ("id-box 1", "Box 1"),
        ("ID-BOX 1", "Box 1"),
        ("local", "local"),
        ("", None),
        ("nobox", None),
    ],
)
def test_a_server_goes_by_its_prefix_its_name_and_its_id(word: str, server: str | None) -> None:
    specs = (spec("Box 1"), spec("box-1"), spec("local", "local"))
    found = server_meant(word, specs)
    assert (found.name if found else None) == server


@awaited
async def test_who_asks_is_told_and_an_alias_is_called_as_he_calls_it() -> None:
    world = FleetWorld(aliases={"friend": "off/c"})
    await world.adopt(member("box", "a"), member("s2", "c"), member("off", "c", is_active=False))
    for name, said in (
        ("off/c", "the server 'off' is switched off; 's2' has it: ask for 'c'"),
        ("nobox/c", "there is no server 'nobox'; 's2' has it: ask for 'c'"),
        ("friend", "the server 'off' is switched off; 's2' has it: ask for 'c'"),
    ):
        with pytest.raises(ModelNotFound) as told:
            await permitted(world.finders, name, Visit(caller=ANYBODY))
        assert str(told.value) == f"model '{name}' not found: {said}"
        with pytest.raises(Forbidden) as plain:
            await permitted(world.finders, name, Visit(caller=Caller("k", "k", USUAL, models=("x",))))
        assert str(plain.value) == f"this key may not use model '{name}'"
        with pytest.raises(Astray) as dry:
            await world.finders.explained(name, "", "", ANYBODY)
        assert str(dry.value.told_to(ANYBODY)) == str(told.value)


@awaited
async def test_an_alias_is_not_recommended_for_the_model_that_it_hides() -> None:
    world = FleetWorld(aliases={"c": "box/a"})
    await world.adopt(member("box", "a"), member("s2", "c"))
    with pytest.raises(ModelNotFound, match="'s2' has it: ask for 's2/c'"):
        await permitted(world.finders, "nobox/c", Visit(caller=ANYBODY))


@awaited
async def test_what_a_server_is_named_for_is_fetched_to_no_other() -> None:
    world = FleetWorld()
    await world.adopt(member("off", "m", is_active=False), member("box", "n"))
    world.finders.pulls = Pulls(world.remotes.fleet, no_pull, no_look)
    with pytest.raises(Astray):
        await world.finders.find("off/m")
    missing = await world.finders.find("nobox/n")
    assert isinstance(missing, Missing)
    request = ChatRequest("nobox/n", (Message("user", (Text("Hello?"),)),))
    with pytest.raises(ModelNotFound, match="there is no server 'nobox'; 'box' has it: ask for 'n'"):
        async with missing.ready(request, Visit(caller=Caller("k", "k", USUAL))):
            pass
