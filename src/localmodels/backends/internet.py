"""The way to other servers by https: aiohttp, with its pool of connections, TLS and deadlines.

Its rule is that of ``lookup``: aiohttp is given addresses that were judged, and connects to these. It follows nothing
that an answer says, keeps no cookies, and knows no proxy of the environment and no ``.netrc``. A POST is sent once,
whatever becomes of its connection.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from localmodels.backends.alarm import NEVER
from localmodels.backends.lookup import Lookup, checked, system_lookup
from localmodels.backends.round_trip import KEEPALIVE, Patience, Unanswered, beginning, ending
from localmodels.core import once, via
from localmodels.core.destinations import allowed, literal
from localmodels.core.errors import BackendTimeout, Garbled, StreamCut, Unreachable
from localmodels.core.servers import Reach

JSON = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
READ_SIZE = 2**18


class Internet:
    """A pool of connections to one address.

    Args:
        base: ``http://host:port`` without a trailing slash.
        headers: sent with every request, for instance an authorization.
        keepalive: seconds that an idle connection is kept, see ``tcp``.
        ca_file: further authorities (PEM) that the server may have its certificate from.
        reach: where connections may go.
        lookup: the addresses of a name.
    """

    def __init__(
        self,
        base: str,
        *,
        headers: Mapping[str, str] | None = None,
        patience: Patience | None = None,
        keepalive: float = KEEPALIVE,
        ca_file: Path | None = None,
        reach: Reach = "any",
        lookup: Lookup = system_lookup,
    ) -> None:
        self._base = base
        self._patience = patience or Patience()
        # An address needs no resolver, so aiohttp asks none; what is one is for its own reader of URLs to say.
        address = literal(URL(base).raw_host or "")
        self._refusal = allowed(address, reach) if address else ""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=Checked(reach, lookup, self._patience.connect),
                use_dns_cache=False,
                limit=0,
                keepalive_timeout=keepalive,
                ssl=_trusting(ca_file),
            ),
            headers={**JSON, **(headers or {})},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=READ_SIZE,
            trust_env=False,
        )

    async def open(self, method: str, path: str, body: bytes | None) -> InternetReply:
        """Sends a request and waits for the head of its answer."""
        if self._session.closed:
            raise Unreachable("the connection to the server was closed")
        if self._refusal:
            raise Unreachable(f"the server may not be asked: {self._refusal}")
        patience, passed = self._patience, via.told()
        said = {**({via.HEADER: passed} if passed else {}), **({once.HEADER: "true"} if once.is_said() else {})}
        asked = asyncio.get_running_loop().time()
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=patience.connect, connect=None, sock_read=patience.first_byte
        )
        try:
            response = await self._session.request(
                method,
                self._base + path,
                data=body,
                headers=said or None,
                timeout=timeout,
                allow_redirects=False,
            )
        except aiohttp.SocketTimeoutError as error:
            raise BackendTimeout("the server did not answer in time") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise Unreachable(
                "the server has no certificate that can be believed (ca_file names authorities)"
            ) from error
        except aiohttp.ClientSSLError as error:
            raise Unreachable(
                "TLS with the server failed; if it speaks plain HTTP, its url begins with http://"
            ) from error
        except aiohttp.ServerDisconnectedError as error:
            raise Unanswered("the server closed the connection without an answer") from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unreachable("the server cannot be reached") from error
        except (aiohttp.ClientConnectionError, ConnectionError, TimeoutError) as error:
            raise Unanswered("the connection to the server broke before an answer came") from error
        except aiohttp.ClientError as error:
            raise Garbled(f"the server's answer is not HTTP: {type(error).__name__}") from error
        set_idle(response, patience.idle)
        return InternetReply(response, patience, asked)

    async def close(self) -> None:
        """Closes every connection; open answers raise."""
        await self._session.close()


class Checked(AbstractResolver):
    """Gives aiohttp the addresses that a connection may go to.

    Args:
        reach: where connections may go.
        lookup: the addresses of a name.
        patience: seconds for them; None is as long as it takes.
    """

    def __init__(self, reach: Reach, lookup: Lookup, patience: float | None) -> None:
        self._reach: Reach = reach
        self._lookup = lookup
        self._patience = patience

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """All of them, judged.

        Raises:
            Unreachable: there is none, or one that is forbidden.
        """
        try:
            async with asyncio.timeout(self._patience):
                addresses = await checked(host, port, self._reach, self._lookup)
        except TimeoutError as error:
            raise Unreachable("the server cannot be reached: nobody told its address in time") from error
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


def _trusting(ca_file: Path | None) -> ssl.SSLContext | bool:
    """Which certificates are believed; True is those that the machine believes."""
    if ca_file is None:
        return True
    context = ssl.create_default_context()
    context.load_verify_locations(ca_file)
    return context


class InternetReply:
    """An answer whose head has come.

    Args:
        response: the answer.
        patience: how long its server may be silent.
        asked: when the request was sent, in the loop's time.
    """

    def __init__(self, response: aiohttp.ClientResponse, patience: Patience, asked: float) -> None:
        self.status = response.status
        self.content_type = response.content_type
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._patience = patience
        self._asked = asked
        self._limit = NEVER
        self._in_one_piece = True

    @property
    def ended(self) -> bool:
        """Has all of it been read?"""
        return self._response.content.at_eof()

    @property
    def pouring(self) -> None:
        """Its pieces have to be asked for."""
        return

    def streamed(self) -> None:
        """It comes message by message; until :meth:`begun` all that comes has the time of a first byte together."""
        self._in_one_piece = False
        self._limit = beginning(self._asked, self._patience.first_byte)

    def begun(self) -> None:
        """Its first message has come: from now on only silence counts."""
        self._limit = NEVER

    async def piece(self) -> bytes:
        """What has arrived of the body, empty at its end."""
        try:
            if self._limit == NEVER:
                data = await self._response.content.readany()
            else:
                async with asyncio.timeout_at(self._limit):
                    data = await self._response.content.readany()
            if self._in_one_piece and data and self._patience.idle is not None:
                silent = asyncio.get_running_loop().time() + self._patience.idle
                self._limit = ending(self._limit, silent, len(data))
            return data
        except aiohttp.SocketTimeoutError as error:
            raise BackendTimeout("the server fell silent in the middle of its answer") from error
        except TimeoutError as error:
            what = "end" if self._in_one_piece else "begin"
            raise BackendTimeout(f"the server did not {what} its answer in time") from error
        except (aiohttp.ClientError, ConnectionError, RuntimeError) as error:
            # The last one is aiohttp's for a body whose connection was closed from here while nobody read it.
            raise StreamCut("the connection broke in the middle of the answer") from error

    def close(self) -> None:
        """Keeps the connection of an answer that has ended; `release` would keep reading one that nobody wants."""
        if self.ended:
            self._response.release()
        else:
            self._response.close()


def set_idle(response: aiohttp.ClientResponse, seconds: float | None) -> None:
    """Allows so much silence from the first byte of the body on; the time for that byte goes on running."""
    protocol = response.connection.protocol if response.connection else None
    if protocol is None:  # the whole answer is here
        return
    protocol.read_timeout = seconds
    if response.content.total_bytes:
        protocol.start_timeout()
