"""A server somewhere else that speaks one of our dialects: HTTP and a codec, nothing more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

from msgspec.structs import replace

from localmodels.backends.http import Http
from localmodels.backends.protocol import Health
from localmodels.core.chat import ChatRequest, Embeddings, EmbedRequest, Event, GenerateRequest
from localmodels.core.errors import LocalModelsError, Unsupported
from localmodels.core.rerank import Ranking, RerankRequest
from localmodels.dialects import rerank
from localmodels.dialects.llamacpp import LlamaCpp
from localmodels.dialects.openai.embeddings import read_models
from localmodels.dialects.protocol import Call, EventReader

Stream = AsyncGenerator[list[Event], None]


class Chatting(Protocol):
    """The client's half of a dialect in which conversations are held."""

    paths: Mapping[Call, str]

    def write_chat(self, request: ChatRequest) -> bytes: ...
    def chat_reader(self) -> EventReader: ...


class Asking(Chatting, Protocol):
    """The client's half of a whole one."""

    def write_generate(self, request: GenerateRequest) -> bytes: ...
    def generate_reader(self) -> EventReader: ...
    def write_embed(self, request: EmbedRequest) -> bytes: ...
    def read_embeddings(self, body: bytes) -> Embeddings: ...
    def read_models(self, body: bytes) -> tuple[str, ...]: ...


class NotOffered(Unsupported):
    """Servers of this kind have no such thing; nobody was asked."""


class ChatServer:
    """A :class:`~localmodels.backends.protocol.Backend` over HTTP that only holds conversations.

    It is also a :class:`~localmodels.flows.chat.Answerer`; what only an engine of ours can do is refused.

    Args:
        http: connections to it; closed with this object.
        dialect: the API it speaks.
    """

    def __init__(self, http: Http, dialect: Chatting) -> None:
        self._http = http
        self._chats = dialect

    def chat(self, request: ChatRequest) -> Stream:
        """Goes on with a conversation; always streamed, so that a client that leaves is noticed while it runs."""
        body = self._chats.write_chat(replace(request, stream=True, include_usage=True))
        return self._http.stream(self._chats.paths["chat"], body, self._chats.chat_reader())

    def generate(self, request: GenerateRequest) -> Stream:
        """Not here."""
        raise NotOffered("this server only holds conversations, it does not go on with texts", param="model")

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Not here."""
        raise NotOffered("this server only holds conversations, it does not make vectors", param="model")

    async def rank(self, request: RerankRequest) -> Ranking:
        """Puts texts in order, where this API does; scores are as the server gives them."""
        path = self._chats.paths.get("rerank")
        if path is None:
            raise NotOffered("this server does not rerank", param="model")
        ranking = rerank.read_answer(await self._http.post(path, rerank.write(rerank.Question(request))))
        return replace(ranking, results=ranking.results[: request.top_n])

    async def models(self) -> tuple[str, ...]:
        """Names that may be asked for there."""
        return read_models(await self._http.get(self._chats.paths.get("models", "/v1/models")))

    async def count(self, request: ChatRequest) -> int:
        """Not here."""
        raise NotOffered("the tokens of this model are counted by nobody but its server", param="model")

    async def render(self, request: ChatRequest) -> str:
        """Not here."""
        raise NotOffered("the template of this model is known to nobody but its server", param="model")

    async def tokenize(self, text: str, *, special: bool = True) -> tuple[int, ...]:
        """Not here."""
        raise NotOffered("the tokenizer of this model is known to nobody but its server", param="model")

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        """Not here."""
        raise NotOffered("the tokenizer of this model is known to nobody but its server", param="model")

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


class Remote(ChatServer):
    """A back end over HTTP that also goes on with texts and makes vectors."""

    def __init__(self, http: Http, dialect: Asking) -> None:
        super().__init__(http, dialect)
        self._dialect = dialect

    def generate(self, request: GenerateRequest) -> Stream:
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


class LlamaServer(Remote):
    """llama.cpp's own server: it fills gaps, and its tokenizer and its template can be asked."""

    def __init__(self, http: Http, dialect: LlamaCpp) -> None:
        super().__init__(http, dialect)
        self._llama = dialect

    def chat(self, request: ChatRequest) -> Stream:
        """Goes on with a conversation."""
        body = self._llama.write_chat(request)
        return self._http.stream(self._llama.paths["chat"], body, self._llama.chat_reader(request))

    def generate(self, request: GenerateRequest) -> Stream:
        """Goes on with a text, or fills its gap."""
        body = self._llama.write_generate(request)
        return self._http.stream(self._llama.generate_path(request), body, self._llama.generate_reader())

    async def count(self, request: ChatRequest) -> int:
        """Tokens of the prompt that this conversation makes there."""
        return len(await self.tokenize(await self.render(request)))

    async def render(self, request: ChatRequest) -> str:
        """The prompt that this conversation makes there."""
        return self._llama.read_prompt(await self._http.post("/apply-template", self._llama.write_chat(request)))

    async def tokenize(self, text: str, *, special: bool = True) -> tuple[int, ...]:
        """Token ids of a text."""
        return self._llama.read_tokens(
            await self._http.post("/tokenize", self._llama.write_tokenize(text, special=special))
        )

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of token ids."""
        return self._llama.read_text(await self._http.post("/detokenize", self._llama.write_detokenize(tokens)))
