"""The fleet as it is kept: servers that were registered through the API, and the models that were found on them.

The rule: what is kept is what people said (and what was found, so that it has an id); how a server is now is looked up
there and never kept. A key is kept apart from its server, and no value here has one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from msgspec import UNSET, Struct, UnsetType

from localmodels.core.secrets import Secret
from localmodels.core.servers import AnyKind, Reach

LOCAL: Final = "local"
"""Kind and name of the row of this process's own engine."""


class ServerRow(Struct, frozen=True, kw_only=True):
    """A server as it is kept.

    Attributes:
        id: UUID, as text.
        name: unique; stands before the names of its models, ``name/model``.
        url: normalised (``core.destinations``), unique; ``http://host:port``, perhaps with a path.
        kind: the API it speaks; ``local`` is this program's own engine.
        api_version: what stands behind ``url`` in ``api_url``.
        capabilities: what it is for, in its owner's words.
        max_concurrent: requests that it gets at once, at least 1.
        max_queue: requests that may wait for one of these places.
        priority: hosts with a higher one are asked first.
        weight: how fast it is beside the others, more than 0.
        is_default: at most one server is.
        is_active: may it be asked at all?
        first_byte, idle: seconds of silence before and in the middle of an answer.
        reach: where connections to it may go; what its address was when it was registered.
        gateway: of a ``local`` row, the id of the home whose engine it is; several gateways may share these tables.
        created_at, updated_at: nanoseconds since 1970, UTC.
    """

    id: str
    name: str
    url: str
    kind: AnyKind
    api_version: str = "v1"
    description: str = ""
    capabilities: tuple[str, ...] = ()
    max_concurrent: int = 4
    max_queue: int = 64
    priority: int = 0
    weight: float = 1.0
    is_default: bool = False
    is_active: bool = True
    first_byte: float = 60.0
    idle: float = 120.0
    reach: Reach = "private"
    gateway: str = ""
    created_at: int = 0
    updated_at: int = 0


class ServerChange(Struct, frozen=True, kw_only=True):
    """What of a server's row becomes another; see :class:`ServerRow`."""

    name: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    kind: AnyKind | UnsetType = UNSET
    api_version: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    capabilities: tuple[str, ...] | UnsetType = UNSET
    max_concurrent: int | UnsetType = UNSET
    max_queue: int | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    weight: float | UnsetType = UNSET
    is_default: bool | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    first_byte: float | UnsetType = UNSET
    idle: float | UnsetType = UNSET
    reach: Reach | UnsetType = UNSET


class ModelRow(Struct, frozen=True, kw_only=True):
    """A model that was found on a server.

    Attributes:
        id: UUID, as text; stays when the model leaves and comes back.
        server_id: of the server that has it.
        model: its name there, whole (``foo:latest`` where servers of the kind have tags); unique on its server.
        name: for people; the same as ``model`` until somebody changes it.
        capabilities: in its owner's words; empty until he says so: then what its server tells counts.
        priority: this copy before others of the same model.
        is_active: may it be asked? Its owner's word.
        present: did the server list it when it was asked last?
        digest: of its manifest as the server tells it, hexadecimal; empty where it tells none.
        size: bytes; 0 where the server does not tell.
        told: its capabilities as the server tells them.
        context_length: tokens; 0 where the server does not tell.
        modified_at: RFC 3339, as the server tells it; empty where it does not.
        created_at, updated_at: nanoseconds since 1970, UTC.
    """

    id: str
    server_id: str
    model: str
    name: str
    capabilities: tuple[str, ...] = ()
    priority: int = 0
    is_active: bool = True
    present: bool = True
    digest: str = ""
    size: int = 0
    told: tuple[str, ...] = ()
    context_length: int = 0
    modified_at: str = ""
    created_at: int = 0
    updated_at: int = 0


class ModelChange(Struct, frozen=True, kw_only=True):
    """What of a model's row becomes another; see :class:`ModelRow`."""

    name: str | UnsetType = UNSET
    capabilities: tuple[str, ...] | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET


class Loads(Struct, frozen=True):
    """What one gateway has under way, as of ``at`` (nanoseconds since 1970, UTC).

    Attributes:
        in_flight: requests by id of their server.
        waiting: those that wait for a place there, likewise.
    """

    gateway: str
    at: int
    in_flight: Mapping[str, int]
    waiting: Mapping[str, int] = {}

    def wanted(self, server_id: str) -> int:
        """Places that it could use at a server now."""
        return max(0, self.in_flight.get(server_id, 0)) + max(0, self.waiting.get(server_id, 0))


class FleetStore(Protocol):
    """Where the fleet is kept. Every method is one transaction, durable when it returns.

    Raises:
        StoreFailed: it cannot be read or written.
    """

    async def servers(self) -> tuple[ServerRow, ...]:
        """All, in the order of ``created_at`` and ``id``."""
        ...

    async def keys(self) -> Mapping[str, Secret]:
        """The keys of those servers that have one, by their ids."""
        ...

    async def models(self, server_id: str | None = None) -> tuple[ModelRow, ...]:
        """All, or those of one server, in the order of ``model`` and ``id``."""
        ...

    async def add(self, row: ServerRow, key: Secret | None = None) -> None:
        """Keeps a new server; ``is_default`` takes it from whoever was.

        Raises:
            Conflict: there is one of this name, or at this address; ``param`` says which.
        """
        ...

    async def change(self, server_id: str, change: ServerChange, now: int, *, key: Secret | None = None) -> ServerRow:
        """Changes these columns alone; an empty key takes away what was kept, None leaves it.

        Raises:
            NotFound: there is none of this id.
            Conflict: as :meth:`add`.
        """
        ...

    async def remove(self, server_id: str) -> bool:
        """Forgets a server, its key and its models; was it there?"""
        ...

    async def keep_models(self, server_id: str, rows: Sequence[ModelRow]) -> None:
        """Keeps these in place of what was kept of the same ids; other rows stay.

        Columns that are their owner's word (``name``, ``capabilities``, ``priority``, ``is_active``) stay as they are
        in rows that exist. A server that is gone meanwhile keeps none; nothing is raised.
        """
        ...

    async def change_model(self, model_id: str, change: ModelChange, now: int) -> ModelRow:
        """Changes these columns alone.

        Raises:
            NotFound: there is none of this id.
        """
        ...

    async def forget_model(self, model_id: str) -> bool:
        """Forgets a model that its server has no more; one that is ``present`` stays. Was there such a row?"""
        ...

    async def generation(self) -> int:
        """Raised by every change, whoever makes it."""
        ...


class Replicas(Protocol):
    """The other gateways that share these tables. One that is alone has none, and is the one that reconciles."""

    def changes(self) -> AsyncIterator[None]:
        """One item whenever somebody, perhaps this one, has changed the fleet; several changes may be one.

        The first comes at once, since there may have been changes before anybody listened; and there may be one
        without a change, where one may have been missed.
        """
        ...

    def reconciling(self) -> AbstractAsyncContextManager[bool]:
        """Is it this gateway's turn to write down what was found? At most one has it at a time, until it leaves."""
        ...

    async def publish(self, loads: Loads) -> None:
        """Tells the others what is under way here."""
        ...

    async def loads(self, since: int) -> Collection[Loads]:
        """What the others have said since that moment; ``at`` is when they did, by this gateway's own clock."""
        ...
