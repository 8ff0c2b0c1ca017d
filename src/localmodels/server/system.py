"""The composition root: from a configuration to a running system, every part made here and handed what it needs.

Tests build the same system and replace an argument; nothing is patched and nothing is global. What is opened here is
closed here, in the opposite order, whatever happens.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from math import inf
from typing import Protocol, TextIO

import msgspec
import uvloop
from msgspec import Struct
from msgspec.structs import replace

import localmodels
from localmodels.config import Config, ConfigError, Settings, check_binds
from localmodels.core.errors import LocalModelsError
from localmodels.core.options import Options
from localmodels.core.secrets import Secret
from localmodels.engine.hardware import Hardware, probe
from localmodels.engine.housing import Housing
from localmodels.engine.loadable import Loader
from localmodels.engine.memory import DEFAULT_CONTEXT
from localmodels.engine.pool import Build, Pool
from localmodels.engine.scheduler import Limits, Scheduler
from localmodels.flows.access import Keyring
from localmodels.flows.chat import Answers
from localmodels.flows.files import StoredFiles
from localmodels.flows.finding import Finders
from localmodels.flows.inspection import Inspector
from localmodels.flows.keeper import Keeper
from localmodels.flows.local import Local
from localmodels.flows.ranking import Ranker
from localmodels.flows.relay import Relays
from localmodels.flows.remotes import Remotes
from localmodels.flows.responses import ResponseFlow
from localmodels.server import listeners
from localmodels.server.access_log import AccessLog
from localmodels.server.app import Application, Outcome, Watcher
from localmodels.server.edge.bounds import Bounds
from localmodels.server.gate import Gate
from localmodels.server.http import run
from localmodels.server.keyed import first_key, followed, has_keys, keyed
from localmodels.server.listings import Listings
from localmodels.server.logs import set_up_logging
from localmodels.server.metrics.meter import Meter
from localmodels.server.metrics.scrape import Scrape
from localmodels.server.outside import Outside, outward
from localmodels.server.parts import Parts
from localmodels.server.reload import Adopt, Reload
from localmodels.server.rows import table
from localmodels.server.status import Status
from localmodels.server.tokens import Tokens
from localmodels.state.state import State
from localmodels.store.headers import Headers
from localmodels.store.library import Library
from localmodels.store.model_store import STORE, ModelStore
from localmodels.store.ollama import OllamaShelf
from localmodels.store.shelves import BuiltinShelf, FileShelf, ModelFiles

log = logging.getLogger(__name__)

# Threads that wait for disks. Python's default is six on two cores: one pull's parts would hold up everybody's look at
# a manifest. They are begun when they are needed.
THREADS = 64
# What the rest of the machine may need while models run: 5 % of its memory, at least half a GiB.
RESERVE_SHARE, RESERVE_LEAST = 20, 2**29
# Prompts kept outside the slots: a tenth of what models may take, at most llama.cpp's own 8 GiB.
PROMPTS_SHARE, PROMPTS_MOST = 10, 8 * 2**30


class ClosingWatcher(Protocol):
    """A watcher that has something to send when all is over."""

    def __call__(self, outcome: Outcome, /) -> None: ...

    def close(self) -> None: ...


class System(Struct, frozen=True):
    """A system that answers; ``adopt`` hands the settings that can change to those who go by them.

    ``ring`` holds the keys that it knows.
    """

    application: Application
    pool: Pool
    local: Local
    adopt: Adopt
    meter: Meter
    ring: Keyring


@asynccontextmanager
async def build(
    config: Config, urls: Callable[[], list[str]], hardware: Hardware | None = None
) -> AsyncIterator[System]:
    """The system that a configuration describes; it is taken down on leaving.

    Args:
        config: checked.
        urls: the addresses it listens on.
        hardware: what it may use; None looks at the machine.
    """
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "work"))
    machine = await asyncio.to_thread(probe) if hardware is None else hardware
    usable = engine_hardware(machine, config)
    limit = config.memory_limit or memory_for_models(usable)
    library = Library(shelves(config), default=config.default_model or None, aliases=aliases(config))
    store = ModelStore(config.home / STORE)
    housing = Housing()
    files = StoredFiles(store, config.verify)
    pool = Pool(
        Scheduler(limits_of(config, limit)),
        housing,
        Build(
            binary=str(config.llama_server or ""),
            cache_ram=min(limit // PROMPTS_SHARE, PROMPTS_MOST),
            spin=config.spin,
        ),
        files,
    )
    loader = Loader(usable, load_defaults(config), config.context_length or DEFAULT_CONTEXT)
    local = Local(library, pool, loader, patience=config.queue_timeout, request_templates=config.request_templates)
    remotes = Remotes(patience=config.queue_timeout)
    await remotes.adopt(config.servers)
    finders = Finders(local, remotes, default=config.default_model, aliases=remote_aliases(config))
    state = State(config.home, quota=config.response_quota)
    access = keyed(config, state)
    answers = Answers(finders, access.limiter)
    inspector = Inspector(library, pool, usable, remotes)
    outside = Outside(outward(config, store, library))
    responses = ResponseFlow(
        answers, state.responses, retention=config.response_retention, ended=access.doorkeeper.charge
    )
    parts = Parts(
        answers=answers,
        ranker=Ranker(finders, finders.models, access.limiter),
        responses=responses,
        management=access.management,
        listings=Listings(finders, answers),
        status=Status(inspector, urls),
        tokens=Tokens(answers, inspector.default_name),
        keeper=Keeper(store, library, local, threads=usable.cpus),
        moves=outside,
        relays=Relays(finders, access.limiter),
        chat_timeout=config.chat_timeout,
        scrape=Scrape(meter := Meter(), [inspector.readings]),
    )
    access_log = AccessLog(on=config.access_log)
    watchers: list[Watcher] = [meter, access_log, access.doorkeeper.ended]
    gate = Gate(config.allowed_hosts, config.origins)

    async def adopt(new: Config) -> None:
        set_up_logging(new.log_level, new.log_format)
        access_log.on = new.access_log
        gate.adopt(new.allowed_hosts, new.origins)
        library.adopt(default=new.default_model or None, aliases=aliases(new))
        finders.adopt(default=new.default_model, aliases=remote_aliases(new))
        local.adopt(patience=new.queue_timeout, request_templates=new.request_templates)
        pool.adopt(limits_of(new, limit))
        await remotes.adopt(new.servers, patience=new.queue_timeout)

    async with AsyncExitStack() as opened:
        if config.traces:
            watchers.append(await asyncio.to_thread(open_traces, config.traces, opened))
        # In the background, since nothing waits for it.
        recovery = asyncio.create_task(asyncio.to_thread(look_around, store, library))
        opened.push_async_callback(asyncio.wait, [recovery])
        await opened.enter_async_context(state)
        await opened.enter_async_context(followed(access))
        opened.push_async_callback(asyncio.wait, [asyncio.create_task(responses.recover())])
        opened.callback(housing.close)
        opened.push_async_callback(files.close)
        opened.push_async_callback(pool.close)
        opened.push_async_callback(remotes.close)
        opened.callback(store.close)  # ends what is read, which the others wait for
        opened.push_async_callback(responses.close)
        await opened.enter_async_context(outside)
        application = Application(table(parts), gate, access.doorkeeper, watchers)
        yield System(application, pool, local, adopt, meter, access.ring)


def open_traces(endpoint: str, opened: AsyncExitStack) -> Watcher:
    """Makes spans and sends them there; its library costs half a second, so it is loaded only here."""
    tracing = importlib.import_module("localmodels.server.tracing")
    traces: ClosingWatcher = tracing.Traces(tracing.exporter(endpoint))
    opened.push_async_callback(asyncio.to_thread, traces.close)
    return traces


def limits_of(config: Config, memory: int) -> Limits:
    """What the scheduler has to share out; ``memory`` in bytes."""
    return Limits(
        memory=memory,
        max_loaded=config.max_loaded_models or None,
        max_queue=config.max_queue,
        max_wait=config.max_wait or inf,
        keep_alive=config.keep_alive,
        load_timeout=config.load_timeout,
    )


def aliases(config: Config) -> dict[str, str]:
    """Other names for models."""
    return {str(alias.name): str(alias.model) for alias in config.alias}


def remote_aliases(config: Config) -> dict[str, str]:
    """Other names for models of other servers, whose tags are those servers' business."""
    return {
        spelled: str(alias.model).removesuffix(":latest")
        for alias in config.alias
        for spelled in (str(alias.name), str(alias.name).removesuffix(":latest"))
    }


