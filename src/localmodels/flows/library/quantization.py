"""A model's weights made smaller on the way into the library, by a child process that has no rights.

The rule: room for the new file is set aside before its first byte, and the child is gone before this ends.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from pathlib import Path

from msgspec import Struct

from localmodels.artifacts.gguf import read_header
from localmodels.artifacts.gguf_header import Header
from localmodels.artifacts.quantize import FileType, Job, Plan, Quantizer, plan
from localmodels.core.catalog import Blob
from localmodels.core.library import Progress
from localmodels.flows.concurrency.thread_progress import Done, Tell, watched
from localmodels.flows.concurrency.threads import in_thread, opened
from localmodels.store.leases import Lease
from localmodels.store.model_store import ModelStore

CHILD = "localmodels.engine.quantizer"
NICE = 10  # answers go first
NO_DIGEST = "0" * 19  # what Ollama gives as the digest of a blob that has none yet; its clients draw a bar for it


class Quantized(Struct, frozen=True):
    """The blob that a model became, and its head."""

    blob: Blob
    header: Header


async def quantize_model(
    store: ModelStore, lease: Lease, path: Path, header: Header, target: FileType, *, threads: int
) -> AsyncGenerator[Progress | Quantized, None]:
    """How far it is, and :class:`Quantized` at the end; neither if the model is of this type already.

    Args:
        store: where the blob is written.
        lease: protects it until the lease ends.
        path: a model in one file, which somebody else protects.
        header: of that file.
        target: what it is to become.
        threads: how many compute at once.

    Raises:
        Unsupported: the model cannot become that.
        ModelDamaged: it has weights that are no numbers.
        EngineError: the child died.
        DiskFull: there is no room.
    """
    made = await in_thread(plan, path, target)
    if not made.changes and header.quantization_level == target.name:
        return
    await in_thread(lease.reserve, made.size)
    status = f"quantizing {header.quantization_level} model to {target.name}"
    job = Job(str(path), target.name, threads, nice=NICE)
    child = await opened(lambda: Quantizer(job, module=CHILD), Quantizer.close)
    try:
        # Without the kill, the thread that reads from the child would wait for what it says next.
        async with aclosing(watched(partial(_written, store, lease, child, made), wake=child.kill)) as steps:
            async for step in steps:
                if isinstance(step, Done):
                    yield Progress("verifying conversion")
                    yield Quantized(step.value, await in_thread(read_header, _place(store, step.value)))
                else:
                    yield Progress(status, NO_DIGEST, header.file_size, header.file_size * step // made.size)
    finally:
        await in_thread(child.close)


def _written(store: ModelStore, lease: Lease, child: Quantizer, made: Plan, tell: Tell) -> Blob:
    return store.write(lease, child.pieces(), size=made.size, progress=tell)


def _place(store: ModelStore, blob: Blob) -> Path:
    return store.layout.blob(blob.digest)
