"""The fleet as it is told: a server with how it is now, what is wished for one, and what became of what was asked.

The rule: what is kept (``core.fleet``) and what was looked up stay apart, and no value that is shown has a key.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from localmodels.core.fleet import ModelRow, ServerChange, ServerRow
from localmodels.core.secrets import Secret

# Registered through the API; a table of the owner's file; this program's own engine.
Source = Literal["api", "file", "local"]
Unload = Literal["unloaded", "not_loaded"]
# `moved` is in memory still, but off the graphics cards.
Release = Literal["unloaded", "moved", "not_loaded"]


class Offer(Struct, frozen=True):
    """A model that a server has now; see :class:`~localmodels.core.fleet.ModelRow` for its fields."""

    model: str
    digest: str = ""
    size: int = 0
    modified_at: str = ""


class ServerNow(Struct, frozen=True, kw_only=True):
    """A server, and how it is.

    Attributes:
        row: as its owner describes it.
        prefix: stands before the names of its models, ``prefix/model``.
        source: where it is described.
        has_key: does it get a key of ours?
        available: did it answer when it was asked last?
        state: in a word, ``unknown``, ``up``, ``trying`` or ``down``; ``inactive`` where it is not to be asked.
        version: of its program; None where it does not answer, empty where it does not tell.
        failure: why it does not answer; empty while it does.
        checked_at: nanoseconds since 1970, UTC; 0 before it was asked.
        in_flight: requests of ours that it answers now.
        models: those that it has; none where it does not answer.
        more_models: does it list more than are looked at?
    """

    row: ServerRow
    prefix: str
    source: Source
    has_key: bool = False
    available: bool = False
    state: str = "unknown"
    version: str | None = None
    failure: str = ""
    checked_at: int = 0
    in_flight: int = 0
    models: tuple[Offer, ...] = ()
    more_models: bool = False


class ModelNow(Struct, frozen=True, kw_only=True):
    """A model's row, and how it is.

    Attributes:
        available: is it there, may it be asked, and does its server answer?
        loaded: is it in its server's memory? None where that is not told.
    """

    row: ModelRow
    server_name: str
    available: bool
    loaded: bool | None


class Wish(Struct, frozen=True, kw_only=True):
    """A server as somebody wants it: what he says of it, and its key if he says one; an empty key is none."""

    said: ServerChange = ServerChange()
    key: Secret | None = None


class Discovery(Struct, frozen=True, kw_only=True):
    """What a look at a server's models has changed.

    Attributes:
        found: models that it has.
        added: those that had no row.
        updated: those whose row has changed, or that came back.
        deactivated: rows of models that it has no more.
        total: rows of this server.
    """

    found: int
    added: int
    updated: int
    deactivated: int
    total: int


class Availability(Struct, frozen=True, kw_only=True):
    """What a look for one model has shown; ``error`` says why it could not be looked for, or is empty."""

    model_id: str
    model_name: str
    is_available: bool
    is_loaded: bool | None
    server_url: str
    error: str = ""


class Unloaded(Struct, frozen=True):
    """What became of taking a model out of memory."""

    status: Unload
    model_name: str
    server_url: str


class Freed(Struct, frozen=True):
    """What became of taking a model off the graphics cards; bytes as its server told them before."""

    status: Release
    freed_bytes: int
