"""What is told of the fleet: servers, their models, and what became of what was asked, in both roles.

The rule: no key is shown; what is shown says whether there is one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import asdict

from localmodels.core.errors import Garbled
from localmodels.core.moment import rfc3339
from localmodels.core.roster import (
    Availability,
    Discovery,
    Freed,
    ModelNow,
    Offer,
    Release,
    ServerNow,
    Source,
    Unload,
    Unloaded,
)
from localmodels.core.servers import AnyKind
from localmodels.dialects import strict_json

T = TypeVar("T")
SHA256 = "sha256:"


class ShownOffer(Struct, frozen=True):
    """A model that a server has; null for what it does not tell."""

    name: str
    model: str
    size: int | None
    digest: str | None
    modified_at: str | None


class ShownServer(Struct, frozen=True, kw_only=True):
    """A server, and how it is. Moments are RFC 3339, null for what has not happened.

    Attributes:
        prefix: stands before the names of its models.
        version: of its program; null while it does not answer.
        max_concurrent: 0 is without limit, for servers of the file alone.
        available: does it answer?
        state: ``up``, ``trying``, ``down``, ``unknown`` or ``inactive``.
        failure: why it does not answer.
        has_key: does it get a key?
        source: ``api``, ``file`` (changed there alone) or ``local`` (this program's own engine).
        in_flight: requests that it answers now.
        models: those that it has; none while it does not answer.
        more_models: does it list more than the 2,000 that are looked at? The others can be asked for by
            ``prefix/MODEL``.
    """

    id: str
    name: str
    prefix: str
    url: str
    api_url: str
    api_version: str
    kind: AnyKind
    version: str | None
    description: str
    capabilities: tuple[str, ...]
    max_concurrent: int
    max_queue: int
    priority: int
    weight: float
    is_default: bool
    is_active: bool
    available: bool
    state: str
    failure: str
    first_byte: float
    idle: float
    last_checked_at: str | None
    created_at: str | None
    updated_at: str | None
    has_key: bool
    source: Source
    in_flight: int
    models: tuple[ShownOffer, ...]
    more_models: bool = False


class ShownServers(Struct, frozen=True):
    """Some of them."""

    servers: tuple[ShownServer, ...]


class ShownHolder(Struct, frozen=True):
    """One server, and its models."""

    server: ShownServer
    models: tuple[ShownOffer, ...]


class ShownModel(Struct, frozen=True, kw_only=True):
    """A model that was found on a server. Null is for what its server does not tell.

    Attributes:
        name: for people; ``model`` is what its server calls it.
        available: is it there, may it be asked, and does its server answer?
        is_loaded: is it in its server's memory?
    """

    id: str
    server_id: str
    server_name: str
    name: str
    model: str
    capabilities: tuple[str, ...]
    priority: int
    is_active: bool
    available: bool
    is_loaded: bool | None
    digest: str | None
    size: int | None
    context_length: int | None
    modified_at: str | None


class ShownModels(Struct, frozen=True):
    """Those of one server."""

    models: tuple[ShownModel, ...]


class ShownDiscovery(Struct, frozen=True):
    """What a look at a server's models has changed."""

    message: str
    models_found: int
    models_added: int
    models_updated: int
    models_deactivated: int
    total_in_db: int


class ShownAvailability(Struct, frozen=True, omit_defaults=True):
    """What a look for one model has shown; ``error`` only where it could not be looked for."""

    model_id: str
    model_name: str
    is_available: bool
    is_loaded: bool | None
    server_url: str
    error: str | UnsetType = UNSET


class ShownUnload(Struct, frozen=True):
    """What became of taking a model out of memory."""

    status: Unload
    model_name: str
    server_url: str


class ShownRelease(Struct, frozen=True):
    """What became of taking a model off the graphics cards."""

    status: Release
    freed_bytes: int


def shown(server: ServerNow) -> ShownServer:
    """A server as it is shown."""
    row = server.row
    return ShownServer(
        id=row.id,
        name=row.name,
        prefix=server.prefix,
        url=row.url,
        api_url=f"{row.url}/{row.api_version}",
        api_version=row.api_version,
        kind=row.kind,
        version=server.version,
        description=row.description,
        capabilities=row.capabilities,
        max_concurrent=row.max_concurrent,
        max_queue=row.max_queue,
        priority=row.priority,
        weight=row.weight,
        is_default=row.is_default,
        is_active=row.is_active,
        available=server.available,
        state=server.state,
        failure=server.failure,
        first_byte=row.first_byte,
        idle=row.idle,
        last_checked_at=_moment(server.checked_at),
        created_at=_moment(row.created_at),
        updated_at=_moment(row.updated_at),
        has_key=server.has_key,
        source=server.source,
        in_flight=server.in_flight,
        models=tuple(map(_offer, server.models)),
        more_models=server.more_models,
    )


def write_servers(servers: Iterable[ServerNow]) -> bytes:
    """Some of them."""
    return strict_json.encode(ShownServers(tuple(map(shown, servers))))


def write_server(server: ServerNow) -> bytes:
    """One."""
    return strict_json.encode(shown(server))


def write_holder(server: ServerNow) -> bytes:
    """One, and its models beside it."""
    told = shown(server)
    return strict_json.encode(ShownHolder(told, told.models))


def read_servers(body: bytes) -> tuple[ShownServer, ...]:
    """Some of them, as a client reads them."""
    return _read(body, ShownServers).servers


def read_shown(body: bytes) -> ShownServer:
    """One, as a client reads it."""
    return _read(body, ShownServer)


def read_holder(body: bytes) -> tuple[ShownServer, tuple[ShownOffer, ...]]:
    """One, and its models."""
    holder = _read(body, ShownHolder)
    return holder.server, holder.models


def shown_model(model: ModelNow) -> ShownModel:
    """A model's row as it is shown."""
    row = model.row
    return ShownModel(
        id=row.id,
        server_id=row.server_id,
        server_name=model.server_name,
        name=row.name,
        model=row.model,
        capabilities=row.capabilities or row.told,
        priority=row.priority,
        is_active=row.is_active,
        available=model.available,
        is_loaded=model.loaded,
        digest=_digest(row.digest),
        size=row.size or None,
        context_length=row.context_length or None,
        modified_at=row.modified_at or None,
    )


def write_models(models: Iterable[ModelNow]) -> bytes:
    """Those of one server."""
    return strict_json.encode(ShownModels(tuple(map(shown_model, models))))


def write_model(model: ModelNow) -> bytes:
    """One."""
    return strict_json.encode(shown_model(model))


def read_models(body: bytes) -> tuple[ShownModel, ...]:
    """Those of one server, as a client reads them."""
    return _read(body, ShownModels).models


def read_model(body: bytes) -> ShownModel:
    """One, as a client reads it."""
    return _read(body, ShownModel)


def write_discovery(seen: Discovery, server: str) -> bytes:
    """What a look at the models of the server of this name has changed."""
    models = "model" if seen.found == 1 else "models"
    message = f"{server} has {seen.found} {models}: {seen.added} new, {seen.updated} changed, {seen.deactivated} gone"
    return strict_json.encode(
        ShownDiscovery(message, seen.found, seen.added, seen.updated, seen.deactivated, seen.total)
    )


def read_discovery(body: bytes) -> ShownDiscovery:
    """The same, as a client reads it."""
    return _read(body, ShownDiscovery)


def write_availability(seen: Availability) -> bytes:
    """What a look for one model has shown."""
    return strict_json.encode(ShownAvailability(**{**asdict(seen), "error": seen.error or UNSET}))


def read_availability(body: bytes) -> Availability:
    """The same, as a client reads it."""
    told = _read(body, ShownAvailability)
    return Availability(**{**asdict(told), "error": "" if told.error is UNSET else told.error})


def write_unloaded(done: Unloaded) -> bytes:
    """What became of taking a model out of memory."""
    return strict_json.encode(ShownUnload(done.status, done.model_name, done.server_url))


def read_unloaded(body: bytes) -> Unloaded:
    """The same, as a client reads it."""
    return Unloaded(**asdict(_read(body, ShownUnload)))


def write_freed(done: Freed) -> bytes:
    """What became of taking a model off the graphics cards."""
    return strict_json.encode(ShownRelease(done.status, done.freed_bytes))


def read_freed(body: bytes) -> Freed:
    """The same, as a client reads it."""
    return Freed(**asdict(_read(body, ShownRelease)))


def _moment(nanoseconds: int) -> str | None:
    return rfc3339(nanoseconds) if nanoseconds else None


def _digest(digest: str) -> str | None:
    """As the seed writes it."""
    return f"{SHA256}{digest}" if digest else None


def _offer(offer: Offer) -> ShownOffer:
    return ShownOffer(offer.model, offer.model, offer.size or None, _digest(offer.digest), offer.modified_at or None)


def _read(body: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(f"the server's answer is not what it should be: {error}") from error
