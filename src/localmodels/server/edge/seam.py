"""What an application may know of the edge, beyond ASGI: in ``scope["extensions"]``, under :data:`EDGE`.

Under another server it is not there, and an application does by itself what it needs of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from starlette.types import Scope

from localmodels.core.errors import LocalModelsError

EDGE = "localmodels.edge"


class Sink(Protocol):
    """The answer, for who writes it from callbacks rather than from a task; each call is one write.

    Nothing here waits: a writer looks at ``paused`` before it takes more from its own source. After the client has left
    all calls do nothing; the request's task is cancelled then, and that is how a writer learns of it.
    """

    on_resume: Callable[[], None] | None

    @property
    def paused(self) -> bool:
        """Has the client so much left to take that it should get no more for now? ``on_resume`` is called later."""
        ...

    def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The head. It goes out with the first piece, be it empty.

        Raises:
            RuntimeError: it has begun already.
        """
        ...

    def write(self, data: bytes) -> None:
        """A piece of the body."""
        ...

    def end(self, data: bytes = b"") -> None:
        """The last piece of the body."""
        ...


class Edge(Protocol):
    """What the edge does for one request by itself.

    Attributes:
        cancels: the request's task, as soon as its client has left, in any phase; and a client that takes nothing of
            its answer is given up. No application has to watch for either.
    """

    cancels: bool

    @property
    def refusal(self) -> LocalModelsError | None:
        """Why the edge has cancelled the task, where its client has not left; it is told if it has heard nothing."""
        ...

    @property
    def sink(self) -> Sink:
        """The answer. Use either it or ``send``."""
        ...

    def stream_body(self) -> None:
        """Tells that the body is taken piece by piece: it may last as long as it comes, and does not count as held."""
        ...


def edge_of(scope: Scope) -> Edge | None:
    """The edge of a request, if it came over one."""
    edge: Edge | None = scope.get("extensions", {}).get(EDGE)
    return edge


def cancels(scope: Scope) -> bool:
    """Did it come over an edge, which watches its client by itself: see :class:`Edge`?"""
    edge = edge_of(scope)
    return edge is not None and edge.cancels
