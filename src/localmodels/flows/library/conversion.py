"""A folder of safetensors made one GGUF file on the way into the library, by a child process that has no rights.

The rule: room for the new file is set aside before its first byte, and the child is gone before this ends; it is killed
as soon as nobody waits for it any more, whatever it does then. What a folder is, only the child reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from localmodels.artifacts.convert import Converter, Job, Outline
from localmodels.artifacts.convert.job import IGNORED, PRE_TOKENIZER
from localmodels.artifacts.gguf import read_header
from localmodels.artifacts.gguf_header import Header
from localmodels.core.catalog import Blob
from localmodels.core.errors import InvalidRequest, LocalModelsError, ModelDamaged, Unsupported
from localmodels.core.library import CreateRequest, Progress
from localmodels.flows.concurrency.thread_progress import Done, Tell, watched
from localmodels.flows.concurrency.threads import begun, ended, in_thread, opened
from localmodels.flows.library.quantization import NICE, NO_DIGEST
from localmodels.store.leases import Lease
from localmodels.store.model_store import ModelStore

CHILD = "localmodels.engine.converter"
# What may help with a refusal, by the field of the job that the converter blames: a server has no such switches.
HINTS: Mapping[str | None, str] = {
    PRE_TOKENIZER: "; convert it first with `localmodels convert --pre-tokenizer NAME`, then deploy the file",
    IGNORED: "; to do without it, convert it first with `localmodels convert --ignore FIELD`, then deploy the file",
}


class Converted(Struct, frozen=True):
    """The blob that a folder became, its head, and what the child said of it."""

    blob: Blob
    header: Header
    outline: Outline


async def convert_folder(
    store: ModelStore, lease: Lease, job: Job
) -> AsyncGenerator[Progress | Converted | Outline, None]:
    """How far it is, and :class:`Converted` at the end; or the outline alone, of an adapter that must be merged.

    Args:
        store: where the blob is written.
        lease: protects it until the lease ends.
        job: names files that somebody else protects.

    Raises:
        Unsupported: such a folder cannot be converted; says why.
        ModelDamaged: it is not sound.
        EngineError: the child died, or gave nothing for too long.
        DiskFull: there is no room.
    """
    doing = "converting adapter" if job.apart else "converting model"
    child = await opened(lambda: Converter(replace(job, nice=NICE), module=CHILD), Converter.close)
    try:
        yield Progress(doing)
        outline = await outline_of(child)
        if outline.merge:
            yield outline
            return
        for note in outline.notes:
            yield Progress(note)
        await in_thread(lease.reserve, outline.size)
        if outline.source and outline.source != outline.target:
            doing = f"quantizing {outline.source} model to {outline.target}"

        def written(tell: Tell) -> Blob:
            return store.write(lease, child.pieces(), size=outline.size, progress=tell)

        async with aclosing(watched(written, wake=child.kill)) as steps:
            async for step in steps:
                if isinstance(step, Done):
                    yield Progress("verifying conversion")
                    header = await in_thread(read_header, store.layout.blob(step.value.digest))
                    yield Converted(step.value, header, outline)
                else:
                    yield Progress(doing, NO_DIGEST, outline.size, step)
    finally:
        await in_thread(child.close)


async def outline_of(child: Converter) -> Outline:
    """What the child will write; whoever leaves meanwhile ends it."""
    future = begun(child.outline)
    try:
        await asyncio.wait([future])
    finally:
        if not future.done():
            child.kill()
        await ended(future)
    return future.result()


def paths(files: Mapping[str, Path]) -> dict[str, str]:
    """Files as a job names them."""
    return {name: str(path) for name, path in files.items()}


def blamed(error: ModelDamaged | Unsupported, param: str) -> LocalModelsError:
    """The error of a child as one about the request: whoever sent the folder can mend it, and nobody else."""
    if isinstance(error, Unsupported):
        return error.reworded(f"{error.message}{HINTS.get(error.param, '')}", param)
    return InvalidRequest(f"it cannot be converted: {error.message}", param=param)


def with_words(request: CreateRequest, outline: Outline) -> CreateRequest:
    """The request with what the folder says besides weights, where it leaves that open."""
    return replace(
        request,
        parameters=tuple((dict(outline.sampling) | dict(request.parameters)).items()),
        license=outline.licenses or None if request.license is None else request.license,
    )
