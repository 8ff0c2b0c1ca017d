"""What changes a library, done on any servers at once: on this machine, on others, on all of them.

The rule: every server does it by itself, and none waits for another; who fails is told by name, and when all are done
the whole has succeeded only if each did. So a request that failed in part can be repeated as it is: who is done is done
again without harm, and who is not gets another chance.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Protocol

from msgspec.structs import replace

from localmodels.core.catalog import DEFAULT_HOST, Description, ModelName, Running
from localmodels.core.errors import (
    Forbidden,
    InvalidRequest,
    LocalModelsError,
    ModelNotFound,
    Unsupported,
)
from localmodels.core.fleet import LOCAL
from localmodels.core.library import (
    ABSENT,
    EVERY,
    FAILED,
    SKIPPED,
    SUCCESS,
    CopyRequest,
    CreateRequest,
    DeleteRequest,
    Described,
    Outcome,
    PartlyDone,
    Progress,
    PullRequest,
    PushRequest,
)
from localmodels.core.servers import ServerSpec
from localmodels.flows.concurrency.parallel import MOST, Abreast
from localmodels.flows.fleet_library.delivery import client_of
from localmodels.flows.fleet_library.remote_library import Afar, Connect, Lend, heard
from localmodels.flows.fleet_library.target_servers import HERE, KIND, MANAGED, meant, unmanaged, without_server

Steps = AsyncGenerator[Progress, None]
Check = Callable[[], None]
Removed = Callable[[ServerSpec, str], Awaitable[object]]

LISTING = 2.0  # seconds that a list waits for a server (seed 000)
# Registries that everybody knows. Another server asks any other one for nobody but the owner: it may stand in a network
# that a stranger would have us look around in (threat V-18).
PUBLIC: frozenset[str] = frozenset({DEFAULT_HOST, "huggingface.co", "hf.co"})


def _unchecked() -> None:
    """Everything may be asked of other servers."""


async def _unlisted(spec: ServerSpec, model: str) -> None:
    """Nobody keeps a list of what servers had."""


class Place(Protocol):
    """A server whose library can be changed: this one, or another."""

    def pull(self, request: PullRequest, /) -> Steps: ...

    def push(self, request: PushRequest, /) -> Steps: ...

    def create(self, request: CreateRequest, /) -> Steps: ...

    async def copy(self, request: CopyRequest, /) -> None: ...

    async def delete(self, request: DeleteRequest, /) -> None: ...

    async def unload(self, model: str, /) -> None: ...

    async def running(self) -> Sequence[Running]: ...

    async def describe(self, name: str, /, *, verbose: bool) -> Description: ...


class Shelf(Protocol):
    """A server that can be asked what it has."""

    async def running(self) -> Sequence[Running]: ...

    async def describe(self, name: str, /, *, verbose: bool) -> Description: ...


Sees = Callable[[ServerSpec], Shelf | None]


class Everywhere:
    """The servers, as places whose libraries are changed.

    Args:
        here: this machine.
        servers: all that there are, as they are now, in their order; where this machine is not among them it is first.
        lend: gives blobs of this machine, for models that are made of them elsewhere.
        connect: the way to another server.
        changed: is told whose library is another now.
        removed: is told of a model that was there, and is no more because somebody wanted it so; it is waited for.
        sees: those of other kinds, of which one can only be asked what it has; None of one that cannot be asked.
        most: servers at once.
    """

    def __init__(
        self,
        here: Place,
        servers: Callable[[], Iterable[ServerSpec]],
        lend: Lend,
        connect: Connect = client_of,
        *,
        changed: Callable[[ServerSpec], object] = lambda _: None,
        removed: Removed = _unlisted,
        sees: Sees = lambda _: None,
        most: int = MOST,
    ) -> None:
        self._here = here
        self._servers = servers
        self._lend = lend
        self._connect = connect
        self._changed = changed
        self._removed = removed
        self._sees = sees
        self._most = most

    def named(self, servers: Sequence[str]) -> tuple[ServerSpec, ...]:
        """The servers that these ids or names mean, each once; :data:`EVERY` is every one that may be asked.

        Raises:
            InvalidRequest: one that there is not, or that its owner has switched off.
        """
        return meant(servers, tuple(self._servers()))

    def _asked(self, servers: Sequence[str]) -> tuple[ServerSpec, ...]:
        """The same; this machine, switched off or not, where none is named."""
        if servers:
            return self.named(servers)
        return (next((spec for spec in self._servers() if spec.kind == LOCAL), HERE),)

    def pull(self, request: PullRequest) -> Steps:
        """Fetches a model, wherever the request says.

        Raises:
            InvalidRequest: a server that is none.
            PartlyDone: some of several failed.
            LocalModelsError: the only one failed.
        """
        return self._long(request.servers, lambda place: place.pull(request), partial(_require_public, request))

    def push(self, request: PushRequest) -> Steps:
        """Sends a model, from the server that the request says. Raises as :meth:`pull`."""
        if len(request.servers) > 1 or EVERY in request.servers:
            raise InvalidRequest("a model is pushed from one server; name it", param="server")
        return self._long(request.servers, lambda place: place.push(request), partial(_require_public, request))

    def create(self, request: CreateRequest) -> Steps:
        """Makes a model, wherever the request says. Raises as :meth:`pull`."""
        return self._long(request.servers, lambda place: place.create(request))

    def bring(self, model: str, server: str) -> Steps:
        """Fetches a model that somebody has asked for to this server (id or name). Raises as :meth:`pull`."""
        return self.pull(PullRequest(model, servers=(server,)))

    async def copy(self, request: CopyRequest) -> tuple[Outcome, ...]:
        """Gives a model a second name, wherever the request says; of all servers, on those that have the model.

        Raises:
            InvalidRequest: a server that is none.
            ModelNotFound: none of them has the model.
            PartlyDone: some of several failed.
            LocalModelsError: the only one failed.
        """
        outcomes = await self._short(request.servers, lambda place: place.copy(request), request.source)
        if EVERY not in request.servers and any(one.status == ABSENT for one in outcomes):
            raise PartlyDone(tuple(_lacking(one, request.source) for one in outcomes))
        return outcomes

    async def delete(self, request: DeleteRequest) -> tuple[Outcome, ...]:
        """Takes a name away, wherever the request says; who has no such model is done. Raises as :meth:`copy`."""

        async def delete(spec: ServerSpec) -> None:
            await self._place(spec).delete(request)
            self._changed(spec)
            await self._removed(spec, request.model)

        return await self._at(request.servers, delete, request.model)

    async def unload(self, model: str, servers: Sequence[str]) -> tuple[Outcome, ...]:
        """Takes a model out of the memory of these; who has no such model is done. Raises as :meth:`copy`."""
        return await self._short(servers, lambda place: place.unload(model), model)

    async def running(self, servers: Sequence[str]) -> tuple[tuple[Running, ...], tuple[Outcome, ...]]:
        """What is in the memory of these now, and who of them did not tell in time.

        Whoever means every server has not meant those that do not tell such things.
        """
        specs = self.named(servers)
        lists = await asyncio.gather(*(self._told(spec) for spec in specs))
        told = tuple(
            replace(row, server=spec.name)
            for spec, rows in zip(specs, lists, strict=True)
            if not isinstance(rows, LocalModelsError)
            for row in rows
        )
        silent = tuple(
            Outcome(spec.name, FAILED, without_server(spec.name, rows.message))
            for spec, rows in zip(specs, lists, strict=True)
            if isinstance(rows, LocalModelsError) and not (EVERY in servers and isinstance(rows, Unsupported))
        )
        return told, silent

    async def describe(
        self, name: str, servers: Sequence[str], *, verbose: bool
    ) -> tuple[Description, tuple[Described, ...]]:
        """All about a model, as the first of these has it that tells; and of several what each of them says.

        Raises:
            InvalidRequest: a server that is none.
            ModelNotFound: none of them has the model.
            LocalModelsError: none of them tells.
        """
        specs = self.named(servers)
        if len(specs) == 1:
            return await self._shelf(specs[0]).describe(name, verbose=verbose), ()
        said = await asyncio.gather(*(self._described(spec, name, verbose=verbose) for spec in specs))
        for one in said:
            if isinstance(one, Description):
                return one, tuple(map(_described, specs, said))
        errors = [one for one in said if isinstance(one, LocalModelsError)]
        raise next((one for one in errors if not isinstance(one, (ModelNotFound, Unsupported))), ModelNotFound(name))

    def _managed(self, servers: Sequence[str], specs: Sequence[ServerSpec]) -> tuple[ServerSpec, ...]:
        """Those of them that are asked. Whoever means every server means those that can be; a name is meant as it is.

        Raises:
            Unsupported: none can.
        """
        managed = tuple(spec for spec in specs if spec.kind in MANAGED or EVERY not in servers)
        if not managed:
            raise Unsupported("no server on which models are managed may be asked now", param="server")
        return managed

    def _place(self, spec: ServerSpec) -> Place:
        """The server, as a place.

        Raises:
            Unsupported: its library is not for us to change.
        """
        if spec.kind == LOCAL:
            return self._here
        if spec.kind == KIND:
            return Afar(spec, self._connect, self._lend)
        raise Unsupported(unmanaged(spec), param="server")

    def _shelf(self, spec: ServerSpec) -> Shelf:
        """The server, to be asked what it has.

        Raises:
            Unsupported: it cannot be.
        """
        if spec.kind in MANAGED:
            return self._place(spec)
        if (seen := self._sees(spec)) is None:
            raise Unsupported(unmanaged(spec), param="server")
        return seen

    async def _long(self, servers: Sequence[str], work: Callable[[Place], Steps], check: Check = _unchecked) -> Steps:
        """The same on all of these, told as it comes; ``check`` is made where others than this machine are asked."""
        specs = self._asked(servers)
        managed = self._managed(servers, specs)
        if any(spec.kind != LOCAL for spec in managed):
            check()
        if not servers:
            async with aclosing(self._done(specs[0], work)) as steps:
                async for step in steps:
                    yield step
            return
        outcomes = {spec.name: _skipped(spec) for spec in specs}
        for spec in specs:
            if spec not in managed:
                yield Progress(SKIPPED, server=spec.name, failure=outcomes[spec.name].failure)
        works = {spec.name: partial(self._done, spec, work) for spec in managed}
        async with aclosing(Abreast(works, self._most).told()) as news:
            async for name, said in news:
                if isinstance(said, Progress):
                    yield replace(said, server=name)
                elif said is None:
                    outcomes[name] = Outcome(name, SUCCESS)
                elif len(specs) == 1:
                    raise said
                else:
                    outcomes[name] = Outcome(name, FAILED, without_server(name, said.message))
                    yield Progress(FAILED, server=name, failure=outcomes[name].failure)
        if any(one.status == FAILED for one in outcomes.values()):
            raise PartlyDone(tuple(outcomes.values()))
        yield Progress(SUCCESS)

    async def _done(self, spec: ServerSpec, work: Callable[[Place], Steps]) -> Steps:
        async with aclosing(work(self._place(spec))) as steps:
            async for step in steps:
                yield step
        self._changed(spec)

    async def _short(
        self, servers: Sequence[str], work: Callable[[Place], Awaitable[None]], model: str
    ) -> tuple[Outcome, ...]:
        """The same on all of these at once, after which their libraries may be others."""

        async def done(spec: ServerSpec) -> None:
            await work(self._place(spec))
            self._changed(spec)

        return await self._at(servers, done, model)

    async def _at(
        self, servers: Sequence[str], work: Callable[[ServerSpec], Awaitable[None]], model: str
    ) -> tuple[Outcome, ...]:
        """The same at all of these at once; nothing is told of this machine, where no server is named."""
        specs = self._asked(servers)
        managed = self._managed(servers, specs)
        if len(specs) == 1:
            await work(specs[0])
            return (Outcome(specs[0].name, SUCCESS),) if servers else ()
        turns = asyncio.Semaphore(self._most)

        async def tried(spec: ServerSpec) -> LocalModelsError | None:
            async with turns:
                try:
                    await work(spec)
                except LocalModelsError as error:
                    return error
            return None

        async with asyncio.TaskGroup() as group:
            tasks = {spec.name: group.create_task(tried(spec)) for spec in managed}
        errors = {name: task.result() for name, task in tasks.items()}
        outcomes = tuple(_outcome(spec, errors) for spec in specs)
        if any(one.status == FAILED for one in outcomes):
            raise PartlyDone(outcomes)
        if all(isinstance(error, ModelNotFound) for error in errors.values()):
            raise ModelNotFound(model)
        return outcomes

    async def _described(self, spec: ServerSpec, name: str, *, verbose: bool) -> Description | LocalModelsError:
        try:
            return await heard("answered nothing", LISTING, self._shelf(spec).describe(name, verbose=verbose))
        except LocalModelsError as error:
            return error

    async def _told(self, spec: ServerSpec) -> Sequence[Running] | LocalModelsError:
        try:
            return await heard("answered nothing", LISTING, self._shelf(spec).running())
        except LocalModelsError as error:
            return error


def _outcome(spec: ServerSpec, errors: Mapping[str, LocalModelsError | None]) -> Outcome:
    if spec.name not in errors:
        return _skipped(spec)
    error = errors[spec.name]
    if isinstance(error, ModelNotFound):
        return Outcome(spec.name, ABSENT)
    if error is None:
        return Outcome(spec.name, SUCCESS)
    return Outcome(spec.name, FAILED, without_server(spec.name, error.message))


def _described(spec: ServerSpec, said: Description | LocalModelsError) -> Described:
    if isinstance(said, Description):
        return Described(spec.name, SUCCESS, digest=said.model.digest)
    if isinstance(said, ModelNotFound):
        return Described(spec.name, ABSENT)
    return Described(spec.name, FAILED, without_server(spec.name, said.message))


def _skipped(spec: ServerSpec) -> Outcome:
    return Outcome(spec.name, SKIPPED, without_server(spec.name, unmanaged(spec)))


def _lacking(outcome: Outcome, model: str) -> Outcome:
    """The same, where a server that has no such model has failed."""
    return replace(outcome, status=FAILED, failure=f"there is no {model}") if outcome.status == ABSENT else outcome


def _require_public(request: PullRequest | PushRequest) -> None:
    """Looks whether another server may be asked for this.

    Raises:
        Forbidden: it would ask a registry that only its owner may name.
    """
    scheme, _, rest = request.model.rpartition("://")
    plain = request.insecure or scheme.lower() == "http"
    if not request.operator and (plain or ModelName.parse(rest).host.lower() not in PUBLIC):
        known = ", ".join(sorted(PUBLIC))
        raise Forbidden(f"only an administrator has other servers ask another registry than {known}", param="model")
