"""A model's trial before it gets its name: it is loaded, it answers, and its tokenizer gives texts back.

The rule: a model that fails is not published, the error says at what it failed, and nothing of it stays in memory. What
had the name before is not touched: the new one is another model to the engine, which finds it room as for any other.
Where memory holds only one of the two, the scheduler puts the idle one out for the new one, as it always does, and the
next request brings it back; a busy one is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from math import isfinite

from msgspec import Struct

from localmodels.artifacts.gguf import read_array
from localmodels.artifacts.gguf_header import Array, Header
from localmodels.core.access import LOCAL
from localmodels.core.chat import ChatRequest, Chunk, Done, EmbedRequest, Event, GenerateRequest, Message, Text
from localmodels.core.errors import (
    DiskFull,
    Garbled,
    LocalModelsError,
    ModelDamaged,
    OutOfMemory,
    ShuttingDown,
    Unavailable,
)
from localmodels.core.options import Options
from localmodels.core.rerank import RerankRequest
from localmodels.flows.answering.chat import Answerer, Answers, Request
from localmodels.flows.answering.local_models import Local, Target, purpose_of
from localmodels.flows.tasks.run import Pause
from localmodels.flows.visit import Visit
from localmodels.store.entries import Entry

GREETING = "Hi"
QUESTION = "where is the cat?"
DOCUMENTS = ("a cat sleeps on the roof", "the price of copper rose by three percent")
TOKENS = 4  # the first tells whether it writes at all; the next ones come with it
# A model that was made in hours is not lost because places are taken: a place for it is asked for so often, the first
# time after so many seconds, then after twice as many, and so on up to the last figure: a quarter of an hour where
# it is refused at once, and some three hours where it waits each time for the ten minutes that a request may.
TRIES = 20
SOON, LATE = 5.0, 60.0
FAILED = "the new model was put to the trial and failed"
MOST = 900.0  # seconds for an answer of so many tokens, a place among others included: templates can loop for ever
TOKENIZER = "tokenizer.ggml.model"
_BYTE = 6  # LLAMA_TOKEN_TYPE_BYTE in llama.h

PLAIN = ("The quick brown fox jumps over the lazy dog",)
# In NFC, since tokenizers may bring texts into it. Special tokens are not among them: those are no texts.
HARD = (
    *PLAIN,
    "  two spaces before,  two inside, a tab\tand one after ",
    "def f(x):\n    return {'a': [x ** 2, -1e-9]}\n\n\n",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich: „ja“, sagt’s…",
    "日本語と中文、한국어, עברית, हिन्दी",
    "👩‍👩‍👧 🏳️‍🌈 𝔘𝔫𝔦 1234567890",
)


class Fidelity(Struct, frozen=True):
    """What a kind of tokenizer promises: these texts come back alike, ``alike`` taking away what it may change."""

    texts: Sequence[str]
    alike: Callable[[str], str]


def _exact(text: str) -> str:
    return text


def _but_for_its_beginning(text: str) -> str:
    return text.lstrip(" ")


def _but_for_spaces(text: str) -> str:
    return " ".join(text.split())


def _but_for_spaces_and_case(text: str) -> str:
    return "".join(text.casefold().split())


# By the names of llama.cpp. Byte-level BPE keeps every byte; SentencePiece puts a space before a text; Unigram makes
# one space of many, and WordPiece small letters of large ones, and spaces around what is none.
FIDELITY: Mapping[str, Fidelity] = {
    "gpt2": Fidelity(HARD, _exact),
    "llama": Fidelity(HARD, _but_for_its_beginning),
    "t5": Fidelity(PLAIN, _but_for_spaces),
    "bert": Fidelity(PLAIN, _but_for_spaces_and_case),
}
_WITHOUT_BYTES = Fidelity(PLAIN, _but_for_spaces)


class Trials:
    """Puts models to it; a :class:`~localmodels.flows.library.keeper.Trial`.

    Args:
        local: loads them.
        tries: so often a place is asked for.
        pause: waits so many seconds.
    """

    def __init__(self, local: Local, *, tries: int = TRIES, pause: Pause = asyncio.sleep) -> None:
        self._local = local
        self._tries = tries
        self._pause = pause

    async def __call__(self, entry: Entry) -> None:
        """Returns if the model does what it should; then it stays in memory as after any request.

        Where all places are taken it asks again and again, and waits each time as long as a request may.

        Raises:
            Unavailable: there was no place at any time; it is not known whether the model is good.
            LocalModelsError: it does not; says at what it failed.
        """
        there = self._local.is_loaded(entry)  # the same files, under this name or another
        try:
            await self._placed(entry)
        except BaseException:
            if not there:
                await self._local.unload_files(entry)  # what has the name goes on
            raise

    async def _placed(self, entry: Entry) -> None:
        """The trial, begun anew while there is no place for it."""
        for tried in range(self._tries - 1):
            try:
                await _tried(Candidate(self._local, entry), entry)
            except Unavailable as error:
                if not is_passing(error):
                    raise
                await self._pause(min(max(error.retry_after or 0.0, SOON * 2**tried), LATE))
            else:
                return
        await _tried(Candidate(self._local, entry), entry)


def is_passing(error: Unavailable) -> bool:
    """Does waiting help? A model that is larger than the memory stays so, and a server that ends does not come back."""
    return not isinstance(error, (OutOfMemory, DiskFull, ShuttingDown))


class Candidate(Target):
    """A model without a name, by the one that it is to have. Whatever has that name now is never meant."""

    @asynccontextmanager
    async def ready(self, request: Request, visit: Visit) -> AsyncIterator[Answerer]:
        """A place at a runner of exactly this model."""
        async with self._local.exactly(self._entry, request, visit) as backend:
            yield backend

    async def find(self, name: str) -> Candidate:
        """Itself, whatever is asked for: to a flow, this is all there is."""
        return self


async def _tried(candidate: Candidate, entry: Entry) -> None:
    visit = Visit(f"trial of {entry.name}", LOCAL)
    stage = "to be loaded"
    try:
        async with candidate.ready(GenerateRequest(candidate.name), visit) as backend:
            stage = "to give texts back"
            await _reads(backend, entry)
        if (purpose := purpose_of(GenerateRequest(candidate.name), entry.header)) == "generate":
            stage = "to answer"
            await _writes(candidate, visit)
        else:
            stage = f"to {purpose}"
            async with candidate.ready(GenerateRequest(candidate.name), visit) as backend:
                await (_embeds if purpose == "embed" else _ranks)(backend, entry)
    except Unavailable as error:
        if isinstance(error, OutOfMemory):
            raise error.reworded(f"{FAILED} {stage}: {error.message}", None) from error
        what = f"there was no place to put the new model to the trial, so it was not published: {error.message}"
        raise error.reworded(what, None) from error
    except LocalModelsError as error:
        raise error.reworded(f"{FAILED} {stage}: {error.message}", None) from error


async def _writes(candidate: Candidate, visit: Visit) -> None:
    """It answers a greeting under its own template, with words that have a probability."""
    request = ChatRequest(
        candidate.name,
        (Message("user", (Text(GREETING),)),),
        options=Options(num_predict=TOKENS, temperature=0.0),
        logprobs=True,
    )
    events: list[Event] = []
    try:
        async with asyncio.timeout(MOST), aclosing(Answers(candidate).chat(request, visit)) as stream:
            async for some in stream:
                events += some
    except TimeoutError as error:
        raise ModelDamaged(f"it did not answer within {MOST:g} s; does its chat template ever end?") from error
    except Garbled as error:  # what is no number comes as nothing
        raise ModelDamaged(
            f"what it computes is no answer; weights may be too large for the engine ({error})"
        ) from error
    if not any(isinstance(event, Done) and event.usage.completion_tokens for event in events):
        raise ModelDamaged("it generated no token")
    for event in events:
        if isinstance(event, Chunk) and not all(isfinite(one.logprob) for one in event.logprobs):
            raise ModelDamaged("what it computes is not a number")


async def _embeds(backend: Answerer, entry: Entry) -> None:
    """It makes a vector of a text."""
    [vector] = (await backend.embed(EmbedRequest(str(entry.name), (GREETING,)))).vectors
    if not all(map(isfinite, vector)) or not any(vector):
        raise ModelDamaged("the vector that it makes is none")


async def _ranks(backend: Answerer, entry: Entry) -> None:
    """It tells how well texts answer a question."""
    ranking = await backend.rank(RerankRequest(str(entry.name), QUESTION, DOCUMENTS))
    if len(ranking.results) != len(DOCUMENTS) or not all(isfinite(one.score) for one in ranking.results):
        raise ModelDamaged("the scores that it gives are none")


async def _reads(backend: Answerer, entry: Entry) -> None:
    """Its tokenizer gives texts back, as far as one of its kind does."""
    promised = await asyncio.to_thread(fidelity_of, entry.header, entry.model_path)
    if promised is None:
        return
    for text in promised.texts:
        tokens = await backend.tokenize(text, special=False)
        again = await backend.detokenize(tokens)
        if promised.alike(again) != promised.alike(text):
            raise ModelDamaged(f"its tokenizer makes {len(tokens)} tokens of {text!r}, and of those {again!r:.200}")


def fidelity_of(header: Header, path: str) -> Fidelity | None:
    """What the model's tokenizer promises; None of one that is of no kind that we know. Reads the file."""
    promised = FIDELITY.get(header.text(TOKENIZER))
    kinds = header.metadata.get("tokenizer.ggml.token_type")
    if promised is not None and header.text(TOKENIZER) == "llama" and isinstance(kinds, Array):
        return promised if _BYTE in read_array(path, kinds) else _WITHOUT_BYTES
    return promised