def look_around(store: ModelStore, library: Library) -> None:
    """Clears away what an earlier process left half done and what no model needs; tells which ones cannot be used."""
    try:
        for path in store.recover():
            log.info("the model store: removed %s, which was left half done", path)
        collected = store.collect()
    except LocalModelsError as error:
        log.warning("the model store: %s", error)
    else:
        if collected.doomed:
            count, size = len(collected.doomed), collected.freed / 1e6
            log.info("the model store: removed %d blobs (%.1f MB) that no model needs", count, size)
        for path in collected.holding:
            log.warning("the model store: %s is damaged; blobs that it may need are kept", path)
    for damaged in library.damaged():
        log.warning("model '%s' cannot be used: %s", damaged.name, damaged.why)


def shelves(config: Config) -> list[FileShelf | OllamaShelf | BuiltinShelf]:
    """Where models are looked for, first come first served."""
    headers = Headers()
    files = {one.name: ModelFiles(one.file, one.projector) for one in config.model}
    return [
        FileShelf(files, headers=headers),
        OllamaShelf(config.home / STORE, source="home", headers=headers),
        *(OllamaShelf(root, headers=headers) for root in config.models),
        BuiltinShelf(headers=headers),
    ]


def engine_hardware(machine: Hardware, config: Config) -> Hardware:
    """The machine without graphics cards that the engine cannot use: the wheel from PyPI computes on the processor.

    On macOS that wheel has Metal; a ``llama-server`` of the user's own was built for what he has.
    """
    if config.gpu_layers == 0 or (sys.platform != "darwin" and not config.llama_server):
        return replace(machine, gpus=())
    return machine


