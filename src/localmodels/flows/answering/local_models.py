"""Models of this machine: the library says which one a name means, the pool runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property, partial
from typing import get_args

from localmodels.artifacts.chat_template import ChatTemplate, read_chat_template
from localmodels.artifacts.gguf_header import Header
from localmodels.core.catalog import Description, Model, ModelName, Running
from localmodels.core.chat import ChatRequest, EmbedRequest, GenerateRequest, Message, Text
from localmodels.core.errors import LoadFailed, ModelDamaged, Unsupported
from localmodels.core.options import Options
from localmodels.core.rerank import RerankRequest
from localmodels.engine.live import LiveRunner
from localmodels.engine.loadable import Loadable, Loader, Purpose
from localmodels.engine.pool import Pool
from localmodels.flows.answering.chat import Answerer, Defaults, Loading, Request
from localmodels.flows.answering.templated_model import Templated
from localmodels.flows.visit import HERE, Visit
from localmodels.store.entries import Entry, capabilities, to_model
from localmodels.store.library import Library

# The sources' own default (seeds 002 and 003), unless the file brings its author's.
USUAL = Options(temperature=0.7)
AUTHORS_TEMPERATURE = "general.sampling.temp"
# Where prompts are made by a Go template the engine needs no Jinja one, and one that it cannot read would end the load.
ANY_JINJA = "chatml"


class Local:
    """Finds models in the library and runs them in the pool.

    Args:
        library: every model that can be seen.
        pool: runs them.
        loader: plans how one is loaded.
        patience: most seconds that a request waits for its place.
        request_templates: may a request bring a template of its own?
    """

    def __init__(
        self, library: Library, pool: Pool, loader: Loader, *, patience: float, request_templates: bool = False
    ) -> None:
        self._library = library
        self._pool = pool
        self._loader = loader
        self.adopt(patience=patience, request_templates=request_templates)

    def adopt(self, *, patience: float, request_templates: bool) -> None:
        """Goes by these from now on."""
        self._patience = patience
        self._request_templates = request_templates

    async def find(self, name: str) -> Target:
        """The model that this name stands for, an empty one for the default; looks at the disk, so in a thread.

        Raises:
            ModelNotFound, ModelDamaged.
        """
        entry = await asyncio.to_thread(partial(self._library.find, name) if name else self._library.unnamed)
        return Target(self, entry)

    async def models(self) -> tuple[Model, ...]:
        """All models, newest first."""
        return await asyncio.to_thread(self._library.models)

    async def describe(self, name: str, *, verbose: bool) -> Description:
        """All about one; raises as :meth:`find`."""
        return await asyncio.to_thread(lambda: self._library.describe(name, verbose=verbose))

    def running(self) -> tuple[Running, ...]:
        """Models in memory."""
        return self._pool.running()

    @asynccontextmanager
    async def lease(self, entry: Entry, request: Request, visit: Visit) -> AsyncIterator[Answerer]:
        """A place at a runner of this model for one request.

        Its files may have been replaced or deleted since it was found; then what now has its name is meant.

        Raises:
            ModelNotFound: nothing has its name any more.
        """
        async with AsyncExitStack() as stack:
            try:
                answerer = await stack.enter_async_context(self.exactly(entry, request, visit))
            except (ModelDamaged, LoadFailed):
                changed = await asyncio.to_thread(self._library.named, str(entry.name))
                if loadable(changed).identity == loadable(entry).identity:
                    raise
                answerer = await stack.enter_async_context(self.exactly(changed, request, visit))
            yield answerer

    @asynccontextmanager
    async def exactly(self, entry: Entry, request: Request, visit: Visit) -> AsyncIterator[Answerer]:
        """The same at a runner of these files and no others, whatever has their name now."""
        purpose = purpose_of(request, entry.header)
        load = self._loader.load(loadable(entry), purpose, request.options.over(entry.options))
        template = await self._template(entry, request) if purpose == "generate" else None
        place = self._pool.lease(
            load,
            keep_alive=request.keep_alive,
            patience=self._patience,
            caller=visit.caller.id,
            weight=visit.caller.weight,
        )
        async with place as backend:
            yield Templated(backend, *template) if template else backend

    async def _template(self, entry: Entry, request: Request) -> tuple[ChatTemplate, str] | None:
        """The Go template by which this request is answered, and whose it is; None where the engine has its own."""
        if not wants_prompt(request):
            return None
        if isinstance(request, GenerateRequest) and request.template:
            if not self._request_templates:
                raise Unsupported(
                    "template: this server takes none from requests; give it to the model when it is created, or "
                    "start the server with --request-templates",
                    param="template",
                )
            return await asyncio.to_thread(read_chat_template, request.template), ""
        if entry.answers_by.damage:
            raise ModelDamaged(f"model '{entry.name}' cannot be used: {entry.answers_by.damage}")
        return (entry.answers_by.chat, str(entry.name)) if entry.answers_by.chat else None

    def is_loaded(self, entry: Entry) -> bool:
        """Is it in memory, or on its way there?"""
        keys = {loadable(entry).key(purpose) for purpose in get_args(Purpose)}
        return any(runner.key in keys for runner in self._pool.runners())

    def runners(self, entry: Entry) -> tuple[LiveRunner, ...]:
        """Those of these files, under whatever name, and of this name, also of files that it does not mean any more."""
        keys = {loadable(entry).key(purpose) for purpose in get_args(Purpose)}
        return tuple(one for one in self._pool.runners() if one.key in keys or one.name == str(entry.name))

    async def unload(self, entry: Entry) -> None:
        """Takes the model out of memory as soon as it is idle, and what was loaded under its name before it."""
        for runner in self.runners(entry):
            self._pool.unload(runner.key)

    async def unload_name(self, name: ModelName) -> None:
        """Takes what was loaded under this name out of memory as soon as it is idle, whatever the name means now."""
        for runner in self._pool.runners():
            if runner.name == str(name):
                self._pool.unload(runner.key)

    async def unload_files(self, entry: Entry) -> None:
        """Takes the model of these very files out of memory as soon as it is idle, whatever else has its name."""
        for purpose in get_args(Purpose):
            self._pool.unload(loadable(entry).key(purpose))


class Target:
    """One model of this machine, as the flows see it."""

    def __init__(self, local: Local, entry: Entry) -> None:
        self._local = local
        self._entry = entry

    @property
    def name(self) -> str:
        """The name under which it is listed."""
        return str(self._entry.name)

    @property
    def listed(self) -> bool:
        """It was found in the library."""
        return True

    @cached_property
    def capabilities(self) -> tuple[str, ...]:
        """What it can do."""
        return capabilities(self._entry)

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of its adapters, by their places."""
        return self._entry.adapter_names

    @property
    def defaults(self) -> Defaults:
        """What its maker set."""
        entry = self._entry
        return Defaults(
            system=entry.system,
            messages=tuple(Message(role, (Text(text),)) for role, text in entry.messages),  # type: ignore[arg-type]
            options=entry.options if AUTHORS_TEMPERATURE in entry.header.metadata else entry.options.over(USUAL),
        )

    @asynccontextmanager
    async def ready(self, request: Request, visit: Visit) -> AsyncIterator[Answerer]:
        """A place at a runner of this model for one request."""
        visit.server = HERE
        async with self._local.lease(self._entry, request, visit) as backend:
            yield backend

    async def load(self, request: Loading, visit: Visit) -> None:
        """Has it in memory."""
        async with self.ready(request, visit):
            pass

    async def unload(self) -> str:
        """Takes it out of memory as soon as it is idle."""
        loaded = self._local.runners(self._entry)
        await self._local.unload(self._entry)
        return HERE if loaded else ""


