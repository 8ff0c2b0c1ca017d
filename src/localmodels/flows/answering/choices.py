"""Several answers to one question, and answers to several prompts, told as one stream.

The rule: each answer is a request of its own, which waits for a place of its own and begins when it has it. None waits
for another, so no place is held by who waits for a second one. The first failure ends them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from time import monotonic_ns

from msgspec.structs import replace

from localmodels.core.chat import ChatRequest, Chunk, Done, Event, GenerateRequest, Timings, Usage
from localmodels.core.errors import StreamCut
from localmodels.core.options import Options
from localmodels.flows.answering.chat import Answers, Stream
from localmodels.flows.visit import Visit

Ask = Callable[[Visit], Stream]
Told = tuple[int, list[Event] | Exception]

SEEDS = 2**32


class Choices:
    """The flows of chats and texts, for requests that may want more than one answer."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def chat(self, request: ChatRequest, visit: Visit) -> Stream:
        """Goes on with a conversation, ``n`` times. Raises as :meth:`Answers.chat` does."""
        if request.n == 1:
            return self._answers.chat(request, visit)
        singles = [replace(request, n=1, options=seeded(request.options, number)) for number in range(request.n)]
        return merged([partial(self._answers.chat, single) for single in singles], request.n, visit)

    def generate(self, request: GenerateRequest, visit: Visit) -> Stream:
        """Goes on with each prompt, ``n`` times; the answers to one follow those to the one before it."""
        if request.n == 1 and not request.prompts:
            return self._answers.generate(request, visit)
        singles = [
            replace(request, prompt=prompt, prompts=(), n=1, options=seeded(request.options, number))
            for prompt in request.every_prompt
            for number in range(request.n)
        ]
        return merged([partial(self._answers.generate, single) for single in singles], request.n, visit)


def seeded(options: Options, number: int) -> Options:
    """The options of answer ``number``: the seed that was asked for, and for each further answer the next number."""
    if options.seed is None or options.seed < 0 or not number:
        return options
    return replace(options, seed=(options.seed + number) % SEEDS)


async def merged(asks: Sequence[Ask], each: int, visit: Visit) -> Stream:
    """The events of all answers, as they come; the end of the last one is the end.

    Args:
        asks: give the answers.
        each: so many in a row are answers to the same prompt, whose tokens count once.
        visit: of all of them.
    """
    visits = [visit.another() for _ in asks]
    queue: asyncio.Queue[Told] = asyncio.Queue(len(asks))  # whoever reads slowly slows down those who answer
    tasks = [
        asyncio.ensure_future(_tell(choice, ask(own), queue))
        for choice, (ask, own) in enumerate(zip(asks, visits, strict=True))
    ]
    ends: dict[int, Done] = {}
    try:
        while len(ends) < len(asks):
            choice, told = await queue.get()
            if isinstance(told, Exception):
                raise told
            _note(visit, visits[choice])
            visit.piece(monotonic_ns())
            if isinstance(told[-1], Done):
                ends[choice] = told[-1]
            over = len(ends) == len(asks)
            if over:
                usage = _usage(ends, each)
                visit.usage, visit.reason = usage if usage.counted else None, ends[choice].reason
            yield [_of(choice, event, ends, each, last=over) for event in told]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        _settle(visit, visits, each)


async def _tell(choice: int, stream: Stream, queue: asyncio.Queue[Told]) -> None:
    """Tells an answer to whoever waits for all; who would wait for ever if the way it broke were not told as well."""
    try:
        async with aclosing(stream):
            ended = False
            async for events in stream:
                ended = isinstance(events[-1], Done)
                await queue.put((choice, events))
        if not ended:
            raise StreamCut("the answer ended before its end was said")
    except Exception as error:  # noqa: BLE001 - raised again by the one who reads
        await queue.put((choice, error))


def _note(visit: Visit, own: Visit) -> None:
    """What became known of one answer is known of all."""
    if own.model:
        visit.listed = own.listed or (visit.listed and visit.model == own.model)
        visit.model, visit.listing, visit.chosen = own.model, own.listing, own.chosen
    visit.server, visit.route = own.server or visit.server, own.route or visit.route
    visit.admitted = visit.admitted or own.admitted
    visit.truncated_messages = max(visit.truncated_messages, own.truncated_messages)
    visit.ignored = visit.ignored or own.ignored


def _settle(visit: Visit, visits: Sequence[Visit], each: int) -> None:
    """What was set aside for the answers, and what they may be charged, is settled in the one visit that ends."""
    for own in visits:
        _note(visit, own)
        visit.reserved += own.reserved
    visit.asked = sum(own.asked for own in visits[::each])


def _of(choice: int, event: Event, ends: Mapping[int, Done], each: int, *, last: bool) -> Event:
    """The event as one of several answers."""
    if isinstance(event, Chunk):
        return replace(event, choice=choice) if choice else event
    if not last:
        return Chunk(choice=choice, ended=event.reason)
    return replace(event, choice=choice, usage=_usage(ends, each), timings=_timings(ends, each))


def _usage(ends: Mapping[int, Done], each: int) -> Usage:
    """Tokens of all: of each prompt once, as its first answer counts them, and of every answer."""
    prompts = [ends[choice].usage for choice in range(0, len(ends), each)]
    thoughts = [end.usage.reasoning_tokens for end in ends.values() if end.usage.reasoning_tokens is not None]
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in prompts),
        completion_tokens=sum(end.usage.completion_tokens for end in ends.values()),
        cached_tokens=sum(usage.cached_tokens for usage in prompts),
        reasoning_tokens=sum(thoughts) if thoughts else None,
        counted=all(end.usage.counted for end in ends.values()),
    )


def _timings(ends: Mapping[int, Done], each: int) -> Timings:
    """From the first place that was had to the end of the last; the work of all, prompts counted once."""
    timings = [end.timings for end in ends.values()]
    return Timings(
        total=max(one.total for one in timings),
        load=min(one.load for one in timings),
        prompt_eval=sum(ends[choice].timings.prompt_eval for choice in range(0, len(ends), each)),
        eval=sum(one.eval for one in timings),
    )
