"""The files of a new model, made: merged, converted, quantised, copied, each a blob of the store at the end.

The rule: what costs little comes first, so that an adapter that does not fit is refused before a model is converted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from localmodels.artifacts.convert import Job, Outline
from localmodels.artifacts.quantize import FileType
from localmodels.core.errors import InvalidRequest, ModelDamaged, Unsupported
from localmodels.core.library import CreateRequest, Progress
from localmodels.flows.concurrency.thread_progress import Done, watched
from localmodels.flows.library.conversion import Converted, blamed, convert_folder, paths
from localmodels.flows.library.ingredients import Foreign, Found, Ingredient, Raw, Split, Weights, param_of, require_fit
from localmodels.flows.library.origins import Origin, trained_on
from localmodels.flows.library.quantization import Quantized, quantize_model
from localmodels.flows.library.source_files import Gatherer
from localmodels.flows.library.split_merge import Merged, merge_parts
from localmodels.store.leases import Lease
from localmodels.store.model_store import ModelStore

Making = AsyncGenerator[Progress | Weights | Outline, None]
"""How far it is, what a folder says besides weights, and files that were made."""
Finding = AsyncGenerator[Progress | Origin | Found, None]
"""How far it is, another origin than was named, and the ingredients."""

MUTE = "the folder has no chat template; conversations are laid out by the engine's default"


class Order(Struct, frozen=True, eq=False):
    """What is to become of a model's weights.

    Attributes:
        lease: protects what is made.
        target: what they shall be; None leaves them.
        param: the request's field that named them; empty where nothing was sent.
        merged: an adapter that comes into them.
    """

    lease: Lease
    target: FileType | None
    param: str
    merged: Raw | None


class Maker:
    """Makes files in a store.

    Args:
        store: where they become blobs.
        threads: how many compute at once.
    """

    def __init__(self, store: ModelStore, *, threads: int) -> None:
        self._store = store
        self._threads = threads
        self._gatherer = Gatherer(store)

    async def made(
        self, lease: Lease, request: CreateRequest, origin: Origin, target: FileType | None
    ) -> AsyncGenerator[Progress | Weights | Outline | Origin, None]:
        """How far it is; each file as the new model has it, as soon as it is there; what a folder says besides.

        And another origin, where an adapter cannot be beside the model that was named and is merged into a folder.

        Args:
            lease: protects what is brought and made.
            request: names files, itself or by its origin.
            origin: what the new model is made of.
            target: what its weights shall become; None leaves them.

        Raises:
            InvalidRequest: a file that is not here, is none, or is not what it should be; not one model.
            Unsupported: a folder that cannot be converted.
            ModelDamaged: the base is.
            EngineError: a process that computes died.
            DiskFull: there is no room.
        """
        found: Found | None = None
        async with aclosing(self._found(lease, request, origin)) as finding:
            async for known in finding:
                if isinstance(known, Found):
                    found = known
                    continue
                if isinstance(known, Origin):
                    origin = known
                yield known
        if found is None:
            return
        for note in origin.notes(request.base, merged=found.merge):
            yield Progress(note)
        for one in found.others:
            yield one
        order = Order(
            lease, target, "" if origin.entry else param_of(request), found.raw_adapter if found.merge else None
        )
        async with aclosing(self._model(order, found.model)) as making:
            async for step in making:
                yield step
                if isinstance(step, Weights):
                    require_fit(found.others, step, str(origin.entry.name) if origin.entry else "")
                    if isinstance(found.model, Raw) and is_mute(step, request):
                        yield Progress(MUTE)

    async def _found(self, lease: Lease, request: CreateRequest, origin: Origin) -> Finding:
        """How far it is, the ingredients as they go together, and before them the origin where it became another."""
        found: Found | None = None
        async with aclosing(self._gathered(lease, request, origin)) as gathering:
            async for one in gathering:
                if isinstance(one, Found):
                    found = one
                else:
                    yield one
        if found is None:
            return
        async with aclosing(self._with_adapter(lease, found)) as adapting:
            async for adapted in adapting:
                if not isinstance(adapted, Outline):
                    yield adapted
                    continue
                other = origin.merging()
                if other is None or other.base is None:
                    raise without_folder(origin, request, adapted)
                yield Progress(f"{adapted.merge}; artifact {other.base.artifact.name!r} is taken for that")
                yield other
                async with aclosing(self._gathered(lease, request, other)) as gathering:
                    async for one in gathering:
                        yield one

    async def _gathered(
        self, lease: Lease, request: CreateRequest, origin: Origin
    ) -> AsyncGenerator[Progress | Found, None]:
        """How many bytes were read, and the ingredients."""
        total = origin.entry.size if origin.entry else 0
        async with aclosing(watched(partial(self._gatherer.found, lease, request, origin))) as reading:
            async for read in reading:
                if isinstance(read, Done):
                    yield read.value
                elif read:
                    yield Progress("reading model data", total=total, completed=read)

    async def _with_adapter(self, lease: Lease, found: Found) -> AsyncGenerator[Progress | Found | Outline, None]:
        """How far it is, and the ingredients after the adapter was made a file, or with the order to merge it.

        An outline says that it must be merged, and that the model cannot take it.
        """
        raw = found.raw_adapter
        if raw is None or found.merge:
            yield found
            return
        model = found.model
        files, base = (paths(model.files), ()) if isinstance(model, Raw) else ({}, self._places(model))
        job = Job(files, "", raw.title, self._threads, adapter=paths(raw.files), apart=True, base=base)
        try:
            async with aclosing(convert_folder(self._store, lease, job)) as steps:
                async for step in steps:
                    if isinstance(step, Converted):
                        made = Weights("adapter", step.blob, step.header, raw.title, new=True)
                        require_fit([made], model, "")
                        others = tuple(one for one in found.others if one.kind != "adapter")
                        yield replace(found, others=(*others, made), raw_adapter=None)
                    elif isinstance(step, Outline):
                        yield step if base else replace(found, merge=True)
                    else:
                        yield step
        except (ModelDamaged, Unsupported) as error:
            raise blamed(error, raw.param) from error

    def _places(self, model: Ingredient) -> tuple[str, ...]:
        """The files whose heads tell what an adapter is for, in the order of a split model's parts."""
        match model:
            case Weights():
                return (str(self._store.layout.blob(model.blob.digest)),)
            case Split():
                in_order = sorted(model.parts, key=lambda part: part.header.split or (0, 0))
                return tuple(str(part.path) for part in in_order)
            case Foreign():
                return (str(model.path),)
            case Raw():
                return ()

    async def _model(self, order: Order, model: Ingredient) -> Making:
        """How far it is, and at the end the model as it shall be."""
        for work in (self._converted, self._merged, self._quantized, self._copied):
            async with aclosing(work(order, model)) as steps:
                async for step in steps:
                    if isinstance(step, Progress | Outline):
                        yield step
                    else:
                        model = step
        if isinstance(model, Weights):
            yield model

    async def _converted(self, order: Order, model: Ingredient) -> Making:
        """A folder becomes one file, of the type that is wanted, with the adapter in it."""
        if not isinstance(model, Raw):
            return
        target = order.target.name if order.target else ""
        merged = paths(order.merged.files) if order.merged else {}
        job = Job(paths(model.files), target, model.title, self._threads, adapter=merged)
        try:
            async with aclosing(convert_folder(self._store, order.lease, job)) as steps:
                async for step in steps:
                    if isinstance(step, Converted):
                        yield step.outline
                        yield Weights("model", step.blob, step.header, new=True)
                    else:
                        yield step
        except (ModelDamaged, Unsupported) as error:
            raise blamed(error, model.param) from error

    async def _merged(self, order: Order, model: Ingredient) -> Making:
        """The parts of a split model become one file."""
        if not isinstance(model, Split):
            return
        try:
            async with aclosing(merge_parts(self._store, order.lease, model.parts)) as steps:
                async for step in steps:
                    yield Weights("model", step.blob, step.header, new=True) if isinstance(step, Merged) else step
        except ModelDamaged as error:
            if model.uploaded:
                raise InvalidRequest(f"the parts are no sound model: {error.message}", param=order.param) from error
            raise

    async def _quantized(self, order: Order, model: Ingredient) -> Making:
        """The weights become of the type that is wanted, unless they are; a folder's are already."""
        if order.target is None or not isinstance(model, Weights | Foreign):
            return
        path = self._store.layout.blob(model.blob.digest) if isinstance(model, Weights) else model.path
        made = quantize_model(self._store, order.lease, path, model.header, order.target, threads=self._threads)
        try:
            async with aclosing(made) as steps:
                async for step in steps:
                    yield Weights("model", step.blob, step.header, new=True) if isinstance(step, Quantized) else step
        except ModelDamaged as error:
            if order.param:
                raise InvalidRequest(f"it cannot be quantized: {error.message}", param=order.param) from error
            raise

    async def _copied(self, order: Order, model: Ingredient) -> Making:
        """A file of another store becomes one of ours."""
        if not isinstance(model, Foreign):
            return
        total = model.header.file_size
        async with aclosing(watched(partial(self._gatherer.copied, order.lease, model))) as copying:
            async for read in copying:
                if isinstance(read, Done):
                    yield read.value
                elif read:
                    yield Progress("reading model data", total=total, completed=read)


def is_mute(made: Weights, request: CreateRequest) -> bool:
    """Is this a model that generates, and nobody says how a conversation is laid out?"""
    head = made.header
    return made.kind == "model" and not (request.template or head.chat_template or head.is_embedding)


def without_folder(origin: Origin, request: CreateRequest, outline: Outline) -> Unsupported:
    """An adapter must be merged, and what it would be merged into is not here."""
    if origin.artifact is None:
        what = "give the base as a folder of safetensors, which it can be merged into"
        return Unsupported(f"{outline.merge}; {what}", param="adapters")
    before = trained_on(origin.artifact.artifact)
    names = " or ".join(repr(name[:128]) for name in dict.fromkeys((request.base, before)) if name)
    what = "that takes the folder of safetensors that the base was made of, and no such artifact is called"
    return Unsupported(f"{outline.merge}; {what} {names}: upload it first, then name it as base", param="artifact")
