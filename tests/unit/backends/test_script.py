"""Scripts: events in their time, what goes wrong with them, and their JSON form."""

import asyncio

import msgspec
import pytest
from tests.awaited import awaited

from localmodels.backends.fake.script import Break, Failure, Script, Wire, play
from localmodels.core.chat import Chunk, Done, Event
from localmodels.core.errors import (
    BackendError,
    BackendTimeout,
    ContextLengthExceeded,
    LocalModelsError,
    QueueFull,
    StreamCut,
    Unavailable,
    Unreachable,
)

SCRIPT = Script((Chunk("a"), Chunk("b")), Done("length"))


class Clock:
    """Counts the seconds that were slept and lets none pass."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


async def played(script: Script, clock: Clock, patience: float | None = 9.0) -> tuple[list[Event], Exception | None]:
    events: list[Event] = []
    try:
        async for event in play(script, clock.sleep, patience):
            events.append(event)  # noqa: PERF401  what came before an error counts
    except LocalModelsError as error:
        return events, error
    return events, None


@awaited
async def test_events_come_in_order_and_without_delay_nobody_sleeps() -> None:
    clock = Clock()
    assert await played(SCRIPT, clock) == ([Chunk("a"), Chunk("b"), Done("length")], None)
    assert clock.slept == []


@awaited
async def test_delays_before_the_first_and_between_the_others() -> None:
    clock = Clock()
    await played(msgspec.structs.replace(SCRIPT, first=3.0, between=0.5), clock)
    assert clock.slept == [3.0, 0.5, 0.5]


KINDS: dict[Break, type[LocalModelsError]] = {
    Break("fail"): BackendError,
    Break("cut"): StreamCut,
    Break("stall"): BackendTimeout,
    Break("refuse"): Unreachable,
}


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("broken", KINDS, ids=lambda broken: broken.how)
@awaited
async def test_what_goes_wrong_comes_after_so_many_events(broken: Break, after: int) -> None:
    clock = Clock()
    script = msgspec.structs.replace(SCRIPT, breaks=msgspec.structs.replace(broken, after=after))
    events, error = await played(script, clock)
    assert events == list(SCRIPT.events[:after])
    assert type(error) is KINDS[broken]
    assert clock.slept == ([9.0] if broken.how == "stall" else [])


@awaited
async def test_a_break_after_the_end_never_happens() -> None:
    script = msgspec.structs.replace(SCRIPT, breaks=Break("cut", after=3))
    assert (await played(script, Clock()))[1] is None


@awaited
async def test_without_patience_a_stall_lasts_for_ever() -> None:
    task = asyncio.ensure_future(played(msgspec.structs.replace(SCRIPT, breaks=Break("stall")), Clock(), None))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Failure(), BackendError),
        (Failure(status=503, retry_after=4), Unavailable),
        (Failure(status=503, code="queue_full"), QueueFull),
        (Failure("the request (9 tokens) exceeds the available context size (8 tokens)", 400), ContextLengthExceeded),
    ],
)
def test_a_failure_in_words_is_an_error_of_ours(failure: Failure, kind: type[LocalModelsError]) -> None:
    error = failure.error()
    assert (type(error), error.retry_after) == (kind, failure.retry_after)


def test_a_script_reads_back_from_json() -> None:
    script = Script(
        SCRIPT.chunks, SCRIPT.done, first=1.5, breaks=Break("fail", 1, Failure("no", 503)), wire=Wire(at=7, then="rst")
    )
    assert msgspec.json.decode(msgspec.json.encode(script), type=Script) == script


def test_a_script_by_hand_says_only_what_matters() -> None:
    script = msgspec.json.decode(b'{"chunks": [{"text": "Hi"}], "breaks": {"how": "stall", "after": 1}}', type=Script)
    assert script == Script((Chunk("Hi"),), breaks=Break("stall", 1))


def test_a_word_that_is_none_of_the_scripts_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"breaks": {"how": "explode"}}', type=Script)
