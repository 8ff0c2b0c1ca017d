"""What a new model is made of, found by the names in its request: a model of the library, or artifacts.

The rule: an artifact is held for as long as it is read, and a name leads to what was meant or to an error that says
what to give instead.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from localmodels.core.artifacts import Artifact
from localmodels.core.errors import InvalidRequest, InvalidValue, ModelNotFound, NotFound
from localmodels.core.library import CreateRequest
from localmodels.flows.threads import in_thread, opened
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

    def held(self, name: str) -> Held:
        """The artifact of this name; nobody replaces or deletes it meanwhile.

        Raises:
            NotFound: there is none.
            InvalidValue: nothing can have this name.
        """
        ...


class NoArtifacts:
    """Nothing was ever uploaded here."""

    def held(self, name: str) -> Held:
        raise NotFound(f"artifact {name[:128]!r} not found", param="artifact")


class Origin(Struct, frozen=True):
    """What a new model is made of, beside uploaded files.

    Attributes:
        entry: a model of the library.
        artifact: what was uploaded; of an adapter ``base`` is the model it is for, unless that is ``entry``.
    """

    entry: Entry | None = None
    artifact: Held | None = None
    base: Held | None = None


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

        Raises:
            InvalidRequest: names that exclude each other, or an adapter whose base nobody knows.
            ModelNotFound, NotFound: there is nothing of a name.
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
            held = await self._hold(stack, request.artifact)
            if held.artifact.kind == "adapter":
                yield await self._for_adapter(stack, held, request.base)
            elif request.base:
                what = f"from and artifact: {request.artifact!r} is a whole model; only an adapter is put onto a base"
                raise InvalidRequest(what, param="from")
            else:
                yield Origin(artifact=held)

    async def _for_adapter(self, stack: AsyncExitStack, adapter: Held, said: str) -> Origin:
        """The adapter with its base: the one that the request names, else the one that it was trained on."""
        if said:
            try:
                return Origin(await in_thread(self._library.find, said), adapter)
            except ModelNotFound:
                base = await self._artifact(stack, said)
                if base is None:
                    raise NotFound(f"there is neither a model nor an artifact {said[:128]!r}", param="from") from None
        else:
            trained_on = adapter.artifact.base.rstrip("/").rpartition("/")[2]
            base = await self._artifact(stack, trained_on)
            if base is None:
                return Origin(await self._model(trained_on, adapter.artifact), adapter)
        if base.artifact.kind == "adapter":
            what = f"artifact {base.artifact.name!r} is an adapter itself; name a whole model as its base"
            raise InvalidRequest(what, param="from")
        return Origin(artifact=adapter, base=base)

    async def _model(self, name: str, adapter: Artifact) -> Entry:
        try:
            if name:
                return await in_thread(self._library.find, name)
        except (ModelNotFound, InvalidValue):
            pass
        made_for = f"it was made for {adapter.base[:200]!r}, which is not here" if adapter.base else "it names none"
        raise InvalidRequest(
            f"artifact {adapter.name!r} is an adapter and needs its base ({made_for}); "
            "name a model of the library or an artifact as base",
            param="from",
        )

    async def _artifact(self, stack: AsyncExitStack, name: str) -> Held | None:
        """The artifact of this name, held; None if there is none, or can be none."""
        try:
            return await self._hold(stack, name) if name else None
        except (NotFound, InvalidValue):
            return None

    async def _hold(self, stack: AsyncExitStack, name: str) -> Held:
        held = await opened(lambda: self._artifacts.held(name), lambda found: found.close())
        stack.push_async_callback(in_thread, held.close)
        return held
