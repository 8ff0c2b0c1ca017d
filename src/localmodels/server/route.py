"""``/api/route``: where a request would go now, and why. A dry run: no host is asked, and no turn is taken."""

from __future__ import annotations

from typing import Protocol

from starlette.types import Scope

from localmodels.core.access import Caller
from localmodels.core.errors import InvalidRequest
from localmodels.dialects.routing import ShownLeftOut, ShownRoute, ShownTarget, write_route
from localmodels.fleet.routing import Explanation, Target
from localmodels.server.wire import query_of, visit_of

AUTO = "auto"


class Explains(Protocol):
    """Knows where a request would go."""

    async def explained(self, name: str, capability: str, session: str, caller: Caller) -> Explanation:
        """The decision that would be made.

        Raises:
            ModelNotFound: nobody has this model.
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
        """Where a request would go.

        Raises:
            InvalidRequest: it is not said for which model, nor what it should be able to do.
            ModelNotFound: nobody has it.
        """
        query = query_of(scope)
        model, capability = query.get("model", ""), query.get("capability", "")
        if not model and not capability:
            raise InvalidRequest("model is required, or the capability of one", param="model")
        session, caller = query.get("session", ""), visit_of(scope).caller
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
    )
