"""The back ends that the contract suite puts to the test, each opened and closed the same way."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Protocol

from msgspec import Struct

from localmodels.backends.fake import Book, Fake, FakeServer, Script
from localmodels.backends.fake.script import Choose, Sleep
from localmodels.backends.http import Carrier, Http
from localmodels.backends.internet import Internet
from localmodels.backends.protocol import Backend
from localmodels.backends.remote import Remote
from localmodels.backends.round_trip import Patience
from localmodels.backends.tcp import Tcp
from localmodels.backends.unix import UnixSocket
from localmodels.core.chat import ChatRequest, GenerateRequest, Message, Text
from localmodels.dialects.table import DIALECTS

GREETING = Script()
# Where a stall is expected; everywhere else the clock must not be able to matter.
SHORT = Patience(connect=10.0, first_byte=0.1, idle=0.1)
PATIENT = Patience(connect=10.0, first_byte=None, idle=None)


class Opened(Struct):
    """A back end in a test."""

    backend: Backend
    book: Book


class Opens(Protocol):
    """Opens a back end that follows a script."""

    def __call__(
        self, script: Script | Choose = ..., *, sleep: Sleep = ..., patience: Patience = ...
    ) -> AbstractAsyncContextManager[Opened]: ...


async def at_once(seconds: float) -> None:
    """Waits no time at all."""


@asynccontextmanager
async def fake(
    script: Script | Choose = GREETING, *, sleep: Sleep = at_once, patience: Patience = SHORT
) -> AsyncIterator[Opened]:
    """The fake, as a value."""
    backend = Fake(script, sleep=sleep, patience=patience.idle)
    yield Opened(backend, backend.book)
    await backend.close()


def remote(dialect_name: str, carrier: Callable[..., Carrier] = Internet) -> Opens:
    """A remote server of this dialect."""
    dialect = DIALECTS[dialect_name]

    @asynccontextmanager
    async def opens(
        script: Script | Choose = GREETING, *, sleep: Sleep = at_once, patience: Patience = SHORT
    ) -> AsyncIterator[Opened]:
        async with FakeServer(script, sleep=sleep) as server:
            backend = Remote(Http(carrier(server.url, patience=patience), dialect.read_error), dialect)
            yield Opened(backend, server.book)
            await backend.close()

    return opens


@asynccontextmanager
async def over_unix(
    script: Script | Choose = GREETING, *, sleep: Sleep = at_once, patience: Patience = SHORT
) -> AsyncIterator[Opened]:
    """A server behind a unix socket, as our runners are; it may be silent for as long as it likes."""
    dialect = DIALECTS["openai"]
    with TemporaryDirectory() as directory:
        async with FakeServer(script, sleep=sleep, socket=f"{directory}/fake.sock") as server:
            backend = Remote(Http(UnixSocket(f"{directory}/fake.sock"), dialect.read_error), dialect)
            yield Opened(backend, server.book)
            await backend.close()


SCRIPTED: dict[str, Opens] = {
    "fake": fake,
    **{f"remote-{name}": remote(name) for name in DIALECTS},
    **{f"tcp-{name}": remote(name, Tcp) for name in DIALECTS},
}


def chat(text: str = "Hello?", model: str = "fake:latest") -> ChatRequest:
    """A question."""
    return ChatRequest(model, (Message("user", (Text(text),)),))


def generate(text: str = "Hello?", model: str = "fake:latest") -> GenerateRequest:
    """The same as a text."""
    return GenerateRequest(model, text)
