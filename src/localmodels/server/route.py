"""``/api/route``: where a request would go now, and why. A dry run: no host is asked, and no turn is taken."""

from __future__ import annotations

from typing import Protocol

from starlette.types import Scope

from localmodels.core.access import Caller
from localmodels.dialects.routing import ShownLeftOut, ShownRoute, ShownTarget, write_route
from localmodels.fleet.automatic import AUTO
from localmodels.fleet.routing import Explanation, Target
from localmodels.server.wire import query_of, visit_of


class Explains(Protocol):
    """Knows where a request would go."""

    async def explained(self, name: str, capability: str, session: str, caller: Caller) -> Explanation:
        """The decision that would be made.

        Raises:
            ModelNotFound: nobody has this model.
            Forbidden: his key is for other models.
        """
        ...


class Route:
    """The route.

    Args:
        finders: explain.
    """

    def __init__(self, finders: Explains) -> None:
        self._finders = finders

    async def explain(self, scope: Scope, body: bytes) -> bytes:
        """Where a request would go; where no model is named, one that leaves the choice to us.

        Raises:
            ModelNotFound: nobody has it.
            Forbidden: the caller's key is for other models.
        """
        query, caller = query_of(scope), visit_of(scope).caller
        model, capability, session = (query.get(word, "") for word in ("model", "capability", "session"))
        return write_route(shown(await self._finders.explained(model or AUTO, capability, session, caller)))


def shown(explanation: Explanation) -> ShownRoute:
    """A decision, as it is told."""
    return ShownRoute(
        model=explanation.model,
        policy=explanation.policy,
        targets=tuple(map(_target, explanation.targets)),
        left_out=tuple(ShownLeftOut(one.host.spec.name, one.reason) for one in explanation.left_out),
    )


def _target(target: Target) -> ShownTarget:
    spec = target.host.spec
    return ShownTarget(
        server=spec.name,
        id=target.id,
        model=target.model,
        reason=target.reason,
        state=target.state,
        warm=target.warm,
        in_flight=target.busy,
        max_concurrent=spec.max_concurrent,
        memory_free=target.view.memory_free,
    )
