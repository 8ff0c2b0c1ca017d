"""Names: which server or model each means, in which order, and what never waits for a disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.awaited import awaited

from localmodels.backends.kinds import KINDS
from localmodels.core import via
from localmodels.core.catalog import Description, Model, ModelName, Running
from localmodels.core.errors import (
    BackendError,
    Conflict,
    ContextLengthExceeded,
    Forbidden,
    InvalidRequest,
    LocalModelsError,
    MethodNotAllowed,
    ModelNotFound,
    OutOfMemory,
    QuotaExceeded,
    RateLimited,
    StreamCut,
    Unauthenticated,
)
from localmodels.core.secrets import Secret
from localmodels.core.servers import ServerKind, ServerSpec
from localmodels.dialects.told import Told
from localmodels.flows.answering.chat import Defaults, Found
from localmodels.flows.connections.remotes import Remotes, translated
from localmodels.flows.connections.server_names import plain
from localmodels.flows.routing.name_resolution import Finders
from localmodels.flows.routing.remote_model import RemoteTarget

KEY = "sk-sesame"


class Mine:
    """A model of this machine."""

    defaults = Defaults()
    capabilities = ("completion",)
    adapters: tuple[str, ...] = ()
    listed = True

    def __init__(self, name: str) -> None:
        self.name = name


class Library:
    """Some models; knows who was looked for."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.asked: list[str] = []

    async def find(self, name: str) -> Found:
        self.asked.append(name)
        return Mine(self._listed(name))  # type: ignore[return-value]

    async def models(self) -> tuple[Model, ...]:
        return tuple(Model(name, 0, "0" * 64, "") for name in self.names)

    async def describe(self, name: str, *, verbose: bool) -> Description:
        return Description(Model(self._listed(name), 0, "0" * 64, ""))

    def _listed(self, name: str) -> str:
        """As Ollama's names are read: without regard to case, with ``latest`` or the only tag where none is said."""
        known = {str(ModelName.parse(one)).lower(): one for one in self.names}
        listed = plain(name)
        tags = [one for one in known if one.startswith(listed.removesuffix("latest"))]
        if listed not in known and (":" in name or len(tags) != 1):
            raise ModelNotFound(name)
        return known[listed if listed in known else tags[0]]

    def running(self) -> tuple[Running, ...]:
        return ()


def spec(name: str, kind: ServerKind = "openai", *models: str) -> ServerSpec:
    return ServerSpec(name=name, url="http://127.0.0.1:9", kind=kind, models=models, key=Secret(KEY))


class World:
    """Finders over a library and servers that nobody asks."""

    def __init__(self, *local: str, default: str = "", aliases: dict[str, str] | None = None) -> None:
        self.library = Library(*local)
        self.remotes = Remotes()
        self.finders = Finders(self.library, self.remotes, default=default, aliases=aliases)

    async def found(self, name: str) -> str:
        found = await self.finders.find(name)
        return found.name if isinstance(found, RemoteTarget) else f"here: {found.name}"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("gpu/m", "gpu/m"),
        ("GPU/m", "gpu/m"),
        ("gpu/org/m:7b", "gpu/org/m:7b"),
        ("big", "cloud/big"),
        ("cloud/big", "cloud/big"),
        ("m", "here: m"),
        ("openai/m", "here: openai/m"),
        ("openai/big", "cloud/big"),
        ("OpenAI/big", "cloud/big"),
        ("friend", "gpu/far"),
        ("ollama/x", None),
        ("cloud/small", None),
        ("openai/small", None),
        ("gpu/", None),
        ("gpu/" + "m" * 300, "gpu/" + "m" * 300),
        ("gpu/" + "m" * 301, None),
        ("gpu/a b", None),
        ("gpu/m\n", None),
        ("gpu/é", None),
        ("gpu", None),
        ("/m", None),
        ("", None),
        ("none", None),
    ],
)
@awaited
async def test_names(asked: str, found: str | None) -> None:
    world = World("m", "openai/m", "gpu/m", aliases={"friend": "gpu/far"})
    await world.remotes.adopt([spec("gpu", "ollama"), spec("cloud", "openai", "big"), spec("lab", "ollama")])
    if found is None:
        with pytest.raises(ModelNotFound):
            await world.found(asked)
    else:
        assert await world.found(asked) == found


@awaited
async def test_names_of_servers_never_reach_the_library() -> None:
    world = World()
    await world.remotes.adopt([spec("gpu"), spec("cloud", "openai", "big")])
    for name in ("gpu/m", "big", "cloud/big"):
        await world.found(name)
    assert world.library.asked == []


@awaited
async def test_the_default_may_be_elsewhere() -> None:
    world = World("m", default="gpu/m")
    await world.remotes.adopt([spec("gpu")])
    assert await world.found("") == "gpu/m"


@awaited
async def test_servers_come_and_go() -> None:
    world = World()
    await world.remotes.adopt([spec("a"), spec("b")])
    kept = world.remotes.find("a/m")
    assert kept is not None
    await world.remotes.adopt([spec("a"), spec("b", "ollama"), spec("c")])
    found = world.remotes.find("a/m")
    assert found is not None
    assert found[0] is kept[0], "who stays as he was keeps his connections"
    changed = world.remotes.find("b/m")
    assert changed is not None
    assert changed[0].spec.kind == "ollama"
    await world.remotes.adopt([])
    assert world.remotes.servers() == ()
    assert not world.finders.remote


