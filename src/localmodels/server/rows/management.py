"""The rows of keys and usage."""

from __future__ import annotations

from localmodels.flows.access import Keyring, Keys
from localmodels.flows.ledger import Ledger
from localmodels.server.inference import WholeRoute
from localmodels.server.management import Management
from localmodels.server.parts import Parts
from localmodels.server.routes import Row
from localmodels.state.memory import MemoryKeys, MemoryUsage

NAME = "management"
SMALL = 2**16  # bytes of a wish for a key


def rows(parts: Parts) -> tuple[Row, ...]:
    """All of them; without a place to keep them, keys are forgotten."""
    return of(parts.management or forgetful())


def forgetful() -> Management:
    """The routes of a server that keeps nothing."""
    ring = Keyring()
    return Management(Keys(MemoryKeys(), ring), Ledger(MemoryUsage(), ring))


def of(routes: Management) -> tuple[Row, ...]:
    """All of them, over these routes."""
    keys, add = WholeRoute(routes.list, most=SMALL), WholeRoute(routes.add, most=SMALL)
    revoke, usage = WholeRoute(routes.revoke, most=SMALL), WholeRoute(routes.usage, most=SMALL)
    return (
        Row(("GET",), "/api/keys", NAME, "All keys, without their texts.", keys),
        Row(("POST",), "/api/keys", NAME, "Makes a key; its text is in this answer alone.", add),
        Row(("DELETE",), "/api/keys/{id}", NAME, "Makes a key open nothing from now on.", revoke),
        Row(("GET",), "/api/usage", NAME, "What keys used, by model and hour; `?key=`, `?since=`.", usage),
    )
