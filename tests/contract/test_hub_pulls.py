"""Pulls from a hub into a real store: room, departures in the middle, and files that are not what they seem."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import replace
from tests.awaited import awaited
from tests.registry.clients import PATIENT, UNHURRIED
from tests.registry.hub import Hub, Rule
from tests.registry.wire import Asked, Reply
from tests.split_gguf import split_gguf
from tests.unit.store.ollama_store import write_projector
from tools.random_model import TINY, write_random_model

from localmodels.core.catalog import ModelName
from localmodels.core.errors import DiskFull, Garbled, LocalModelsError, ModelDamaged
from localmodels.core.library import SUCCESS
from localmodels.flows.library.hub_pulls import HubPulls
from localmodels.flows.library.transfers import StoreSinks
from localmodels.registry import hub as registry
from localmodels.registry.addresses import Place, Registries
from localmodels.registry.credentials import MemoryCredentials
from localmodels.registry.downloads import Downloads
from localmodels.registry.hub_pull import HubPuller
from localmodels.registry.outbound import Outbound
from localmodels.store.entries import Entry
from localmodels.store.model_store import ModelStore
from localmodels.store.ollama import OllamaShelf
from localmodels.store.space import Space

REPO = "me/Big-GGUF"
NAME = ModelName.parse(f"hf.co/{REPO}:F16")
KEPT = 2 * 10**9  # of a large disk
SMALL_FILES = 200_000  # claims, locks and journals of some leases, a block each


class Disk:
    """How much room a store is told that it has: so many bytes, less those of its files."""

    def __init__(self, root: Path, room: int) -> None:
        self.root = root
        self.room = room
        self.seen: list[set[str]] = []  # the blobs, each time that somebody asked for room

    def space(self, _descriptor: int) -> Space:
        self.seen.append({path.name for path in (self.root / "blobs").glob("sha256-*")})
        return Space(10**12, KEPT + self.room - self.used())

    def used(self) -> int:
        """Bytes of all that lies there."""
        total = 0
        for file in self.root.rglob("*"):
            with suppress(FileNotFoundError):  # others are at work here
                total += file.stat().st_blocks * 512
        return total


class World(Struct, frozen=True):
    """A hub, and a store that pulls from it."""

    hub: Hub
    store: ModelStore
    pulls: HubPulls
    disk: Disk

    @property
    def places(self) -> tuple[Place, ...]:
        trusted = [(self.hub.url.removeprefix("http://"), self.hub.storage)]
        return Registries.configured(hub=self.hub.url, trusted=trusted).places(NAME)

    async def pull(self, name: ModelName = NAME) -> list[str]:
        return [step.status async for step in self.pulls.pull(name, self.places)]

    async def leave_when_merged(self) -> None:
        """Pulls until the parts are there and are being merged, and no further."""
        async with aclosing(self.pulls.pull(NAME, self.places)) as steps:
            async for step in steps:
                if step.status.startswith("merging"):
                    break

    def entry(self, name: ModelName = NAME) -> Entry:
        entry = OllamaShelf(self.store.layout.root, source="home").find(name)
        assert entry is not None
        return entry

    def model(self, name: ModelName = NAME) -> bytes:
        return contents(Path(self.entry(name).model_path))

    def blobs(self) -> set[str]:
        return {path.name for path in (self.store.layout.root / "blobs").glob("sha256-*")}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 3 MiB: its parts are some times as large as everything else."""
    shape = TINY.__class__(**{**TINY.__dict__, "width": 256, "layers": 4, "feed_forward": 512})
    return write_random_model(tmp_path_factory.mktemp("weights") / "big.gguf", shape=shape)


