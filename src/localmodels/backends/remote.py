"""A server somewhere else that speaks one of our dialects: HTTP and a codec, nothing more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Protocol, TypeVar

from msgspec.structs import replace

from localmodels.backends.http import Http
from localmodels.backends.protocol import Health
from localmodels.core.chat import ChatRequest, Embeddings, EmbedRequest, Event, GenerateRequest
from localmodels.core.errors import (
    ContextLengthExceeded,
    Forbidden,
    Garbled,
    InvalidRequest,
    InvalidValue,
    LocalModelsError,
    MethodNotAllowed,
    ModelNotFound,
    NotFound,
    Unsupported,
)
from localmodels.core.rerank import Ranking, RerankRequest
from localmodels.dialects import rerank
from localmodels.dialects.failures import refuses_limit
from localmodels.dialects.llamacpp import LlamaCpp
from localmodels.dialects.openai import OpenAI, counts
from localmodels.dialects.openai.embeddings import read_models
from localmodels.dialects.protocol import Call, EventReader

Stream = AsyncGenerator[list[Event], None]
Loading = ChatRequest | GenerateRequest | EmbedRequest
R = TypeVar("R", ChatRequest, GenerateRequest)

# What comes of a path that a server does not have, or at which it has another thing (llama.cpp and we count a text).
_NOT_THERE = (Forbidden, Garbled, InvalidRequest, InvalidValue, MethodNotAllowed, NotFound)


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


class NotListed(ModelNotFound):
    """The server does not list the model; some answer by names that they do not list."""


class ChatServer:
    """A :class:`~localmodels.backends.protocol.Backend` over HTTP that only holds conversations.

    It is also a :class:`~localmodels.flows.answering.chat.Answerer`; what only an engine of ours can do is refused.

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

    async def load(self, request: Loading) -> None:
        """Sees to it that the model can be asked.

        Servers of most kinds are not told what to have in memory: what they list they have, or get it when it is asked.

        Raises:
            NotListed: it lists others. Many have no list, and answer all the same.
        """
        try:
            names = await self.models()
        except _NOT_THERE:
            return
        if names and not any(request.model in {name, name.removesuffix(":latest")} for name in names):
            raise NotListed(request.model)

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


class OllamaServer(Remote):
    """Whatever speaks Ollama's API, in which a request without content loads its model."""

    async def load(self, request: Loading) -> None:
        """Has it load the model, and waits for that."""
        if isinstance(request, EmbedRequest):
            await self.embed(request)
        elif isinstance(request, ChatRequest):
            await self._http.post(self._dialect.paths["chat"], self._dialect.write_chat(replace(request, stream=False)))
        else:
            body = self._dialect.write_generate(replace(request, stream=False))
            await self._http.post(self._dialect.paths["generate"], body)


class OpenAIServer(Remote):
    """Whatever speaks OpenAI's API; of vLLM's and SGLang's, also what they tell beyond it."""

    def __init__(self, http: Http, dialect: OpenAI) -> None:
        super().__init__(http, dialect)
        self._openai = dialect

    def chat(self, request: ChatRequest) -> Stream:
        """Goes on with a conversation; always streamed."""
        return self._limited(request, self._chat)

    def generate(self, request: GenerateRequest) -> Stream:
        """Goes on with a text; always streamed."""
        return self._limited(request, super().generate)

    def _chat(self, request: ChatRequest) -> Stream:
        body = self._openai.write_chat(replace(request, stream=True, include_usage=True))
        reader = self._openai.chat_reader(stops=request.options.stop or ())
        return self._http.stream(self._openai.paths["chat"], body, reader)

    @staticmethod
    async def _limited(request: R, ask: Callable[[R], Stream]) -> Stream:
        """The answer. A limit beyond the context limits nothing, but vLLM refuses it: then the same without it."""
        begun = False
        try:
            async with aclosing(ask(request)) as stream:
                async for events in stream:
                    begun = True
                    yield events
            return
        except InvalidRequest as error:
            if begun or not refuses_limit(error):
                raise
        async with aclosing(ask(replace(request, options=replace(request.options, num_predict=None)))) as stream:
            async for events in stream:
                yield events

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Turns texts into vectors; what is too long is cut where that is wanted and the server can."""
        try:
            return await super().embed(request)
        except ContextLengthExceeded as error:
            if not request.truncate:
                raise
            body = self._openai.write_embed(request, shortening=True)
            try:
                answer = await self._http.post(self._openai.paths["embed"], body)
            except InvalidRequest:  # it cannot
                raise error from None
        return self._openai.read_embeddings(answer)

    async def count(self, request: ChatRequest) -> int:
        """Tokens of the prompt that this conversation makes there, where that can be asked."""
        try:
            return counts.read_count(await self._http.post(counts.PATH, counts.write_count(request)))
        except ModelNotFound:
            raise
        except _NOT_THERE:
            return await super().count(request)


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