@awaited
async def test_a_new_patience_counts_for_servers_that_stay() -> None:
    remotes = Remotes(patience=600.0)
    await remotes.adopt([spec("a")])
    (stays,) = remotes.servers()
    await remotes.adopt([spec("a"), spec("b")], patience=0.0)
    assert remotes.servers()[0] is stays
    assert remotes.traffic.places.patience == 0.0
    await remotes.adopt([spec("a")])
    assert remotes.traffic.places.patience == 0.0


@awaited
async def test_lists_are_ours_first() -> None:
    world = World("m")
    await world.remotes.adopt([spec("b", "openai", "y"), spec("a", "openai", "x")])
    assert [model.name for model in await world.finders.models()] == ["m", "b/y", "a/x"]
    assert (await world.finders.describe("a/x", verbose=False)).model.name == "a/x"
    assert (await world.finders.describe("m", verbose=False)).model.name == "m"


@pytest.mark.parametrize(("kind", "dialect"), [(kind, row.native) for kind, row in KINDS.items()])
def test_what_passes_untouched_is_of_the_servers_own_dialect(kind: ServerKind, dialect: str) -> None:
    async def targets() -> RemoteTarget:
        world = World()
        await world.remotes.adopt([spec("far", kind)])
        target = world.finders.quick("far/m")
        assert isinstance(target, RemoteTarget)
        return target

    target = asyncio.run(targets())
    to = target.relay(dialect, "chat")
    assert to is not None
    assert (to.hops[0].model, to.way.name) == ("m", dialect)
    others = {"openai", "ollama", "anthropic", "responses", "plain"} - {dialect}
    assert [target.relay(other, "chat") for other in others] == [None] * len(others)
    assert target.relay(dialect, "models") is None


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            Unauthenticated(f"wrong key {KEY}"),
            BackendError,
            "the server 'far' refused our key; key_file or key_env in the file of settings gives it another",
        ),
        (
            Forbidden(f"this key ({KEY}) needs the scope 'manage'"),
            BackendError,
            (
                "the server 'far' does not allow us this: our key lacks the scope 'manage': on its machine "
                "`localmodels keys add NAME --scopes infer,list,manage` makes one that has it, and here key_file or "
                "key_env in the file of settings gives it that"
            ),
        ),
        (
            Forbidden(f"this key ({KEY}) is for other models"),
            BackendError,
            "the server 'far' does not allow us this: this key (***) is for other models",
        ),
        (ModelNotFound("m:latest"), ModelNotFound, "model 'far/m' not found"),
        (
            StreamCut("the server broke the answer off (abort)"),
            StreamCut,
            "the server 'far' broke the answer off (abort)",
        ),
        (InvalidRequest(f"you sent {KEY} twice: {KEY}"), InvalidRequest, "you sent *** twice: ***"),
        (MethodNotAllowed("no"), BackendError, "no"),
        (Conflict("no"), BackendError, "no"),
        (QuotaExceeded("all gone"), RateLimited, "all gone"),
        (OutOfMemory(2**30, 1), OutOfMemory, OutOfMemory(2**30, 1).message),
        (ContextLengthExceeded(9, 8), ContextLengthExceeded, ContextLengthExceeded(9, 8).message),
    ],
)
def test_errors_of_a_server_as_ours(error: LocalModelsError, kind: type[LocalModelsError], message: str) -> None:
    before = error.message, error.args, error.param
    ours = translated(error, spec("far"), "m")
    assert ours is not error
    assert (error.message, error.args, error.param) == before
    assert (type(ours), ours.message, str(ours)) == (kind, message, message)
    assert KEY not in repr(ours)


@pytest.mark.parametrize(("mode", "told"), [(0o600, False), (0o400, False), (0o640, True), (0o644, True)])
def test_a_key_that_others_can_read_is_warned_of(
    mode: int,
    told: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(mode)
    asyncio.run(Remotes().adopt([replace(spec("far"), key_file=file)]))
    assert ("chmod 600" in caplog.text) is told
    assert KEY not in caplog.text


@awaited
async def test_a_model_of_another_server_is_said_to_be_there() -> None:
    world = World("m")
    await world.remotes.adopt([spec("gpu", "ollama"), spec("cloud", "openai", "big")])
    for name, server in {"gpu/far": "gpu", "GPU/a/b/c:7b": "gpu", "big": "cloud"}.items():
        with pytest.raises(Conflict, match=f"{name} is on the server '{server}'; manage it there"):
            world.finders.require_here(name)
    for name in ("m", "gone", "me/mine", "gpu"):
        world.finders.require_here(name)


@awaited
async def test_a_server_of_the_file_that_asks_is_not_told_its_own_models() -> None:
    world = World("mine")
    await world.remotes.adopt([spec("gpu", "ollama", "m"), spec("lab", "ollama", "n")])
    gpu = world.remotes.fleet.named("gpu")
    assert gpu is not None
    world.remotes.fleet.saw(gpu, Told((), gateway="them"))

    async def told(by: str) -> dict[str, tuple[str, ...]]:
        via.arrive(by, "us", looks=True)
        return {model.name: model.gateways for model in await world.finders.models()}

    assert await told("") == {"mine": (), "gpu/m": (), "lab/n": ()}, "clients are not told of gateways"
    assert await told("them") == {"mine": ("us",), "lab/n": ("us",)}
    assert await told("others") == {"mine": ("us",), "gpu/m": ("us", "them"), "lab/n": ("us",)}