@pytest.fixture(scope="module")
def parts(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    directory = tmp_path_factory.mktemp("parts")
    return {path.name: path.read_bytes() for path in split_gguf(weights, directory, "Big-F16", each=7)}


@asynccontextmanager
async def world(root: Path, *rules: Rule, room: int = 10**9) -> AsyncIterator[World]:
    disk = Disk(root, room)
    store = ModelStore(root, measure=disk.space)
    async with Hub(*rules) as hub, Outbound(patience=PATIENT) as outbound:
        chance = random.Random(7)
        client = registry.Hub(outbound, registry.HubTokens(MemoryCredentials()))
        downloads = Downloads(StoreSinks(store), pace=UNHURRIED, chance=chance)
        pulls = HubPulls(store, HubPuller(client, downloads, pace=UNHURRIED, interval=0.0, chance=chance))
        yield World(hub, store, pulls, disk)


def stock(hub: Hub, parts: dict[str, bytes]) -> None:
    for name, data in parts.items():
        hub.put(REPO, name, data)


def contents(file: Path) -> bytes:
    return file.read_bytes()


def remove(file: Path) -> None:
    file.unlink()


def digest_of(data: bytes) -> str:
    return f"sha256-{hashlib.sha256(data).hexdigest()}"


@awaited
async def test_parts_become_one_blob_and_are_gone(tmp_path: Path, parts: dict[str, bytes], weights: Path) -> None:
    async with world(tmp_path / "store") as here:
        stock(here.hub, parts)
        said = await here.pull()
        assert said[-1] == SUCCESS
        assert here.model() == contents(weights)
        assert here.blobs().isdisjoint(map(digest_of, parts.values()))
        assert len(here.blobs()) == 2  # the weights and the config
        assert not here.store.check(read_data=True)


@awaited
async def test_no_room_is_said_before_a_byte_is_fetched(tmp_path: Path, parts: dict[str, bytes]) -> None:
    whole, largest = sum(map(len, parts.values())), max(map(len, parts.values()))
    async with world(tmp_path / "store", room=whole + largest // 2) as here:
        stock(here.hub, parts)
        with pytest.raises(DiskFull):
            await here.pull()
        assert here.hub.count("storage") == 0
        assert here.store.read_manifest(NAME) is None


@pytest.mark.parametrize("more", ["whole", "part", "too little"])
@awaited
async def test_with_little_room_each_part_goes_as_soon_as_it_was_copied(
    tmp_path: Path, parts: dict[str, bytes], weights: Path, more: str
) -> None:
    whole, largest = sum(map(len, parts.values())), max(map(len, parts.values()))
    room = {"whole": whole, "part": largest, "too little": largest // 2}[more] + SMALL_FILES
    async with world(tmp_path / "store") as here:
        stock(here.hub, parts)
        await here.leave_when_merged()
        here.disk.room = here.disk.used() + room
        fetched = here.hub.count("storage")
        if more == "too little":
            with pytest.raises(DiskFull):
                await here.pull()
            assert here.blobs() >= set(map(digest_of, parts.values()))
            return
        here.disk.seen.clear()
        await here.pull()
        left = [len(blobs & set(map(digest_of, parts.values()))) for blobs in here.disk.seen]
        # After the last part nobody asks for room any more.
        assert sorted(set(left)) == ([*range(1, len(parts) + 1)] if more == "part" else [len(parts)])
        assert here.model() == contents(weights)
        assert here.blobs().isdisjoint(map(digest_of, parts.values()))
        assert here.hub.count("storage") == fetched


@awaited
async def test_who_leaves_while_it_is_merged_finds_the_parts_the_next_time(
    tmp_path: Path, parts: dict[str, bytes], weights: Path
) -> None:
    async with world(tmp_path / "store") as here:
        stock(here.hub, parts)
        await here.leave_when_merged()
        assert here.store.read_manifest(NAME) is None
        assert here.blobs() >= set(map(digest_of, parts.values()))
        fetched = here.hub.count("storage")
        assert (await here.pull())[-1] == SUCCESS
        assert here.hub.count("storage") == fetched
        assert here.model() == contents(weights)


@awaited
async def test_another_commit_is_fetched_anew_and_the_same_parts_are_not(
    tmp_path: Path, parts: dict[str, bytes]
) -> None:
    async with world(tmp_path / "store") as here:
        stock(here.hub, parts)
        await here.pull()
        fetched = here.hub.count("storage")
        here.hub.put(REPO, "README.md", b"new", lfs=False)
        assert (await here.pull())[-1] == SUCCESS
        assert here.hub.count("storage") == fetched
        other = split_gguf(write_random_model(tmp_path / "other.gguf", seed=9), tmp_path, "Big-F16", each=7)
        here.hub.repositories[REPO].clear()
        stock(here.hub, {path.name: path.read_bytes() for path in other})
        assert "merging 3 files" in await here.pull()
        assert here.model() == contents(tmp_path / "other.gguf")
        assert here.hub.count("storage") > fetched
        assert here.store.check(read_data=True) == ()  # what the name meant before is gone


@awaited
async def test_what_was_merged_and_has_rotted_is_fetched_again(
    tmp_path: Path, parts: dict[str, bytes], weights: Path
) -> None:
    async with world(tmp_path / "store") as here:
        stock(here.hub, parts)
        await here.pull()
        remove(Path(here.entry().model_path))
        assert f"merging {len(parts)} files" in await here.pull()
        assert here.model() == contents(weights)


@awaited
async def test_parts_that_lie_in_git_are_merged_too(tmp_path: Path, parts: dict[str, bytes], weights: Path) -> None:
    async with world(tmp_path / "store") as here:
        for name, data in parts.items():
            here.hub.put(REPO, name, data, lfs=False)
        assert (await here.pull())[-1] == SUCCESS
        assert here.model() == contents(weights)


@awaited
async def test_a_projector_comes_along_as_its_own_layer(tmp_path: Path, weights: Path) -> None:
    async with world(tmp_path / "store") as here:
        projector = write_projector(tmp_path / "mmproj.gguf").read_bytes()
        here.hub.put(REPO, "Big-F16.gguf", contents(weights))
        here.hub.put(REPO, "mmproj-F16.gguf", projector)
        await here.pull()
        assert contents(Path(here.entry().projector_path)) == projector


@pytest.mark.parametrize(
    ("path", "data", "words"),
    [
        ("Big-F16.gguf", b"GGUF but no model", r"^Big-F16\.gguf: "),
        ("params", b"[1, 2]", "^params: "),
        ("system", b"\xff\xfe", "^system: "),
    ],
)
@awaited
async def test_files_that_are_not_what_they_should_be_are_named(
    tmp_path: Path, weights: Path, path: str, data: bytes, words: str
) -> None:
    async with world(tmp_path / "store") as here:
        here.hub.put(REPO, "Big-F16.gguf", contents(weights))
        here.hub.put(REPO, path, data, lfs=path.endswith(".gguf"))
        with pytest.raises(ModelDamaged, match=words):
            await here.pull()
        assert here.store.read_manifest(NAME) is None


@awaited
async def test_a_projector_in_the_models_place_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path / "store") as here:
        here.hub.put(REPO, "Big-F16.gguf", write_projector(tmp_path / "p.gguf").read_bytes())
        with pytest.raises(ModelDamaged, match=r"Big-F16\.gguf: the file is of the kind 'projector'"):
            await here.pull()


@awaited
async def test_a_text_without_end_is_cut_off(tmp_path: Path, weights: Path) -> None:
    async with world(tmp_path / "store") as here:
        here.hub.put(REPO, "Big-F16.gguf", contents(weights))
        here.hub.put(REPO, "template", b"x" * (2**20 + 1), lfs=False)
        with pytest.raises(Garbled, match="longer than"):
            await here.pull()


@awaited
async def test_many_who_pull_at_once_fetch_each_part_once_and_all_have_it(
    tmp_path: Path, parts: dict[str, bytes], weights: Path
) -> None:
    async with world(tmp_path / "store") as here:
        stock(here.hub, parts)
        ends = await asyncio.gather(*(here.pull() for _ in range(5)), return_exceptions=True)
        assert [end[-1] for end in ends if not isinstance(end, BaseException)] == [SUCCESS] * 5
        assert here.model() == contents(weights)
        assert here.hub.count("storage") == sum(-(-len(data) // UNHURRIED.part) for data in parts.values())


@awaited
async def test_bytes_that_are_not_what_the_listing_says_leave_nothing(tmp_path: Path, parts: dict[str, bytes]) -> None:
    def rotten(asked: Asked, reply: Reply) -> Reply:
        return replace(reply, body=b"\0" * len(reply.body))

    async with world(tmp_path / "store", Rule("storage", rotten)) as here:
        stock(here.hub, parts)
        with pytest.raises(LocalModelsError):
            await here.pull()
        assert here.blobs() == set()
