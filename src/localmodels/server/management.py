"""``/api/keys`` and ``/api/usage``: who may ask, and what was used.

The rule: a caller makes no key that may more than he, and sees nobody's usage but his own unless he may observe.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time_ns

from starlette.types import Scope

from localmodels.core.errors import Forbidden
from localmodels.dialects import management
from localmodels.flows.access.keys import Issuer
from localmodels.flows.access.ledger import HOUR, HOURS_OF_A_DAY, Ledger
from localmodels.server.inference import decoded
from localmodels.server.wire import query_of, visit_of

# Days of usage that are told where nobody says since when.
USUAL_DAYS = 30


class Management:
    """The routes.

    Args:
        keys: makes keys and takes them away.
        ledger: knows what was used.
        clock: nanoseconds since 1970, UTC.
    """

    def __init__(self, keys: Issuer, ledger: Ledger, clock: Callable[[], int] = time_ns) -> None:
        self._keys = keys
        self._ledger = ledger
        self._clock = clock

    async def list(self, scope: Scope, body: bytes) -> bytes:
        """``GET /api/keys``."""
        return management.write_keys(await self._keys.all(), self._clock())

    async def add(self, scope: Scope, body: bytes) -> bytes:
        """``POST /api/keys``."""
        wish = await decoded(management.read_wish, body)
        key, text = await self._keys.add(wish, visit_of(scope).caller)
        return management.write_made(key, text, self._clock())

    async def revoke(self, scope: Scope, body: bytes) -> bytes:
        """``DELETE /api/keys/{id}``."""
        revoked = await self._keys.revoke(scope["path_params"]["id"])
        return management.write_key(revoked, self._clock())

    async def usage(self, scope: Scope, body: bytes) -> bytes:
        """``GET /api/usage``; ``?key=`` and ``?since=`` narrow it."""
        caller = visit_of(scope).caller
        query = query_of(scope)
        key = query.get("key")
        if not caller.may("observe"):
            if key not in {None, caller.id}:
                raise Forbidden("the usage of other keys needs a key with the scope 'observe'", param="key")
            key = caller.id
        month = self._clock() // HOUR - USUAL_DAYS * HOURS_OF_A_DAY
        since = management.read_since(query["since"]) if "since" in query else month
        return management.write_usage(await self._ledger.of(since=since, key=key))
