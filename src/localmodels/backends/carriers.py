"""Which carrier leads to another server.

Its rule: whoever carries knows how near the server was when it was registered, and how names are resolved.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from functools import partial

from localmodels.backends.http import Carrier, Reply
from localmodels.backends.kinds import credentials
from localmodels.backends.lookup import Lookup, system_lookup
from localmodels.backends.round_trip import Patience
from localmodels.backends.tcp import Tcp
from localmodels.core.servers import ServerSpec


def carrier_to(spec: ServerSpec, lookup: Lookup = system_lookup) -> Carrier:
    """Plain HTTP over connections of our own; https by a library that is loaded when it is needed.

    Args:
        spec: whom to.
        lookup: the addresses of a name.
    """
    patience = Patience(first_byte=spec.first_byte, idle=spec.idle)
    if spec.url.lower().startswith("http://"):
        return Tcp(spec.url, headers=credentials(spec), patience=patience, reach=spec.reach, lookup=lookup)
    return Secure(partial(_secure, spec, patience, lookup))


class Secure:
    """A :class:`~localmodels.backends.http.Carrier` that is made for the first request.

    A client with TLS costs every start half a second and 15 MiB, and many servers never need it.
    """

    def __init__(self, load: Callable[[], Callable[[], Carrier]]) -> None:
        self._load = load
        self._lock = asyncio.Lock()
        self._carrier: Carrier | None = None

    async def open(self, method: str, path: str, body: bytes | None) -> Reply:
        """As the carrier that it stands for."""
        if self._carrier is None:
            async with self._lock:
                if self._carrier is None:
                    make = await asyncio.to_thread(self._load)
                    self._carrier = make()
        return await self._carrier.open(method, path, body)

    async def close(self) -> None:
        """Closes what was made."""
        if self._carrier is not None:
            await self._carrier.close()


def _secure(spec: ServerSpec, patience: Patience, lookup: Lookup) -> Callable[[], Carrier]:
    internet = importlib.import_module("localmodels.backends.internet").Internet
    return lambda: internet(
        spec.url,
        headers=credentials(spec),
        patience=patience,
        ca_file=spec.ca_file,
        reach=spec.reach,
        lookup=lookup,
    )
