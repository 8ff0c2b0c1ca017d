"""The servers of the fleet as one gateway knows them: what is kept, and what its owner's file adds. Values, no effects.

The rule: the file stands before what was registered. A server that was registered under a name or at an address which
the file has taken since goes on under another prefix, and nothing of it is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid5

from msgspec import UNSET, Struct
from msgspec.structs import asdict, replace

from localmodels.core.destinations import server_url
from localmodels.core.errors import Conflict, InvalidRequest, InvalidValue, NotFound
from localmodels.core.fleet import LOCAL, ModelRow, ServerChange, ServerRow
from localmodels.core.roster import Source
from localmodels.core.secrets import Secret
from localmodels.core.servers import AnyKind, ServerSpec, bare_url, prefix_of

# Of the ids that are made of names: of servers of the file, of this program's own engine, and of models on servers. The
# same name has the same id on every gateway and after every start, and two that find a model at once write one row.
_SPACE = UUID("6f1de2a5-8d6c-4f0b-9c3e-2f6a0b6f7d11")
NO_KEY = Secret("")
# What of our own engine's row can be another; its name and address are this program's.
OF_LOCAL = (
    "description",
    "capabilities",
    "max_concurrent",
    "max_queue",
    "priority",
    "weight",
    "is_default",
    "is_active",
)


class Roster(Struct, frozen=True, kw_only=True):
    """All servers.

    Attributes:
        local: this program's own engine.
        file: those of the owner's file, with their ids.
        rows: those that were registered, by their ids.
        keys: of these, by their ids.
        models: what was found on any of them and on our own engine, by the models' ids.
    """

    local: ServerRow
    file: tuple[ServerSpec, ...] = ()
    rows: Mapping[str, ServerRow] = {}
    keys: Mapping[str, Secret] = {}
    models: Mapping[str, ModelRow] = {}

    def specs(self) -> tuple[ServerSpec, ...]:
        """All, as routing and connections need them: the file's, those that were registered, our own engine."""
        taken = {spec.name for spec in self.file} | {LOCAL}
        made = []
        for row in self.rows.values():
            prefix = prefix_of(row.name)
            if prefix in taken:
                prefix = f"{prefix}-{row.id[:8]}"
            taken.add(prefix)
            made.append(spec_of(row, prefix, self.keys.get(row.id, NO_KEY)))
        return (*self.file, *made, spec_of(self.local, LOCAL))

    def every(self) -> tuple[ServerRow, ...]:
        """The rows of all: our own engine, those that were registered, the file's."""
        return (self.local, *self.rows.values(), *map(row_of, self.file))

    def server(self, server_id: str) -> ServerRow:
        """The one of this id.

        Raises:
            NotFound: there is none.
        """
        if server_id == self.local.id:
            return self.local
        if row := self.rows.get(server_id):
            return row
        if spec := next((spec for spec in self.file if spec.id == server_id), None):
            return row_of(spec)
        raise NotFound(f"there is no server '{server_id[:60]}'", param="server_id")

    def model(self, model_id: str) -> ModelRow:
        """The model of this id.

        Raises:
            NotFound: there is none.
        """
        row = self.models.get(model_id)
        if row is None:
            raise no_model(model_id)
        return row

    def models_of(self, server_id: str) -> tuple[ModelRow, ...]:
        """What was found on one server, in the order of their names."""
        return tuple(row for row in self.models.values() if row.server_id == server_id)

    def source(self, server_id: str) -> Source:
        """Where a server is described."""
        if server_id == self.local.id:
            return "local"
        return "api" if server_id in self.rows else "file"

    def check(self, said: ServerChange, server_id: str = "") -> None:
        """Looks whether a server can be called so and stand there.

        Args:
            said: what somebody says of it, the address as ``server_url`` spells it.
            server_id: of the server that it is said of; empty for a new one.

        Raises:
            Conflict: another one has the name or the address; says which, and ``param`` what.
        """
        others = [row for row in self.every() if row.id != server_id]
        if isinstance(said.name, str):
            prefix = prefix_of(said.name)
            if prefix == LOCAL:
                raise Conflict(f"name must be another: '{LOCAL}' is this program's own engine", param="name")
            if clash := next((row for row in others if prefix_of(row.name) == prefix), None):
                like = "" if clash.name == said.name else f", whose models are named {prefix}/… too"
                raise Conflict(f"there is a server '{clash.name}' already{like}{self._where(clash)}", param="name")
        if isinstance(said.url, str) and (clash := next((row for row in others if address_of(row) == said.url), None)):
            words = f"the server '{clash.name}' is registered at {said.url} already{self._where(clash)}"
            raise Conflict(words, param="url")

    def _where(self, row: ServerRow) -> str:
        return "; it stands in the configuration's file" if self.source(row.id) == "file" else ""


def roster(
    local: ServerRow,
    file: Iterable[ServerSpec],
    rows: Iterable[ServerRow],
    keys: Mapping[str, Secret],
    models: Iterable[ModelRow],
) -> Roster:
    """All that is known. The engines of other gateways, and what was found on them, are those gateways' business."""
    known = {row.id: row for row in rows}
    others = {row.id for row in known.values() if row.kind == LOCAL and row.id != local.id}
    return Roster(
        local=known.get(local.id, local),
        file=tuple(spec if spec.id else replace(spec, id=made_id("file", spec.name)) for spec in file),
        rows={row.id: row for row in known.values() if row.kind != LOCAL},
        keys=dict(keys),
        models={row.id: row for row in models if row.server_id not in others},
    )


