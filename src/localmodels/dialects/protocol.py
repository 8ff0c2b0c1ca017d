"""What a dialect is: a codec between values and bytes that does no I/O and plays both roles.

As a server it reads requests and writes answers; as a client it writes requests and reads answers. The law that ties
the two: what ``write`` writes, ``read`` reads back to an equal value, for any split of the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from msgspec import Struct

from localmodels.core.chat import Answer, ChatRequest, Embeddings, EmbedRequest, Event, GenerateRequest
from localmodels.core.errors import LocalModelsError
from localmodels.dialects.allowances import WriteLevel
from localmodels.dialects.peek import Way

Call = Literal["chat", "generate", "embed", "models", "count", "rerank"]


class Stamp(Struct, frozen=True):
    """What a server puts on every piece of one answer.

    Attributes:
        created: nanoseconds since 1970, UTC.
        clock: the same, now; for dialects that date every line. None dates them all alike.
        request_id: of the HTTP request, for dialects whose errors name it.
    """

    id: str
    model: str
    created: int
    clock: Callable[[], int] | None = None
    request_id: str = ""


class EventWriter(Protocol):
    """Writes one streamed answer."""

    def write(self, event: Event) -> bytes:
        """The bytes of one event; may be empty when the dialect waits for more."""
        ...

    def fail(self, error: LocalModelsError) -> bytes:
        """The bytes that end a stream which broke: an explicit error, and never a sign of success after it."""
        ...


class EventReader(Protocol):
    """Reads one streamed answer."""

    def feed(self, data: bytes) -> list[Event]:
        """The events completed by these bytes.

        Raises:
            LocalModelsError: the server said in-band that it failed.
            Garbled: the bytes are not this dialect.
        """
        ...

    def close(self) -> None:
        """Tells that the connection ended.

        Raises:
            StreamCut: ``Done`` has not come.
        """
        ...


class ErrorWriter(Protocol):
    """Any dialect, as far as errors go."""

    def write_error(self, error: LocalModelsError) -> bytes:
        """The body of an answer that failed before it began."""
        ...

    def status(self, error: LocalModelsError) -> int:
        """Its HTTP status: the error's own, but where this dialect's clients know another."""
        ...


class Spoken(ErrorWriter, Protocol):
    """What every dialect tells of itself, so that nobody else keeps a table of dialects.

    Attributes:
        name: in rows, figures and logs.
        title: for people.
        roots: how its paths begin; where nothing is under one of them, that is told in this dialect.
        failure: what its errors look like.
        write_level: what a head tells of a limit, by its name, how it stands, and the time.
    """

    name: str
    title: str
    roots: tuple[str, ...]
    failure: type[Struct]

    @property
    def write_level(self) -> WriteLevel: ...


class ChatDialect(Spoken, Protocol):
    """One API's way of writing conversations down.

    Attributes:
        way: how its answers pass untouched; None where they are always translated.
    """

    stream_type: str
    way: Way | None
    paths: Mapping[Call, str]

    def read_chat(self, body: bytes) -> ChatRequest: ...
    def write_chat(self, request: ChatRequest) -> bytes: ...
    def chat_writer(self, stamp: Stamp, request: ChatRequest) -> EventWriter: ...
    def chat_reader(self) -> EventReader: ...
    def write_chat_answer(self, stamp: Stamp, request: ChatRequest, answer: Answer) -> bytes: ...
    def read_chat_answer(self, body: bytes) -> Answer: ...

    def read_error(self, status: int, body: bytes, retry_after: float | None = None) -> LocalModelsError: ...


class Dialect(ChatDialect, Protocol):
    """One that also has plain texts, vectors and lists of models."""

    def read_generate(self, body: bytes) -> GenerateRequest: ...
    def write_generate(self, request: GenerateRequest) -> bytes: ...
    def generate_writer(self, stamp: Stamp, request: GenerateRequest) -> EventWriter: ...
    def generate_reader(self) -> EventReader: ...
    def write_generate_answer(self, stamp: Stamp, request: GenerateRequest, answer: Answer) -> bytes: ...
    def read_generate_answer(self, body: bytes) -> Answer: ...

    def read_embed(self, body: bytes) -> EmbedRequest: ...
    def write_embed(self, request: EmbedRequest) -> bytes: ...
    def write_embeddings(self, stamp: Stamp, request: EmbedRequest, embeddings: Embeddings) -> bytes: ...
    def read_embeddings(self, body: bytes) -> Embeddings: ...

    def read_models(self, body: bytes) -> tuple[str, ...]: ...
