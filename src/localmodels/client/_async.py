"""The client, written by hand in its asynchronous form; ``_sync.py`` is generated from it by ``tools/unasync.py``.

Its rule: an answer is a value and a failure an error of ``core.errors``, whatever went wrong on the way; nothing of the
HTTP library comes out. It speaks Ollama's dialect, through the same codec with which the server reads.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import httpx2
from msgspec.structs import replace

from localmodels.client import site, wire
from localmodels.core.catalog import Description, Model, Running
from localmodels.core.chat import Answer, ChatRequest, Embeddings, EmbedRequest, Event, GenerateRequest
from localmodels.core.errors import Garbled
from localmodels.dialects import listing
from localmodels.dialects.ollama import Ollama
from localmodels.dialects.protocol import EventReader

DIALECT = Ollama()


class AsyncClient:
    """Speaks with one LocalModels server, or with an Ollama.

    Every method raises errors of ``localmodels.core.errors``: what the server said, ``Unreachable`` when it cannot be
    reached, ``BackendTimeout`` when it is silent for too long, ``StreamCut`` when an answer ends before its end.

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
        found = site.find_site(host, environ)
        self.url = found.url
        self._http = httpx2.AsyncClient(
            base_url=found.url,
            headers=site.headers(api_key, environ),
            timeout=wire.TIMEOUT if timeout is None else timeout,
            transport=transport,
            trust_env=False,
            # Reading the machine's certificates takes 20 ms, which plain HTTP need not spend.
            verify=found.scheme == "https",
        )

    async def chat(self, request: ChatRequest) -> Answer:
        """Goes on with a conversation."""
        body = DIALECT.write_chat(replace(request, stream=False))
        return DIALECT.read_chat_answer(await self._post(DIALECT.paths["chat"], body))

    def stream_chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Goes on with a conversation; gives what arrives: chunks, then one ``Done``. Closing it stops the model."""
        body = DIALECT.write_chat(replace(request, stream=True))
        return self._stream(DIALECT.paths["chat"], body, DIALECT.chat_reader())

    async def generate(self, request: GenerateRequest) -> Answer:
        """Goes on with a text."""
        body = DIALECT.write_generate(replace(request, stream=False))
        return DIALECT.read_generate_answer(await self._post(DIALECT.paths["generate"], body))

    def stream_generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        """Goes on with a text; gives what arrives: chunks, then one ``Done``. Closing it stops the model."""
        body = DIALECT.write_generate(replace(request, stream=True))
        return self._stream(DIALECT.paths["generate"], body, DIALECT.generate_reader())

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Turns texts into vectors."""
        return DIALECT.read_embeddings(await self._post(DIALECT.paths["embed"], DIALECT.write_embed(request)))

    async def load(self, model: str, keep_alive: float | None = None) -> None:
        """Loads a model and returns when it is ready; ``keep_alive`` is seconds, negative for ever."""
        await self.generate(GenerateRequest(model, keep_alive=keep_alive))

    async def unload(self, model: str) -> None:
        """Takes a model out of memory once its answers are done; one that is not loaded is left as it is."""
        await self.generate(GenerateRequest(model, keep_alive=0.0))

    async def list(self) -> tuple[Model, ...]:
        """The models that can be asked."""
        return listing.read_tags(await self._get("/api/tags"))

    async def ps(self) -> tuple[Running, ...]:
        """The models in memory."""
        return listing.read_ps(await self._get("/api/ps"))

    async def show(self, model: str, *, verbose: bool = False) -> tuple[Description, str]:
        """All about a model, and its parameters as text; ``verbose`` with tensors and vocabulary."""
        return listing.read_show(await self._post("/api/show", wire.encode({"model": model, "verbose": verbose})))

    async def version(self) -> str:
        """The server's version."""
        return wire.decode(await self._get("/api/version"), wire.Version).version

    async def health(self) -> wire.Health:
        """Would a request be answered now? Says so also when it would not."""
        async with self._open("GET", "/health") as response:
            body = await self._whole(response)
            if response.status_code not in {200, 503}:
                raise DIALECT.read_error(response.status_code, body)
            return wire.decode(body, wire.Health)

    async def tokenize(self, model: str, text: str, *, add_special: bool = False) -> tuple[int, ...]:
        """Token ids of a text; ``add_special`` with those that begin every prompt."""
        body = wire.encode({"model": model, "content": text, "add_special": add_special})
        return wire.decode(await self._post("/tokenize", body), wire.Tokens).tokens

    async def detokenize(self, model: str, tokens: Iterable[int]) -> str:
        """The text of token ids."""
        body = wire.encode({"model": model, "tokens": tuple(tokens)})
        return wire.decode(await self._post("/detokenize", body), wire.Content).content

    async def aclose(self) -> None:
        """Gives back every connection."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _get(self, path: str) -> bytes:
        async with self._open("GET", path) as response:
            return await self._good(response)

    async def _post(self, path: str, body: bytes) -> bytes:
        async with self._open("POST", path, body) as response:
            return await self._good(response)

    async def _stream(self, path: str, body: bytes, reader: EventReader) -> AsyncGenerator[Event, None]:
        async with self._open("POST", path, body) as response:
            if response.status_code != 200:
                await self._good(response)
            async for data in self._pieces(response):
                for event in reader.feed(data):
                    yield event
            reader.close()

    @asynccontextmanager
    async def _open(self, method: str, path: str, body: bytes | None = None) -> AsyncIterator[httpx2.Response]:
        headers = {"Content-Type": "application/json"} if body is not None else None
        request = self._http.build_request(method, path, content=body, headers=headers)
        try:
            response = await self._http.send(request, stream=True)
        except httpx2.TransportError as error:
            raise wire.not_reached(error, self.url) from error
        try:
            yield response
        finally:
            await response.aclose()

    async def _good(self, response: httpx2.Response) -> bytes:
        """The body of an answer with status 200; raises the error that any other one says."""
        body = await self._whole(response)
        if response.status_code == 200:
            return body
        if response.is_redirect:
            raise Garbled(f"{self.url} sends us elsewhere; give the address that answers itself")
        raise DIALECT.read_error(response.status_code, body, wire.retry_after(response.headers))

    async def _whole(self, response: httpx2.Response) -> bytes:
        body = bytearray()
        async for piece in self._pieces(response):
            body += piece
        return bytes(body)

    async def _pieces(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        try:
            async for data in response.aiter_bytes():
                yield data
        except httpx2.RequestError as error:
            raise wire.broken(error) from error
