"""The servers of the fleet: registered, changed, taken away, and asked what they have.

One owner: :class:`Servers` makes every change of the registered fleet on this gateway. The rules: what is changed is
written first and counts here when it is written; how a server is, is told by the monitor and kept nowhere; and a key
goes to the place that it was given for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from time import time_ns
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from msgspec import UNSET
from msgspec.structs import asdict, replace

from localmodels.backends.lookup import Lookup, reach_at, system_lookup
from localmodels.core.address import Address
from localmodels.core.errors import Conflict, LocalModelsError, NotFound, QueueFull, Unreachable
from localmodels.core.fleet import LOCAL, FleetStore, ModelChange, ModelRow, Replicas, ServerChange, ServerRow
from localmodels.core.roster import Discovery, ModelNow, ServerNow, Wish
from localmodels.core.secrets import Secret
from localmodels.core.servers import AnyKind, ServerSpec
from localmodels.dialects.told import Told
from localmodels.fleet.monitor import Monitor
from localmodels.flows.connections.remotes import Remotes, of_server
from localmodels.flows.connections.server_status import model_now, server_now
from localmodels.flows.servers import roster as rosters
from localmodels.flows.servers.discovered_models import Finds
from localmodels.flows.servers.gateway_sharing import Sharing
from localmodels.flows.servers.membership import AGAIN, Known, Sleep
from localmodels.flows.servers.refresh import Freshness
from localmodels.flows.servers.roster import Roster

log = logging.getLogger(__name__)

# Seconds that a list of servers waits for them; the contract allows two in all.
PATIENCE = 1.5
# Seconds that those wait who want to be told at once: of a server that refuses connections it is known sooner.
MOMENT = 0.1
# Seconds that whoever registers or moves a server waits for its models; they are found later all the same.
DISCOVERY = 2.0
# Requests that our own engine gets at once from the fleet: its scheduler has bounds of its own behind this one.
LOCAL_PLACES = 64
USUAL_KIND: AnyKind = "ollama"


def _no_urls() -> Sequence[str]:
    return ()


def _no_listeners() -> Collection[Address]:
    return ()


class Servers:
    """All of them: ``async with Servers(…) as servers``.

    Entered after the store and the monitor, since it reads the one and asks the other; left before them.

    Args:
        store: where the fleet is kept.
        replicas: the other gateways.
        remotes: connections; its fleet knows how the servers are.
        monitor: asks them.
        gateway: id of this gateway, the same after every start.
        file: the servers of the configuration's file.
        urls: where this server is found, the first one for people.
        listening: where it listens; no server behind it may stand there.
        lookup: the addresses of a name.
        local_places: requests that our own engine gets at once, until somebody says another number.
        now: nanoseconds since 1970, UTC.
        sleep: as ``asyncio.sleep``.
    """

    def __init__(
        self,
        store: FleetStore,
        replicas: Replicas,
        remotes: Remotes,
        monitor: Monitor,
        *,
        gateway: str,
        file: Iterable[ServerSpec] = (),
        urls: Callable[[], Sequence[str]] = _no_urls,
        listening: Callable[[], Collection[Address]] = _no_listeners,
        lookup: Lookup = system_lookup,
        local_places: int = LOCAL_PLACES,
        now: Callable[[], int] = time_ns,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        local = rosters.local_row(gateway, max_concurrent=local_places, now=now())
        self._store = store
        self._fleet = remotes.fleet
        self._monitor = monitor
        self._freshness = Freshness(monitor)
        self._urls = urls
        self._listening = listening
        self._lookup = lookup
        self._now = now
        self._sleep = sleep
        self._known = Known(store, replicas, remotes, local, file, sleep)
        self._finds = Finds(self._known, store, replicas, now, sleep)
        self._sharing = Sharing(replicas, remotes.fleet, gateway, now, sleep)
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._deaf: Callable[[], None] | None = None

    async def __aenter__(self) -> Self:
        self._deaf = self._fleet.listen(self._finds.hear)
        try:
            await self._known.begin()
        except LocalModelsError as error:
            log.error("the registered servers cannot be read: %s; going on with those of the file", error)
        with suppress(LocalModelsError):  # it is tried again; but who starts should not think that he is alone
            await self._sharing.once()
        works = (self._known.follow, self._known.look_again, self._finds.write, self._sharing.go_on)
        self._tasks = tuple(asyncio.create_task(self._gone_on(work)) for work in works)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._deaf is not None:
            self._deaf()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # What is known.

    @property
    def roster(self) -> Roster:
        """All as they are known now."""
        return self._known.roster

    async def adopt(self, file: Iterable[ServerSpec]) -> None:
        """These are the servers of the file from now on; what was registered stays."""
        await self._known.adopt(file)

    async def fresh(self) -> None:
        """Our own engine has told what it has, also where it is alone, and so nothing asks it again and again.

        And who has just failed a request has been looked at, unless he takes long.
        """
        await asyncio.gather(self._freshness.own(), self._freshness.models(MOMENT))

    def all(self, *, active_only: bool = False) -> tuple[ServerNow, ...]:
        """All as they were when they were asked last; nobody is asked."""
        return tuple(self._as_it_is(row) for row in self._rows() if row.is_active or not active_only)

    async def live(self) -> tuple[ServerNow, ...]:
        """All that may be asked, as they are now; who does not answer in time does not answer."""
        answering = await self._monitor.looked(PATIENCE)
        return tuple(
            self._as_it_is(row, answers=self._fleet.host(row.id) in answering) for row in self._rows() if row.is_active
        )

    def one(self, server_id: str) -> ServerNow:
        """The one of this id, as it was when it was asked last.

        Raises:
            NotFound: there is none.
        """
        return self._as_it_is(self.row(server_id))

    async def at(self, url: str) -> ServerNow:
        """The one at this address, as it is now. Only servers that are known are ever asked.

        Raises:
            NotFound: none of them stands there.
        """
        found = rosters.at(self._rows(), url)
        await self._monitor.look(found.id)
        return self.one(found.id)

    def row(self, server_id: str) -> ServerRow:
        """What is known of the server of this id; raises as :meth:`one`."""
        return self._shown(self.roster.server(server_id))

    def models(self, server_id: str) -> tuple[ModelNow, ...]:
        """What was found on a server, also what it has no more; raises as :meth:`one`."""
        self.roster.server(server_id)
        return tuple(map(self._model, self._finds.of(server_id)))

    def model(self, model_id: str) -> ModelNow:
        """The model of this id.

        Raises:
            NotFound: there is none.
        """
        return self._model(self._found(model_id))

    # What is changed.

    async def add(self, wish: Wish) -> ServerNow:
        """Registers a server, and looks for its models; it stays registered if it does not answer.

        Args:
            wish: with a name and an address.

        Raises:
            Conflict: there is one of this name, or at this address.
            InvalidValue: there can be none at this address; says what would be right.
            StoreFailed: it cannot be kept.
        """
        await self._known.refresh()
        said = await self._placed(wish.said, "")
        await self._freshness.own()
        await self._known.settle()
        await self._finds.keep_told(self.roster.local.id)  # else lists would lack it until the next round
        moment = self._now()
        fields = {"kind": USUAL_KIND, **_said(said)}
        row = ServerRow(id=str(uuid4()), created_at=moment, updated_at=moment, **fields)
        await self._store.add(row, wish.key or None)
        await self._known.refresh()
        await self._look_for_models(row.id)
        return self.one(row.id)

    async def change(self, server_id: str, wish: Wish) -> ServerNow:
        """Changes what the wish says of a server. One that may be asked no more finishes what it has.

        Raises:
            NotFound: there is none of this id.
            Conflict: it stands in the file, another has the name or address, or our own engine's cannot be so.
            InvalidRequest: it shall get another address, and nobody says what becomes of its key.
            InvalidValue, StoreFailed: as :meth:`add`.
        """
        await self._known.refresh()
        row = self.roster.server(server_id)
        self._require_ours(row)
        said, key = wish.said, wish.key
        if row.kind == LOCAL:
            said, key = rosters.check_local(said, key, self._shown(row)), None
            await self._known.settle()
        else:
            said = await self._placed(said, server_id)
            key = self._key_for(row, said, key)
        await self._store.change(server_id, said, self._now(), key=key)
        await self._known.refresh()
        if key is not None or any(getattr(said, field) is not UNSET for field in ("url", "kind", "is_active")):
            await self._look_for_models(server_id)
        return self.one(server_id)

    async def remove(self, server_id: str) -> ServerNow:
        """Forgets a server, its key and its models; requests that it answers come to their end. Gives what it was.

        Raises:
            NotFound: there is none of this id.
            Conflict: it stands in the file, or is our own engine.
            StoreFailed: it cannot be taken away.
        """
        await self._known.refresh()
        row = self.roster.server(server_id)
        if row.kind == LOCAL:
            raise Conflict("this program's own engine cannot be taken away; is_active false keeps it from being asked")
        self._require_ours(row)
        last = self.one(server_id)
        if not await self._store.remove(server_id):
            raise NotFound(f"there is no server '{server_id[:60]}'", param="server_id")
        await self._known.refresh()
        return last

    async def discover(self, server_id: str) -> Discovery:
        """Asks a server for its models, now, and writes down what has changed.

        Raises:
            NotFound: there is none of this id.
            BackendError: it does not answer.
            QueueFull: it is too busy to tell.
            StoreFailed: it cannot be written down.
        """
        row = self.roster.server(server_id)
        told = await self.seen(row.id)
        return await self._finds.keep(server_id, told)

    async def change_model(self, model_id: str, change: ModelChange) -> ModelNow:
        """Changes what its owner says of a model.

        Raises:
            NotFound: there is none of this id.
            Conflict: its server stands in the file.
            StoreFailed: it cannot be kept.
        """
        await self._known.refresh()
        row = self._found(model_id)
        self._require_ours(self.roster.server(row.server_id))
        if row.server_id == self.roster.local.id:
            await self._known.settle()
            await self._finds.keep_told(row.server_id)
        await self._store.change_model(model_id, change, self._now())
        await self._known.refresh()
        return self.model(model_id)

    async def forget_model(self, model_id: str) -> ModelNow:
        """Forgets what is kept of a model that its server has no more. Gives what it was.

        Raises:
            NotFound: there is none of this id.
            Conflict: its server has it, as far as it told last: it would be found again.
            StoreFailed: it cannot be taken away.
        """
        await self._known.refresh()
        row = self._found(model_id)
        if row.server_id != self.roster.local.id or self._known.settled:
            await self._finds.keep_told(row.server_id)  # it may have gone in this moment, or come back
        last = self.model(model_id)
        if last.row.present or not await self._store.forget_model(model_id):
            await self._known.refresh()
            last = self.model(model_id)  # raises, where somebody else has just forgotten it
            words = f"the server '{last.server_name}' had {last.row.model} when it was asked last"
            raise Conflict(f"{words}: only what is gone can be forgotten", param="model_id")
        await self._known.refresh()
        return last

    async def removed(self, server_id: str, model: str) -> None:
        """Somebody has had this model taken away there: what was found of it goes too, if nobody ever said more of it.

        What vanishes by itself is kept, and so is what cannot be looked after now: both are told to be gone.
        """
        if server_id == self.roster.local.id and not self._known.settled:
            return  # nothing is kept of it
        with suppress(LocalModelsError, TimeoutError):
            async with asyncio.timeout(DISCOVERY):
                await self.seen(server_id)
                await self._finds.forget(server_id, model)

    async def seen(self, server_id: str) -> Told:
        """What a server tells of itself now.

        Raises:
            NotFound: there is none of this id.
            BackendError: it does not answer; says why.
            QueueFull: it is well, and too busy to tell.
        """
        host = self._fleet.host(server_id)
        before = self._fleet.told(host) if host else None
        host = await self._monitor.look(server_id)
        told = self._fleet.told(host)
        if told is not None and told is not before:
            return told
        if host.state != "down":
            raise QueueFull(f"the server '{host.spec.name}' is too busy to tell what it has", retry_after=1.0)
        raise Unreachable(of_server(host.spec.name, host.failure or "it does not answer"))

    async def _gone_on(self, work: Callable[[], Awaitable[None]]) -> None:
        """Does what never ends; a defect in it must not end it either."""
        while True:
            try:
                await work()
            except Exception:
                log.exception("what goes on beside the fleet failed, and is begun again")
            await self._sleep(AGAIN)

    def _rows(self) -> tuple[ServerRow, ...]:
        return tuple(map(self._shown, self.roster.every()))

    def _shown(self, row: ServerRow) -> ServerRow:
        """The row as people know it: our own engine is where they find this program."""
        urls = self._urls() if row.kind == LOCAL else ()
        return replace(row, url=urls[0]) if urls else row

    def _as_it_is(self, row: ServerRow, *, answers: bool = True) -> ServerNow:
        return server_now(row, self._fleet.host(row.id), self.roster.source(row.id), answers=answers)

    def _found(self, model_id: str) -> ModelRow:
        with suppress(NotFound):
            return self.roster.model(model_id)
        for server_id in (self.roster.local.id, *(spec.id for spec in self.roster.file)):
            for row in self._finds.of(server_id):
                if row.id == model_id:
                    return row
        return self.roster.model(model_id)

    def _model(self, row: ModelRow) -> ModelNow:
        server = self.roster.server(row.server_id)
        return model_now(row, server, self._fleet.host(server.id))

    async def _placed(self, said: ServerChange, server_id: str) -> ServerChange:
        """The same with its address in its one spelling, and how near it is."""
        if not isinstance(said.url, str):
            self.roster.check(said, server_id)
            return said
        kind = self.roster.server(server_id).kind if server_id else USUAL_KIND
        url = rosters.placed(said.url, said.kind if isinstance(said.kind, str) else kind)
        self.roster.check(replace(said, url=url), server_id)
        reach = await reach_at(url, self._listening(), self._lookup)
        return replace(said, url=url, reach=reach)

    def _key_for(self, row: ServerRow, said: ServerChange, key: Secret | None) -> Secret | None:
        """What becomes of a server's key: it stays where it is, and goes nowhere else."""
        url = said.url if isinstance(said.url, str) else row.url
        rosters.check_key(row, url, key, has_key=row.id in self.roster.keys)
        if key is None and rosters.origin(url) != rosters.origin(row.url):
            return rosters.NO_KEY  # also one that somebody has just said on another gateway
        return key

    def _require_ours(self, row: ServerRow) -> None:
        if self.roster.source(row.id) == "file":
            raise Conflict(
                f"the server '{row.name}' stands in the configuration's file, which `localmodels config` names on its "
                "machine: change it there, and send the server that reads it SIGHUP"
            )

    async def _look_for_models(self, server_id: str) -> None:
        try:
            if self.roster.server(server_id).is_active:
                async with asyncio.timeout(DISCOVERY):
                    await self.discover(server_id)
        except (LocalModelsError, TimeoutError) as error:
            why = error if isinstance(error, LocalModelsError) else "it takes long"
            log.info("the models of the server %s are not known yet: %s", server_id, why)


def _said(change: ServerChange) -> dict[str, Any]:
    return {field: value for field, value in asdict(change).items() if value is not UNSET}
