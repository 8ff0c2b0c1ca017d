"""Several answers as one stream: each its own request with its own seed, told apart, counted once, failing together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from localmodels.core.access import Caller
from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Done,
    Event,
    GenerateRequest,
    Message,
    Text,
    Timings,
    Usage,
    fold,
)
from localmodels.core.errors import QueueFull, RunnerDied, StreamCut
from localmodels.core.options import Options
from localmodels.flows.answering.choices import Choices
from localmodels.flows.visit import Visit

Asked = ChatRequest | GenerateRequest
HELLO = (Message("user", (Text("hi"),)),)


class Scripted:
    """Plays :class:`~localmodels.flows.answering.chat.Answers`; ``answer`` says what a request is answered with."""

    def __init__(self, answer: Callable[[Asked], AsyncGenerator[list[Event], None]]) -> None:
        self.asked: list[Asked] = []
        self.open = 0
        self._answer = answer

    def chat(self, request: Asked, visit: Visit) -> AsyncGenerator[list[Event], None]:
        return self._talk(request, visit)

    generate = chat

    async def _talk(self, request: Asked, visit: Visit) -> AsyncGenerator[list[Event], None]:
        self.asked.append(request)
        self.open += 1
        visit.model, visit.admitted, visit.ignored, visit.reserved, visit.asked = "m:latest", 1, ("think",), 100, 7
        try:
            async for events in self._answer(request):
                yield events
        finally:
            self.open -= 1


async def by_seed(request: Asked) -> AsyncGenerator[list[Event], None]:
    """Says its seed, and its prompt if it has one."""
    said = f"{getattr(request, 'prompt', '')}{request.options.seed}"
    yield [Chunk(said[:1])]
    await asyncio.sleep(0)
    usage = Usage(10, len(said), 4)
    yield [Chunk(said[1:]), Done("stop", usage, Timings(50, 5, 20, 10))]


def answered(scripted: Scripted, request: Asked, visit: Visit | None = None) -> Answer:
    choices: Any = Choices(scripted)  # type: ignore[arg-type]
    ask = choices.chat if isinstance(request, ChatRequest) else choices.generate
    return asyncio.run(fold(ask(request, visit or Visit())))


def texts(answer: Answer) -> list[str]:
    return [one.text for one in (answer, *answer.others)]


def test_one_answer_goes_the_straight_way() -> None:
    scripted, request = Scripted(by_seed), ChatRequest("m", HELLO, options=Options(seed=5))
    assert texts(answered(scripted, request)) == ["5"]
    assert scripted.asked[0] is request


def test_each_answer_has_the_next_seed() -> None:
    scripted = Scripted(by_seed)
    assert texts(answered(scripted, ChatRequest("m", HELLO, options=Options(seed=41), n=3))) == ["41", "42", "43"]
    assert [request.n for request in scripted.asked] == [1, 1, 1]


@pytest.mark.parametrize(("seed", "expected"), [(None, [None, None]), (-1, [-1, -1]), (2**32 - 1, [2**32 - 1, 0])])
def test_seeds_that_are_drawn_stay_so_and_the_largest_is_followed_by_the_smallest(seed: Any, expected: Any) -> None:
    scripted = Scripted(by_seed)
    answered(scripted, ChatRequest("m", HELLO, options=Options(seed=seed), n=2))
    assert [request.options.seed for request in scripted.asked] == expected


def test_prompts_are_answered_in_their_order_each_as_often_as_asked() -> None:
    request = GenerateRequest("m", "a", prompts=("b", (7,)), n=2, options=Options(seed=1))
    assert texts(answered(Scripted(by_seed), request)) == ["a1", "a2", "b1", "b2", "(7,)1", "(7,)2"]


def test_the_prompt_counts_once_and_every_answer_counts() -> None:
    visit = Visit("r", Caller("k", "k"))
    answer = answered(Scripted(by_seed), GenerateRequest("m", "a", prompts=("b",), n=3, options=Options(seed=1)), visit)
    assert answer.done.usage == Usage(prompt_tokens=20, completion_tokens=12, cached_tokens=8)
    assert answer.done.timings == Timings(total=50, load=5, prompt_eval=40, eval=60)
    assert (visit.usage, visit.reason, visit.model, visit.ignored) == (
        answer.done.usage,
        "stop",
        "m:latest",
        ("think",),
    )
    assert (visit.reserved, visit.asked) == (600, 14)


async def second_lies(request: Asked) -> AsyncGenerator[list[Event], None]:
    """Of two answers, the second has a count that cannot be."""
    yield [Chunk("hi"), Done("stop", Usage(10, 2, counted=request.options.seed == 1))]


def test_of_all_together_nothing_is_counted_where_of_one_nothing_is() -> None:
    visit = Visit("r", Caller("k", "k"))
    answer = answered(Scripted(second_lies), ChatRequest("m", HELLO, options=Options(seed=1), n=2), visit)
    assert (answer.done.usage, visit.usage) == (Usage(10, 4, counted=False), None)
    assert visit.charged == Usage(7, 2)


async def first_waits(request: Asked) -> AsyncGenerator[list[Event], None]:
    """The answer with seed 1 waits for ever, as one does that has no place yet."""
    if request.options.seed == 1:
        await asyncio.Event().wait()
    yield [Chunk("x"), Done()]


def test_an_answer_that_waits_holds_up_no_other() -> None:
    async def heard() -> list[Event]:
        stream = Choices(Scripted(first_waits)).chat(  # type: ignore[arg-type]
            ChatRequest("m", HELLO, options=Options(seed=1), n=3), Visit()
        )
        events = [*await anext(stream), *await anext(stream)]
        await stream.aclose()
        return events

    events = asyncio.run(heard())
    assert [(event.choice, event.ended) for event in events if isinstance(event, Chunk)] == [
        (1, None), (1, "stop"), (2, None), (2, "stop"),
    ]  # fmt: skip


@pytest.mark.parametrize("error", [QueueFull("full"), RunnerDied("dead"), ZeroDivisionError("a defect of ours")])
def test_the_first_failure_ends_all(error: Exception) -> None:
    async def fails(request: Asked) -> AsyncGenerator[list[Event], None]:
        yield [Chunk("x")]
        if request.options.seed == 2:
            raise error
        await asyncio.Event().wait()

    scripted, visit = Scripted(fails), Visit()
    with pytest.raises(type(error)):
        answered(scripted, ChatRequest("m", HELLO, options=Options(seed=1), n=3), visit)
    assert scripted.open == 0
    assert visit.usage is None, "what nobody counted is not told"
    assert visit.reserved == 300, "what was set aside is given back by who settles the visit"


def test_an_answer_that_just_stops_is_a_cut_and_no_end() -> None:
    async def stops(request: Asked) -> AsyncGenerator[list[Event], None]:
        yield [Chunk("x")]
        if request.options.seed == 1:
            yield [Done()]

    with pytest.raises(StreamCut):
        answered(Scripted(stops), ChatRequest("m", HELLO, options=Options(seed=1), n=2))


def test_a_listener_who_leaves_ends_all() -> None:
    async def leave(scripted: Scripted) -> None:
        stream = Choices(scripted).chat(ChatRequest("m", HELLO, n=4), Visit())  # type: ignore[arg-type]
        await anext(stream)
        assert scripted.open == 4
        await stream.aclose()

    async def talks(request: Asked) -> AsyncGenerator[list[Event], None]:
        while True:
            yield [Chunk("x")]

    scripted = Scripted(talks)
    asyncio.run(leave(scripted))
    assert scripted.open == 0


def test_a_listener_who_reads_slowly_slows_down_those_who_answer() -> None:
    said = 0

    async def talks(request: Asked) -> AsyncGenerator[list[Event], None]:
        nonlocal said
        while True:
            said += 1
            yield [Chunk("x")]

    async def idle() -> None:
        stream = Choices(Scripted(talks)).chat(ChatRequest("m", HELLO, n=2), Visit())  # type: ignore[arg-type]
        await anext(stream)
        for _ in range(100):
            await asyncio.sleep(0)
        await stream.aclose()

    asyncio.run(idle())
    assert said <= 8, "as much as the queue holds, and what each has in hand"
