"""The composition root: from a configuration to a running system, every part made here and handed what it needs.

Tests build the same system and replace an argument; nothing is patched and nothing is global. What is opened here is
closed here, in the opposite order, whatever happens.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Protocol, TextIO

import uvloop
from msgspec import Struct
from msgspec.structs import replace
from starlette.types import ASGIApp

from localmodels.config import Config, ConfigError, Settings, check_binds, check_servers
from localmodels.core import via
from localmodels.core.address import Address
from localmodels.core.deploys import Deployment
from localmodels.core.errors import LocalModelsError
from localmodels.core.library import Progress
from localmodels.engine.hardware import Hardware, probe
from localmodels.engine.pool import Pool
from localmodels.flows.access.keys import Keyring
from localmodels.flows.answering.chat import Answers
from localmodels.flows.answering.local_models import Local
from localmodels.flows.answering.rerank import Ranker
from localmodels.flows.answering.responses import ResponseFlow
from localmodels.flows.deploy.deploys import Deploys
from localmodels.flows.deploy.uploads import Uploads
from localmodels.flows.fleet_library.delivery import Elsewhere
from localmodels.flows.fleet_library.fan_out import Everywhere
from localmodels.flows.health.inspection import Inspector
from localmodels.flows.library.keeper import Keeper
from localmodels.flows.library.trial import Trials
from localmodels.flows.routing.name_resolution import Finders
from localmodels.flows.routing.pull_missing import Pulls
from localmodels.flows.routing.relay import Relays
from localmodels.flows.tasks.abandoned import Abandoned
from localmodels.flows.tasks.tasks import Tasks
from localmodels.server import fleeted as fleets
from localmodels.server import listeners, readiness
from localmodels.server.access_log import AccessLog
from localmodels.server.app import Application, Outcome, Watcher
from localmodels.server.arenas import given_back, keep_few
from localmodels.server.around import check_outside, make_home
from localmodels.server.capture import Capture
from localmodels.server.deploys import Deploying
from localmodels.server.edge.bounds import Bounds
from localmodels.server.fleeted import Fleeted, fleeted
from localmodels.server.gate import Gate
from localmodels.server.greeting import greet
from localmodels.server.housed import Housed, housed
from localmodels.server.http import run
from localmodels.server.keyed import Keyed, first_key, followed, has_keys, keyed, state_told
from localmodels.server.listings import Listings
from localmodels.server.logs import set_up_logging
from localmodels.server.metrics.meter import Meter
from localmodels.server.metrics.scrape import Scrape
from localmodels.server.outside import Outside, outward
from localmodels.server.parts import Parts
from localmodels.server.reload import Adopt, Reload
from localmodels.server.route import Route
from localmodels.server.rows import table
from localmodels.server.servers import ServerRoutes
from localmodels.server.status import Status
from localmodels.server.tokens import Tokens
from localmodels.state.choosing import state_in
from localmodels.state.files import StateError, gateway_of
from localmodels.state.kept import Kept
from localmodels.store.artifacts import ArtifactStore
from localmodels.store.captures import CaptureFiles, name_of

log = logging.getLogger(__name__)

# How much is made, on balance, between two searches for garbage among what is new, what has stayed, and everything. The
# last one stops the loop for 20 ms for each thousand connections, and finds little: nearly everything goes when nobody
# refers to it any more. Python's own figures, 700, 10 and 10, have it every ten seconds while connections come and go.
GARBAGE = (1_000, 10, 50)
# Seconds after which a thread that computes gives the interpreter's lock to one that waits for it. A request gives it
# away with every file that it looks at: at Python's 5 ms, /health took a tenth of a second while a large body was read.
SWITCH = 0.0005

# Threads that wait for disks. Python's default is six on two cores: one pull's parts would hold up everybody's look at
# a manifest. They are begun when they are needed.
THREADS = 64
# What is uploaded to become models lies in this directory of the home.
ARTIFACTS = "artifacts"
# And in this one what is asked and answered, if its owner wants to see it.
CAPTURES = "captures"


class ClosingWatcher(Protocol):
    """A watcher that has something to send when all is over."""

    def __call__(self, outcome: Outcome, /) -> None: ...

    def close(self) -> None: ...


class System(Struct, frozen=True):
    """A system that answers; ``adopt`` hands the settings that can change to those who go by them.

    ``ring`` holds the keys that it knows, ``tasks`` are those of the server, ``pulls`` fetch what nobody has.
    """

    application: ASGIApp
    pool: Pool
    local: Local
    adopt: Adopt
    meter: Meter
    ring: Keyring
    tasks: Tasks
    pulls: Pulls

    def drain(self) -> None:
        """Interrupts what can be repeated. Answers may come to their end; watchers of tasks would wait for hours."""
        self.tasks.interrupt()
        self.pulls.interrupt()

    def refuse(self) -> None:
        """Refuses who waits for a runner of ours; who has one may come to his end."""
        self.pool.drain()


class Made(Struct, frozen=True, kw_only=True):
    """Everything that a configuration makes, before any of it is opened."""

    here: Housed
    fleet: Fleeted
    finders: Finders
    answers: Answers
    state: Kept
    access: Keyed
    outside: Outside
    responses: ResponseFlow
    keeper: Keeper
    everywhere: Everywhere
    pulls: Pulls
    uploads: Uploads
    deploys: Deploys
    tasks: Tasks
    gate: Gate
    meter: Meter
    access_log: AccessLog
    capture: Capture


@asynccontextmanager
async def build(
    config: Config,
    urls: Callable[[], list[str]],
    hardware: Hardware | None = None,
    neighbours: Sequence[Address] = (),
) -> AsyncIterator[System]:
    """The system that a configuration describes; it is taken down on leaving.

    Args:
        config: checked.
        urls: the addresses it listens on.
        hardware: what it may use; None looks at the machine.
        neighbours: ports of this machine where somebody else listens, perhaps an Ollama.

    Raises:
        ConfigError: the home cannot be used.
    """
    gateway = via.new_gateway()
    via.begin(gateway)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "work"))
    one = await asyncio.to_thread(made, config, probe() if hardware is None else hardware, urls)
    async with opened(one, config, neighbours) as watchers:
        rows = table(parts_of(one, config, urls, gateway))
        application = Application(rows, one.gate, one.access.doorkeeper, watchers, gateway=gateway)
        yield System(
            one.capture.around(application),
            one.here.pool,
            one.here.local,
            adopting(one),
            one.meter,
            one.access.ring,
            one.tasks,
            one.pulls,
        )


def made(config: Config, machine: Hardware, urls: Callable[[], list[str]]) -> Made:
    """The parts, each handed what it needs.

    Raises:
        ConfigError: the home or the database cannot be used.
    """
    make_home(config)
    here = housed(config, machine)
    try:
        gateway = gateway_of(config.home)
        state = state_in(config.home, config.database_url, gateway=gateway, quota=config.response_quota)
    except StateError as error:
        raise ConfigError(str(error)) from error
    fleet = fleeted(config, here, state, gateway, urls)
    finders = Finders(
        here.local,
        fleet.remotes,
        default=config.default_model,
        aliases=remote_aliases(config),
        routes=fleet.routes,
        fresh=fleet.fresh.own,
        told=fleet.fresh.models,
    )
    access = keyed(config, state)
    answers = Answers(finders, access.limiter)
    meter = Meter()
    artifacts = ArtifactStore(config.home / ARTIFACTS, quota=config.artifact_quota)
    keeper = Keeper(here.store, here.library, here.local, artifacts=artifacts, threads=here.hardware.cpus)
    uploads = Uploads(artifacts)
    deploys = deploying(uploads, keeper, here, fleet)
    outside = Outside(outward(config, here.store, here.library))
    everywhere = fleet.everywhere(here, keeper, outside)
    pulls = fleet.pulls(everywhere)
    finders.pulls = pulls if config.pull_missing else None
    return Made(
        here=here,
        fleet=fleet,
        everywhere=everywhere,
        pulls=pulls,
        finders=finders,
        answers=answers,
        state=state,
        access=access,
        outside=outside,
        responses=ResponseFlow(
            answers, state.responses, retention=config.response_retention, ended=access.doorkeeper.charge
        ),
        keeper=keeper,
        uploads=uploads,
        deploys=deploys,
        tasks=Tasks(state.tasks, deploys.works, ended=meter.task_ended, discard=uploads.discard),
        gate=Gate(config.allowed_hosts, config.origins),
        meter=meter,
        access_log=AccessLog(on=config.access_log),
        capture=Capture(CaptureFiles(config.home / CAPTURES), name_of, str(config.home / CAPTURES)),
    )


def deploying(uploads: Uploads, keeper: Keeper, here: Housed, fleet: Fleeted) -> Deploys:
    """Makes models of artifacts, here or on other servers."""
    elsewhere = Elsewhere(lambda: {spec.name: spec for spec in fleet.specs()}, changed=fleet.changed)
    trials = Trials(here.local)

    def makes(wanted: Deployment) -> AsyncGenerator[Progress, None]:
        if wanted.server:
            return keeper.create(wanted.create, trials, put=partial(elsewhere.put, wanted.server))
        return keeper.create(wanted.create, trials)

    return Deploys(uploads, makes, elsewhere.named)


def parts_of(one: Made, config: Config, urls: Callable[[], list[str]], gateway: str) -> Parts:
    """What the rows are made of."""
    here, finders, answers = one.here, one.finders, one.answers
    inspector = Inspector(here.library, here.pool, here.hardware, one.fleet.remotes)
    scraped = [inspector.readings, one.tasks.readings, one.access.rounds.readings, one.capture.readings]
    return Parts(
        answers=answers,
        ranker=Ranker(finders, finders.models, one.access.limiter),
        responses=one.responses,
        management=one.access.management,
        tasks=one.tasks,
        listings=Listings(
            finders, answers, one.everywhere, one.fleet.fresh.memory, lambda: here.pool.snapshot().memory_free
        ),
        status=Status(inspector, urls, gateway),
        tokens=Tokens(answers, inspector.default_name),
        keeper=one.keeper,
        require_here=finders.require_here,
        deploying=Deploying(one.uploads, one.tasks, one.deploys.check),
        everywhere=one.everywhere,
        servers=ServerRoutes(one.fleet.servers, one.fleet.unloading),
        route=Route(finders),
        relays=Relays(finders, one.access.limiter),
        chat_timeout=config.chat_timeout,
        scrape=Scrape(one.meter, scraped, one.fleet.names),
    )


def adopting(one: Made) -> Adopt:
    """Hands a new configuration to those whom a running server lets change."""

    async def adopt(new: Config) -> None:
        set_up_logging(new.log_level, new.log_format)
        one.access_log.on = new.access_log
        one.capture.adopt(new.capture, new.capture_quota)
        one.gate.adopt(new.allowed_hosts, new.origins)
        one.finders.adopt(default=new.default_model, aliases=remote_aliases(new))
        one.here.adopt(new)
        one.finders.pulls = one.pulls if new.pull_missing else None
        await one.fleet.adopt(new)

    return adopt


@asynccontextmanager
async def opened(one: Made, config: Config, neighbours: Sequence[Address]) -> AsyncIterator[list[Watcher]]:
    """Opens what has to be; gives those who are shown every request that ended."""
    watchers: list[Watcher] = [one.meter, one.access_log, one.access.doorkeeper.ended]
    async with AsyncExitStack() as stack:
        if config.traces:
            watchers.append(await asyncio.to_thread(open_traces, config.traces, stack))
        # In the background, since nothing waits for it.
        recovery = asyncio.create_task(asyncio.to_thread(one.here.look_around))
        stack.push_async_callback(asyncio.wait, [recovery])
        one.capture.adopt(config.capture, config.capture_quota)
        await stack.enter_async_context(one.capture)
        await stack.enter_async_context(one.state)
        await stack.enter_async_context(followed(one.access))
        stack.push_async_callback(asyncio.wait, [asyncio.create_task(one.responses.recover())])
        stack.push_async_callback(asyncio.wait, [asyncio.create_task(recovered(one))])
        stack.callback(one.here.housing.close)
        stack.push_async_callback(one.here.files.close)
        stack.push_async_callback(one.here.pool.close)
        stack.push_async_callback(one.fleet.remotes.close)
        await stack.enter_async_context(fleets.followed(one.fleet, neighbours))
        stack.callback(one.here.store.close)  # ends what is read, which the others wait for
        stack.push_async_callback(one.responses.close)
        stack.push_async_callback(one.uploads.close)
        await stack.enter_async_context(Abandoned(one.state.tasks, one.state.replicas, one.tasks.left))
        stack.push_async_callback(one.tasks.close)
        await stack.enter_async_context(one.outside)
        stack.push_async_callback(one.pulls.close)
        yield watchers


async def recovered(one: Made) -> None:
    """Ends the tasks of an earlier process, and clears away what none of them needs any more."""
    await one.tasks.recover()
    try:
        await one.uploads.recover(await one.tasks.needed())
    except LocalModelsError as error:
        log.warning("what was uploaded and not taken in is left where it is: %s", error)


def open_traces(endpoint: str, opened: AsyncExitStack) -> Watcher:
    """Makes spans and sends them there; its library costs half a second, so it is loaded only here."""
    tracing = importlib.import_module("localmodels.server.tracing")
    traces: ClosingWatcher = tracing.Traces(tracing.exporter(endpoint))
    opened.push_async_callback(asyncio.to_thread, traces.close)
    return traces


def remote_aliases(config: Config) -> dict[str, str]:
    """Other names for models of other servers, whose tags are those servers' business."""
    return {
        spelled: str(alias.model).removesuffix(":latest")
        for alias in config.alias
        for spelled in (str(alias.name), str(alias.name).removesuffix(":latest"))
    }


