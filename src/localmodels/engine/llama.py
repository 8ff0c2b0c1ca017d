"""One request's way through a runner: an :class:`~localmodels.flows.answering.chat.Answerer` while its place is held.

A runner that dies breaks the connection in some way or other; whichever it was, the caller is told that the engine
stopped and with what last words, once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from math import hypot

from msgspec.structs import replace

from localmodels.backends.protocol import Health
from localmodels.core.chat import ChatRequest, Done, Embeddings, EmbedRequest, Event, GenerateRequest, is_early
from localmodels.core.errors import BackendError, ContextLengthExceeded, InvalidValue, StreamCut, Unreachable
from localmodels.core.rerank import Ranking, RerankRequest
from localmodels.dialects.llamacpp import MEDIA_MARKER
from localmodels.dialects.protocol import EventReader
from localmodels.engine import scores
from localmodels.engine.live import LiveRunner
from localmodels.engine.seats import prompt_of

Stream = AsyncGenerator[list[Event], None]
# Bytes of prompt from which the engine is to look after each batch whether the caller is still there. Below, the answer
# itself comes soon enough, and the first token would wait for the looking.
LONG_PROMPT = 256
SPECIAL = 4  # most tokens that a tokenizer puts around a text


class LlamaBackend:
    """A request's place at a runner.

    Args:
        runner: loaded; it stays so until the place is given back.
        request_id: by which the runner's seats know this request.
    """

    def __init__(self, runner: LiveRunner, request_id: str) -> None:
        self._runner = runner
        self._id = request_id

    def chat(self, request: ChatRequest) -> Stream:
        """Goes on with a conversation."""
        dialect = self._runner.dialect
        write, read = partial(dialect.write_chat, request), partial(dialect.chat_reader, request)
        return self._answer(dialect.paths["chat"], write, prompt_of(request), read, early=request.early_prompt)

    def generate(self, request: GenerateRequest) -> Stream:
        """Goes on with a text, as it stands."""
        return self._generate(request) if not request.images else self._generate_with_pictures(request)

    def _generate(self, request: GenerateRequest, marker: str = MEDIA_MARKER) -> Stream:
        dialect = self._runner.dialect
        write = partial(dialect.write_generate, request, marker=marker)
        return self._answer(dialect.generate_path(request), write, prompt_of(request), dialect.generate_reader)

    async def _generate_with_pictures(self, request: GenerateRequest) -> Stream:
        props = self._runner.dialect.read_props(await self._get("/props"))
        async with aclosing(self._generate(request, props.media_marker)) as stream:
            async for events in stream:
                yield events

    async def _answer(
        self,
        path: str,
        write: Callable[..., bytes],
        prompt: bytes,
        reader: Callable[[], EventReader],
        *,
        early: bool = False,
    ) -> Stream:
        http = self._runner.http
        write = partial(write, progress=early or len(prompt) > LONG_PROMPT)

        ahead: list[Done] = []  # how reading the prompt alone ended, where it was read first

        async def prefill(slot: int) -> None:
            async with aclosing(http.stream(path, write(id_slot=slot, n_predict=0), reader())) as stream:
                async for events in stream:
                    ahead.extend(event for event in events if isinstance(event, Done))

        async with (
            self._explained(),
            self._runner.seats.take(self._id, prompt, prefill) as seat,
            aclosing(http.stream(path, write(id_slot=seat.slot), reader())) as stream,
        ):
            async for events in stream:
                seat.computed = seat.computed or not all(map(is_early, events))
                yield [with_reading(event, ahead[-1]) for event in events] if ahead else events

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Turns texts into vectors; a text that is too long is cut where the request allows it."""
        async with self._explained():
            inputs = tuple([await self._fitting(text, request) for text in request.inputs])
            http, dialect = self._runner.http, self._runner.dialect
            body = dialect.write_embed(replace(request, inputs=inputs, dimensions=None))
            embeddings = dialect.read_embeddings(await http.post(dialect.paths["embed"], body))
        return first_dimensions(embeddings, request.dimensions)

    async def _fitting(self, text: str | tuple[int, ...], request: EmbedRequest) -> str | tuple[int, ...]:
        """The text, or as many of its first tokens as are computed at once.

        Raises:
            ContextLengthExceeded: it is too long, and may not be cut.
        """
        config = self._runner.config
        room = min(config.context, config.ubatch)  # all of a text is computed at once (llama.cpp #12836)
        if isinstance(text, str) and len(text.encode()) <= room - SPECIAL:
            return text  # no token is shorter than a byte
        tokens = await self.tokenize(text) if isinstance(text, str) else text
        if len(tokens) <= room:
            return text
        if not request.truncate:
            raise ContextLengthExceeded(len(tokens), room)
        # A model made for embeddings expects the token that ends a text; others have none.
        end = () if config.pooling else tokens[-1:]
        return (*tokens[: room - len(end)], *end)

    async def rank(self, request: RerankRequest) -> Ranking:
        """Puts texts in order; one that is too long is cut where the request allows it."""
        http, dialect, header = self._runner.http, self._runner.dialect, self._runner.loadable.header
        async with self._explained():
            whole = await scores.fitted(request, header, self._runner.config, self)
            answer = await http.post(dialect.paths["rerank"], dialect.write_rerank(whole))
        return scores.ranking(request, header, dialect.read_ranking(answer))

    async def count(self, request: ChatRequest) -> int:
        """Tokens of the prompt that this conversation makes."""
        return len(await self.tokenize(await self.render(request)))

    async def render(self, request: ChatRequest) -> str:
        """The prompt that this conversation makes."""
        dialect = self._runner.dialect
        return dialect.read_prompt(await self._post("/apply-template", dialect.write_chat(request)))

    async def tokenize(self, text: str, *, special: bool = True) -> tuple[int, ...]:
        """Token ids of a text."""
        dialect = self._runner.dialect
        return dialect.read_tokens(await self._post("/tokenize", dialect.write_tokenize(text, special=special)))

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of token ids.

        Raises:
            InvalidValue: an id that the model does not have.
        """
        dialect, most = self._runner.dialect, self._runner.vocab_size
        if wrong := next((token for token in tokens if not 0 <= token < most), None):
            raise InvalidValue(f"tokens: {wrong} is no token of this model; they are 0 to {most - 1}", param="tokens")
        return dialect.read_text(await self._post("/detokenize", dialect.write_detokenize(tokens)))

    async def models(self) -> tuple[str, ...]:
        """The one model of this runner."""
        return (self._runner.name,)

    async def health(self) -> Health:
        """Whether it answers."""
        try:
            await self._runner.http.get("/health")
        except BackendError as error:
            return Health(ok=False, detail=error.message)
        return Health(ok=True)

    async def close(self) -> None:
        """The pool owns the runner; there is nothing to give back here."""

    async def beginning(self) -> str:
        """The text that the tokenizer itself puts before every prompt; empty where it puts none."""
        async with self._explained():
            return await self._runner.beginning()

    async def _post(self, path: str, body: bytes) -> bytes:
        async with self._explained():
            return await self._runner.http.post(path, body)

    async def _get(self, path: str) -> bytes:
        async with self._explained():
            return await self._runner.http.get(path)

    @asynccontextmanager
    async def _explained(self) -> AsyncIterator[None]:
        try:
            yield
        except (Unreachable, StreamCut) as error:  # how a death shows; anything else was said by a living runner
            death = await self._runner.dead()
            if death is None:
                raise
            raise death from error


def first_dimensions(embeddings: Embeddings, dimensions: int | None) -> Embeddings:
    """Vectors of the first so many numbers, of length one again: how models trained for it are shortened (Matryoshka).

    Raises:
        InvalidValue: the model's vectors are shorter.
    """
    if dimensions is None or not embeddings.vectors:
        return embeddings
    if dimensions > (most := len(embeddings.vectors[0])):
        raise InvalidValue(f"dimensions must be at most {most} with this model, not {dimensions}", param="dimensions")
    return replace(embeddings, vectors=tuple(unit(vector[:dimensions]) for vector in embeddings.vectors))


def unit(vector: tuple[float, ...]) -> tuple[float, ...]:
    """The vector of the same direction and length 1; the zero vector stays as it is."""
    length = hypot(*vector)
    return tuple(number / length for number in vector) if length else vector


def with_reading(event: Event, ahead: Done) -> Event:
    """An event of an answer whose prompt was read before in a request of its own, as if it had been one request.

    What was computed a moment ago for this very request was in no cache when it came.
    """
    cached = ahead.usage.cached_tokens
    if isinstance(event, Done):
        timings = replace(event.timings, prompt_eval=event.timings.prompt_eval + ahead.timings.prompt_eval)
        return replace(event, usage=replace(event.usage, cached_tokens=cached), timings=timings)
    return event if event.prompt is None else replace(event, prompt=replace(event.prompt, cached_tokens=cached))
