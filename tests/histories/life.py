"""A server's life with eight clients: started, asked, killed in the middle, started again, and looked at in the end."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from pathlib import Path

import httpx2
from msgspec import Struct
from tests.acceptance.serving import PATIENCE, Served, serve
from tests.histories.clients import Clients, Wrong
from tests.registry.server import Registry
from tests.registry.threads import in_a_thread
from tools.random_model import write_random_model

from localmodels.core.catalog import Digest
from localmodels.store.model_store import ModelStore


class Life(Struct, frozen=True):
    """How much was done, and what was wrong with it."""

    steps: int
    operations: int
    wrong: tuple[str, ...]


async def lived(directory: Path, *, steps: int, seed: int, kills: int = 0) -> Life:
    """Lives a history in an empty directory, and judges it."""
    home = directory / "home"
    weights = (await asyncio.to_thread(write_random_model, directory / "tiny.gguf", end_bias=-100.0)).read_bytes()
    wrong: list[str] = []
    with in_a_thread(Registry()) as registry:
        clients = Clients(registry, home / "models", weights, seed)
        for life in range(kills + 1):
            with serve("--log-level", "warning", home=home) as served:
                clients.url = served.url
                if not life:
                    upload(served, weights)
                last = life == kills
                wrong += await one(
                    clients, served, steps - clients.done if last else steps // (kills + 1), killed=not last
                )
            if wrong:
                break
    wrong += [f"{name}: no order of its operations has these answers" for name in clients.wrong()]
    store = ModelStore(home / "models")
    store.recover(age=-1.0)
    wrong += [f"{found.kind}: {found.path}" for found in store.check(read_data=True) if found.kind != "orphan"]
    return Life(clients.done, len(clients.seen), tuple(wrong))


async def one(clients: Clients, served: Served, steps: int, *, killed: bool) -> list[str]:
    """The life of one process; it may be killed while it does the last things that it was asked for."""
    living = asyncio.create_task(clients.live(steps))
    if killed:
        begun = asyncio.create_task(clients.begun.wait())
        await asyncio.wait([living, begun], return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        served.process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(served.process.wait, PATIENCE)
    await asyncio.wait([living])
    if not killed and (status := served.process.poll()) is not None:
        return [f"the server ended by itself, with {status}"]
    error = living.exception()
    if isinstance(error, ExceptionGroup):
        return [str(one) if isinstance(one, Wrong) else repr(one) for one in error.exceptions]
    if error is not None:
        raise error
    return []


def upload(served: Served, weights: bytes) -> None:
    """Brings the weights that all models are made of."""
    digest = Digest(hashlib.sha256(weights).hexdigest())
    httpx2.post(f"{served.url}/api/blobs/{digest}", content=weights, timeout=PATIENCE).raise_for_status()
