"""The models that were found on servers, written down: so that each has an id, and an owner can say something of it.

The rule: what is written is what a server told when it was asked last. Of several gateways that share the tables one
writes, whoever has the turn; what our own engine has is its own to say, and is not written before there is a reason to
(see :mod:`localmodels.flows.servers.membership`); what somebody asks for is written at once; and what a server has no
more is kept, and told to be gone, unless somebody has taken it away and its owner never said anything of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from localmodels.core.catalog import Model
from localmodels.core.errors import LocalModelsError
from localmodels.core.fleet import FleetStore, ModelRow, Replicas
from localmodels.core.roster import Discovery
from localmodels.dialects.told import Told
from localmodels.fleet.hosts import Host
from localmodels.flows.connections.server_names import plain
from localmodels.flows.servers.membership import Known, Sleep
from localmodels.flows.servers.roster import made_id

log = logging.getLogger(__name__)

# Seconds between two rounds; what many servers tell at a time is written in one.
ROUND = 1.0
# What a look at a server can change of a model's row.
_TOLD = ("digest", "size", "told", "context_length", "modified_at", "present")


class Finds:
    """What was found.

    Args:
        known: the fleet.
        store: where it is kept.
        replicas: the other gateways.
        now: nanoseconds since 1970, UTC.
        sleep: as ``asyncio.sleep``.
    """

    def __init__(
        self, known: Known, store: FleetStore, replicas: Replicas, now: Callable[[], int], sleep: Sleep
    ) -> None:
        self._known = known
        self._store = store
        self._replicas = replicas
        self._now = now
        self._sleep = sleep
        self._told: set[str] = set()
        self._news = asyncio.Event()

    def hear(self, host: Host) -> None:
        """Something of this host is not as it was; it may have told of other models."""
        self._told.add(host.id)
        self._news.set()

    def of(self, server_id: str) -> tuple[ModelRow, ...]:
        """What was found on a server; of those of which nothing is kept, it is what they told last."""
        known = self._known.roster
        if self._is_kept(server_id):
            return known.models_of(server_id)
        told = self._told_by(server_id)
        return found(server_id, told.models if told else (), (), 0)[0]

    async def keep(self, server_id: str, told: Told) -> Discovery:
        """Writes down what a server has told, and tells what that has changed.

        Raises:
            StoreFailed: it cannot be written.
        """
        known = self._known.roster
        if server_id == known.local.id:
            await self._known.settle()
        changed, seen = found(server_id, told.models, self.of(server_id), self._now())
        if changed and self._is_kept(server_id):
            await self._store.keep_models(server_id, changed)
            await self._known.refresh()
        return seen

    async def keep_told(self, server_id: str) -> None:
        """The same of what it told last, if it has told anything."""
        if told := self._told_by(server_id):
            await self.keep(server_id, told)

    async def forget(self, server_id: str, model: str) -> None:
        """Forgets a model that was taken away, of which its owner has said nothing, if its server has it no more.

        Args:
            server_id: of the server, which has told since then what it has.
            model: its name, as whoever took it away has spelled it.

        Raises:
            StoreFailed: it cannot be written.
        """
        if not self._is_kept(server_id):
            return
        await self.keep_told(server_id)
        rows = [row for row in self._known.roster.models_of(server_id) if plain(row.model) == plain(model)]
        for row in rows:
            if not row.present and not _spoken_of(row):
                await self._store.forget_model(row.id)
        await self._known.refresh()

    async def write(self) -> None:
        """Writes whatever is new, until it is cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._round()
            except LocalModelsError as error:
                log.warning("what was found on servers is not written down yet: %s", error)
                self._news.set()
            await self._sleep(ROUND)

    async def _round(self) -> None:
        self._told = {server_id for server_id in self._told if self._unwritten(server_id)}
        await self._written(self._told & {self._known.roster.local.id})
        if not self._told:
            return
        async with self._replicas.reconciling() as ours:
            if ours:
                await self._written(self._told)
        if self._told:
            self._news.set()  # it is somebody else's to write; should he be gone, it is ours after all

    async def _written(self, ids: Iterable[str]) -> None:
        for server_id in tuple(ids):
            if told := self._unwritten(server_id):
                await self.keep(server_id, told)
            self._told.discard(server_id)

    def _unwritten(self, server_id: str) -> Told | None:
        """What a server has told that its rows do not say; None where there is nothing."""
        known, told = self._known.roster, self._told_by(server_id)
        if told is None or not self._is_kept(server_id):
            return None
        return told if found(server_id, told.models, known.models_of(server_id), 0)[0] else None

    def _is_kept(self, server_id: str) -> bool:
        """Is what is found there written down?"""
        known = self._known.roster
        return server_id in known.rows or (server_id == known.local.id and self._known.settled)

    def _told_by(self, server_id: str) -> Told | None:
        host = self._known.fleet.host(server_id)
        return self._known.fleet.told(host) if host else None


def found(
    server_id: str, told: Iterable[Model], rows: Sequence[ModelRow], now: int
) -> tuple[tuple[ModelRow, ...], Discovery]:
    """What a server's list makes of the rows of its models: those that change or are new, and how many of each.

    Args:
        server_id: of the server.
        told: all that it has.
        rows: what was found there before.
        now: nanoseconds since 1970, UTC.
    """
    known = {row.model: row for row in rows}
    listed = {one.name: one for one in told}
    changed: list[ModelRow] = []
    added = updated = deactivated = 0
    for model, one in listed.items():
        row = known.get(model)
        new = _row(server_id, one, row, now)
        if row is None:
            added += 1
        elif _differ(row, new):
            updated += 1
        else:
            continue
        changed.append(new)
    for model, row in known.items():
        if row.present and model not in listed:
            deactivated += 1
            changed.append(replace(row, present=False, updated_at=now))
    total = len(known) + added
    return tuple(changed), Discovery(
        found=len(listed), added=added, updated=updated, deactivated=deactivated, total=total
    )


def _row(server_id: str, one: Model, row: ModelRow | None, now: int) -> ModelRow:
    before = row or ModelRow(
        id=made_id("model", server_id, one.name),
        server_id=server_id,
        model=one.name,
        name=one.name,
        created_at=now,
    )
    return replace(
        before,
        present=True,
        digest=one.digest,
        size=one.size,
        told=tuple(sorted(one.capabilities)),
        context_length=one.context_length,
        modified_at=one.modified_at,
        updated_at=now,
    )


def _spoken_of(row: ModelRow) -> bool:
    """Has its owner said anything of it?"""
    return not row.is_active or row.name != row.model or bool(row.capabilities) or row.priority != 0


def _differ(one: ModelRow, other: ModelRow) -> bool:
    return any(getattr(one, field) != getattr(other, field) for field in _TOLD)
