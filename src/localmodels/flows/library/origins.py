"""What a new model is made of, found by the names in its request: a model of the library, or artifacts.

The rule: an artifact is held for as long as it is read, and a name leads to what was meant or to an error that says
what to give instead.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from localmodels.core.artifacts import Artifact
from localmodels.core.catalog import DEFAULT_TAG, ModelName
from localmodels.core.errors import InvalidRequest, InvalidValue, ModelNotFound, NotFound
from localmodels.core.library import CreateRequest
from localmodels.flows.concurrency.threads import in_thread, opened
from localmodels.store.entries import Entry
from localmodels.store.library import Library


class Held(Protocol):
    """An artifact that stays as it is for as long as it is held."""

    @property
    def artifact(self) -> Artifact:
        """What it is."""
        ...

    @property
    def files(self) -> Mapping[str, Path]:
        """Its files, by their names in the folder."""
        ...

    def close(self) -> None:
        """Lets go of it."""
        ...


class Artifacts(Protocol):
    """Where artifacts are."""

    def held(self, name: str, id: str = "") -> Held:  # noqa: A002
        """The artifact of this name, and of this id unless that is empty; nobody replaces or deletes it meanwhile.

        Raises:
            NotFound: there is none.
            Conflict: another one has the name now.
            InvalidValue: nothing can have this name.
        """
        ...


class NoArtifacts:
    """Nothing was ever uploaded here."""

    def held(self, name: str, id: str = "") -> Held:  # noqa: A002
        raise NotFound(f"artifact {name[:128]!r} not found", param="artifact")


class Origin(Struct, frozen=True):
    """What a new model is made of, beside uploaded files.

    Attributes:
        entry: a model of the library.
        artifact: what was uploaded; of an adapter ``base`` is the model it is for, unless that is ``entry``.
        folder: of weights that the adapter can be merged into, where it cannot be a file beside its base.
    """

    entry: Entry | None = None
    artifact: Held | None = None
    base: Held | None = None
    folder: Held | None = None

    def merging(self) -> Origin | None:
        """The same adapter with the folder as its base; None where there is none."""
        return Origin(artifact=self.artifact, base=self.folder) if self.folder is not None else None

    def notes(self, said: str, *, merged: bool) -> Iterator[str]:
        """What should be known of the base of an adapter that was uploaded, in sentences.

        Args:
            said: the base that was asked for; empty where nothing was said.
            merged: the adapter is merged into it.
        """
        if self.artifact is None or self.artifact.artifact.kind != "adapter":
            return
        how = "merged into it" if merged else "the adapter stays a file of its own"
        name = ""
        if self.entry is not None:
            name = self.entry.name.name
            yield f"base: model {str(self.entry.name).removesuffix(f':{DEFAULT_TAG}')!r}; {how}"
        elif self.base is not None:
            name = self.base.artifact.name
            yield f"base: artifact {name!r}; {how}"
        adapter = self.artifact.artifact
        if said and adapter.base and trained_on(adapter).lower() != name.lower():
            yield f"made for {adapter.base[:200]!r}, put onto {name!r} as asked"


class Origins:
    """Finds them.

    Args:
        library: finds models.
        artifacts: holds artifacts.
    """

    def __init__(self, library: Library, artifacts: Artifacts) -> None:
        self._library = library
        self._artifacts = artifacts

    @asynccontextmanager
    async def named(self, request: CreateRequest) -> AsyncIterator[Origin]:
        """What a request names; artifacts are held until this is left.

        The base of an adapter is the model of the library that has the name, else the artifact that has it.

        Raises:
            InvalidRequest: names that exclude each other, or an adapter whose base nobody knows.
            ModelNotFound, NotFound: there is nothing of a name.
            Conflict: another artifact than was meant has the name now.
            ModelDamaged: the model, or the artifact, cannot be used.
        """
        if not request.artifact:
            yield Origin(await in_thread(self._library.find, request.base) if request.base else None)
            return
        if request.files or request.adapters:
            raise InvalidRequest(
                "artifact and files or adapters: a model is made of the one or of the others, not of both",
                param="artifact",
            )
        async with AsyncExitStack() as stack:
            held = await self._hold(stack, request.artifact, request.artifact_id)
            if held.artifact.kind == "adapter":
                yield await self._for_adapter(stack, held, request)
            elif request.base:
                what = f"base: {request.artifact!r} is a whole model; only an adapter is put onto a base"
                raise InvalidRequest(what, param="from")
            else:
                yield Origin(artifact=held)

    async def _for_adapter(self, stack: AsyncExitStack, adapter: Held, request: CreateRequest) -> Origin:
        """The adapter with its base: the one that the request names, else the one that it was trained on."""
        before = trained_on(adapter.artifact)
        name = request.base or before
        # What is made anew is its own base only if somebody says so: the adapter may be in it already.
        itself = not request.base and is_same(name, request.model)
        entry = None if itself else await self._entry(name)
        base = await self._artifact(stack, name) if entry is None else None
        if entry is None and base is None:
            raise nothing_for(adapter.artifact, request.base)
        if base is not None and base.artifact.kind == "adapter":
            what = f"artifact {base.artifact.name!r} is an adapter itself; name a whole model as its base"
            raise InvalidRequest(what, param="from")
        return Origin(entry, adapter, base, await self._folder(stack, name, before))

    async def _entry(self, name: str) -> Entry | None:
        """The model of this name; None if there is none, or can be none."""
        try:
            return await in_thread(self._library.find, name) if name else None
        except (ModelNotFound, InvalidValue):
            return None

    async def _folder(self, stack: AsyncExitStack, *names: str) -> Held | None:
        """The first artifact of these names that is a folder of weights, held."""
        for name in names:
            found = await self._artifact(stack, name)
            if found is not None and found.artifact.kind == "model":
                return found
        return None

    async def _artifact(self, stack: AsyncExitStack, name: str) -> Held | None:
        """The artifact of this name, held; None if there is none, or can be none."""
        try:
            return await self._hold(stack, name) if name else None
        except (NotFound, InvalidValue):
            return None

    async def _hold(self, stack: AsyncExitStack, name: str, id: str = "") -> Held:  # noqa: A002
        held = await opened(lambda: self._artifacts.held(name, id), lambda found: found.close())
        stack.push_async_callback(in_thread, held.close)
        return held


def trained_on(adapter: Artifact) -> str:
    """The name of the model that an adapter was made for, without where its maker had it; empty if nobody said."""
    return adapter.base.rstrip("/").rpartition("/")[2]


def is_same(name: str, model: str) -> bool:
    """Is this the name of that model, too?"""
    try:
        return ModelName.parse(name) == ModelName.parse(model)
    except InvalidValue:
        return False


def nothing_for(adapter: Artifact, said: str) -> InvalidRequest | NotFound:
    """Why an adapter has no base."""
    if said:
        return NotFound(f"there is neither a model nor an artifact {said[:128]!r}", param="from")
    made_for = f"it was made for {adapter.base[:200]!r}, which is not here" if adapter.base else "it names none"
    return InvalidRequest(
        f"artifact {adapter.name!r} is an adapter and needs its base ({made_for}); "
        "name a model of the library or an artifact as base",
        param="from",
    )
