"""What the server does, tried as the store's own operations are: the flows, with a registry on loopback beside them.

All of it runs in one thread of one process, the disk's work too: calls are numbered by thread, and must come in the
same order each time. The registry dies with the process; what it was left with is its own business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ParamSpec, TypeVar

from tests.registry.models import Model, stock
from tests.registry.server import Registry
from tools.crash.scenes import (
    CONFIG,
    COPIED,
    KEPT,
    KEPT_MANIFEST,
    NEW,
    NEW_MANIFEST,
    TEMPLATE,
    WEIGHTS,
    Models,
    Scene,
    digest,
    write_scene,
)
from tools.crash.stocks import Product, named, pieces

from localmodels.core.catalog import DEFAULT_HOST, Digest, ModelName
from localmodels.core.library import CopyRequest, CreateRequest, DeleteRequest, PullRequest, PushRequest
from localmodels.flows.library.keeper import Keeper
from localmodels.flows.library.transfers import Transfers
from localmodels.registry.addresses import Place, Registries
from localmodels.registry.auth import RegistryTokens
from localmodels.registry.credentials import MemoryCredentials
from localmodels.registry.distribution import Distribution
from localmodels.registry.hub import Hub, HubTokens
from localmodels.registry.outbound import Outbound
from localmodels.store.entries import Entry
from localmodels.store.library import Library
from localmodels.store.model_store import ModelStore
from localmodels.store.ollama import OllamaShelf

P = ParamSpec("P")
T = TypeVar("T")

REPOSITORY, TAG = "library/new", "1"


class Here(ThreadPoolExecutor):
    """Does everything at once, in the thread that asks."""

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(work(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - it is handed on to whoever waits
            done.set_exception(error)
        return done


class Idle:
    """Nothing is in memory."""

    async def unload(self, entry: Entry) -> None:
        pass

    async def unload_name(self, name: ModelName) -> None:
        pass


class Flows(Product):
    """The store that ships, by way of the flows."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._models = ModelStore(root)
        self._library = Library([OllamaShelf(root, source="home")])
        self._keeper = Keeper(self._models, self._library, Idle())

    def flow_upload(self) -> None:
        async def upload() -> None:
            async def sent() -> AsyncIterator[bytes]:
                for piece in pieces(WEIGHTS):
                    yield piece

            await self._keeper.upload(Digest(digest(WEIGHTS)), sent(), len(WEIGHTS))

        _done(upload())

    def flow_create(self) -> None:
        files = (("new.gguf", f"sha256:{digest(WEIGHTS)}"),)
        request = CreateRequest(model=str(named(NEW)), files=files, template=TEMPLATE.decode(), system="Be brief.")
        _done(_all(self._keeper.create(request)))

    def flow_derive(self) -> None:
        request = CreateRequest(model=str(named(NEW)), base=str(named(KEPT)), parameters=(("top_k", 3),))
        _done(_all(self._keeper.create(request)))

    def flow_copy(self) -> None:
        _done(self._keeper.copy(CopyRequest(str(named(KEPT)), str(named(COPIED)))))

    def flow_delete(self) -> None:
        _done(self._deleted())

    def flow_pull(self) -> None:
        async def pull() -> None:
            async with self._transfers() as transfers:
                await _all(transfers.pull(PullRequest(str(named(NEW)), operator=True)))

        _done(pull())

    def flow_push(self) -> None:
        async def push() -> None:
            async with self._transfers() as transfers:
                await _all(transfers.push(PushRequest(str(named(KEPT)), operator=True)))

        _done(push())

    async def _deleted(self) -> None:
        if self._models.read_manifest(named(NEW)) is not None:  # repeated, it is not found, which is right
            await self._keeper.delete(DeleteRequest(str(named(NEW))))

    @asynccontextmanager
    async def _transfers(self) -> AsyncIterator[Transfers]:
        async with Registry() as registry, Outbound() as outbound:
            stock(registry, Model(NEW_MANIFEST, (CONFIG, WEIGHTS, TEMPLATE)), REPOSITORY, (TAG,))
            credentials = MemoryCredentials()
            places = Registries({DEFAULT_HOST: (Place.parse(registry.url),)})
            distribution = Distribution(outbound, RegistryTokens(outbound, credentials))
            hub = Hub(outbound, HubTokens(credentials))
            yield Transfers(self._models, self._library, distribution, hub, places)


def _done(work: Coroutine[Any, Any, None]) -> None:
    async def here() -> None:
        asyncio.get_running_loop().set_default_executor(Here())
        await work

    asyncio.run(here())


async def _all(steps: AsyncIterator[object]) -> None:
    async for _ in steps:
        pass


def _made(operation: str, there: tuple[bytes, ...]) -> bytes:
    """The manifest that an operation writes, learnt by doing it undisturbed; the witness looks whether it is sound."""
    with TemporaryDirectory() as directory:
        root = Path(directory) / "store"
        write_scene(root, Scene(_KEPT, _KEPT, there=there))
        getattr(Flows(root), operation)()
        return (root / "manifests" / NEW).read_bytes()


_KEPT: Models = {KEPT: KEPT_MANIFEST}
FLOWS = ("flow_upload", "flow_create", "flow_derive", "flow_copy", "flow_delete", "flow_pull", "flow_push")


@cache
def flow_scenes() -> Mapping[str, Scene]:
    """A row an operation, as :data:`tools.crash.scenes.SCENES`."""
    created = {**_KEPT, NEW: _made("flow_create", (WEIGHTS,))}
    derived = {**_KEPT, NEW: _made("flow_derive", ())}
    return {
        "flow_upload": Scene(_KEPT, _KEPT, brings=(WEIGHTS,)),
        "flow_create": Scene(_KEPT, created, there=(WEIGHTS,)),
        "flow_derive": Scene(_KEPT, derived),
        "flow_copy": Scene(_KEPT, {**_KEPT, COPIED: KEPT_MANIFEST}),
        "flow_delete": Scene({**_KEPT, NEW: NEW_MANIFEST}, _KEPT),
        "flow_pull": Scene(_KEPT, {**_KEPT, NEW: NEW_MANIFEST}),
        "flow_push": Scene(_KEPT, _KEPT),
    }
