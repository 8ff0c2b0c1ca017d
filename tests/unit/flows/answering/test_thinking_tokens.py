"""Thoughts are counted by the model's own tokenizer, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from localmodels.core.chat import Chunk, Done, Event, Usage, fold
from localmodels.core.errors import Unsupported
from localmodels.flows.answering.thinking_tokens import thoughts_counted


class Words:
    """A word is a token; a remote server counts nothing."""

    def __init__(self, *, remote: bool = False) -> None:
        self._remote = remote

    async def tokenize(self, text: str, *, special: bool = True) -> tuple[int, ...]:
        assert not special
        if self._remote:
            raise Unsupported("counts nothing")
        return tuple(range(len(text.split())))


async def answer(*events: Event) -> AsyncGenerator[list[Event], None]:
    for event in events:
        yield [event]


def counted(*events: Event, tokenizer: Words | None = None) -> int | None:
    whole = asyncio.run(fold(thoughts_counted(answer(*events), tokenizer or Words())))
    return whole.done.usage.reasoning_tokens


SAID = (Chunk(thinking="let me"), Chunk(thinking=" think"), Chunk("Yes."))


@pytest.mark.parametrize(
    ("events", "count"),
    [
        ((*SAID, Done(usage=Usage(5, 9))), 3),
        ((*SAID, Done(usage=Usage(5, 2))), 2),
        ((*SAID, Done(usage=Usage(5, 9, 0, 7))), 7),
        ((Chunk("Yes."), Done(usage=Usage(5, 9))), 0),
        ((Done(),), 0),
    ],
)
def test_thoughts_are_counted_at_the_end(events: tuple[Event, ...], count: int) -> None:
    assert counted(*events) == count


def test_what_cannot_be_counted_stays_unknown() -> None:
    assert counted(*SAID, Done(usage=Usage(5, 9)), tokenizer=Words(remote=True)) is None