def memory_for_models(machine: Hardware) -> int:
    """Bytes that all models together may take."""
    free = machine.memory_available + sum(gpu.memory_free for gpu in machine.gpus if gpu.backend != "metal")
    return max(0, free - max(RESERVE_LEAST, machine.memory_total // RESERVE_SHARE))


def load_defaults(config: Config) -> Options:
    """Load options for requests that do not say otherwise."""
    return Options(
        num_parallel=config.num_parallel or None,
        kv_cache_type=config.kv_cache_type,
        num_gpu=config.gpu_layers,
    )


def serve(load: Callable[[], Settings], *, out: TextIO, as_json: bool = False, terminal: bool = False) -> int:
    """Serves until it is told to end. What it listens on is printed to ``out``, one JSON line if ``as_json``.

    Args:
        load: finds the settings; at the start, and again at each SIGHUP.
        out: where the greeting goes.
        as_json: for programs.
        terminal: was it started from a terminal? Then SIGHUP says that the terminal is gone, and ends the server.

    Returns:
        The exit status: 0 after an orderly end, 1 when a port cannot be had.

    Raises:
        ConfigError: an address that must not be served without a key, a program that is not there.
    """
    settings = load()
    config = settings.config
    check_binds(config, has_keys=has_keys(config.home))
    check_program(config)
    check_ca_file(config)
    check_traces(config)
    set_up_logging(config.log_level, config.log_format)
    for note in settings.notes:
        log.warning("%s", note)
    make_home(config)
    try:
        sockets = listeners.bind(config.listen, asked=settings.origins["listen"] != "default")
    except listeners.PortTaken as error:
        log.error("%s", error)
        return 1
    urls = listeners.urls(sockets)

    async def main() -> None:
        async with build(config, lambda: urls) as system:
            # What was made so far stays; a collection that walks through it holds streams up for tens of milliseconds.
            gc.collect()
            gc.freeze()
            await run(
                system.application,
                sockets,
                drain=config.drain_timeout,
                ready=lambda: greet(out, urls, as_json=as_json, admin_key=first_key(config.home, system.ring)),
                draining=system.pool.drain,
                reload=None if terminal else Reload(load, config, system.adopt),
                bounds=Bounds(connections=config.max_connections, per_address=config.max_connections_per_address),
                opened=system.meter.watch,
            )

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(main())
    return 0


def make_home(config: Config) -> None:
    """The directory of everything that this server keeps, for its user alone.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"home: {config.home} cannot be made: {error.strerror}") from error


def check_program(config: Config) -> None:
    """Looks at a ``llama-server`` of the user's own before the first request has to.

    Raises:
        ConfigError: there is no program at this path.
    """
    program = config.llama_server
    if program and not (program.is_file() and os.access(program, os.X_OK)):
        raise ConfigError(f"llama_server: {program} is not a program")


def check_ca_file(config: Config) -> None:
    """Looks at the certificates before the first pull has to.

    Raises:
        ConfigError: there are none in this file.
    """
    try:
        if config.ca_file is not None and b"-----BEGIN CERTIFICATE-----" not in config.ca_file.read_bytes():
            raise ConfigError(f"ca_file: {config.ca_file} has no certificate in it, as PEM has them")
    except OSError as error:
        raise ConfigError(f"ca_file: {config.ca_file} cannot be read: {error.strerror}") from error


def check_traces(config: Config) -> None:
    """Looks for what traces are made with.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        missing = bool(config.traces) and importlib.util.find_spec("opentelemetry.sdk") is None
    except ModuleNotFoundError:
        missing = True
    if missing:
        raise ConfigError("traces: the extra `otel` is not installed; pip install 'localmodels[otel]'")


def greet(out: TextIO, urls: list[str], *, as_json: bool, admin_key: Secret | None = None) -> None:
    """Tells where the server is, once it accepts connections; and, once in a home's life, its first key."""
    if as_json:
        said: dict[str, object] = {"url": urls[0], "urls": urls, "pid": os.getpid()}
        line = msgspec.json.encode(said | ({"admin_key": admin_key.reveal()} if admin_key else {})).decode()
    else:
        line = GREETING.format(version=localmodels.__version__, urls="\n  ".join(urls), url=urls[0])
        line += FIRST_KEY.format(key=admin_key.reveal()) if admin_key else ""
    out.write(line + "\n")
    out.flush()


GREETING = """LocalModels {version} answers Ollama's, OpenAI's and Anthropic's API at
  {urls}
Try it:
  curl {url}/api/chat -d '{{"model": "localmodels", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
Stop it with Ctrl-C."""

FIRST_KEY = """
Programs of this machine need no key. This one is for the administrator of this home; it is shown this once:
  {key}"""
