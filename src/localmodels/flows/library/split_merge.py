"""Split models become one blob, since Ollama's layout, which our store keeps, has one file for the weights."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from msgspec import Struct

from localmodels.artifacts.gguf import read_header
from localmodels.artifacts.gguf_header import Header
from localmodels.artifacts.gguf_merge import Merge, Part, keep, merge
from localmodels.core.catalog import Blob
from localmodels.core.library import Progress
from localmodels.flows.concurrency.thread_progress import Done, Tell, watched
from localmodels.flows.concurrency.threads import in_thread
from localmodels.store.leases import Lease
from localmodels.store.model_store import ModelStore

Finished = Callable[[Part], None]


class Merged(Struct, frozen=True):
    """The blob that the parts became, and its head."""

    blob: Blob
    header: Header


async def merge_parts(
    store: ModelStore, lease: Lease, parts: Sequence[Part], *, reserved: bool = False, finished: Finished = keep
) -> AsyncGenerator[Progress | Merged, None]:
    """How far it is, and :class:`Merged` at the end.

    Args:
        store: where the blob is written.
        lease: protects it until the lease ends.
        parts: in any order.
        reserved: room for all of it has been set aside.
        finished: called in a thread with each part but the last, once it is no longer needed.

    Raises:
        InvalidRequest: they are not all parts of one model, each once.
        ModelDamaged: together they are no sound model.
        DiskFull: there is no room.
    """
    plan = await in_thread(merge, parts)
    if not reserved:
        await in_thread(lease.reserve, plan.size)

    def write(tell: Tell) -> Blob:
        return store.write(lease, plan.pieces(finished), size=plan.size, progress=tell)

    async with aclosing(watched(write)) as steps:
        async for step in steps:
            if isinstance(step, Done):
                # Read again as any other file: the engine gets none that was not.
                header = await in_thread(read_header, store.layout.blob(step.value.digest))
                yield Merged(step.value, header)
            else:
                yield shown(plan, step)


def shown(plan: Merge, completed: int) -> Progress:
    """How far the writing is."""
    return Progress(f"merging {len(plan.parts)} files", total=plan.size, completed=completed)
