"""Everything that is kept, as the rest of the program asks for it, wherever it is: in files or in PostgreSQL.

The rule: nothing here knows a statement. A question is put to whatever looks (:class:`Looks`), a change to the books,
each in one transaction; who owns the database says on which thread or connection that happens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from localmodels.core.access import Key, Use
from localmodels.core.fleet import ModelChange, ModelRow, Replicas, ServerChange, ServerRow
from localmodels.core.responses import StoredResponse
from localmodels.core.secrets import Secret
from localmodels.core.tasks import HISTORY, Event, Task, TaskState
from localmodels.state.files import RESPONSES, STATE

if TYPE_CHECKING:
    from localmodels.state.books import Books

T = TypeVar("T")


class Looks(Protocol):
    """What can be asked without changing anything; see :class:`localmodels.state.glance.Glance`."""

    def generation(self) -> int: ...

    def keys(self) -> tuple[int, tuple[Key, ...]]: ...

    def spent(self, since: Mapping[str, int]) -> dict[str, int]: ...

    def uses(self, since: int, key: str | None) -> tuple[Use, ...]: ...

    def task(self, id: str) -> Task | None: ...  # noqa: A002

    def tasks(self, owner: str | None, state: str | None, most: int) -> tuple[Task, ...]: ...

    def line(self, origin: str) -> tuple[Task, ...]: ...

    def unfinished(self) -> tuple[Task, ...]: ...

    def keeper(self, id: str) -> str: ...  # noqa: A002

    def silent(self) -> dict[str, tuple[Task, ...]]: ...

    def events(self, id: str, after: int) -> tuple[Event, ...]: ...  # noqa: A002

    def fleet_generation(self) -> int: ...

    def servers(self) -> tuple[ServerRow, ...]: ...

    def server_keys(self) -> dict[str, Secret]: ...

    def models(self, server_id: str | None) -> tuple[ModelRow, ...]: ...


class Kept(ABC):
    """``async with`` opens it: ``.keys``, ``.usage``, ``.tasks``, ``.responses``, ``.fleet`` and ``.replicas``.

    Args:
        quota: bytes that all stored responses together may take.
    """

    def __init__(self, *, quota: int) -> None:
        self.keys = KeptKeys(self)
        self.usage = KeptUsage(self)
        self.tasks = KeptTasks(self)
        self.responses = KeptResponses(self, quota)
        self.fleet = KeptFleet(self)

    @property
    @abstractmethod
    def replicas(self) -> Replicas:
        """The other gateways that share it."""

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @abstractmethod
    async def look(self, look: Callable[[Looks], T]) -> T:
        """Asks, all of one moment. Raises as :meth:`write`."""

    @abstractmethod
    async def write(self, work: Callable[[Books], T], name: str = STATE) -> T:
        """Does something with the tables of this name, in one transaction.

        Raises:
            StoreFailed: they cannot be used.
        """

    @abstractmethod
    def has(self, name: str) -> bool:
        """Is there anything of this name? What was never written is not, and asking for it would make it."""


class KeptKeys:
    """The keys of a home; see :class:`localmodels.flows.access.keys.KeyStore`."""

    def __init__(self, state: Kept) -> None:
        self._state = state

    async def known(self) -> tuple[int, tuple[Key, ...]]:
        """The generation, and all keys of it: also those that open nothing any more."""
        return await self._state.look(lambda glance: glance.keys())

    async def add(self, key: Key) -> None:
        """Keeps a new one."""
        await self._state.write(lambda books: books.keys.add(key))

    async def revoke(self, key_id: str, now: int) -> bool:
        """Makes one open nothing from now on; is there such a key?"""
        return await self._state.write(lambda books: books.keys.revoke(key_id, now))

    async def generation(self) -> int:
        """Raised by every change."""
        return await self._state.look(lambda glance: glance.generation())


class KeptUsage:
    """What was used; see :class:`localmodels.flows.access.ledger.UsageStore`."""

    def __init__(self, state: Kept) -> None:
        self._state = state

    async def add(self, uses: Sequence[Use]) -> None:
        """Adds these, all or none."""
        await self._state.write(lambda books: books.usage.add(uses))

    async def of(self, *, since: int, key: str | None = None) -> tuple[Use, ...]:
        """What was used since this hour, latest first."""
        return await self._state.look(lambda glance: glance.uses(since, key))

    async def spent(self, since: Mapping[str, int]) -> Mapping[str, int]:
        """Tokens that these keys used since these hours."""
        return await self._state.look(lambda glance: glance.spent(since))


class KeptTasks:
    """The tasks of a home; see :class:`localmodels.core.tasks.TaskStore`."""

    def __init__(self, state: Kept) -> None:
        self._state = state

    async def put(self, task: Task, events: Sequence[Event] = ()) -> None:
        """Keeps it as it is now, and adds these events."""
        await self._state.write(lambda books: books.tasks.put(task, events))

    async def get(self, id: str) -> Task | None:  # noqa: A002
        """The task."""
        return await self._state.look(lambda glance: glance.task(id))

    async def all(
        self, *, owner: str | None = None, state: TaskState | None = None, most: int = HISTORY
    ) -> tuple[Task, ...]:
        """The newest first."""
        return await self._state.look(lambda glance: glance.tasks(owner, state, most))

    async def line(self, origin: str) -> tuple[Task, ...]:
        """All tasks of this origin, the newest first."""
        return await self._state.look(lambda glance: glance.line(origin))

    async def events(self, id: str, after: int = -1) -> tuple[Event, ...]:  # noqa: A002
        """Its events after this number, in order."""
        return await self._state.look(lambda glance: glance.events(id, after))

    async def unfinished(self) -> tuple[Task, ...]:
        """All of this gateway that have not ended, the oldest first."""
        return await self._state.look(lambda glance: glance.unfinished())

    async def keeper(self, id: str) -> str:  # noqa: A002
        """Id of the gateway whose task this is, if that is another one; empty otherwise."""
        return await self._state.look(lambda glance: glance.keeper(id))

    async def silent(self) -> Mapping[str, tuple[Task, ...]]:
        """Unfinished tasks of other gateways of which nothing has been heard for a minute, by these gateways."""
        return await self._state.look(lambda glance: glance.silent())

    async def remove(self, id: str) -> bool:  # noqa: A002
        """Forgets one; was it there?"""
        return await self._state.write(lambda books: books.tasks.remove(id))

    async def sweep(self, *, most: int = HISTORY) -> tuple[str, ...]:
        """Forgets the oldest ended ones above so many; the origins of those that were forgotten."""
        return await self._state.write(lambda books: books.tasks.sweep(most))


class KeptResponses:
    """Stored responses; see :class:`localmodels.core.responses.ResponseStore`."""

    def __init__(self, state: Kept, quota: int) -> None:
        self._state = state
        self._quota = quota

    async def put(self, response: StoredResponse) -> None:
        """Keeps it."""
        await self._state.write(lambda books: books.responses.put(response), RESPONSES)

    async def get(self, id: str, owner: str) -> StoredResponse | None:  # noqa: A002
        """The owner's response of this id."""
        return await self._state.write(lambda books: books.responses.get(id, owner), RESPONSES)

    async def delete(self, id: str, owner: str) -> bool:  # noqa: A002
        """Takes it away; was it there?"""
        return await self._state.write(lambda books: books.responses.delete(id, owner), RESPONSES)

    async def chain(self, id: str, owner: str, most: int) -> tuple[StoredResponse, ...]:  # noqa: A002
        """It and those that it goes on from, oldest first."""
        return await self._state.write(lambda books: books.responses.chain(id, owner, most), RESPONSES)

    async def unfinished(self) -> tuple[StoredResponse, ...]:
        """All of this gateway that are queued or in progress."""
        if not self._state.has(RESPONSES):  # a start asks, and should not have to import
            return ()
        return await self._state.write(lambda books: books.responses.unfinished(), RESPONSES)

    async def sweep(self) -> int:
        """Takes away what has expired, and the oldest of what is too much."""
        if not self._state.has(RESPONSES):
            return 0
        return await self._state.write(lambda books: books.responses.sweep(self._quota), RESPONSES)


