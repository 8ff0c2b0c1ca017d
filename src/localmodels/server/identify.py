"""Who asks: from the connection and the headers of a request to a caller.

Decided in one function and for each request anew, by what reached us and what was shown:

1. A key of ours: its caller. One that was revoked or has expired opens nothing, anywhere.
2. No key of ours, at a loopback address, under a loopback name, not passed on by a proxy: a program of this machine,
   who needs none. A key that we do not know does not shut it out, since clients of OpenAI's API must send one.
3. Anybody, if the owner said ``--insecure-no-auth``.
4. Else a stranger; with a key that we do not know, 401.

Only ``Authorization: Bearer`` and ``x-api-key`` are looked at: no cookie, no query, no password.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import lru_cache
from time import time_ns

from starlette.types import Scope

from localmodels.core.access import ANYBODY, LOCAL, STRANGER, Caller
from localmodels.core.errors import InvalidRequest, Unauthenticated
from localmodels.dialects.allowances import write_standing
from localmodels.dialects.table import PLAIN, SPOKEN
from localmodels.flows.access.keys import Keyring
from localmodels.flows.access.ledger import Ledger
from localmodels.flows.access.limits import Limiter
from localmodels.flows.visit import Visit
from localmodels.server.app import Outcome
from localmodels.server.gate import host_name
from localmodels.server.wire import Headers, headers

BEARER = "bearer "
WRONG = "this is no key of this server"
TWO = "a request shows one key, not two: Authorization and x-api-key differ"
# What a proxy says of the client behind it: with one of these a request is not of this machine, whatever its address.
_PASSED_ON = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip"})


class Doorkeeper:
    """The :class:`~localmodels.server.app.Access` of a server with keys.

    Args:
        ring: the keys.
        limiter: how much each may.
        ledger: is told what each used.
        require_key: do programs of this machine need a key, too?
        anybody: did the owner say that nobody needs one?
        clock: nanoseconds since 1970, UTC.
    """

    def __init__(
        self,
        ring: Keyring,
        limiter: Limiter,
        ledger: Ledger,
        *,
        require_key: bool = False,
        anybody: bool = False,
        clock: Callable[[], int] = time_ns,
    ) -> None:
        self._clock = clock
        self._ring = ring
        self._limiter = limiter
        self._ledger = ledger
        self._require_key = require_key
        self._anybody = anybody

    def caller(self, scope: Scope) -> Caller:
        """Who sent this request.

        Raises:
            InvalidRequest: two keys that differ.
            Unauthenticated: a key that is not one of ours where one is needed, or one that opens nothing any more.
        """
        credential = shown(scope)
        if credential and (caller := self._ring.caller(credential)):
            return caller
        if not self._require_key and is_local(scope):
            return LOCAL
        if self._anybody:
            return ANYBODY
        if credential:
            raise Unauthenticated(WRONG)
        return STRANGER

    def admit(self, visit: Visit) -> None:
        """Counts the request.

        Raises:
            RateLimited: it is one too many.
        """
        self._limiter.admit(visit)

    def told(self, visit: Visit) -> Headers:
        """What an answer tells of the caller's limits, in the words of its dialect."""
        write_level = SPOKEN.get(visit.dialect, PLAIN).write_level
        return write_standing(write_level, self._limiter.standing(visit), visit.error, self._clock())

    def ended(self, outcome: Outcome) -> None:
        """Charges what the request used."""
        self.charge(outcome.visit)

    def charge(self, visit: Visit) -> None:
        """The same, of what went on after its request."""
        self._limiter.settle(visit)
        self._ledger.note(visit)


def shown(scope: Scope) -> str:
    """The key that a request shows; empty when it shows none.

    Raises:
        InvalidRequest: it shows two that differ.
    """
    found = ""
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            text = value.decode("latin-1").strip()
        elif name == b"authorization" and value[: len(BEARER)].decode("latin-1").lower() == BEARER:
            text = value[len(BEARER) :].decode("latin-1").strip()
        else:
            continue
        if found and text and text != found:
            raise InvalidRequest(TWO)
        found = found or text
    return found


def is_local(scope: Scope) -> bool:
    """Does this request come from a program of this machine, that knows where it asks?"""
    reached = (scope.get("server") or ("",))[0]
    if not reached or not is_loopback(reached):
        return False
    if any(name in _PASSED_ON for name, _ in scope["headers"]):
        return False
    return all(is_loopback(host_name(host)) for host in headers(scope, b"host"))


@lru_cache(maxsize=256)
def is_loopback(name: str) -> bool:
    """Is this a name or an address of this machine alone?"""
    if name == "localhost":
        return True
    try:
        ip = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback
