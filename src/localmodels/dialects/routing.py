"""``/api/route`` as JSON, in both roles: where a request would go, and why."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from localmodels.core.errors import Garbled
from localmodels.dialects import strict_json


class ShownTarget(Struct, frozen=True):
    """A host that could answer, in the order in which hosts would be asked.

    Attributes:
        server: its name; ``local`` is this program's own engine.
        id: of the server.
        model: its name there.
        reason: what speaks for it and against it.
        state: ``unknown``, ``up`` or ``trying``.
        warm: is the model in its memory? None where it does not tell.
        in_flight: requests that it has now.
        max_concurrent: requests that it gets at once; 0 is without limit.
        memory_free: bytes that another model could take in its memory; None where it does not tell.
    """

    server: str
    id: str
    model: str
    reason: str
    state: str
    warm: bool | None
    in_flight: int
    max_concurrent: int
    memory_free: int | None = None


class ShownLeftOut(Struct, frozen=True):
    """A host that would not be asked, and why."""

    server: str
    reason: str


class ShownRoute(Struct, frozen=True):
    """Where a request would go.

    Attributes:
        model: that it would be answered by; empty where the choice is ours and nothing will do.
        policy: by which hosts are put in order.
        targets: who could answer, the first choice first.
        left_out: all others, and why.
    """

    model: str
    policy: str
    targets: tuple[ShownTarget, ...]
    left_out: tuple[ShownLeftOut, ...]


def write_route(route: ShownRoute) -> bytes:
    """The answer."""
    return strict_json.encode(route)


def read_route(body: bytes) -> ShownRoute:
    """The same, as a client reads it.

    Raises:
        Garbled: it is something else.
    """
    try:
        return msgspec.json.decode(body, type=ShownRoute)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Garbled(f"the server's answer is no route: {error}") from error
