"""The only door out: one constructor for every HTTP connection that a pull, a push or a login makes.

What it holds, whatever the registry answers (threats V-18, V-19, V-21, V-22):

- https, unless the operator named an ``http://`` origin; addresses that are not public only where he named the origin;
- the address that was checked is the one connected to: names are resolved here, once a connection, and aiohttp is given
  the checked addresses;
- no proxy from the environment, no cookies, no decompression: an encoded body is refused;
- redirects are followed by hand, for GET and HEAD only, ten at most, never from https to http; the authorization and
  every header that is not in ``HARMLESS`` are left behind for good at the first step to another origin;
- heads, and bodies that are read whole, are bounded in size and time.

Origins that were named and those that were not have a pool of connections each, so a connection that was allowed for
the one is never found by the other.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import Struct, structs
from multidict import CIMultiDictProxy
from yarl import URL

from localmodels.core.destinations import address_refusal, literal, name_refusal
from localmodels.core.errors import (
    BackendError,
    BackendTimeout,
    Forbidden,
    Garbled,
    LocalModelsError,
    StreamCut,
    Unreachable,
)
from localmodels.core.secrets import Secret
from localmodels.registry.addresses import Origin, parse_url

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
Body = Callable[[], AsyncIterator[bytes]]

MAX_HOPS = 10
# What another origin may see of a request: which bytes are asked for, and nothing about who asks.
HARMLESS = frozenset({"Accept", "Accept-Encoding", "Range", "User-Agent"})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# A line of a head: signed addresses of content networks have 3 KiB at most, tokens 8 KiB.
MAX_LINE = 16 * 1024
MAX_LINES = 128
# How much of a body waits here while the disk is busy; above twice this the sender is held back. Pieces of 1 MiB and
# more make the hop to the thread that writes them cheap (figures in the tests of speed).
READ_SIZE = 2**20


class Patience(Struct, frozen=True):
    """Seconds. ``head`` is for silence before an answer begins and inside of it, ``whole`` for all of a short answer.

    A registry across the world answers in half a second; ``connect`` leaves room for a lost packet or two.
    """

    connect: float = 10.0
    head: float = 30.0
    whole: float = 60.0


class Answer:
    """One answer: its head, and a body that is read once.

    Attributes:
        url: where it came from in the end; ``moved``: another origin than was asked.
    """

    def __init__(self, response: aiohttp.ClientResponse, patience: Patience, *, moved: bool) -> None:
        self._response = response
        self._patience = patience
        self.status = response.status
        self.headers: CIMultiDictProxy[str] = response.headers
        self.url = response.url
        self.moved = moved

    async def piece(self) -> bytes:
        """What has arrived of the body, as large as it is; empty at the end.

        Raises:
            BackendTimeout, StreamCut: it goes on no more, or not in time.
        """
        try:
            return await self._response.content.readany()
        except (aiohttp.SocketTimeoutError, TimeoutError) as error:
            raise BackendTimeout("the registry fell silent in the middle of its answer") from error
        except (aiohttp.ClientError, ConnectionError, RuntimeError) as error:
            # The last one is aiohttp's for a connection that was closed from here.
            raise StreamCut("the connection to the registry broke in the middle of its answer") from error

    async def whole(self, limit: int) -> bytes:
        """The whole body of at most ``limit`` bytes.

        Raises:
            Garbled: it is longer.
            BackendTimeout, StreamCut: it goes on no more, or not in time.
        """
        data = bytearray()
        try:
            async with asyncio.timeout(self._patience.whole):
                while some := await self.piece():
                    data += some
                    if len(data) > limit:
                        raise Garbled(f"the registry's answer is longer than {limit} bytes")
        except TimeoutError as error:
            raise BackendTimeout("the registry's answer takes too long") from error
        return bytes(data)

    async def done(self) -> None:
        """Leaves the connection to be used again, if the body is short; its content does not matter."""
        if self._response.content.at_eof():
            self._response.release()


class Outbound:
    """``async with Outbound(named) as outbound: … outbound.open("GET", url)``.

    Args:
        named: origins that the operator named. Only these may be on the local network or plain http.
        lookup: the addresses of a host; the system's by default.
        tls: which certificates are believed; the system's by default.
        agent: what we call ourselves.
    """

    def __init__(
        self,
        named: frozenset[Origin] = frozenset(),
        *,
        patience: Patience | None = None,
        lookup: Lookup | None = None,
        tls: ssl.SSLContext | None = None,
        agent: str = "localmodels",
    ) -> None:
        self._named = named
        self._patience = patience or Patience()
        self._lookup = lookup or _system_lookup
        self._tls = tls or ssl.create_default_context()
        self._agent = agent
        self._pools: dict[bool, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        self._pools = {named: self._pool(named=named) for named in (True, False)}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.close()

    @asynccontextmanager
    async def open(
        self,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str] | None = None,
        authorization: Secret | None = None,
        body: Body | bytes | None = None,
        allowed: frozenset[Origin] = frozenset(),
        follow: bool = True,
        patience: Patience | None = None,
    ) -> AsyncIterator[Answer]:
        """Asks and gives the answer.

        Args:
            method: GET, HEAD, …
            url: with every byte as it shall be sent.
            headers: beside the authorization.
            authorization: the header of this name; seen by the origin of ``url`` and by no other.
            body: of a length that ``headers`` tell, where it is not in one piece.
            allowed: origins that are as good as named for this request.
            follow: redirects, of GET and HEAD.
            patience: another one than usual.

        Raises:
            Forbidden: the URL, or where it leads, is no place that may be asked.
            Unreachable, BackendTimeout, Garbled: there is no answer, or none that can be read.
        """
        said = {"Authorization": authorization.reveal()} if authorization is not None else {}
        asked = _Asked(method, {**(headers or {}), **said}, body, self._named | allowed, patience or self._patience)
        response, moved = await self._arrive(url, asked, follow=follow)
        answer = Answer(response, asked.patience, moved=moved)
        try:
            encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
            if encoding not in {"", "identity"}:
                raise Garbled(f"the registry sends a body encoded as {encoding[:40]!r}, which was not asked for")
            yield answer
        finally:
            # `close` tells the other side at once that nobody reads on; a body at its end keeps its connection.
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    async def _arrive(self, url: URL, asked: _Asked, *, follow: bool) -> tuple[aiohttp.ClientResponse, bool]:
        """The last answer, and whether it is of another origin than the first."""
        moved = False
        for _ in range(MAX_HOPS + 1):
            response = await self._send(url, asked)
            to = response.headers.get("Location") if response.status in REDIRECTS else None
            if to is None or not follow or asked.method not in {"GET", "HEAD"}:
                return response, moved
            response.close()
            before, url = url, parse_url(to, url)
            if before.scheme == "https" and url.scheme != "https":
                raise Forbidden("the registry leads from https to plain http")
            if Origin.of(url) != Origin.of(before):
                moved = True
                harmless = {name: value for name, value in asked.headers.items() if name in HARMLESS}
                asked = structs.replace(asked, headers=harmless)
        raise Garbled(f"the registry leads on more than {MAX_HOPS} times")

    async def _send(self, url: URL, asked: _Asked) -> aiohttp.ClientResponse:
        origin = Origin.of(url)
        is_named = origin in asked.named
        self._check(origin, is_named=is_named)
        patience = asked.patience
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=patience.connect, sock_read=patience.head)
        try:
            return await self._pools[is_named].request(
                asked.method,
                url,
                headers=asked.headers,
                data=asked.body() if callable(asked.body) else asked.body,
                timeout=timeout,
                allow_redirects=False,
                max_line_size=MAX_LINE,
                max_field_size=MAX_LINE,
                max_headers=MAX_LINES,
            )
        except tuple(_FAILURES) as error:
            where = origin.host if origin.is_usual else f"{origin.host}:{origin.port}"
            raise next(kind(where, error) for of, kind in _FAILURES.items() if isinstance(error, of)) from error

    def _check(self, origin: Origin, *, is_named: bool) -> None:
        if not self._pools:
            raise Unreachable("the door out is closed")
        if origin.scheme != "https" and not is_named:
            raise Forbidden(f"plain http to {origin.host}:{origin.port} is not allowed; it is not registered")
        address = literal(origin.host)
        why = address_refusal(address, named=is_named) if address else name_refusal(origin.host)
        if why:
            raise Forbidden(f"{origin.host} may not be asked: {why}")

    def _pool(self, *, named: bool) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_Checked(self._lookup, named=named), use_dns_cache=False, limit=0, ssl=self._tls
            ),
            headers={"Accept-Encoding": "identity", "User-Agent": self._agent},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=READ_SIZE,
            trust_env=False,
        )


class _Asked(Struct, frozen=True):
    """What stays the same while a request is led on."""

    method: str
    headers: Mapping[str, str]
    body: Body | bytes | None
    named: frozenset[Origin]
    patience: Patience


# The first class that fits says what went wrong with a request to a host.
_FAILURES: Mapping[type[Exception], Callable[[str, Exception], LocalModelsError]] = {
    aiohttp.ServerTimeoutError: lambda host, _: BackendTimeout(f"{host} did not answer in time"),
    TimeoutError: lambda host, _: BackendTimeout(f"{host} did not answer in time"),
    aiohttp.ServerDisconnectedError: lambda host, _: Unreachable(f"{host} closed the connection without an answer"),
    # These three do not pass, so they are of the class that is not tried again.
    aiohttp.InvalidURL: lambda host, _: BackendError(f"{host} is not the name of a host"),
    aiohttp.ClientConnectorCertificateError: lambda host, _: BackendError(
        f"{host} has no certificate that we believe; name its authority with --ca-file"
    ),
    aiohttp.ClientSSLError: lambda host, _: BackendError(
        f"{host} does not speak https; if it is yours, pull with --insecure, or name it with --insecure-registry"
    ),
    aiohttp.ClientConnectorDNSError: lambda host, _: Unreachable(
        f"{host} cannot be reached: DNS tells this machine no address for that name"
    ),
    aiohttp.ClientConnectionError: lambda host, error: Unreachable(f"{host} cannot be reached{_because(error)}"),
    ConnectionError: lambda host, error: Unreachable(f"{host} cannot be reached{_because(error)}"),
    aiohttp.ClientError: lambda host, _: Garbled(f"what {host} answers is not HTTP"),
    ValueError: lambda host, _: Garbled(f"what {host} answers is not HTTP"),
}


def _because(error: Exception) -> str:
    """The system's reason, where it gives one."""
    number = error.errno if isinstance(error, OSError) else None
    return f": {os.strerror(number).lower()}" if number and number > 0 else ""


class _Checked(AbstractResolver):
    """Resolves a name and gives on what was checked, to be connected to as it is (threat V-19).

    One bad address among good ones refuses them all: an honest name has no reason to point there.
    """

    def __init__(self, lookup: Lookup, *, named: bool) -> None:
        self._lookup = lookup
        self._named = named

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = await self._lookup(host, port)
        for address in addresses:
            if why := address_refusal(address, named=self._named):
                raise Forbidden(f"{host} may not be asked: {why}")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Holds nothing."""


async def _system_lookup(host: str, port: int) -> Sequence[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
