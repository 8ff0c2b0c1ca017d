"""Models that are made of folders and artifacts, and put to a trial before they get their name; with real children."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.awaited import awaited
from tests.contract.backends import chat
from tests.contract.test_pool_files import GIB, HARDWARE
from tests.hostile_folders.bases import (
    ADAPTER,
    LAYER,
    adapter_tensors,
    bert_tensors,
    write_bert,
    write_llama,
    write_pieces,
    write_xlm,
)
from tests.weight_folders import WIDTH, drawn, llama_tensors, safetensors, write_folder
from tools.random_model import write_random_model

from localmodels.core.artifacts import Artifact, ArtifactKind
from localmodels.core.chat import Done
from localmodels.core.errors import (
    Conflict,
    InvalidRequest,
    LocalModelsError,
    NotFound,
    OutOfMemory,
    QueueFull,
    ShuttingDown,
    Unavailable,
    Unsupported,
)
from localmodels.core.library import SUCCESS, CreateRequest
from localmodels.core.options import Options
from localmodels.engine.housing import Housing
from localmodels.engine.loadable import Loader
from localmodels.engine.pool import Build, Pool
from localmodels.engine.scheduler import Limits, Scheduler
from localmodels.flows.answering.chat import Answerer, Request
from localmodels.flows.answering.loaded_files import StoredFiles
from localmodels.flows.answering.local_models import Local
from localmodels.flows.library.keeper import Keeper
from localmodels.flows.library.trial import LATE, Trials
from localmodels.flows.visit import Visit
from localmodels.store.artifacts import ArtifactStore
from localmodels.store.entries import Entry
from localmodels.store.library import Library
from localmodels.store.model_store import ModelStore
from localmodels.store.ollama import OllamaShelf

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
ROOM = 512  # tokens of context, and more than a folder's own needs


class Crowded(Local):
    """A pool that has no place for so many requests.

    Attributes:
        refusals: what the next ones get.
    """

    refusals: Sequence[LocalModelsError] = ()

    @asynccontextmanager
    async def exactly(self, entry: Entry, request: Request, visit: Visit) -> AsyncIterator[Answerer]:
        if self.refusals:
            error, *self.refusals = self.refusals
            raise error
        async with super().exactly(entry, request, visit) as backend:
            yield backend


class Stage:
    """A library, what runs it, and artifacts."""

    def __init__(self, directory: Path, stack: AsyncExitStack, *, memory: int = 4 * GIB) -> None:
        self.directory = directory
        self.store = ModelStore(directory / "models")
        self.artifacts = ArtifactStore(directory / "artifacts")
        housing = Housing()
        stack.callback(housing.close)
        files = StoredFiles(self.store, "first")
        self.pool = Pool(Scheduler(Limits(memory=memory)), housing, Build(), files)
        stack.push_async_callback(self.pool.close)
        self.library = Library([OllamaShelf(self.store.layout.root, source="home")])
        self.local = Crowded(self.library, self.pool, Loader(HARDWARE, Options(num_ctx=ROOM)), patience=60.0)
        self.keeper = Keeper(self.store, self.library, self.local, artifacts=self.artifacts, threads=2)
        self.trial = Trials(self.local)

    def artifact(self, name: str, place: Path, kind: ArtifactKind = "model", base: str = "") -> None:
        """The files of a folder, or one file, as an artifact."""
        found = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
        root = place.parent if place.is_file() else place
        with self.artifacts.draft(name) as draft:
            for path in found:
                data = path.read_bytes()
                with draft.file(path.relative_to(root).as_posix(), len(data)) as writer:
                    writer.write(data)
                    writer.commit()
            draft.publish(Artifact(name=name, kind=kind, size=0, base=base))

    async def make(self, model: str, **wishes: str) -> list[str]:
        """Makes a model by a trial; what was told."""
        request = CreateRequest(model, **wishes)  # type: ignore[arg-type]
        async with aclosing(self.keeper.create(request, self.trial)) as steps:
            return [step.status async for step in steps]

    async def ask(self, model: str) -> int:
        """Tokens of an answer."""
        target = await self.local.find(model)
        async with target.ready(chat("Hello?"), Visit()) as answerer, aclosing(answerer.chat(chat("Hello?"))) as stream:
            events = [event async for some in stream for event in some]
        return next(event.usage.completion_tokens for event in events if isinstance(event, Done))

    def names(self) -> list[str]:
        return sorted(model.name for model in self.library.models())

    def gguf_blobs(self) -> set[str]:
        return {path.name for path in (self.store.layout.root / "blobs").iterdir() if path.read_bytes()[:4] == b"GGUF"}


@asynccontextmanager
async def stage(directory: Path, *, memory: int = 4 * GIB) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        yield Stage(directory, stack, memory=memory)


def write_adapter_folder(place: Path) -> Path:
    place.mkdir()
    (place / "adapter_config.json").write_text(json.dumps(ADAPTER))
    (place / "adapter_model.safetensors").write_bytes(safetensors(adapter_tensors()))
    return place


def write_dora(place: Path) -> Path:
    """An adapter with magnitudes, which is no file beside its base."""
    write_adapter_folder(place)
    tensors = adapter_tensors() | {f"{LAYER}.lora_magnitude_vector": np.abs(drawn(WIDTH, seed=63)) + 1}
    (place / "adapter_config.json").write_text(json.dumps({**ADAPTER, "use_dora": True}))
    (place / "adapter_model.safetensors").write_bytes(safetensors(tensors))
    return place


def write_unigram_model(place: Path) -> None:
    """The same with positions for a context that the engine can share out."""
    write_xlm(place)
    tensors = bert_tensors(types=1) | {"embeddings.position_embeddings.weight": drawn(66, WIDTH, seed=2)}
    (place / "model.safetensors").write_bytes(safetensors(tensors))
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 66}))


BASES: dict[str, Callable[[Path], object]] = {
    "bytes": write_llama,
    "pieces": write_pieces,
    "wordpiece": write_bert,
    "unigram": write_unigram_model,
}


@awaited
async def test_every_kind_of_tokenizer_gives_texts_back(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        for name, write in BASES.items():
            write(tmp_path / name)
            here.artifact(name, tmp_path / name)
            told = await here.make(name, artifact=name)
            assert told[-3:] == ["verifying model", "writing manifest", SUCCESS]
        assert here.names() == sorted(f"{name}:latest" for name in BASES)


@awaited
async def test_what_was_tried_stays_loaded_and_is_what_answers(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        here.artifact("folder", write_folder(tmp_path / "folder"))
        await here.make("mine", artifact="folder", quantize="Q8_0")
        [tried] = here.pool.runners()
        assert await here.ask("mine") >= 1
        assert here.pool.runners() == [tried]


def without_high_bytes(place: Path) -> None:
    """Takes the letters of bytes that are no ASCII out of a vocabulary."""
    path = place / "tokenizer.json"
    said = json.loads(path.read_text())
    vocabulary = said["model"]["vocab"]
    said["model"]["vocab"] = {
        text if len(text) > 1 or text.isascii() else f"word{index}": index for text, index in vocabulary.items()
    }
    path.write_text(json.dumps(said))


def speechless(place: Path) -> None:
    (place / "chat_template.jinja").write_text("{{ raise_exception('nobody may talk to me') }}")


def impolite(place: Path) -> None:
    """A template that fails with the conversation that it gets, and with no other."""
    (place / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.content == 'Hi' %}{{ raise_exception('no greetings') }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )


def overflowing(place: Path) -> None:
    """Weights that are numbers, and make none."""
    tensors = llama_tensors()
    tensors["model.norm.weight"] = np.full_like(tensors["model.norm.weight"], 3e38)
    (place / "model.safetensors").write_bytes(safetensors(tensors))


FAILING: dict[str, tuple[Callable[[Path], None], str]] = {
    "texts": (without_high_bytes, r"failed to give texts back: its tokenizer makes \d+ tokens of '"),
    "template": (speechless, "failed to be loaded: the engine cannot load it: .*chat template"),
    "greeting": (impolite, r"(?s)failed to answer: .*no greetings"),
    "numbers": (overflowing, "failed to answer: what it computes is no answer"),
}


@awaited
@pytest.mark.parametrize("kind", FAILING)
async def test_a_model_that_fails_is_not_there_and_the_old_one_goes_on(tmp_path: Path, kind: str) -> None:
    change, says = FAILING[kind]
    async with stage(tmp_path) as here:
        here.artifact("good", write_folder(tmp_path / "good"))
        await here.make("mine", artifact="good")
        assert await here.ask("mine") >= 1
        [old] = here.pool.runners()
        blobs, digest = here.gguf_blobs(), here.library.find("mine").digest
        place = write_folder(tmp_path / "bad", tensors=llama_tensors() | {"model.norm.weight": drawn(64, seed=99)})
        change(place)
        here.artifact("bad", place)
        with pytest.raises(LocalModelsError, match=says):
            await here.make("mine", artifact="bad")
        assert here.library.find("mine").digest == digest
        await gone(here, old.id)
        assert old in here.pool.runners()
        assert await here.ask("mine") >= 1
        here.store.collect(grace=0.0)
        assert here.gguf_blobs() == blobs


async def gone(here: Stage, old: str) -> None:
    """Waits until every runner but the old one has left."""
    for runner in here.pool.runners():
        if runner.id != old:
            await runner.gone.wait()


@awaited
async def test_a_trial_that_fails_leaves_the_same_files_in_memory_where_they_were(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        here.artifact("folder", write_folder(tmp_path / "folder"))
        async with aclosing(here.keeper.create(CreateRequest("untried", artifact="folder"))) as steps:
            async for _ in steps:
                pass
        entry = here.library.find("untried")
        assert await here.ask("untried") >= 1
        [runner] = here.pool.runners()
        trial = asyncio.create_task(here.trial(entry))
        await asyncio.sleep(0)
        trial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trial
        assert here.pool.runners() == [runner]
        assert await here.ask("untried") >= 1


@awaited
async def test_where_memory_holds_one_the_idle_one_makes_room(tmp_path: Path) -> None:
    async with stage(tmp_path) as measured:
        measured.artifact("good", write_folder(tmp_path / "good"))
        await measured.make("mine", artifact="good")
        [runner] = measured.pool.runners()
        one = runner.load_plan.memory.total
    async with stage(tmp_path, memory=one + one // 2) as here:
        assert await here.ask("mine") >= 1
        await here.make("mine", artifact="good", system="Be brief.")
        assert len(here.pool.runners()) == 1
        assert await here.ask("mine") >= 1


@awaited
async def test_a_place_that_is_taken_is_waited_for_and_not_for_ever(tmp_path: Path) -> None:
    paused: list[float] = []

    async def pause(seconds: float) -> None:
        paused.append(seconds)

    full = QueueFull("512 requests are waiting", retry_after=7.0)
    late = Unavailable("Waited 60 s and all places at the model were taken", retry_after=1000.0)
    async with stage(tmp_path) as here:
        here.trial = Trials(here.local, tries=3, pause=pause)
        here.artifact("good", write_folder(tmp_path / "good"))
        here.local.refusals = [full, late]
        assert (await here.make("mine", artifact="good"))[-1] == SUCCESS
        assert paused == [7.0, LATE]
        for refusals, waits in (([full] * 3, 2), ([ShuttingDown("ends")], 0), ([OutOfMemory(2, 1)], 0)):
            paused.clear()
            here.local.refusals = refusals
            with pytest.raises(type(refusals[0]), match=r"no place to put the new model|failed to be loaded"):
                await here.make("other", artifact="good")
            assert (len(paused), here.names()) == (waits, ["mine:latest"])


# Artifacts


@awaited
async def test_an_adapter_finds_its_base_or_says_what_to_give(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        place = write_adapter_folder(tmp_path / "adapter")
        here.artifact("style", place, "adapter", base="someone/tiny")
        with pytest.raises(InvalidRequest, match=r"needs its base \(it was made for 'someone/tiny', which is not here"):
            await here.make("mine", artifact="style")
        with pytest.raises(NotFound, match="neither a model nor an artifact 'nothing'"):
            await here.make("mine", artifact="style", base="nothing")
        with pytest.raises(InvalidRequest, match="'style' is an adapter itself"):
            await here.make("mine", artifact="style", base="style")
        here.artifact("tiny", write_folder(tmp_path / "tiny"))
        told = await here.make("merged", artifact="style")
        assert "base: artifact 'tiny'; merged into it" in told
        assert here.library.find("merged").adapter_names == ()
        await here.make("base", artifact="tiny")
        told = await here.make("beside", artifact="style", base="base")
        assert "converting adapter" in told
        assert "base: model 'base'; the adapter stays a file of its own" in told
        assert "made for 'someone/tiny', put onto 'base' as asked" in told
        assert here.library.find("beside").adapter_names == ("style",)
        here.artifacts.delete("tiny")
        await here.make("tiny", base="base")
        here.artifact("tiny", tmp_path / "tiny")
        for said in ({}, {"base": "tiny"}):  # a model of the library goes before an artifact
            told = await here.make("found", artifact="style", **said)
            assert [one for one in told if "base" in one or "made for" in one] == [
                "base: model 'tiny'; the adapter stays a file of its own"
            ]
            assert here.library.find("found").adapter_names == ("style",)
        told = await here.make("tiny", artifact="style")  # but is not put onto what it is made anew of
        assert "base: artifact 'tiny'; merged into it" in told
        assert await here.ask("found") >= 1


@awaited
@pytest.mark.parametrize("base", ["tuned", "other", ""])
async def test_an_adapter_that_must_be_merged_comes_into_the_folder_of_its_base(tmp_path: Path, base: str) -> None:
    async with stage(tmp_path) as here:
        here.artifact("tuned", write_folder(tmp_path / "tuned"))
        await here.make("tuned", artifact="tuned", system="Be brief.")
        await here.make("other", base="tuned")
        here.artifacts.delete("tuned")
        here.artifact("dora", write_dora(tmp_path / "dora"), "adapter", base="runs/tuned")
        names = "'other' or 'tuned'" if base == "other" else "'tuned'"
        reason = rf"must be merged .* no such artifact is called {names}: upload it first, then name it as base$"
        with pytest.raises(Unsupported, match=reason):
            await here.make("mine", artifact="dora", base=base)
        here.artifact("tuned", tmp_path / "tuned")
        told = await here.make("mine", artifact="dora", base=base)
        assert any("artifact 'tuned' is taken for that" in one for one in told)
        assert "base: artifact 'tuned'; merged into it" in told
        mine = here.library.find("mine")
        assert (mine.adapter_names, mine.system) == ((), "")
        assert mine.model_path != here.library.find("tuned").model_path
        assert await here.ask("mine") >= 1
        here.artifacts.delete("tuned")  # it is free again


@awaited
async def test_beside_an_artifact_that_is_gguf_an_adapter_stays_a_file(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        folder = write_folder(tmp_path / "folder")
        here.artifact("folder", folder)
        await here.make("made", artifact="folder")
        file = tmp_path / "plain.gguf"
        shutil.copyfile(here.library.find("made").model_path, file)
        here.artifact("plain", file, "gguf")
        here.artifact("style", write_adapter_folder(tmp_path / "style"), "adapter", base="runs/plain/")
        told = await here.make("mine", artifact="style")
        assert "base: artifact 'plain'; the adapter stays a file of its own" in told
        assert not any("made for" in one for one in told)
        assert here.library.find("mine").adapter_names == ("style",)
        told = await here.make("mine", artifact="style", base="folder")
        assert {"base: artifact 'folder'; merged into it", "made for 'runs/plain/', put onto 'folder' as asked"} <= {
            *told
        }
        here.artifact("dora", write_dora(tmp_path / "dora"), "adapter", base="runs/folder")
        told = await here.make("mine", artifact="dora", base="plain")
        assert "base: artifact 'folder'; merged into it" in told


@awaited
async def test_a_folder_without_a_template_is_told_of_unless_the_request_has_one(tmp_path: Path) -> None:
    note = "the folder has no chat template; conversations are laid out by the engine's default"
    async with stage(tmp_path) as here:
        here.artifact("plain", write_folder(tmp_path / "plain"))
        assert (await here.make("mine", artifact="plain")).count(note) == 1
        assert note not in await here.make("mine", artifact="plain", template="{{ .Prompt }}")
        assert note not in await here.make("mine", base="mine", quantize="Q8_0")
        write_bert(tmp_path / "encoder")
        here.artifact("encoder", tmp_path / "encoder")
        assert note not in await here.make("encoder", artifact="encoder")
        (tmp_path / "plain" / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
        here.artifact("laid", tmp_path / "plain")
        assert note not in await here.make("mine", artifact="laid")


@awaited
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"twist": 2}, r"twist = 2.*convert it first with `localmodels convert --ignore FIELD`, then deploy the file$"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantized by awq already; give the model it was made of$"),
    ],
)
async def test_what_is_refused_on_a_server_says_what_to_do_there(
    tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    async with stage(tmp_path) as here:
        here.artifact("odd", write_folder(tmp_path / "odd", **fields))
        with pytest.raises(Unsupported, match=reason):
            await here.make("mine", artifact="odd")


@awaited
async def test_a_tokenizer_that_is_not_known_is_to_be_named_where_that_can_be_done(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        place = write_folder(tmp_path / "odd")
        said = json.loads((place / "tokenizer.json").read_text())
        cut = {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": False}
        said["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [cut, {**BYTES, "use_regex": False}]}
        (place / "tokenizer.json").write_text(json.dumps(said))
        here.artifact("odd", place)
        reason = r"convert it first with `localmodels convert --pre-tokenizer NAME`, then deploy the file$"
        with pytest.raises(Unsupported, match=reason):
            await here.make("mine", artifact="odd")


@awaited
async def test_a_gguf_file_is_the_same_file_in_both_places(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        file = write_random_model(tmp_path / "tiny.gguf")
        here.artifact("tiny", file, "gguf")
        await here.make("mine", artifact="tiny")
        with here.artifacts.held("tiny") as held:
            assert held.files["tiny.gguf"].samefile(here.library.find("mine").model_path)
        await here.make("small", artifact="tiny", quantize="Q8_0")
        assert here.library.find("small").details.quantization_level == "Q8_0"
        assert await here.ask("mine") >= 1
        with pytest.raises(InvalidRequest, match=r"^base: 'tiny' is a whole model; only an adapter is put onto a base"):
            await here.make("no", artifact="tiny", base="mine")


@awaited
async def test_a_model_is_made_of_the_artifact_that_was_meant(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        here.artifact("tiny", write_random_model(tmp_path / "tiny.gguf"), "gguf")
        meant = here.artifacts.get("tiny").id
        await here.make("mine", artifact="tiny", artifact_id=meant)
        here.artifact("tiny", write_random_model(tmp_path / "tiny.gguf"), "gguf")
        with pytest.raises(Conflict, match="'tiny' was replaced meanwhile"):
            await here.make("other", artifact="tiny", artifact_id=meant)
        assert here.names() == ["mine:latest"]
        here.artifacts.delete("tiny")  # nobody holds it


@awaited
async def test_an_artifact_stays_while_it_is_read_and_is_free_again_whatever_came_of_it(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        here.artifact("folder", write_folder(tmp_path / "folder"))
        async with aclosing(here.keeper.create(CreateRequest("mine", artifact="folder"))) as steps:
            await anext(steps)
            with pytest.raises(Conflict, match="in use"):
                here.artifacts.delete("folder")
        (tmp_path / "folder" / "config.json").write_text("{}")
        here.artifact("broken", tmp_path / "folder")
        with pytest.raises((InvalidRequest, Unsupported)):
            await here.make("mine", artifact="broken")
        here.artifacts.delete("broken")
        here.artifacts.delete("folder")
        assert here.names() == []
