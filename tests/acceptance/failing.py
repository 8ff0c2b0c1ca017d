"""A server of ours whose models only fail.

A model's name says how: ``before/Conflict`` is refused with this class of ``core.errors``, ``after/Conflict`` fails
with it after the first piece of its answer, ``once/Conflict`` is refused the first time only, ``defect/any`` fails
after its first piece with what nobody foresaw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager

from msgspec import Struct
from tests.acceptance.gateway import Borrowed, Registry, application, serving

from localmodels.backends.fake.backend import Fake
from localmodels.core.chat import ChatRequest, Chunk, Event, GenerateRequest
from localmodels.core.errors import ContextLengthExceeded, LocalModelsError, ModelNotFound, OutOfMemory
from localmodels.flows.access.keys import Keyring
from localmodels.flows.access.ledger import Ledger
from localmodels.flows.access.limits import Limiter
from localmodels.server.identify import Doorkeeper
from localmodels.state.memory import MemoryUsage

WAIT = 6.5  # seconds; not whole, since a header must be
MESSAGE = 'the "words" of it, \\ and é'
# Those that want more than words.
_SPECIAL: Mapping[type[LocalModelsError], Callable[[], LocalModelsError]] = {
    ContextLengthExceeded: lambda: ContextLengthExceeded(300, 256),
    ModelNotFound: lambda: ModelNotFound("nobody"),
    OutOfMemory: lambda: OutOfMemory(2**31, 2**30, retry_after=WAIT),
}


def tree(kind: type[LocalModelsError] = LocalModelsError) -> Iterator[type[LocalModelsError]]:
    """A class and all below it."""
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


CLASSES = {kind.__name__: kind for kind in tree() if kind.__module__ == LocalModelsError.__module__}


def made(kind: type[LocalModelsError]) -> LocalModelsError:
    """One of them, with everything that it can tell."""
    special = _SPECIAL.get(kind)
    return special() if special else kind(MESSAGE, param="messages", retry_after=WAIT)


class Breaking(Fake):
    """Says one word, and fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def chat(self, request: ChatRequest) -> AsyncGenerator[list[Event], None]:
        """The word and the failure."""
        yield [Chunk("Hello")]
        raise self._error

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[list[Event], None]:
        """The same."""
        yield [Chunk("Hello")]
        raise self._error


class Failures(Registry):
    """Finds models that fail; ``asked`` counts how often each was looked for."""

    def __init__(self) -> None:
        super().__init__({})
        self.asked: Counter[str] = Counter()

    async def find(self, name: str) -> Borrowed:
        """The model that fails as its name says."""
        when, _, kind = name.partition("/")
        self.asked[name] += 1
        if when == "defect":
            return Borrowed(name, Breaking(ValueError("nobody foresaw this")))
        error = made(CLASSES[kind.partition(":")[0]])
        if when == "after":
            return Borrowed(name, Breaking(error))
        if when == "before":
            raise error
        if self.asked[name] == 1:
            error.retry_after = 0.01
            raise error
        return Borrowed(name, Fake())


class World(Struct, frozen=True):
    """Where the server is, and what it was asked."""

    url: str
    failures: Failures


@asynccontextmanager
async def failing() -> AsyncIterator[World]:
    """The server, on a port of this process; it tells of limits as one with keys does."""
    failures, ring = Failures(), Keyring()
    ledger = Ledger(MemoryUsage(), ring)
    doorkeeper = Doorkeeper(ring, Limiter(ledger), ledger)
    async with serving(application(failures, doorkeeper)) as port:
        yield World(f"http://127.0.0.1:{port}", failures)
