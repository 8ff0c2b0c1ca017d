"""The access of a server without keys, for tests that are about something else."""

from __future__ import annotations

from starlette.types import Scope

from localmodels.core.access import LOCAL, Caller
from localmodels.flows.visit import Visit
from localmodels.server.wire import Headers


class Everybody:
    """Whoever the gate let through may do everything."""

    def caller(self, scope: Scope) -> Caller:
        return LOCAL

    def admit(self, visit: Visit) -> None: ...

    def told(self, visit: Visit) -> Headers:
        return ()
