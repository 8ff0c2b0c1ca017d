"""How much of an answer was thought: counted at its end, by the model's own tokenizer, for dialects that tell it.

Engines count the tokens of an answer in one sum. A remote server counts nothing for us; then the figure stays unknown,
which no answer is refused for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Protocol

from msgspec.structs import replace

from localmodels.core.chat import Chunk, Done, Event
from localmodels.core.errors import LocalModelsError

Stream = AsyncGenerator[list[Event], None]


class Tokenizer(Protocol):
    """Knows a model's tokens."""

    async def tokenize(self, text: str, *, special: bool = True) -> tuple[int, ...]: ...


async def thoughts_counted(stream: Stream, tokenizer: Tokenizer) -> Stream:
    """The answer; its end says how many of its tokens were thoughts, where nobody has said so before."""
    thoughts: list[str] = []
    async with aclosing(stream):
        async for events in stream:
            thoughts += [event.thinking for event in events if isinstance(event, Chunk) and event.thinking]
            done = events[-1]
            if isinstance(done, Done) and done.usage.reasoning_tokens is None:
                with suppress(LocalModelsError):
                    tokens = await tokenizer.tokenize("".join(thoughts), special=False) if thoughts else ()
                    # What was cut in pieces may count for one more when it is whole.
                    count = min(len(tokens), done.usage.completion_tokens)
                    done = replace(done, usage=replace(done.usage, reasoning_tokens=count))
            yield [*events[:-1], done]
