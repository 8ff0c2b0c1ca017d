"""What ``glance`` asks of a file, asked of PostgreSQL: the same questions, through SQLAlchemy, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Select, and_, column, func, select, values

from localmodels.core.access import Key, Use
from localmodels.core.fleet import ModelRow, ServerRow
from localmodels.core.secrets import Secret
from localmodels.core.tasks import ENDED, Event, Task
from localmodels.state.fleet_rows import model_of, server_of
from localmodels.state.generations import FLEET, KEYS, generation
from localmodels.state.rows import key_of
from localmodels.state.tables import GATEWAY, KEY, SERVER, SERVER_KEY, SERVER_MODEL, TASK, TASK_EVENT, USAGE
from localmodels.state.task_rows import event_of, listed_task_of, task_of
from localmodels.state.words import Words
from localmodels.state.writing import age_of

# Seconds after which nothing is heard of a gateway: each says something every second.
SILENT = 60.0
_LISTED = [TASK.c[name] for name in Task.__struct_fields__ if name != "request"]
_USE = [USAGE.c[name if name != "key" else "key_id"] for name in Use.__struct_fields__]


class Selects:
    """Looks; see :class:`localmodels.state.kept.Looks`.

    Args:
        connection: in a transaction that sees one moment.
        gateway: whose tasks are looked for where only its own count.
    """

    def __init__(self, connection: Connection, gateway: str) -> None:
        self._connection = connection
        self._gateway = gateway

    def generation(self) -> int:
        """Of the keys."""
        return generation(self._connection, KEYS)

    def keys(self) -> tuple[int, tuple[Key, ...]]:
        """The generation, and all keys of it: also those that open nothing any more."""
        return self.generation(), tuple(map(key_of, self._rows(select(KEY).order_by(KEY.c.created_at, KEY.c.id))))

    def spent(self, since: Mapping[str, int]) -> dict[str, int]:
        """Tokens that these keys used since these hours."""
        if not since:
            return {}
        wanted = values(column("key_id", Words), column("since", Integer), name="wanted").data(list(since.items()))
        used = and_(USAGE.c.key_id == wanted.c.key_id, USAGE.c.hour >= wanted.c.since)
        tokens = func.coalesce(func.sum(USAGE.c.prompt_tokens + USAGE.c.completion_tokens), 0)
        sums = select(wanted.c.key_id, tokens).select_from(wanted.outerjoin(USAGE, used)).group_by(wanted.c.key_id)
        return {key: int(count) for key, count in self._connection.execute(sums)}

    def uses(self, since: int, key: str | None) -> tuple[Use, ...]:
        """What was used since this hour, latest first; of one key, or of all."""
        of = [USAGE.c.hour >= since, *_is(USAGE.c.key_id, key)]
        order = USAGE.c.hour.desc(), USAGE.c.key_id, USAGE.c.model, USAGE.c.server
        return tuple(Use(*row) for row in self._connection.execute(select(*_USE).where(*of).order_by(*order)))

    def task(self, id: str) -> Task | None:  # noqa: A002
        """A task."""
        return next(iter(map(task_of, self._rows(select(TASK).where(TASK.c.id == id)))), None)

    def tasks(self, owner: str | None, state: str | None, most: int) -> tuple[Task, ...]:
        """The newest first, without what was asked; None means every owner, and every state."""
        of = [*_is(TASK.c.owner, owner), *_is(TASK.c.state, state)]
        return self._listed(select(*_LISTED).where(*of).limit(most))

    def line(self, origin: str) -> tuple[Task, ...]:
        """All tasks of this origin, the newest first, without what was asked."""
        return self._listed(select(*_LISTED).where(TASK.c.origin == origin))

    def unfinished(self) -> tuple[Task, ...]:
        """All tasks of this gateway that have not ended, the oldest first."""
        ours = select(TASK).where(TASK.c.state.not_in(ENDED), TASK.c.gateway == self._gateway)
        return tuple(map(task_of, self._rows(ours.order_by(TASK.c.created_at, TASK.c.id))))

    def keeper(self, id: str) -> str:  # noqa: A002
        """Whose a task is, if it is another gateway's."""
        others = select(TASK.c.gateway).where(TASK.c.id == id, TASK.c.gateway != self._gateway)
        return self._connection.execute(others).scalar_one_or_none() or ""

    def silent(self) -> dict[str, tuple[Task, ...]]:
        """Unfinished tasks of other gateways that have said nothing for a while, by these, the oldest first."""
        heard = select(GATEWAY.c.id).where(age_of(GATEWAY.c.seen) < SILENT)
        theirs = TASK.c.gateway.not_in(heard), TASK.c.gateway != self._gateway
        left = select(TASK).where(TASK.c.state.not_in(ENDED), *theirs).order_by(TASK.c.created_at, TASK.c.id)
        found: dict[str, tuple[Task, ...]] = {}
        for row in self._rows(left):
            found[row["gateway"]] = (*found.get(row["gateway"], ()), task_of(row))
        return found

    def events(self, id: str, after: int) -> tuple[Event, ...]:  # noqa: A002
        """A task's events after this number, in order."""
        of = select(TASK_EVENT).where(TASK_EVENT.c.task_id == id, TASK_EVENT.c.number > after)
        return tuple(map(event_of, self._rows(of.order_by(TASK_EVENT.c.number))))

    def fleet_generation(self) -> int:
        """Of the fleet."""
        return generation(self._connection, FLEET)

    def servers(self) -> tuple[ServerRow, ...]:
        """All, the oldest first."""
        return tuple(map(server_of, self._rows(select(SERVER).order_by(SERVER.c.created_at, SERVER.c.id))))

    def server_keys(self) -> dict[str, Secret]:
        """The keys of those servers that have one."""
        return {row["server_id"]: Secret(row["key"]) for row in self._rows(select(SERVER_KEY))}

    def models(self, server_id: str | None) -> tuple[ModelRow, ...]:
        """All, or those of one server, by their names."""
        of = select(SERVER_MODEL).where(*_is(SERVER_MODEL.c.server_id, server_id))
        return tuple(map(model_of, self._rows(of.order_by(SERVER_MODEL.c.model, SERVER_MODEL.c.id))))

    def _listed(self, wanted: Select[Any]) -> tuple[Task, ...]:
        return tuple(map(listed_task_of, self._rows(wanted.order_by(TASK.c.created_at.desc(), TASK.c.id))))

    def _rows(self, wanted: Select[Any]) -> list[Mapping[str, Any]]:
        return [dict(row) for row in self._connection.execute(wanted).mappings()]


def _is(place: ColumnElement[str], value: str | None) -> list[ColumnElement[bool]]:
    """None means whatever is there."""
    return [] if value is None else [place == value]