def listening(load: Callable[[], Settings], given: Sequence[socket.socket]) -> Callable[[], Settings]:
    """The same settings, of which these sockets say where the server listens, with what was asked for besides.

    Raises:
        ConfigError: from what is returned, as from ``load``; and a server that is one of these addresses.
    """
    there = tuple(map(listeners.address_of, given))  # while they are ours: the loop takes them over

    def loaded() -> Settings:
        settings = load()
        asked = settings.config.listen if settings.origins["listen"] != "default" else ()
        config = replace(settings.config, listen=tuple(dict.fromkeys((*there, *asked))))
        check_servers(config)
        return replace(settings, config=config)

    return loaded if given else load


def noted(number: signal.Signals) -> list[int]:
    """Where this signal is written down from now on, until somebody handles it otherwise: by itself it would end us."""
    came: list[int] = []
    signal.signal(number, lambda which, frame: came.append(which))
    return came


def serve(
    load: Callable[[], Settings],
    environ: Mapping[str, str],
    *,
    out: TextIO,
    as_json: bool = False,
    terminal: bool = False,
) -> int:
    """Serves until it is told to end. What it listens on is printed to ``out``, one JSON line if ``as_json``.

    Args:
        load: finds the settings; at the start, and again at each SIGHUP.
        environ: of this process, which may say that sockets were handed over to it (:func:`listeners.given`).
        out: where the greeting goes.
        as_json: for programs.
        terminal: was it started from a terminal? Then SIGHUP says that the terminal is gone, and ends the server.

    Returns:
        The exit status: 0 after an orderly end, 1 when a port cannot be had.

    Raises:
        ConfigError: an address that must not be served without a key, a program that is not there.
    """
    early = [] if terminal else noted(signal.SIGHUP)
    given = listeners.given(environ, os.getpid())
    load = listening(load, given)
    settings = load()
    config = settings.config
    check_binds(config, has_keys=has_keys(config.home, config.database_url))
    check_outside(config)
    keep_few()
    set_up_logging(config.log_level, config.log_format)
    for note in settings.notes:
        log.warning("%s", note)
    make_home(config)
    try:
        sockets = listeners.bind(config.listen, asked=settings.origins["listen"] != "default", given=given)
    except listeners.PortTaken as error:
        log.error("%s", error)
        return 1
    urls = listeners.urls(sockets)
    neighbours = listeners.taken(config.listen, sockets) if config.register_ollama else []

    async def main() -> None:
        async with given_back(), build(config, lambda: urls, neighbours=neighbours) as system:
            # What was made so far stays; a collection that walks through it holds streams up for tens of milliseconds.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GARBAGE)
            sys.setswitchinterval(SWITCH)
            reload = None if terminal else Reload(load, config, system.adopt)

            def ready() -> None:
                key = first_key(config.home, system.ring, config.database_url)
                greet(out, urls, as_json=as_json, admin_key=key, require_key=config.require_key)
                readiness.tell(environ, readiness.READY)
                if reload is not None and early:
                    reload()

            def draining() -> None:
                readiness.tell(environ, readiness.STOPPING)
                system.drain()

            with state_told(settings):
                await run(
                    system.application,
                    sockets,
                    drain=config.drain_timeout,
                    ready=ready,
                    draining=draining,
                    refusing=system.refuse,
                    reload=reload,
                    bounds=Bounds(connections=config.max_connections, per_address=config.max_connections_per_address),
                    opened=system.meter.watch,
                )

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(main())
    return 0
