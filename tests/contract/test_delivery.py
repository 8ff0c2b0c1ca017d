"""Models made on another server: the order of what is asked of it, and what is left there when something fails."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

import httpx2
import msgspec
import pytest
from tests.awaited import awaited
from tests.unit.client.fake_server import STAMP, FakeServer
from tools.random_model import write_random_model

from localmodels.artifacts.gguf import read_header
from localmodels.client import AsyncClient
from localmodels.client._async_calls import DIALECT
from localmodels.core.access import ANYBODY
from localmodels.core.catalog import ModelName
from localmodels.core.chat import Answer, Done, Embeddings, Timings, Usage
from localmodels.core.errors import (
    BackendError,
    BackendTimeout,
    LocalModelsError,
    OutOfMemory,
    StoreFailed,
    Unauthenticated,
    Unsupported,
)
from localmodels.core.library import CreateRequest, Progress
from localmodels.core.options import Options
from localmodels.core.secrets import Secret
from localmodels.core.servers import ServerSpec
from localmodels.dialects.ollama import library
from localmodels.flows.fleet_library.delivery import Elsewhere, request_of
from localmodels.flows.fleet_library.target_servers import NoSuchServer
from localmodels.store.entries import Entry

KEY = "sk-sesame"
FAR = ServerSpec(name="far", url="http://far.test", kind="ollama", key=Secret(KEY))
OTHER = ServerSpec(name="other", url="http://other.test", kind="openai")
MADE = (Progress("reading"), Progress("success"))


class Far:
    """A server that has what was made on it, and fails at a path if it is told to.

    Attributes:
        fails: by path, what it answers there.
        hangs: the path at which it never answers.
        silent: no model says anything.
        vector: what every text becomes, where it is another one than the fake's.
        ranks: has it an address for that? An Ollama has none.
        copying: set when a copy has been asked for, which is made when it ``may_copy``.
        models: the names that there are.
        told: method and path of every request, blobs without their digests.
    """

    def __init__(self) -> None:
        self.fake = FakeServer(steps=MADE, known={"mine:latest"})
        self.fails: dict[str, LocalModelsError] = {}
        self.hangs = ""
        self.silent = False
        self.vector: tuple[float, ...] = ()
        self.ranks = True
        self.copying, self.may_copy = asyncio.Event(), asyncio.Event()
        self.may_copy.set()
        self.told: list[str] = []

    @property
    def models(self) -> set[str]:
        return self.fake.known

    def connect(self, spec: ServerSpec) -> AsyncClient:
        """A client of it."""
        return AsyncClient(
            spec.url, api_key=spec.key.reveal(), transport=httpx2.MockTransport(self._answered), environ={}
        )

    async def _answered(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == self.hangs:
            await asyncio.Event().wait()
        if request.url.path == "/api/copy":
            self.copying.set()
            await self.may_copy.wait()
        return self._answer(request)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        self.told.append(f"{request.method} {'/api/blobs' if path.startswith('/api/blobs') else path}")
        assert request.headers["authorization"] == f"Bearer {KEY}"
        if (error := self.fails.get(path)) is not None:
            return httpx2.Response(error.status, content=DIALECT.write_error(error))
        if path == "/api/chat" and self.silent:
            nothing = Answer(Done(usage=Usage(20, 0, 0), timings=Timings()), "")
            answer = DIALECT.write_chat_answer(STAMP, DIALECT.read_chat(request.content), nothing)
            return httpx2.Response(200, content=answer)
        if path == "/api/embed" and self.vector:
            asked = DIALECT.read_embed(request.content)
            return httpx2.Response(200, content=DIALECT.write_embeddings(STAMP, asked, Embeddings((self.vector,))))
        if path == "/api/rerank" and not self.ranks:
            return httpx2.Response(404, content=b"404 page not found")
        if path == "/api/create":
            self.models.add(library.read_create(request.content).model)
        elif path == "/api/copy":
            self.models.add(library.read_copy(request.content).destination)
        elif path == "/api/delete":
            self.models.discard(library.read_delete(request.content).model)
        return self.fake(request)


@pytest.fixture
def far() -> Far:
    return Far()


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    return entry_of(write_random_model(tmp_path / "m.gguf"))


def entry_of(file: Path) -> Entry:
    return Entry(
        name=ModelName.parse("mine"),
        source="home",
        model_path=str(file),
        parts=(str(file),),
        header=read_header(file),
        size=file.stat().st_size,
        digest="0" * 64,
        modified_at="2026-01-01T00:00:00.000000000Z",
    )


def elsewhere(far: Far, parting: float = 10.0) -> Elsewhere:
    return Elsewhere(lambda: {"far": FAR, "other": OTHER}, far.connect, parting=parting)


async def put(far: Far, entry: Entry, parting: float = 10.0) -> list[Progress]:
    async with aclosing(elsewhere(far, parting).put("far", entry)) as steps:
        return [step async for step in steps]


IN_ORDER = ["HEAD /api/blobs", "POST /api/blobs", "POST /api/create", "POST /api/chat", "POST /api/copy",
            "DELETE /api/delete"]  # fmt: skip


@awaited
async def test_the_name_is_given_last_and_the_trial_is_gone(far: Far, entry: Entry) -> None:
    steps = await put(far, entry)
    assert far.told == IN_ORDER
    created, copied, deleted = far.fake.library
    trial = created.model  # type: ignore[attr-defined]
    assert trial.startswith("mine:trial-")
    assert (copied.source, copied.destination) == (trial, "mine:latest")  # type: ignore[attr-defined]
    assert deleted.model == trial  # type: ignore[attr-defined]
    assert far.fake.chat.model == trial
    assert far.models == {"mine:latest"}
    [sent] = far.fake.blobs.values()
    assert hashlib.sha256(sent).hexdigest() == next(iter(far.fake.blobs)).removeprefix("sha256:")
    assert len(sent) == entry.size
    told = [step.status for step in steps]
    assert told[-2:] == ["verifying model", "writing manifest"]
    assert all(status.startswith("pushing model to far") for status in told[:-2])
    assert "success" not in told  # whoever made it says so, when his own work is done


@awaited
async def test_a_blob_that_is_there_is_not_sent_again_and_no_two_trials_have_one_name(far: Far, entry: Entry) -> None:
    await put(far, entry)
    await put(far, entry)
    assert far.told[len(IN_ORDER) :] == [asked for asked in IN_ORDER if asked != "POST /api/blobs"]
    assert len({made.model for made in far.fake.library if isinstance(made, CreateRequest)}) == 2


@awaited
async def test_an_embedding_model_is_asked_for_a_vector(far: Far, tmp_path: Path) -> None:
    await put(far, entry_of(write_random_model(tmp_path / "e.gguf", seed=3, embedding=True)))
    assert "POST /api/embed" in far.told
    assert "POST /api/chat" not in far.told


@awaited
async def test_a_vector_of_nothing_is_no_answer(far: Far, tmp_path: Path) -> None:
    far.vector = (0.0, 0.0)
    with pytest.raises(BackendError, match="does not answer"):
        await put(far, entry_of(write_random_model(tmp_path / "e.gguf", seed=3, embedding=True)))
    assert far.models == {"mine:latest"}
    assert "POST /api/copy" not in far.told


@awaited
@pytest.mark.parametrize("ranks", [True, False])
async def test_a_reranker_is_asked_to_rank_where_the_server_can(far: Far, tmp_path: Path, *, ranks: bool) -> None:
    far.ranks = ranks
    steps = await put(far, entry_of(write_random_model(tmp_path / "r.gguf", seed=3, rerank=True)))
    assert [asked for asked in far.told if asked in {"POST /api/embed", "POST /api/chat", "POST /api/rerank"}] == [
        "POST /api/rerank"
    ]
    assert far.told[-2:] == ["POST /api/copy", "DELETE /api/delete"]
    assert any("was not put to the trial" in step.status for step in steps) is not ranks


def blob_of(entry: Entry) -> str:
    """Where its file is sent."""
    return f"/api/blobs/sha256:{hashlib.sha256(Path(entry.model_path).read_bytes()).hexdigest()}"


HASTY = msgspec.structs.replace(FAR, first_byte=0.3, idle=0.3)


@awaited
@pytest.mark.parametrize("path", ["/api/create", "/api/chat", "/api/copy"])
async def test_a_server_that_is_silent_is_given_up_when_its_settings_say_so(far: Far, entry: Entry, path: str) -> None:
    far.hangs = path
    there = Elsewhere(lambda: {"far": HASTY}, far.connect)
    async with aclosing(there.put("far", entry)) as steps:
        with pytest.raises(BackendTimeout, match=r"the server 'far' .*for 0\.3 s"):
            await exhausted(steps)
    assert far.told[-1] == "DELETE /api/delete"
    assert far.models == {"mine:latest"}


@awaited
async def test_a_server_that_takes_no_blob_is_given_up_too(far: Far, entry: Entry) -> None:
    far.hangs = blob_of(entry)
    async with aclosing(Elsewhere(lambda: {"far": HASTY}, far.connect).put("far", entry)) as steps:
        with pytest.raises(BackendTimeout, match=r"the server 'far' was silent for 0\.3 s"):
            await exhausted(steps)


@awaited
async def test_who_leaves_while_the_name_is_given_comes_too_late(far: Far, entry: Entry) -> None:
    far.may_copy.clear()
    putting = asyncio.create_task(put(far, entry))
    await far.copying.wait()
    putting.cancel()
    await asyncio.sleep(0)
    far.may_copy.set()
    assert (await putting)[-1].status == "writing manifest"
    assert far.models == {"mine:latest"}
    assert far.told[-2:] == ["POST /api/copy", "DELETE /api/delete"]


def cut(far: Far) -> None:
    far.fake.steps = MADE[:1]


def silent(far: Far) -> None:
    far.silent = True


def failing(path: str, error: LocalModelsError) -> Callable[[Far], None]:
    def change(far: Far) -> None:
        far.fails[path] = error

    return change


FAILING: dict[str, tuple[Callable[[Far], None], str]] = {
    "create": (failing("/api/create", StoreFailed("no room for that")), "no room for that"),
    "cut": (cut, "ended before"),
    "answer": (failing("/api/chat", OutOfMemory(2**31, 2**30)), ""),
    "silence": (silent, "does not answer"),
    "copy": (failing("/api/copy", StoreFailed(f"cannot write; {KEY}")), "cannot write; \\*\\*\\*"),
    "key": (failing("/api/copy", Unauthenticated("who are you?")), "refused our key"),
}


@awaited
@pytest.mark.parametrize("kind", FAILING)
async def test_what_fails_leaves_the_old_name_and_no_trial(far: Far, entry: Entry, kind: str) -> None:
    change, says = FAILING[kind]
    change(far)
    with pytest.raises(LocalModelsError, match=f"(?s)the server 'far'.*{says}") as raised:
        await put(far, entry)
    assert KEY not in raised.value.message
    assert far.told[-1] == "DELETE /api/delete"
    assert far.models == {"mine:latest"}
    assert [str(one) for one in far.fake.library if not isinstance(one, CreateRequest)][:-1] == []


@awaited
@pytest.mark.parametrize("at", ["pushing model to far", "pushing model to far: reading", "verifying model"])
async def test_whoever_leaves_leaves_no_trial(far: Far, entry: Entry, at: str) -> None:
    async with aclosing(elsewhere(far).put("far", entry)) as steps:
        async for step in steps:
            if step.status == at:
                break
    assert far.models == {"mine:latest"}
    assert "POST /api/copy" not in far.told


@awaited
async def test_a_server_that_does_not_forget_is_not_waited_for(
    far: Far, entry: Entry, caplog: pytest.LogCaptureFixture
) -> None:
    far.hangs = "/api/delete"
    with caplog.at_level(logging.WARNING):
        await put(far, entry, parting=0.0)
    assert "may still have the model mine:trial-" in caplog.text
    caplog.clear()
    far.hangs = ""
    far.fails["/api/delete"] = StoreFailed(f"not now, {KEY}")
    with caplog.at_level(logging.WARNING):
        await put(far, entry)
    assert "may still have the model mine:trial-" in caplog.text


def test_a_server_is_one_that_is_there_and_makes_models(far: Far) -> None:
    here = elsewhere(far)
    assert here.named("far") == (FAR,)
    with pytest.raises(NoSuchServer, match=r"^there is no server 'nope'$") as heard:
        here.named("nope")
    assert heard.value.told_to(ANYBODY).message == "there is no server 'nope'; there are: far, other"
    with pytest.raises(Unsupported, match="'other' is of the kind openai"):
        here.named("other")
    with pytest.raises(NoSuchServer) as heard:
        Elsewhere(dict, far.connect).named("far")
    assert heard.value.told_to(ANYBODY).message.endswith("; there are: none")


@awaited
async def test_a_server_that_cannot_be_reached_is_named(entry: Entry) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    there = Elsewhere(
        lambda: {"far": FAR},
        lambda spec: AsyncClient(spec.url, transport=httpx2.MockTransport(refuse), environ={}),
    )
    async with aclosing(there.put("far", entry)) as steps:
        with pytest.raises(BackendError, match="the server 'far'"):
            await exhausted(steps)


async def exhausted(steps: AsyncGenerator[Progress, None]) -> None:
    async for _ in steps:
        pass


# On several servers


class World:
    """Three servers and this machine, where a name is given in two steps."""

    def __init__(self, *names: str) -> None:
        self.far = {name: Far() for name in names}
        self.given = 0
        self.specs = {name: msgspec.structs.replace(FAR, name=name, url=f"http://{name}.test") for name in names}
        self.changed: list[str] = []
        self.there = Elsewhere(
            lambda: {**self.specs, "other": OTHER},
            lambda spec: self.far[spec.name].connect(spec),
            changed=lambda spec: self.changed.append(spec.name),
        )

    async def give(self) -> AsyncGenerator[Progress, None]:
        yield Progress("verifying model")
        self.given += 1
        yield Progress("writing manifest")

    async def put(self, names: str, entry: Entry) -> tuple[list[Progress], str]:
        """What was said, and why it failed."""
        said = []
        async with aclosing(self.there.put(names, entry, self.give)) as steps:
            try:
                async for step in steps:
                    said.append(step)  # noqa: PERF401 - until it fails
            except LocalModelsError as error:
                return said, error.message
        return said, ""


@awaited
async def test_several_servers_get_it_side_by_side_and_this_machine_too(entry: Entry) -> None:
    world = World("a", "b")
    said, failure = await world.put("*", entry)
    assert failure == ""
    assert [step.server for step in said[:3]] == ["local", "a", "b"]
    assert {step.status for step in said[:3]} == {"waiting"}
    for name in ("local", "a", "b"):
        assert [step.status for step in said if step.server == name][-1] == "success"
    assert world.given == 1
    assert sorted(world.changed) == ["a", "b"]  # of this machine somebody else knows
    for far in world.far.values():
        assert far.told == IN_ORDER
        assert far.models == {"mine:latest"}


@awaited
async def test_who_fails_is_told_and_the_others_have_it(entry: Entry) -> None:
    world = World("a", "b")
    world.far["a"].fails["/api/create"] = StoreFailed(f"no room, {KEY}")
    world.far["b"].models.clear()
    said, failure = await world.put("a, b", entry)
    assert failure == "1 of 2 servers failed: a: no room, ***"
    assert [(step.server, step.failure) for step in said if step.failure] == [("a", "no room, ***")]
    assert world.far["b"].models == {"mine:latest"}
    assert world.changed == ["b"]
    assert world.given == 0


@awaited
async def test_whose_library_is_another_now_is_told_when_the_only_server_has_the_model(entry: Entry) -> None:
    world = World("a")
    await world.put("a", entry)
    assert world.changed == ["a"]
    world.far["a"].fails["/api/create"] = StoreFailed("no room")
    await world.put("a", entry)
    assert world.changed == ["a"]


@awaited
async def test_whoever_leaves_several_leaves_no_trial_on_any(entry: Entry) -> None:
    world = World("a", "b")
    async with aclosing(world.there.put("a,b", entry, world.give)) as steps:
        async for step in steps:
            if step.status == "verifying model":
                break
    assert all(far.models <= {"mine:latest"} for far in world.far.values())


def test_all_servers_are_those_on_which_models_are_made(far: Far) -> None:
    assert [spec.name for spec in elsewhere(far).named("*")] == ["local", "far"]
    assert [spec.name for spec in elsewhere(far).named("far, local")] == ["far", "local"]
    with pytest.raises(Unsupported, match="'other' is of the kind openai"):
        elsewhere(far).named("far,other")


def test_all_that_a_model_is_goes_with_it(entry: Entry) -> None:
    whole = msgspec.structs.replace(
        entry,
        parts=("/a", "/b"),
        projector_path="/p",
        adapter_paths=("/x",),
        adapter_names=("style",),
        template="{{ .Prompt }}",
        system="Be brief.",
        options=Options(temperature=0.5),
        messages=(("user", "hi"),),
        license=("MIT",),
    )
    request = request_of(whole, "mine:trial", {"/a": "sha256:1", "/b": "sha256:2", "/p": "sha256:3", "/x": "sha256:4"})
    assert [digest for _, digest in request.files] == ["sha256:1", "sha256:2", "sha256:3"]
    assert sorted(name for name, _ in request.files) == [name for name, _ in request.files]
    assert request.adapters == (("style.gguf", "sha256:4"),)
    assert (request.template, request.system, request.license) == ("{{ .Prompt }}", "Be brief.", ("MIT",))
    assert dict(request.parameters) == {"temperature": 0.5}
    assert request.messages == (("user", "hi"),)
    assert json.loads(library.write_create(request))["model"] == "mine:trial"
