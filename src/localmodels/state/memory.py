"""State that is forgotten: the fake for tests and for tables of routes that nobody asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import UNSET
from msgspec.structs import asdict, replace

from localmodels.core.access import Key, Use
from localmodels.core.errors import Conflict, NotFound
from localmodels.core.fleet import ModelChange, ModelRow, ServerChange, ServerRow
from localmodels.core.secrets import Secret
from localmodels.core.tasks import ENDED, HISTORY, Event, Task, TaskState
from localmodels.state.fleet_rows import differing


class MemoryKeys:
    """Keys; see :class:`localmodels.flows.access.keys.KeyStore`."""

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
    """What was used; see :class:`localmodels.flows.access.ledger.UsageStore`."""

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

    async def keeper(self, id: str) -> str:  # noqa: A002
        """There is no other gateway."""
        return ""

    async def silent(self) -> Mapping[str, tuple[Task, ...]]:
        """There is no other gateway."""
        return {}

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


class MemoryFleet:
    """Servers and their models; see :class:`localmodels.core.fleet.FleetStore`."""

    def __init__(self, *servers: ServerRow) -> None:
        self._servers = {server.id: server for server in servers}
        self._keys: dict[str, Secret] = {}
        self._models: dict[str, ModelRow] = {}
        self._generation = 0

    async def servers(self) -> tuple[ServerRow, ...]:
        """All, the oldest first."""
        return tuple(sorted(self._servers.values(), key=lambda row: (row.created_at, row.id)))

    async def keys(self) -> Mapping[str, Secret]:
        """The keys of those servers that have one."""
        return dict(self._keys)

    async def models(self, server_id: str | None = None) -> tuple[ModelRow, ...]:
        """All, or those of one server, by their names."""
        found = [row for row in self._models.values() if server_id in {None, row.server_id}]
        return tuple(sorted(found, key=lambda row: (row.model, row.id)))

    async def add(self, row: ServerRow, key: Secret | None = None) -> None:
        """Keeps a new server."""
        self._keep(row, key, but="")

    async def change(self, server_id: str, change: ServerChange, now: int, *, key: Secret | None = None) -> ServerRow:
        """Changes these columns alone."""
        if (old := self._servers.get(server_id)) is None:
            raise NotFound(f"there is no server of the id '{server_id[:40]}'", param="id")
        return self._keep(replace(old, **_said(change), updated_at=now), key, but=server_id)

    async def remove(self, server_id: str) -> bool:
        """Forgets a server, its key and its models; was it there?"""
        if self._servers.pop(server_id, None) is None:
            return False
        self._keys.pop(server_id, None)
        self._models = {row.id: row for row in self._models.values() if row.server_id != server_id}
        self._generation += 1
        return True

    async def keep_models(self, server_id: str, rows: Sequence[ModelRow]) -> None:
        """Keeps these in place of what was kept of them."""
        if server_id in self._servers and (changed := differing(await self.models(server_id), rows)):
            self._models |= {row.id: row for row in changed}
            self._generation += 1

    async def change_model(self, model_id: str, change: ModelChange, now: int) -> ModelRow:
        """Changes these columns alone."""
        if (old := self._models.get(model_id)) is None:
            raise NotFound(f"there is no model of the id '{model_id[:40]}'", param="id")
        self._models[model_id] = new = replace(old, **_said(change), updated_at=now)
        self._generation += 1
        return new

    async def forget_model(self, model_id: str) -> bool:
        """Forgets a model that its server has no more; was there such a row?"""
        if (row := self._models.get(model_id)) is None or row.present:
            return False
        del self._models[model_id]
        self._generation += 1
        return True

    async def generation(self) -> int:
        """Raised by every change."""
        return self._generation

    def _keep(self, row: ServerRow, key: Secret | None, but: str) -> ServerRow:
        others = [one for one in self._servers.values() if one.id != but and one.gateway == row.gateway]
        if any(one.name == row.name for one in others):
            raise Conflict(f"there is a server '{row.name}' already; choose another name", param="name")
        if at := next((one for one in others if one.url == row.url), None):
            raise Conflict(f"the server '{at.name}' is at {row.url} already", param="url")
        if row.is_default:
            self._servers = {id: replace(one, is_default=False) for id, one in self._servers.items()}  # noqa: A001
        self._servers[row.id] = row
        if key is not None:
            self._keys.pop(row.id, None)
        if key:
            self._keys[row.id] = key
        self._generation += 1
        return row


def _said(change: ServerChange | ModelChange) -> dict[str, Any]:
    return {name: value for name, value in asdict(change).items() if value is not UNSET}
