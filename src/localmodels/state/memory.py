"""State that is forgotten: the fake for tests and for tables of routes that nobody asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from localmodels.core.access import Key, Use
from localmodels.core.errors import Conflict
from localmodels.core.tasks import ENDED, HISTORY, Event, Task, TaskState


class MemoryKeys:
    """Keys; see :class:`localmodels.flows.access.KeyStore`."""

    def __init__(self, *keys: Key) -> None:
        self._keys = {key.id: key for key in keys}
        self._generation = 0

    async def known(self) -> tuple[int, tuple[Key, ...]]:
        """The generation, and all keys of it."""
        return self._generation, tuple(sorted(self._keys.values(), key=lambda key: (key.created_at, key.id)))

    async def add(self, key: Key) -> None:
        """Keeps a new one."""
        if any(other.name == key.name and other.revoked_at is None for other in self._keys.values()):
            raise Conflict(f"there is a key '{key.name}' already; revoke it first or choose another name")
        self._keys[key.id] = key
        self._generation += 1

    async def revoke(self, key_id: str, now: int) -> bool:
        """Makes one open nothing from now on; is there such a key?"""
        key = self._keys.get(key_id)
        if key is not None and key.revoked_at is None:
            self._keys[key_id] = replace(key, revoked_at=now)
            self._generation += 1
        return key is not None

    async def generation(self) -> int:
        """Raised by every change."""
        return self._generation


class MemoryUsage:
    """What was used; see :class:`localmodels.flows.ledger.UsageStore`."""

    def __init__(self) -> None:
        self._uses: dict[tuple[str, str, str, int], Use] = {}

    async def add(self, uses: Sequence[Use]) -> None:
        """Adds these."""
        for use in uses:
            place = use.key, use.model, use.server, use.hour
            self._uses[place] = self._uses.get(place, Use(*place)).plus(use)

    async def of(self, *, since: int, key: str | None = None) -> tuple[Use, ...]:
        """What was used since this hour, latest first."""
        found = [use for use in self._uses.values() if use.hour >= since and key in {None, use.key}]
        return tuple(sorted(found, key=lambda use: (-use.hour, use.key, use.model, use.server)))

    async def spent(self, since: Mapping[str, int]) -> Mapping[str, int]:
        """Tokens that these keys used since these hours."""
        return {key: sum(use.tokens for use in await self.of(since=hour, key=key)) for key, hour in since.items()}


class MemoryTasks:
    """Tasks; see :class:`localmodels.core.tasks.TaskStore`."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._events: dict[str, dict[int, Event]] = {}

    async def put(self, task: Task, events: Sequence[Event] = ()) -> None:
        """Keeps it as it is now, and adds these events."""
        self._tasks[task.id] = task
        known = self._events.setdefault(task.id, {})
        for event in events:
            known.setdefault(event.number, event)

    async def get(self, id: str) -> Task | None:  # noqa: A002
        """The task."""
        return self._tasks.get(id)

    async def all(
        self, *, owner: str | None = None, state: TaskState | None = None, most: int = HISTORY
    ) -> tuple[Task, ...]:
        """The newest first, without what was asked."""
        found = self._newest(lambda task: owner in {None, task.owner} and state in {None, task.state})[:most]
        return tuple(replace(task, request=b"") for task in found)

    async def line(self, origin: str) -> tuple[Task, ...]:
        """All tasks of this origin, the newest first, without what was asked."""
        return tuple(replace(task, request=b"") for task in self._newest(lambda task: task.origin == origin))

    async def events(self, id: str, after: int = -1) -> tuple[Event, ...]:  # noqa: A002
        """Its events after this number, in order."""
        return tuple(event for number, event in sorted(self._events.get(id, {}).items()) if number > after)

    async def unfinished(self) -> tuple[Task, ...]:
        """All that have not ended, the oldest first."""
        return self._newest(lambda task: task.state not in ENDED)[::-1]

    async def remove(self, id: str) -> bool:  # noqa: A002
        """Forgets one; was it there?"""
        self._events.pop(id, None)
        return self._tasks.pop(id, None) is not None

    async def sweep(self, *, most: int = HISTORY) -> tuple[str, ...]:
        """Forgets the oldest ended ones above so many; the origins of those that were forgotten."""
        ended = [task for task in self._tasks.values() if task.state in ENDED]
        old = sorted(ended, key=lambda task: (-task.ended_at, task.id))[most:]
        for task in old:
            await self.remove(task.id)
        return tuple(task.origin for task in old)

    def _newest(self, wanted: Callable[[Task], bool]) -> tuple[Task, ...]:
        found = [task for task in self._tasks.values() if wanted(task)]
        return tuple(sorted(found, key=lambda task: (-task.created_at, task.id)))