class KeptFleet:
    """Servers and their models; see :class:`localmodels.core.fleet.FleetStore`."""

    def __init__(self, state: Kept) -> None:
        self._state = state

    async def servers(self) -> tuple[ServerRow, ...]:
        """All, the oldest first."""
        return await self._state.look(lambda glance: glance.servers())

    async def keys(self) -> Mapping[str, Secret]:
        """The keys of those servers that have one."""
        return await self._state.look(lambda glance: glance.server_keys())

    async def models(self, server_id: str | None = None) -> tuple[ModelRow, ...]:
        """All, or those of one server, by their names."""
        return await self._state.look(lambda glance: glance.models(server_id))

    async def add(self, row: ServerRow, key: Secret | None = None) -> None:
        """Keeps a new server."""
        await self._state.write(lambda books: books.fleet.add(row, key))

    async def change(self, server_id: str, change: ServerChange, now: int, *, key: Secret | None = None) -> ServerRow:
        """Changes these columns alone."""
        return await self._state.write(lambda books: books.fleet.change(server_id, change, now, key))

    async def remove(self, server_id: str) -> bool:
        """Forgets a server, its key and its models; was it there?"""
        return await self._state.write(lambda books: books.fleet.remove(server_id))

    async def keep_models(self, server_id: str, rows: Sequence[ModelRow]) -> None:
        """Keeps these in place of what was kept of them."""
        await self._state.write(lambda books: books.fleet.keep_models(server_id, rows))

    async def change_model(self, model_id: str, change: ModelChange, now: int) -> ModelRow:
        """Changes these columns alone."""
        return await self._state.write(lambda books: books.fleet.change_model(model_id, change, now))

    async def forget_model(self, model_id: str) -> bool:
        """Forgets a model that its server has no more; was there such a row?"""
        return await self._state.write(lambda books: books.fleet.forget_model(model_id))

    async def generation(self) -> int:
        """Raised by every change."""
        return await self._state.look(lambda glance: glance.fleet_generation())
