"""A server somewhere else that speaks one of our dialects: HTTP and a codec, nothing more."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from msgspec.structs import replace

from localmodels.backends.http import Http
from localmodels.backends.protocol import Health
from localmodels.core.chat import ChatRequest, Embeddings, EmbedRequest, Event, GenerateRequest
from localmodels.core.errors import LocalModelsError
from localmodels.dialects.protocol import Dialect


class Remote:
    """A :class:`~localmodels.backends.protocol.Backend` over HTTP.

    Args:
        http: connections to it; closed with this object.
        dialect: the API it speaks.
    """

    def __init__(self, http: Http, dialect: Dialect) -> None:
        self._http = http
        self._dialect = dialect

    def chat(self, request: ChatRequest) -> AsyncGenerator[list[Event], None]:
        """Goes on with a conversation; always streamed, so that a client that leaves is noticed while it runs."""
        body = self._dialect.write_chat(replace(request, stream=True, include_usage=True))
        return self._http.stream(self._dialect.paths["chat"], body, self._dialect.chat_reader())

    def generate(self, request: GenerateRequest) -> AsyncGenerator[list[Event], None]:
        """Goes on with a text; always streamed."""
        body = self._dialect.write_generate(replace(request, stream=True, include_usage=True))
        return self._http.stream(self._dialect.paths["generate"], body, self._dialect.generate_reader())

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Turns texts into vectors."""
        body = await self._http.post(self._dialect.paths["embed"], self._dialect.write_embed(request))
        return self._dialect.read_embeddings(body)

    async def models(self) -> tuple[str, ...]:
        """Names that may be asked for there."""
        return self._dialect.read_models(await self._http.get(self._dialect.paths["models"]))

    async def health(self) -> Health:
        """Whether its list of models can be had."""
        try:
            await self.models()
        except LocalModelsError as error:
            return Health(ok=False, detail=error.message)
        return Health(ok=True)

    async def close(self) -> None:
        """Gives back every connection."""
        await self._http.close()
