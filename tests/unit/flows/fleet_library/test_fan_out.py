"""One operation on several servers: who is meant, what each is told, and what the whole amounts to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from tests.awaited import awaited

from localmodels.core.access import Caller
from localmodels.core.catalog import Description, Model, Running
from localmodels.core.errors import (
    Forbidden,
    InvalidRequest,
    LocalModelsError,
    ModelNotFound,
    StoreFailed,
    Unreachable,
    Unsupported,
)
from localmodels.core.library import (
    CopyRequest,
    CreateRequest,
    DeleteRequest,
    Outcome,
    PartlyDone,
    Progress,
    PullRequest,
    PushRequest,
)
from localmodels.core.servers import ServerSpec, prefix_of
from localmodels.flows.fleet_library.fan_out import Everywhere, Place
from localmodels.flows.fleet_library.target_servers import NoSuchServer

SUCCESS = Progress("success")
MODEL = Model("m:latest", 1, "0" * 64, "")


def spec(name: str, kind: Any = "ollama", **more: Any) -> ServerSpec:
    return ServerSpec(name=name, url=f"http://{name}", kind=kind, id=f"id-{prefix_of(name)}", registered=True, **more)


A, B, VLLM, OFF = spec("a"), spec("Box B"), spec("v", "openai"), spec("off", is_active=False)


class Lab:
    """A place whose library is a set of names."""

    def __init__(self, name: str, models: set[str], fails: dict[str, LocalModelsError]) -> None:
        self.name, self.models, self.fails = name, models, fails
        self.asked: list[object] = []
        self.waits: asyncio.Event | None = None

    async def pull(self, request: PullRequest) -> AsyncGenerator[Progress, None]:
        async with aclosing(self._long(request, request.model)) as steps:
            async for step in steps:
                yield step

    async def push(self, request: PushRequest) -> AsyncGenerator[Progress, None]:
        async with aclosing(self._long(request, request.model)) as steps:
            async for step in steps:
                yield step

    async def create(self, request: CreateRequest) -> AsyncGenerator[Progress, None]:
        async with aclosing(self._long(request, request.model)) as steps:
            async for step in steps:
                yield step

    async def _long(self, request: object, model: str) -> AsyncGenerator[Progress, None]:
        self.asked.append(request)
        yield Progress("pulling manifest")
        if self.waits:
            await self.waits.wait()
        self._may("long")
        self.models.add(model)
        yield SUCCESS

    async def copy(self, request: CopyRequest) -> None:
        self._has(request, request.source)
        self.models.add(request.destination)

    async def delete(self, request: DeleteRequest) -> None:
        self._has(request, request.model)
        self.models.discard(request.model)

    async def unload(self, model: str) -> None:
        self._has(model, model)

    async def running(self) -> Sequence[Running]:
        self._may("running")
        return [Running(MODEL, "running", 0, 1, 0, "", 1)]

    async def describe(self, name: str, *, verbose: bool) -> Description:
        self._has(name, name)
        return Description(MODEL, path=self.name)

    def _has(self, request: object, model: str) -> None:
        self.asked.append(request)
        self._may("short")
        if model not in self.models:
            raise ModelNotFound(model)

    def _may(self, what: str) -> None:
        if what in self.fails:
            raise self.fails[what]


class Labs(Everywhere):
    """Some places, made without any connection."""

    def __init__(self, *specs: ServerSpec, most: int = 8) -> None:
        self.places = {one.name: Lab(one.name, {"m"}, {}) for one in (*specs, spec("local"))}
        self.changed: list[str] = []
        self.removed: list[tuple[str, str]] = []
        super().__init__(
            self.places["local"],
            lambda: specs,
            lambda digests: None,  # type: ignore[arg-type,return-value]
            changed=lambda one: self.changed.append(one.name),
            removed=self._gone,
            most=most,
        )

    async def _gone(self, spec: ServerSpec, model: str) -> None:
        assert model not in self.places[spec.name].models
        self.removed.append((spec.name, model))

    def _place(self, spec: ServerSpec) -> Place:
        super()._place(spec)  # raises where it must
        return self.places[spec.name]

    def __getitem__(self, name: str) -> Lab:
        return self.places[name]


async def told(steps: AsyncGenerator[Progress, None]) -> list[Progress]:
    async with aclosing(steps):
        return [step async for step in steps]


async def failing(steps: AsyncGenerator[Progress, None]) -> tuple[list[Progress], LocalModelsError]:
    """What was said until it failed, and how."""
    said: list[Progress] = []

    async def listen() -> None:
        async for step in steps:
            said.append(step)  # noqa: PERF401 - until it fails

    async with aclosing(steps):
        with pytest.raises(LocalModelsError) as raised:
            await listen()
    return said, raised.value


# Who is meant


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        (("a",), ["a"]),
        (("id-a", "A", "a"), ["a"]),
        (("box-b", "local"), ["Box B", "local"]),
        (("Box B", "BOX-b", "ID-BOX-B"), ["Box B"]),
        (("*",), ["local", "a", "Box B", "v"]),
        (("a", "*"), ["local", "a", "Box B", "v"]),
        (("v",), ["v"]),
    ],
)
def test_servers_are_meant_by_id_and_name_and_all_together(names: tuple[str, ...], meant: list[str]) -> None:
    assert [one.name for one in Labs(A, B, VLLM, OFF).named(names)] == meant


@pytest.mark.parametrize(
    ("name", "says"), [("nope", "there is no server 'nope'$"), ("off", "is switched off"), ("", "no")]
)
def test_who_is_not_there_cannot_be_meant(name: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        Labs(A, OFF).named((name,))


def test_which_servers_there_are_is_told_to_who_may_see_them_listed() -> None:
    with pytest.raises(NoSuchServer) as lost:
        Labs(A, OFF).named(("nope",))
    for scope, says in (("observe", "; there are: a, off"), ("admin", "; there are: a, off"), ("manage", "")):
        caller = Caller("k", "k", frozenset({"list", "infer", scope}))  # type: ignore[arg-type]
        told = lost.value.told_to(caller)
        assert (told.message, told.param, told.status) == (f"there is no server 'nope'{says}", "server", 400)


def test_a_row_of_this_machine_takes_its_place() -> None:
    mine = ServerSpec(name="local", url="", kind="local", id="7", is_active=False)
    labs = Labs(A, mine)
    assert [one.name for one in labs.named(("*",))] == ["a"]
    with pytest.raises(InvalidRequest, match="switched off"):
        labs.named(("local",))


@awaited
async def test_who_names_no_server_means_this_machine_even_if_it_is_switched_off() -> None:
    labs = Labs(A, ServerSpec(name="local", url="", kind="local", is_active=False))
    assert (await told(labs.pull(PullRequest("new"))))[-1] == SUCCESS
    assert await labs.delete(DeleteRequest("new")) == ()
    assert labs["a"].asked == []


# Long operations


@awaited
async def test_without_servers_everything_is_as_it_was() -> None:
    labs = Labs(A)
    assert await told(labs.pull(PullRequest("new"))) == [Progress("pulling manifest"), SUCCESS]
    assert labs["local"].models == {"m", "new"}
    assert labs["a"].asked == []
    assert labs.changed == ["local"]
    assert await labs.delete(DeleteRequest("new")) == ()
    with pytest.raises(ModelNotFound):
        await labs.delete(DeleteRequest("new"))


@awaited
async def test_every_line_says_whose_it_is_and_the_last_is_everybodys() -> None:
    labs = Labs(A, B)
    steps = await told(labs.pull(PullRequest("new", servers=("*",))))
    assert steps[-1] == SUCCESS
    for name in ("local", "a", "Box B"):
        assert [one for one in steps if one.server == name] == [
            Progress("pulling manifest", server=name),
            Progress("success", server=name),
        ]
        assert "new" in labs[name].models
    assert sorted(labs.changed) == ["Box B", "a", "local"]


@awaited
async def test_who_fails_gets_one_line_and_the_others_go_on() -> None:
    labs = Labs(A, B)
    labs["a"].fails["long"] = Unreachable("the server 'a' cannot be reached")
    steps, error = await failing(labs.pull(PullRequest("new", servers=("*",))))
    assert [one for one in steps if one.failure] == [Progress("error", server="a", failure="it cannot be reached")]
    assert SUCCESS not in steps
    assert {one.server for one in steps if one.status == "success"} == {"local", "Box B"}
    assert isinstance(error, PartlyDone)
    assert error.message == "1 of 3 servers failed: a: it cannot be reached"
    assert [(one.server, one.status) for one in error.outcomes] == [
        ("local", "success"), ("a", "error"), ("Box B", "success"),
    ]  # fmt: skip
    del labs["a"].fails["long"]
    assert (await told(labs.pull(PullRequest("new", servers=("*",)))))[-1] == SUCCESS
    assert all("new" in labs[name].models for name in ("local", "a", "Box B"))


@awaited
async def test_an_error_of_many_names_a_few() -> None:
    labs = Labs(*(spec(f"s{number}") for number in range(6)))
    for lab in labs.places.values():
        lab.fails["long"] = StoreFailed("full")
    _, error = await failing(labs.pull(PullRequest("new", servers=("*",))))
    assert error.message == "7 of 7 servers failed: local: full; s0: full; s1: full; 4 more"


@awaited
async def test_the_only_one_fails_as_it_does() -> None:
    labs = Labs(A)
    labs["a"].fails["long"] = StoreFailed("full")
    steps, error = await failing(labs.pull(PullRequest("new", servers=("a",))))
    assert steps == [Progress("pulling manifest", server="a")]
    assert (type(error), error.message) == (StoreFailed, "full")


@awaited
async def test_servers_of_other_kinds_are_told_by_name() -> None:
    labs = Labs(A, VLLM)
    steps = await told(labs.pull(PullRequest("new", servers=("*",))))
    assert [(one.status, one.failure) for one in steps if one.server == "v"] == [
        ("skipped", "it is of the kind openai; models are managed on those of the kind ollama alone")
    ]
    assert steps[-1] == SUCCESS
    steps, error = await failing(labs.pull(PullRequest("new", servers=("a", "v"))))
    assert [one.status for one in steps if one.server == "v"] == ["error"]
    assert "1 of 2 servers failed: v: it is of the kind openai" in error.message
    _, error = await failing(labs.pull(PullRequest("new", servers=("v",))))
    assert isinstance(error, Unsupported)


@awaited
async def test_who_leaves_ends_the_work() -> None:
    labs = Labs(A, B)
    for lab in labs.places.values():
        lab.waits = asyncio.Event()
    async with aclosing(labs.pull(PullRequest("new", servers=("*",)))) as steps:
        await anext(steps)
    assert all("new" not in lab.models for lab in labs.places.values())
    assert labs.changed == []


@awaited
async def test_a_model_is_pushed_from_one_server() -> None:
    labs = Labs(A)
    assert (await told(labs.push(PushRequest("m", servers=("a",)))))[-1] == SUCCESS
    for servers in (("*",), ("a", "local")):
        with pytest.raises(InvalidRequest, match="pushed from one server"):
            await told(labs.push(PushRequest("m", servers=servers)))


@awaited
async def test_a_model_that_somebody_asked_for_is_brought_to_one_server() -> None:
    labs = Labs(A, B)
    assert (await told(labs.bring("new", "id-box-b")))[-1] == SUCCESS
    assert labs["Box B"].asked == [PullRequest("new", servers=("id-box-b",))]
    assert labs["a"].asked == []


@awaited
@pytest.mark.parametrize("model", ["10.0.0.7/library/m", "http://hf.co/a/b", "registry.corp/a/b:1"])
async def test_strangers_have_other_servers_ask_no_registry_that_they_name(model: str) -> None:
    labs = Labs(A)
    for ask in (labs.pull(PullRequest(model, servers=("*",))), labs.bring(model, "a")):
        _, error = await failing(ask)
        assert isinstance(error, Forbidden)
    assert labs["a"].asked == labs["local"].asked == []
    assert (await told(labs.pull(PullRequest(model, servers=("local",)))))[-1] == SUCCESS  # which decides by itself
    assert (await told(labs.pull(PullRequest(model, operator=True, servers=("a",)))))[-1] == SUCCESS
    assert (await told(labs.pull(PullRequest("hf.co/a/b:q4", servers=("a",)))))[-1] == SUCCESS
    _, error = await failing(labs.pull(PullRequest("m", insecure=True, servers=("a",))))
    assert isinstance(error, Forbidden)


# Short operations

DELETE = DeleteRequest("m", ("*",))
SHORT: dict[str, Callable[[Labs, tuple[str, ...]], Awaitable[tuple[Outcome, ...]]]] = {
    "copy": lambda labs, servers: labs.copy(CopyRequest("m", "n", servers)),
    "delete": lambda labs, servers: labs.delete(DeleteRequest("m", servers)),
    "unload": lambda labs, servers: labs.unload("m", servers),
}


@awaited
@pytest.mark.parametrize("what", SHORT)
async def test_short_operations_tell_of_each_server(what: str) -> None:
    labs = Labs(A, B, VLLM)
    labs["a"].models.clear()
    assert [(one.server, one.status) for one in await SHORT[what](labs, ("*",))] == [
        ("local", "success"), ("a", "not found"), ("Box B", "success"), ("v", "skipped"),
    ]  # fmt: skip
    assert sorted(labs.changed) == ["Box B", "local"]


@awaited
@pytest.mark.parametrize("what", SHORT)
async def test_a_model_that_nobody_has_is_not_found(what: str) -> None:
    labs = Labs(A, B)
    for lab in labs.places.values():
        lab.models.clear()
    with pytest.raises(ModelNotFound):
        await SHORT[what](labs, ("*",))
    with pytest.raises(ModelNotFound):
        await SHORT[what](labs, ("a",))


@awaited
@pytest.mark.parametrize("what", SHORT)
async def test_a_short_operation_that_fails_somewhere_says_so_and_can_be_repeated(what: str) -> None:
    labs = Labs(A, B)
    labs["a"].fails["short"] = Unreachable("gone")
    with pytest.raises(PartlyDone, match="1 of 3 servers failed: a: gone") as raised:
        await SHORT[what](labs, ("*",))
    assert Outcome("a", "error", "gone") in raised.value.outcomes
    assert raised.value.status == 502
    with pytest.raises(Unreachable):
        await SHORT[what](labs, ("a",))
    del labs["a"].fails["short"]
    assert "error" not in {one.status for one in await SHORT[what](labs, ("*",))}


@awaited
async def test_a_copy_of_what_a_named_server_does_not_have_has_failed() -> None:
    labs = Labs(A, B)
    labs["a"].models.clear()
    with pytest.raises(PartlyDone, match="1 of 2 servers failed: a: there is no m"):
        await labs.copy(CopyRequest("m", "n", ("a", "box-b")))
    assert "n" in labs["Box B"].models


@awaited
async def test_a_removal_that_was_done_in_part_is_completed() -> None:
    labs = Labs(A, B)
    labs["a"].models.clear()
    assert Outcome("a", "not found") in await labs.delete(DeleteRequest("m", ("a", "box-b")))
    assert labs["Box B"].models == set()


# What is there


@awaited
async def test_what_is_in_memory_is_asked_of_each_and_who_is_silent_is_told() -> None:
    labs = Labs(A, B, VLLM)
    labs["a"].fails["running"] = Unreachable("gone")
    rows, silent = await labs.running(("*",))
    assert [row.server for row in rows] == ["local", "Box B"]
    assert silent == (Outcome("a", "error", "gone"),)


@awaited
async def test_the_first_that_has_a_model_describes_it_and_each_has_a_row() -> None:
    labs = Labs(A, B, VLLM)
    labs["a"].models.clear()
    labs["local"].fails["short"] = Unreachable("gone")
    shown, rows = await labs.describe("m", ("*",), verbose=False)
    assert shown.path == "Box B"
    assert [(row.server, row.status, row.failure) for row in rows[:3]] == [
        ("local", "error", "gone"),
        ("a", "not found", ""),
        ("Box B", "success", ""),
    ]
    assert (rows[3].server, rows[3].status, "of the kind openai" in rows[3].failure) == ("v", "error", True)
    shown, rows = await labs.describe("m", ("box-b",), verbose=False)
    assert (shown.path, rows) == ("Box B", ())
    with pytest.raises(Unreachable):  # says more than that the other one does not have it
        await labs.describe("m", ("local", "a"), verbose=False)
    with pytest.raises(ModelNotFound):
        await labs.describe("m", ("a",), verbose=False)


@pytest.mark.parametrize(("servers", "gone"), [((), ["local"]), (("a",), ["a"]), (("*",), ["Box B", "local"])])
@awaited
async def test_who_keeps_lists_is_told_what_was_taken_away_where(servers: tuple[str, ...], gone: list[str]) -> None:
    labs = Labs(A, B, VLLM)
    if len(gone) > 1:
        labs["a"].models.clear()  # it has none, and so none is taken away there
    await labs.delete(DeleteRequest("m", servers=servers))
    assert sorted(labs.removed) == [(name, "m") for name in gone]
    labs["local"].models.add("m")
    await labs.copy(CopyRequest("m", "n"))
    await labs.unload("m", ("local",))
    assert len(labs.removed) == len(gone), "nothing else takes any away"