def no_model(model_id: str) -> NotFound:
    """What is said of an id that is no model's, and of one that is not for whoever says it."""
    return NotFound(f"there is no model with the id '{model_id[:60]}'", param="model_id")


def local_row(gateway: str, *, max_concurrent: int, now: int) -> ServerRow:
    """This program's own engine as it is kept at first.

    Several gateways may share the tables, so its address there is made of this gateway's id; nobody can register a
    server at such.
    """
    return ServerRow(
        id=made_id(LOCAL, gateway),
        name=LOCAL,
        url=f"{LOCAL}:{gateway}",
        kind=LOCAL,
        description="this program's own engine",
        max_concurrent=max_concurrent,
        reach="loopback",
        gateway=gateway,
        created_at=now,
        updated_at=now,
    )


def made_id(*names: str) -> str:
    """A UUID that is made of names."""
    return str(uuid5(_SPACE, "\0".join(names)))


def spec_of(row: ServerRow, prefix: str, key: Secret = NO_KEY) -> ServerSpec:
    """A row as routing and connections need it."""
    return ServerSpec(
        name=prefix,
        url=row.url,
        kind=row.kind,
        key=key,
        max_concurrent=row.max_concurrent,
        max_queue=row.max_queue,
        first_byte=row.first_byte,
        idle=row.idle,
        id=row.id,
        registered=row.kind != LOCAL,
        capabilities=row.capabilities,
        priority=row.priority,
        weight=row.weight,
        is_default=row.is_default,
        is_active=row.is_active,
        reach=row.reach,
    )


def row_of(spec: ServerSpec) -> ServerRow:
    """A server of the file as a row; it was not made at any moment that we know."""
    return ServerRow(
        id=spec.id,
        name=spec.name,
        url=spec.url,
        kind=spec.kind,
        capabilities=spec.capabilities,
        max_concurrent=spec.max_concurrent,
        max_queue=spec.max_queue,
        priority=spec.priority,
        weight=spec.weight,
        is_default=spec.is_default,
        is_active=spec.is_active,
        first_byte=spec.first_byte,
        idle=spec.idle,
        reach=spec.reach,
    )


def normalised(url: str, kind: AnyKind) -> str:
    """The address of a server in its one spelling, without the path that we put behind it ourselves.

    Raises:
        InvalidValue: it can be none.
    """
    return bare_url(server_url(url), kind)


def placed(url: str, kind: AnyKind) -> str:
    """As :func:`normalised`, of an address that somebody says now.

    Raises:
        InvalidValue: it can be none, or is what OpenAI's clients take, of a server that speaks Ollama's API.
    """
    bare = normalised(url, kind)
    if kind == "ollama" and bare.endswith("/v1"):
        raise InvalidValue(
            f"{bare[:120]} is an address of OpenAI's API, and this kind speaks Ollama's: drop /v1, or say kind openai",
            param="url",
        )
    return bare


def address_of(row: ServerRow) -> str:
    """A server's address as that of others is compared with it; the file's is as its owner wrote it."""
    try:
        return normalised(row.url, row.kind)
    except InvalidValue:
        return row.url


def at(rows: Iterable[ServerRow], url: str) -> ServerRow:
    """The server at this address, in whatever spelling.

    Raises:
        NotFound: none of these stands there, or it is no address: nobody is asked either way.
    """
    for row in rows:
        try:
            if address_of(row) == normalised(url, row.kind):
                return row
        except InvalidValue:
            break
    raise NotFound("no server is registered at this address", param="server_url")


def check_local(said: ServerChange, key: Secret | None, row: ServerRow) -> ServerChange:
    """What of our own engine's row can be changed; what stays as it is may be said.

    Raises:
        Conflict: something of it cannot; says what can.
    """
    wished: dict[str, Any] = {field: value for field, value in asdict(said).items() if value is not UNSET}
    kept = asdict(row)
    fixed = [field for field, value in wished.items() if field not in OF_LOCAL and value != kept[field]]
    if key:
        fixed.append("key")
    if fixed:
        words = f"{fixed[0]} of this program's own engine cannot be changed; {', '.join(OF_LOCAL)} can"
        raise Conflict(words, param=fixed[0])
    return ServerChange(**{field: value for field, value in wished.items() if field in OF_LOCAL})


def check_key(row: ServerRow, url: str, key: Secret | None, *, has_key: bool) -> None:
    """A key belongs to the place it was given for: it goes nowhere else without a word.

    Raises:
        InvalidRequest: the server shall be somewhere else, and nobody says what becomes of its key.
    """
    if has_key and key is None and origin(url) != origin(row.url):
        raise InvalidRequest(
            f"the key of '{row.name}' was given for {origin(row.url)}: with another address say key too, the one for "
            "the new address or an empty one",
            param="key",
        )


def origin(url: str) -> str:
    """Scheme, host and port of an address: where a key goes."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
