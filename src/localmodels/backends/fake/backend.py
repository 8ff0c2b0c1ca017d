"""A :class:`~localmodels.backends.protocol.Backend` that answers from a script, without a socket or a clock.

One rule: it keeps every promise of the protocol, also when its script says that something goes wrong; what breaks on
the wire in ways that no promise covers is the business of :mod:`localmodels.backends.fake.server`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import cycle, islice

from localmodels.backends.fake.book import Book
from localmodels.backends.fake.script import GREETING, Choose, Request, Script, Sleep, break_off, choice, play
from localmodels.backends.protocol import Health
from localmodels.core.chat import ChatRequest, Embeddings, EmbedRequest, Event, GenerateRequest
from localmodels.core.errors import LocalModelsError, StreamCut, Unreachable
from localmodels.core.rerank import Ranked, Ranking, RerankRequest, ranked


class Fake:
    """A scripted back end; also a :class:`~localmodels.flows.answering.chat.Answerer` whose tokens are UTF-8 bytes.

    Args:
        script: what to answer, or a function that chooses by the request.
        sleep: waits so many seconds; tests hand in one that does not.
        patience: seconds after which a stall is an error; None waits for ever.
        names: of the models it lists.
        ill: why the list of models and the health cannot be had; None is that they can.
    """

    def __init__(
        self,
        script: Script | Choose = GREETING,
        *,
        sleep: Sleep = asyncio.sleep,
        patience: float | None = None,
        names: tuple[str, ...] = ("fake:latest",),
        ill: LocalModelsError | None = None,
    ) -> None:
        self.book = Book()
        self._choose = choice(script)
        self._sleep = sleep
        self._patience = patience
        self._names = names
        self._ill = ill
        self._closed = asyncio.Event()

    def chat(self, request: ChatRequest) -> AsyncGenerator[list[Event], None]:
        """Plays the script, one event at a time."""
        return self._play(request)

    def generate(self, request: GenerateRequest) -> AsyncGenerator[list[Event], None]:
        """Plays the script, one event at a time."""
        return self._play(request)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """The script's vectors."""
        self._check_open()
        script = self._choose(request)
        with self.book.visit(request):
            if script.breaks:
                await break_off(script.breaks, self._wait, self._patience)
            return embeddings(script, request)

    async def rank(self, request: RerankRequest) -> Ranking:
        """The script's scores."""
        self._check_open()
        script = self._choose(request)
        with self.book.visit(request):
            if script.breaks:
                await break_off(script.breaks, self._wait, self._patience)
            return ranking(script, request)

    async def models(self) -> tuple[str, ...]:
        """The names it was given."""
        self._check_open()
        if self._ill:
            raise self._ill
        return self._names

    async def health(self) -> Health:
        """Whether :meth:`models` answers."""
        try:
            await self.models()
        except LocalModelsError as error:
            return Health(ok=False, detail=error.message)
        return Health(ok=True)

    async def count(self, request: ChatRequest) -> int:
        """Bytes of :meth:`render`."""
        return len(await self.tokenize(await self.render(request)))

    async def render(self, request: ChatRequest) -> str:
        """One line a message."""
        return "".join(f"{message.role}: {message.text}\n" for message in request.messages)

    async def tokenize(self, text: str, *, special: bool = True) -> tuple[int, ...]:
        """UTF-8 bytes."""
        return tuple(text.encode())

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of UTF-8 bytes."""
        return bytes(tokens).decode(errors="replace")

    async def close(self) -> None:
        """Takes no more requests; open streams raise."""
        self._closed.set()

    async def _play(self, request: Request) -> AsyncGenerator[list[Event], None]:
        self._check_open()
        script = self._choose(request)
        with self.book.visit(request) as visit:
            async with aclosing(play(script, self._wait, self._patience)) as events:
                while (event := await self._unless_closed(events)) is not None:
                    visit.count()
                    yield [event]

    async def _unless_closed(self, events: AsyncGenerator[Event, None]) -> Event | None:
        """The next event, None after the last; an error as soon as this back end is closed."""
        following = asyncio.ensure_future(anext(events, None))
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait((following, closed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            closed.cancel()
            following.cancel()
            await asyncio.wait((following,))  # a generator that still runs cannot be closed
        if self._closed.is_set():
            raise StreamCut("the back end was closed")
        return await following

    async def _wait(self, seconds: float) -> None:
        await self._sleep(seconds)

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise Unreachable("the back end is closed")


def ranking(script: Script, request: RerankRequest) -> Ranking:
    """A score a document."""
    scores = (vector[0] for vector in cycle(script.vectors))
    results = tuple(Ranked(index, score) for index, score in zip(range(len(request.documents)), scores, strict=False))
    return Ranking(ranked(results, request.top_n), script.done.usage.prompt_tokens)


def embeddings(script: Script, request: EmbedRequest) -> Embeddings:
    """A vector an input."""
    vectors = tuple(islice(cycle(script.vectors), len(request.inputs)))
    return Embeddings(vectors, script.done.usage.prompt_tokens, script.done.timings)
