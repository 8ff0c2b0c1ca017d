"""What every key used: gathered in memory, written in batches, and summed up for quotas.

The rule: a request is charged once, when it ended, with what was delivered. What nobody counted, because the answer was
cut or left, is estimated and said to be. Writing never holds up a request; a crash loses what was not yet written, two
seconds' worth. A row that no database takes is lost alone, and told; those of others are written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from operator import add
from time import time_ns
from typing import Protocol

from msgspec.structs import astuple

from localmodels.core.access import Caller, Period, Unwritable, Use
from localmodels.flows.access.keys import Keyring
from localmodels.flows.visit import Visit

log = logging.getLogger(__name__)

Place = tuple[str, str, str, int]
"""Key, model, server and hour."""

HOUR = 3_600 * 10**9
HOURS_OF_A_DAY = 24
COUNTS = 6  # of a Use, behind its place


class UsageStore(Protocol):
    """Keeps what was used."""

    async def add(self, uses: Sequence[Use]) -> None:
        """Adds these, all or none.

        Raises:
            Unwritable: one of them never can be.
            LocalModelsError: they cannot be written now.
        """
        ...

    async def of(self, *, since: int, key: str | None = None) -> tuple[Use, ...]:
        """What was used since this hour, latest first; of one key, or of all."""
        ...

    async def spent(self, since: Mapping[str, int]) -> Mapping[str, int]:
        """Tokens that these keys used since these hours."""
        ...


class _Spent:
    """Tokens of one key since the beginning of its period: written, being written, and not yet written."""

    __slots__ = ("flying", "fresh", "kept", "since")

    def __init__(self, since: int) -> None:
        self.since = since
        self.kept = self.flying = self.fresh = 0


class Ledger:
    """The books of this server.

    Args:
        store: keeps them.
        ring: the keys, of which some have quotas.
        now: nanoseconds since 1970.

    Attributes:
        lost: rows that could not be kept.
    """

    def __init__(self, store: UsageStore, ring: Keyring, now: Callable[[], int] = time_ns) -> None:
        self._store = store
        self._ring = ring
        self._now = now
        self.lost = 0
        self._pending: dict[Place, list[int]] = {}  # what a Use counts, in its order
        self._spent: dict[str, _Spent] = {}
        self._writing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, visit: Visit) -> None:
        """Charges a request that ended; what asked no model is not charged."""
        caller = visit.caller
        if not (visit.operation and visit.model and caller.id):
            return
        usage, visit.estimated = visit.charged, visit.usage is None
        tokens = usage.prompt_tokens + usage.completion_tokens
        counts = self._counts((caller.id, visit.label, visit.server, self._now() // HOUR))
        counts[0] += 1
        counts[1] += visit.error is not None
        counts[2] += usage.prompt_tokens
        counts[3] += usage.cached_tokens
        counts[4] += usage.completion_tokens
        counts[5] += 0 if visit.usage else tokens
        if caller.allowance.token_quota is not None:
            self._of(caller).fresh += tokens

    def _counts(self, place: Place) -> list[int]:
        counts = self._pending.get(place)
        if counts is None:
            counts = self._pending[place] = [0] * COUNTS
        return counts

    def left(self, caller: Caller) -> int | None:
        """Tokens that are left of a key's quota; None without one."""
        quota = caller.allowance.token_quota
        if quota is None:
            return None
        spent = self._of(caller)
        return quota - spent.kept - spent.flying - spent.fresh

    def renews(self, caller: Caller) -> float | None:
        """Seconds until the key's period ends; None if it never does."""
        end = ends(caller.allowance.quota_period, self._now() // HOUR)
        return None if end is None else (end * HOUR - self._now()) / 1e9

    async def flush(self) -> None:
        """Writes what is not yet written, also when whoever asks for it leaves in the middle.

        Raises:
            LocalModelsError: it cannot be; it is kept for the next time.
        """
        # Cancelled, a write would go on in its thread and nobody would know whether it is still to be done.
        task = asyncio.ensure_future(self._flush())
        self._tasks.add(task)
        task.add_done_callback(self._over)
        await asyncio.shield(task)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # who left hears of it by the next one

    async def _flush(self) -> None:
        async with self._writing:
            if not self._pending:
                return
            batch = {place: Use(*place, *counts) for place, counts in self._pending.items()}
            self._pending = {}
            for spent in self._spent.values():
                spent.flying, spent.fresh = spent.fresh, 0
            try:
                await self._add(batch)
            except BaseException:  # also when the server ends in this moment: what was not written is still owed
                for place, use in batch.items():
                    counts = self._counts(place)
                    counts[:] = map(add, counts, astuple(use)[len(place) :])
                for spent in self._spent.values():
                    spent.fresh, spent.flying = spent.fresh + spent.flying, 0
                raise
            for spent in self._spent.values():
                spent.kept, spent.flying = spent.kept + spent.flying, 0

    async def _add(self, batch: dict[Place, Use]) -> None:
        """Writes these; what is written, or can never be, is no longer among them."""
        try:
            await self._store.add(tuple(batch.values()))
        except Unwritable:
            for place, use in tuple(batch.items()):
                await self._add_one(use)
                del batch[place]

    async def _add_one(self, use: Use) -> None:
        try:
            await self._store.add((use,))
        except Unwritable as error:
            self.lost += 1
            log.error("what the key %s used of %s on %s is lost: %s", use.key, use.model, use.server, error)

    async def recount(self) -> None:
        """Sums up anew what keys with quotas used, of which other programs may have written some."""
        async with self._writing:
            limited = [key for key in self._ring.every() if key.allowance.token_quota is not None]
            hour = self._now() // HOUR
            since = {key.id: begins(key.allowance.quota_period, hour) for key in limited}
            if not since:
                return
            for key, tokens in (await self._store.spent(since)).items():
                self._since(key, since[key]).kept = tokens

    async def of(self, *, since: int, key: str | None = None) -> tuple[Use, ...]:
        """What was used since this hour, to this moment; of one key, or of all."""
        await self.flush()
        return await self._store.of(since=since, key=key)

    def _of(self, caller: Caller) -> _Spent:
        return self._since(caller.id, begins(caller.allowance.quota_period, self._now() // HOUR))

    def _since(self, key: str, since: int) -> _Spent:
        spent = self._spent.get(key)
        if spent is None or spent.since != since:
            spent = self._spent[key] = _Spent(since)
        return spent


@lru_cache(maxsize=16)  # every request of a key with a quota asks twice, and calendars are slow
def begins(period: Period, hour: int) -> int:
    """The first hour of the period in which this hour lies."""
    if period == "ever":
        return 0
    if period == "day":
        return hour - hour % HOURS_OF_A_DAY
    moment = datetime.fromtimestamp(hour * 3600, UTC)
    return int(moment.replace(day=1, hour=0).timestamp()) // 3600


def ends(period: Period, hour: int) -> int | None:
    """The first hour after the period in which this hour lies."""
    if period == "ever":
        return None
    if period == "day":
        return begins("day", hour) + HOURS_OF_A_DAY
    return begins("month", begins("month", hour) + 32 * HOURS_OF_A_DAY)  # no month has more than 31 days
