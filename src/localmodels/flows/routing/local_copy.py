"""Our own engine's copy of a model that other hosts have too, asked as its author meant it.

The one rule: its defaults, adapters and abilities count where it answers, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from msgspec.structs import replace

from localmodels.backends.protocol import Health
from localmodels.core.chat import ChatRequest, Embeddings, EmbedRequest, GenerateRequest
from localmodels.core.errors import CallerError, Unsupported
from localmodels.core.rerank import Ranking, RerankRequest
from localmodels.flows.answering.chat import (
    Answerer,
    Found,
    Request,
    Stream,
    adapted,
    as_conversation,
    check_raw,
    check_vectors,
    is_raw,
    with_defaults,
    within_abilities,
)
from localmodels.flows.visit import Visit


class OwnCopy:
    """Our own engine's copy of a model, asked as its author meant it.

    Args:
        found: the model.
        backend: runs it.
        visit: is told what was not heeded.
        answered: is called when the first of an answer has come.
    """

    def __init__(self, found: Found, backend: Answerer, visit: Visit, answered: Callable[[], None]) -> None:
        self._found = found
        self._backend = backend
        self._visit = visit
        self._answered = answered

    async def chat(self, request: ChatRequest) -> Stream:
        """Goes on with a conversation."""
        async with aclosing(self._backend.chat(self._meant(request))) as stream:
            async for events in stream:
                self._answered()
                yield events

    async def generate(self, request: GenerateRequest) -> Stream:
        """Goes on with a text."""
        options = request.options.over(self._found.defaults.options)
        request = adapted(replace(request, options=options), self._found)
        async with aclosing(self._backend.generate(request)) as stream:
            async for events in stream:
                self._answered()
                yield events

    async def load(self, request: Request) -> None:
        """It is in memory, since it is here."""

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Turns texts into vectors."""
        embeddings = await self._backend.embed(request)
        self._answered()
        return embeddings

    async def rank(self, request: RerankRequest) -> Ranking:
        """Puts texts in order."""
        ranking = await self._backend.rank(request)
        self._answered()
        return ranking

    async def count(self, request: ChatRequest) -> int:
        """Tokens of the prompt that this conversation makes."""
        return await self._backend.count(self._meant(request))

    async def render(self, request: ChatRequest) -> str:
        """The prompt that this conversation makes."""
        return await self._backend.render(self._meant(request))

    async def tokenize(self, text: str, *, special: bool = True) -> tuple[int, ...]:
        """Token ids of a text."""
        return await self._backend.tokenize(text, special=special)

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of token ids."""
        return await self._backend.detokenize(tokens)

    async def models(self) -> tuple[str, ...]:
        """The runner's."""
        return await self._backend.models()

    async def health(self) -> Health:
        """The runner's."""
        return await self._backend.health()

    async def close(self) -> None:
        """The runner is the pool's."""

    def _meant(self, request: ChatRequest) -> ChatRequest:
        found = self._found
        return within_abilities(adapted(with_defaults(request, found), found), found, self._visit)


def unsuited(request: Request, found: Found | None, model: str) -> CallerError | None:
    """Why a host cannot do what is asked, as far as is known here; None where it can.

    Args:
        request: as it was asked.
        found: the model of this machine; None is another host's.
        model: its name there.
    """
    try:
        if found is not None:
            check(request, found)
        elif isinstance(request, (ChatRequest, GenerateRequest)) and request.lora:
            return Unsupported(f"{model} has no adapters", param="lora")  # that anybody here could name
    except CallerError as error:
        return error
    return None


def check(request: Request, found: Found) -> None:
    """Looks whether this machine's copy of a model can do what is asked.

    Raises:
        CallerError: it cannot; as if it were the only one.
    """
    if isinstance(request, EmbedRequest):
        check_vectors(found)
    elif isinstance(request, RerankRequest):
        if "rerank" not in found.capabilities:
            raise Unsupported(f"{found.name} does not rerank", param="model")
    elif isinstance(request, ChatRequest):
        if request.messages:
            within_abilities(adapted(request, found), found, Visit())
    elif request.prompt or request.suffix or request.images or request.context:
        request = adapted(request, found)
        if is_raw(request):
            check_raw(request, found)
        else:
            within_abilities(as_conversation(request), found, Visit())
