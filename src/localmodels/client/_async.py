"""The client of the SDK in its asynchronous form: the calls, carried by httpx2. ``_sync.py`` is generated from it.

Its rule: nothing of httpx2 comes out; its failures leave as errors of ``core.errors``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2

from localmodels.client import failures, site
from localmodels.client._async_fleet_calls import AsyncFleetCalls
from localmodels.client._async_task_calls import AsyncTaskCalls


class AsyncClient(AsyncTaskCalls, AsyncFleetCalls):
    """Speaks with one LocalModels server, or with an Ollama.

    Args:
        host: address in any form (``host``, ``host:port``, ``https://host/path``); None looks into ``LOCALMODELS_HOST``
            and ``OLLAMA_HOST`` and then takes ``http://127.0.0.1:8000``.
        api_key: sent as bearer token; None looks into ``LOCALMODELS_API_KEY`` and ``OLLAMA_API_KEY``.
        timeout: seconds; the default allows 5 to connect and 1,800 between two pieces of an answer.
        transport: another way to carry requests, for instance to an application in this process. Proxies of the
            environment are not used: the address names the server, and a key is for nobody between.
        environ: the environment.
    """

    def __init__(
        self,
        host: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        url, headers = site.find_site(host, environ).url, site.headers(api_key, environ)
        super().__init__(AsyncHttpx(url, headers, timeout, transport))


class AsyncHttpx:
    """A carrier over httpx2: keeps connections, speaks TLS."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        timeout: float | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url
        self._http = httpx2.AsyncClient(
            base_url=url,
            headers=dict(headers),
            timeout=failures.TIMEOUT if timeout is None else timeout,
            transport=transport,
            trust_env=False,
            # Reading the machine's certificates takes 20 ms, which plain HTTP need not spend.
            verify=url.startswith("https:"),
        )

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        body: bytes | AsyncIterator[bytes] | None,
        *,
        size: int | None = None,
        content_type: str = "",
    ) -> AsyncIterator[AsyncHttpxReply]:
        """Sends a request."""
        headers = site.body_headers(body, size, content_type)
        request = self._http.build_request(method, path, content=body, headers=headers)
        try:
            response = await self._http.send(request, stream=True)
        except httpx2.TransportError as error:
            raise failures.not_reached(error, self.url) from error
        try:
            yield AsyncHttpxReply(response)
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """Gives back every connection."""
        await self._http.aclose()


class AsyncHttpxReply:
    """An answer whose head has come."""

    def __init__(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._response = response

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        try:
            async for data in self._response.aiter_bytes():
                yield data
        except httpx2.RequestError as error:
            raise failures.broken(error) from error
