"""What a pull and a creation take beside the plain tools that move and hash the same bytes.

A pull is fetched from Debian's registry on loopback, verified, synced and published; ``curl`` writes the same bytes to
a file, and ``sha256sum`` reads them. A creation hashes a file, brings it to the server and names it; ``cp`` copies it
and ``sha256sum`` reads it.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.registry.docker import ABSENT, PROGRAM, docker_registry
from tools.random_model import Shape, write_random_model

from benchmarks.report import Figure
from benchmarks.rounds import Sides, interleaved
from benchmarks.serving import server
from localmodels.client import Client, CreateRequest

# 354 MB of F16: large enough that setting up is a hundredth of it.
SHAPE = Shape(width=1024, layers=12, heads=16, kv_heads=8, head_width=64, feed_forward=2816, context=4096, vocab=16_000)
ROUNDS = 9


async def figures() -> list[Figure]:
    """All of them; without Debian's registry there is nothing to pull from."""
    with TemporaryDirectory(dir=Path.cwd()) as name:
        async with server(parallel=1) as ours:
            return await asyncio.to_thread(measured, ours.url, Path(name))


def measured(url: str, folder: Path) -> list[Figure]:
    """The figures of a server that runs; what is written goes to ``folder``."""
    model = write_random_model(folder / "model.gguf", shape=SHAPE, type="f16")
    with Client(url) as client:
        found = [creation(client, model)]
        if PROGRAM is None:
            print(f"no pull is measured: {ABSENT}")
            return found
        (folder / "registry").mkdir()
        with docker_registry(folder / "registry", login=False) as registry:
            return [pull(client, registry, model), *found]


def creation(client: Client, model: Path) -> Figure:
    """A model made of a file, over a copy that is hashed."""
    copy = model.with_suffix(".copy")

    def ours() -> None:
        client.finish(client.create(CreateRequest("made", files=((model.name, client.upload(model)),))))

    def theirs() -> None:
        run("cp", model, copy)
        run("sha256sum", copy)

    def clear() -> None:
        client.delete("made")
        copy.unlink()

    return ratio("create, rate : cp + sha256sum", {"ours": ours, "theirs": theirs}, clear, model, bar=0.8)


def pull(client: Client, registry: str, model: Path) -> Figure:
    """A model pulled, over its bytes fetched and hashed."""
    name = f"{registry.removeprefix('http://')}/bench/model"
    digest = client.upload(model)
    client.finish(client.create(CreateRequest(name, files=((model.name, digest),))))
    client.finish(client.push(name, insecure=True))
    client.delete(name)
    copy = model.with_suffix(".fetched")

    def ours() -> None:
        client.finish(client.pull(name, insecure=True))

    def theirs() -> None:
        run("curl", "--silent", "--fail", "--output", copy, f"{registry}/v2/bench/model/blobs/{digest}")
        run("sha256sum", copy)

    def clear() -> None:
        client.delete(name)
        copy.unlink()

    return ratio("pull, rate : curl + sha256sum", {"ours": ours, "theirs": theirs}, clear, model, bar=0.7)


def ratio(name: str, sides: Sides, clear: Callable[[], None], model: Path, *, bar: float) -> Figure:
    """How fast ours is, as a part of theirs; ``clear`` takes away what a round left."""
    times = interleaved(sides, ROUNDS, clear=clear)
    ratios = [theirs / ours for ours, theirs in zip(times["ours"], times["theirs"], strict=True)]
    value = median(ratios)
    rate = model.stat().st_size / 1e6 / median(times["ours"])
    note = f"{min(ratios):.2f} to {max(ratios):.2f}, {rate:.0f} MB/s"
    return Figure(name, value, "", f"≥ {bar:g}", value >= bar, note)


def run(*words: str | Path) -> None:
    """A tool, to its end."""
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
