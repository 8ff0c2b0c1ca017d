"""Pulls into the real store: cut again and again, also by the end of the program, nothing that came is asked for twice.

What the registry sent is counted, so that what is fetched again is seen (F17: at most one part a cut).
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.awaited import awaited
from tests.registry import lies
from tests.registry.clients import PATIENT, UNHURRIED, at
from tests.registry.models import TINY, Model, blobs_of, model, stock
from tests.registry.server import Registry, Rule
from tests.registry.wire import Asked, Reply

from localmodels.flows.library.transfers import StoreSinks
from localmodels.registry.addresses import Origin
from localmodels.registry.auth import RegistryTokens
from localmodels.registry.credentials import MemoryCredentials
from localmodels.registry.distribution import Distribution
from localmodels.registry.downloads import Downloads
from localmodels.registry.outbound import Outbound
from localmodels.registry.progress import BlobProgress
from localmodels.registry.pull import Pulled, Puller
from localmodels.store.model_store import ModelStore

DOGGED = replace(UNHURRIED, tries=100)
CUTS = 500


class Sent:
    """Cuts answers about blobs, and counts the bytes that went out."""

    def __init__(self, cuts: int, ends: tuple[str, ...]) -> None:
        self.bytes = 0
        self.cut = 0
        self._cuts = cuts
        self._ends = ends
        self._chance = random.Random(3)

    def rule(self) -> Rule:
        return Rule("blob", self._change, method="GET")

    def _change(self, asked: Asked, reply: Reply) -> Reply:
        whole = len(reply.body)
        if self.cut >= self._cuts:
            self.bytes += whole
            return reply
        self.cut += 1
        where = self._chance.randrange(min(20_000, whole))
        self.bytes += where
        return lies.cut(where, self._chance.choice(self._ends))(asked, reply)


@asynccontextmanager
async def puller(registry: Registry, store: ModelStore) -> AsyncIterator[Puller]:
    """As the program has it, with numbers that suit loopback."""
    async with Outbound(frozenset({Origin.parse(registry.url)}), patience=PATIENT) as outbound:
        distribution = Distribution(outbound, RegistryTokens(outbound, MemoryCredentials()))
        downloads = Downloads(StoreSinks(store), pace=DOGGED, chance=random.Random(7))
        yield Puller(distribution, downloads, blobs_of, pace=DOGGED, interval=0.0, chance=random.Random(7))


def sound(store: ModelStore, pulled: Model) -> bool:
    """Is every blob there, and nothing left over?"""
    wanted = {f"sha256-{blob.digest.hex}" for blob in pulled.blobs}
    found = {path.name for path in (store.layout.root / "blobs").iterdir()}
    return found == wanted and {finding.kind for finding in store.check(read_data=True)} <= {"orphan"}


@pytest.mark.parametrize(("ends", "again"), [(("fin",), 0), (("fin", "rst"), CUTS * DOGGED.part)])
@awaited
async def test_five_hundred_cuts_into_the_store(tmp_path: Path, ends: tuple[str, ...], again: int) -> None:
    """What came before an end is kept; a reset may take back what was on its way, never more than a part."""
    store, big, sent = ModelStore(tmp_path), model(8_000_000, seed=9), Sent(CUTS, ends)
    async with Registry(sent.rule()) as registry, puller(registry, store) as opened:
        stock(registry, big)
        steps = [step async for step in opened.pull(TINY, (at(registry.url),))]
    assert isinstance(steps[-1], Pulled)
    assert sent.cut == CUTS
    size = sum(blob.size for blob in big.blobs)
    assert size <= sent.bytes <= size + again
    assert sound(store, big)


@awaited
async def test_a_program_that_ends_again_and_again_goes_on_where_it_was(tmp_path: Path) -> None:
    """Each run has a store of its own and is broken off; what it had kept is not fetched again."""
    big, sent, runs = model(4_000_000, seed=5), Sent(300, ("fin",)), 0
    async with Registry(sent.rule()) as registry:
        stock(registry, big)
        while True:
            runs += 1
            async with (
                puller(registry, ModelStore(tmp_path)) as opened,
                aclosing(opened.pull(TINY, (at(registry.url),))) as steps,
            ):
                arrived = [step async for step in first(steps, sent, 300_000)]
            if arrived and isinstance(arrived[-1], Pulled):
                break
    assert runs > 5
    size = sum(blob.size for blob in big.blobs)
    assert sent.bytes <= size + runs * DOGGED.at_once * DOGGED.part
    assert sound(ModelStore(tmp_path), big)


async def first(
    steps: AsyncIterator[BlobProgress | Pulled], sent: Sent, size: int
) -> AsyncIterator[BlobProgress | Pulled]:
    """The steps until so many more bytes have been sent."""
    before = sent.bytes
    async for step in steps:
        yield step
        if sent.bytes - before >= size:
            return


@awaited
async def test_what_rotted_in_the_store_is_fetched_again_and_nothing_else(tmp_path: Path) -> None:
    store, small = ModelStore(tmp_path), model(100_000, 2_000)
    async with Registry() as registry, puller(registry, store) as opened:
        stock(registry, small)
        assert [step async for step in opened.pull(TINY, (at(registry.url),))]
        for blob in small.blobs:
            path = store.layout.blob(blob.digest)
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 4
            path.write_bytes(data)
            registry.visits.clear()
            assert [step async for step in opened.pull(TINY, (at(registry.url),))]
            asked = {visit.asked.path.rpartition("/")[2] for visit in registry.visits if visit.kind == "blob"}
            assert asked == {str(blob.digest)}
            assert sound(store, small)