def purpose_of(request: Request, header: Header) -> Purpose:
    """What a model is loaded for. One that is made for a single purpose is also asked for its tokens there."""
    if header.is_reranker or isinstance(request, RerankRequest):
        return "rank"
    return "embed" if header.is_embedding or isinstance(request, EmbedRequest) else "generate"


def wants_prompt(request: Request) -> bool:
    """Is a prompt to be made by a template?"""
    if isinstance(request, GenerateRequest):
        given = request.prompt or request.suffix or request.images or request.context
        return bool(given) and not request.raw and isinstance(request.prompt, str)
    return isinstance(request, ChatRequest) and bool(request.messages)


def loadable(entry: Entry) -> Loadable:
    """What the engine needs to know of an entry."""
    return Loadable(
        # A file that has changed since it was loaded is another model, whatever the manifest says.
        identity=f"{entry.digest}.{entry.stamp:x}" if entry.store else entry.digest,
        model=to_model(entry),
        path=entry.model_path,
        header=entry.header,
        projector=entry.projector_path,
        adapters=entry.adapter_paths,
        extra=entry.adapter_bytes + (entry.projector.file_size if entry.projector else 0),
        store=entry.store,
        blobs=entry.blobs,
        template=ANY_JINJA if entry.answers_by.chat else "",
    )
