"""A model of another server as ours: what only its name is known of, what its server shows of it, what is asked of it.

The one rule: whatever a server tells, its models are named ``SERVER/MODEL`` and have a digest and a moment, since
clients of Ollama cut the first short and compare the second. What it tells of itself as a whole, under its own names,
is in :mod:`.told`.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from localmodels.core.catalog import Description, Model
from localmodels.dialects import listing

EPOCH = "1970-01-01T00:00:00+00:00"
_ENCODER = msgspec.json.Encoder()


class _Show(Struct):
    model: str


class _Unload(Struct):
    model: str
    keep_alive: int = 0
    stream: bool = False


def named(server: str, model: str) -> Model:
    """A model of which only its name is known: its digest stands in for one, its moment is the beginning of time."""
    return Model(f"{server}/{model}", 0, listing.stand_in(model), EPOCH, server=server)


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
    shown, *_ = listing.read_show(body)
    return replace(shown, model=replace(shown.model, name=f"{server}/{model}", server=server), path="")
