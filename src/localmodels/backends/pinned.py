"""How our own client reaches another server: httpx2, led to addresses that were judged (``backends.lookup``).

The rule: the name is resolved here and never by httpx2, which is given an address to connect to, and the name only for
the certificate and the ``Host`` header. Requests here are few and large, so each resolves anew; connections are kept.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import httpx2

from localmodels.backends.lookup import USUAL_PORTS, Lookup, checked, system_lookup
from localmodels.core import via
from localmodels.core.destinations import literal
from localmodels.core.errors import Unreachable
from localmodels.core.servers import Reach, ServerSpec


def transport_to(spec: ServerSpec, lookup: Lookup = system_lookup) -> Pinned:
    """The way of a client to this server, and to no other place.

    Args:
        spec: whom to.
        lookup: the addresses of a name.
    """
    # Reading the machine's certificates takes 20 ms, which plain HTTP need not spend.
    verify = _trusting(spec.ca_file) if spec.url.lower().startswith("https:") else False
    return Pinned(httpx2.AsyncHTTPTransport(verify=verify, trust_env=False), spec.reach, lookup)


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


class Pinned(httpx2.AsyncBaseTransport):
    """Sends requests to checked addresses.

    Args:
        inner: sends them; it never sees a name.
        reach: where connections may go.
        lookup: the addresses of a name.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, reach: Reach, lookup: Lookup) -> None:
        self._inner = inner
        self._reach: Reach = reach
        self._lookup = lookup

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends it to the first of the addresses that takes a connection.

        Raises:
            Unreachable: there is no address, or one that is forbidden; or nobody takes a connection there.
        """
        refusal: Exception | None = None
        for pinned in [_sent_to(address, request) for address in await self._addresses(request)]:
            try:
                return await self._inner.handle_async_request(pinned)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                refusal = error  # nothing of the body was read
        raise Unreachable("the server cannot be reached") from refusal

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._inner.aclose()

    async def _addresses(self, request: httpx2.Request) -> list[str]:
        url = request.url
        patience = request.extensions.get("timeout", {}).get("connect")
        try:
            async with asyncio.timeout(patience):
                return list(await checked(url.host, url.port or USUAL_PORTS[url.scheme], self._reach, self._lookup))
        except TimeoutError as error:
            raise Unreachable("the server cannot be reached: nobody told its address in time") from error


def _sent_to(address: str, request: httpx2.Request) -> httpx2.Request:
    """The request for this address; its headers name the host as they did."""
    url, passed = request.url, via.told()
    return httpx2.Request(
        request.method,
        url.copy_with(host=address),
        headers=[*request.headers.raw, *([(via.HEADER.encode(), passed.encode())] if passed else [])],
        stream=request.stream,
        extensions={**request.extensions, **({} if literal(url.host) else {"sni_hostname": url.host})},
    )
