"""What other servers tell of their models, as ours: lists and descriptions.

The one rule: whatever a server tells, its models are named ``SERVER/MODEL`` and have a digest and a moment, since
clients of Ollama cut the first short and compare the second. What it tells of itself as a whole, under its own names,
is in :mod:`.told`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from localmodels.core import via
from localmodels.core.catalog import Description, Model
from localmodels.core.errors import Garbled
from localmodels.dialects import listing

_EPOCH = "1970-01-01T00:00:00+00:00"
_ENCODER = msgspec.json.Encoder()


class _Entry(Struct):
    id: str
    created: int | None = None
    created_at: str | None = None
    gateways: Any = ()


class _Entries(Struct):
    data: tuple[_Entry, ...] | None = None


class _Show(Struct):
    model: str


class _Unload(Struct):
    model: str
    keep_alive: int = 0
    stream: bool = False


_ENTRIES = msgspec.json.Decoder(_Entries)


def named(server: str, model: str, modified_at: str = _EPOCH) -> Model:
    """A model of which only its name is known; its digest is that of the name."""
    name = f"{server}/{model}"
    return Model(name, 0, sha256(name.encode()).hexdigest(), modified_at, server=server)


def read_entries(server: str, body: bytes) -> tuple[Model, ...]:
    """The models of ``/v1/models``, OpenAI's or Anthropic's.

    Raises:
        Garbled: it is something else.
    """
    try:
        entries = _ENTRIES.decode(body).data or ()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Garbled(f"the server's list is not OpenAI's: {error}") from error
    return tuple(
        replace(named(server, one.id, _moment(one.created_at or "", one.created)), gateways=via.names(one.gateways))
        for one in entries
    )


def read_tags(server: str, body: bytes) -> tuple[Model, ...]:
    """The models of ``/api/tags``, Ollama's.

    Raises:
        Garbled: it is something else.
    """
    return tuple(
        replace(model, name=f"{server}/{model.name}", server=server, modified_at=_moment(model.modified_at))
        for model in listing.read_tags(body)
    )


def write_show(model: str) -> bytes:
    """The question of ``/api/show``, Ollama's."""
    return _ENCODER.encode(_Show(model))


def write_unload(model: str) -> bytes:
    """A request to ``/api/generate``, Ollama's, that asks for nothing but that the model leaves memory."""
    return _ENCODER.encode(_Unload(model))


def read_shown(server: str, model: str, body: bytes) -> Description:
    """Its answer.

    Raises:
        Garbled: it is something else.
    """
    shown, _ = listing.read_show(body)
    return replace(shown, model=replace(shown.model, name=f"{server}/{model}", server=server), path="")


def _moment(told: str, seconds: int | None = None) -> str:
    """When something was made, as RFC 3339; the beginning of time where that is not told in any way we know."""
    try:
        if told:
            made = datetime.fromisoformat(told)
            return (made if made.tzinfo else made.replace(tzinfo=UTC)).isoformat()
        return datetime.fromtimestamp(seconds or 0, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return _EPOCH
