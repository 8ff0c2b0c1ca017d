"""The seam that everything which answers stands behind: our runner, another server, the fake.

The rule of every method: it either raises an error of ``core.errors`` or keeps its promise. A stream yields lists of
events that arrived together and ends after ``Done``; a stream that breaks raises. Closing the iterator (``aclose``)
drops the connection, which is how a client that left frees its slot.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from msgspec import Struct

from localmodels.core.chat import ChatRequest, Embeddings, EmbedRequest, Event, GenerateRequest


class Health(Struct, frozen=True):
    """``ok`` says that the next request would be taken up; ``detail`` says why not."""

    ok: bool
    detail: str = ""


class Backend(Protocol):
    """Answers requests."""

    def chat(self, request: ChatRequest) -> AsyncGenerator[list[Event], None]:
        """Goes on with a conversation."""
        ...

    def generate(self, request: GenerateRequest) -> AsyncGenerator[list[Event], None]:
        """Goes on with a text."""
        ...

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Turns texts into vectors."""
        ...

    async def models(self) -> tuple[str, ...]:
        """Names that may be asked for here."""
        ...

    async def health(self) -> Health:
        """Never raises: what goes wrong is the answer."""
        ...

    async def close(self) -> None:
        """Gives back every connection; open streams raise."""
        ...
