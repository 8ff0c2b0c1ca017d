"""The flow of the Responses API over a store in memory: chains, owners, what is kept, and the background."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace
from tests.unit.dialects import responses_order as order

from localmodels.core.access import LOCAL, Caller
from localmodels.core.chat import ChatRequest, Chunk, Done, Event, ToolCallDelta, Usage
from localmodels.core.errors import (
    Conflict,
    InvalidRequest,
    ModelNotFound,
    NotFound,
    RunnerDied,
    StoreFailed,
    StreamCut,
    Unsupported,
)
from localmodels.core.responses import UNFINISHED, ResponseStore, StoredResponse
from localmodels.dialects.responses.requests import Create, read_create
from localmodels.flows.answering import background_responses
from localmodels.flows.answering.background_responses import Events
from localmodels.flows.answering.responses import MOST_CHAIN, ResponseFlow
from localmodels.flows.visit import Visit

STRANGER = Caller("key_2", "stranger")
Answer = Callable[[ChatRequest], AsyncGenerator[list[Event], None]]


class Memory:
    """A store in memory; ``full`` takes nothing more."""

    def __init__(self) -> None:
        self.kept: dict[str, StoredResponse] = {}
        self.full = False
        self.sweeps = 0

    async def put(self, response: StoredResponse) -> None:
        if self.full:
            raise StoreFailed("no room")
        self.kept[response.id] = response

    async def get(self, id: str, owner: str) -> StoredResponse | None:  # noqa: A002
        found = self.kept.get(id)
        return found if found and found.owner == owner else None

    async def delete(self, id: str, owner: str) -> bool:  # noqa: A002
        return await self.get(id, owner) is not None and bool(self.kept.pop(id))

    async def chain(self, id: str, owner: str, most: int) -> tuple[StoredResponse, ...]:  # noqa: A002
        found: list[StoredResponse] = []
        while len(found) < most and (one := await self.get(id, owner)):
            found.append(one)
            id = one.previous_id  # noqa: A001
        return tuple(reversed(found))

    async def unfinished(self) -> tuple[StoredResponse, ...]:
        return tuple(one for one in self.kept.values() if one.status in UNFINISHED)

    async def sweep(self) -> int:
        self.sweeps += 1
        return 0


class Talk:
    """Answers with what it was asked; waits in the middle until it may go on."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.asked: list[ChatRequest] = []
        self.may = asyncio.Event()
        self.begun = asyncio.Event()
        self.left = asyncio.Event()
        self._answer = answer or self._echo

    async def chat(self, request: ChatRequest, visit: Visit) -> AsyncGenerator[list[Event], None]:
        self.asked.append(request)
        async for events in self._answer(request):
            yield events

    async def count(self, request: ChatRequest, visit: Visit) -> int:
        return len(request.messages)

    async def _echo(self, request: ChatRequest) -> AsyncGenerator[list[Event], None]:
        try:
            yield [Chunk("|".join(message.text for message in request.messages))]
            self.begun.set()
            await self.may.wait()
            yield [Chunk("."), Done(usage=Usage(3, 2))]
        finally:
            self.left.set()


async def unknown(request: ChatRequest) -> AsyncGenerator[list[Event], None]:
    for _ in request.model:
        raise ModelNotFound("m")
    yield []


class World:
    """A flow with what it stands on."""

    def __init__(self, answer: Answer | None = None, **arguments: Any) -> None:
        self.talk, self.store = Talk(answer), Memory()
        self.talk.may.set()
        self.visits: list[Visit] = []
        store: ResponseStore = self.store
        self.flow = ResponseFlow(self.talk, store, ended=self.visits.append, **arguments)

    async def asked(self, caller: Caller = LOCAL, **fields: Any) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await self.flow.whole(create(**fields), Visit("r", caller)))
        return answer

    async def told(self, caller: Caller = LOCAL, **fields: Any) -> list[dict[str, Any]]:
        stream = self.flow.stream(create(stream=True, **fields), Visit("r", caller))
        return order.parsed(b"".join([data async for data in stream]))

    async def got(self, response: dict[str, Any], caller: Caller = LOCAL) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await self.flow.get(response["id"], caller))
        return answer


def create(**fields: Any) -> Create:
    return read_create(json.dumps({"model": "m", "input": "hi", **fields}).encode())


def text(response: dict[str, Any]) -> str:
    return "".join(item["content"][0]["text"] for item in response["output"] if item["type"] == "message")


def played(test: Callable[[World], Awaitable[None]], answer: Answer | None = None, **arguments: Any) -> None:
    async def play() -> None:
        await test(World(answer, **arguments))

    asyncio.run(play())


def test_a_response_is_kept_as_it_was_given() -> None:
    async def test(world: World) -> None:
        whole = await world.asked(metadata={"a": "b"})
        assert (text(whole), whole["status"], whole["store"]) == ("hi.", "completed", True)
        assert await world.got(whole) == whole
        told = await world.told()
        assert await world.got(order.check(told)) == told[-1]["response"]

    played(test)


def test_it_is_kept_before_the_last_event_is_sent() -> None:
    async def test(world: World) -> None:
        async for data in world.flow.stream(create(stream=True), Visit("r", LOCAL)):
            if b"event: response.completed" in data:
                await world.got(order.parsed(b"event: " + data.rpartition(b"event: ")[2])[-1]["response"])
                return
        pytest.fail("no end")

    played(test)


def test_a_chain_holds_what_callers_and_model_said_but_no_instructions() -> None:
    async def test(world: World) -> None:
        first = await world.asked(input="one", instructions="be brief")
        second = await world.asked(input="two", previous_response_id=first["id"], instructions="be long")
        await world.asked(input="three", previous_response_id=second["id"])
        texts = [[message.text for message in request.messages] for request in world.talk.asked]
        assert texts[0] == ["be brief", "one"]
        assert texts[1] == ["be long", "one", "be brief|one.", "two"]
        assert texts[2] == ["one", "be brief|one.", "two", "be long|one|be brief|one.|two.", "three"]

    played(test)


async def calling(request: ChatRequest) -> AsyncGenerator[list[Event], None]:
    if request.messages[-1].role == "tool":
        yield [Chunk(f"{request.messages[-1].tool_name} said {request.messages[-1].text}"), Done()]
        return
    yield [Chunk("", "hm", (ToolCallDelta(0, "c1", "f", "{}"),)), Done("tool_calls")]


def test_a_chain_goes_on_with_the_output_of_a_call() -> None:
    async def test(world: World) -> None:
        first = await world.asked()
        result = {"type": "function_call_output", "call_id": "c1", "output": "22"}
        second = await world.asked(input=[result], previous_response_id=first["id"])
        assert text(second) == "f said 22"
        assert world.talk.asked[1].messages[1].thinking == "hm"
        with pytest.raises(InvalidRequest, match="no output; send that of 'c1'"):
            await world.asked(input=[], previous_response_id=first["id"])

    played(test, calling)


def test_a_call_that_was_broken_off_is_no_part_of_a_chain() -> None:
    async def cut(request: ChatRequest) -> AsyncGenerator[list[Event], None]:
        yield [Chunk("so", tool_calls=(ToolCallDelta(0, "c1", "f", '{"a'),)), Done("length")]

    async def test(world: World) -> None:
        first = await world.asked()
        assert first["status"] == "incomplete"
        await world.asked(input="go on", previous_response_id=first["id"])
        assert [(m.text, m.tool_calls) for m in world.talk.asked[1].messages] == [("hi", ()), ("so", ()), ("go on", ())]

    played(test, cut)


def test_what_is_somebody_elses_is_not_there() -> None:
    async def test(world: World) -> None:
        mine, flow = await world.asked(), world.flow
        for refused in (
            flow.get(mine["id"], STRANGER),
            flow.cancel(mine["id"], STRANGER),
            flow.delete(mine["id"], STRANGER),
            flow.items(mine["id"], STRANGER, "", 20, "desc"),
            anext(flow.replay(mine["id"], STRANGER)),
            world.asked(STRANGER, previous_response_id=mine["id"]),
            flow.get("resp_0", LOCAL),
        ):
            with pytest.raises(NotFound, match="not found"):
                await refused
        running = await world.asked(background=True)
        with pytest.raises(NotFound):
            await flow.cancel(running["id"], STRANGER)
        await world.flow.close()

    played(test)


def test_a_deleted_response_is_gone_and_with_it_what_went_on_from_it() -> None:
    async def test(world: World) -> None:
        first = await world.asked()
        second = await world.asked(previous_response_id=first["id"])
        await world.flow.delete(first["id"], LOCAL)
        with pytest.raises(NotFound):
            await world.got(first)
        with pytest.raises(NotFound, match="is no longer kept"):
            await world.asked(previous_response_id=second["id"])
        with pytest.raises(NotFound):
            await world.flow.delete(first["id"], LOCAL)

    played(test)


def test_a_chain_has_an_end() -> None:
    async def test(world: World) -> None:
        one = world.store.kept[(await world.asked())["id"]]
        for number in range(MOST_CHAIN + 1):
            previous = str(number - 1) if number else ""
            world.store.kept[str(number)] = replace(one, id=str(number), previous_id=previous)
        with pytest.raises(InvalidRequest, match="1,000 responses"):
            await world.asked(previous_response_id=str(MOST_CHAIN))

    played(test)


@pytest.mark.parametrize(("retention", "asked"), [(0.0, True), (60.0, False)])
def test_what_is_not_to_be_kept_is_not(retention: float, asked: bool) -> None:
    async def test(world: World) -> None:
        answer = await world.asked(store=asked)
        assert (answer["store"], world.store.kept) == (False, {})
        with pytest.raises(NotFound):
            await world.got(answer)

    played(test, retention=retention)


def test_an_answer_is_not_lost_for_want_of_room() -> None:
    async def test(world: World) -> None:
        world.store.full = True
        assert (await world.asked())["store"] is False
        told = await world.told()
        assert (order.check(told)["store"], told[-1]["type"]) == (False, "response.completed")

    played(test)


def test_items_are_shown_page_by_page() -> None:
    async def test(world: World) -> None:
        sent = [{"role": "user", "content": str(number)} for number in range(5)]
        response = await world.asked(input=sent)

        async def page(after: str, order_: Any = "asc") -> Any:
            return json.loads(await world.flow.items(response["id"], LOCAL, after, 2, order_))

        first = await page("")
        second = await page(first["last_id"])
        third = await page(second["last_id"])
        shown = [item["content"][0]["text"] for one in (first, second, third) for item in one["data"]]
        assert shown == list("01234")
        assert [one["has_more"] for one in (first, second, third)] == [True, True, False]
        assert (await page("", "desc"))["data"][0]["content"][0]["text"] == "4"
        assert first["data"][0]["id"].startswith("msg_")
        with pytest.raises(NotFound):
            await page("msg_0")

    played(test)


def test_errors_before_the_first_event_are_raised_and_later_ones_are_told() -> None:
    async def dies(request: ChatRequest) -> AsyncGenerator[list[Event], None]:
        yield [Chunk("so")]
        raise RunnerDied("it died")

    async def stops(request: ChatRequest) -> AsyncGenerator[list[Event], None]:
        yield [Chunk("so")]

    async def refused(world: World) -> None:
        with pytest.raises(ModelNotFound):
            await world.told()
        with pytest.raises(ModelNotFound):
            await world.asked()
        assert world.store.kept == {}

    async def broken(world: World) -> None:
        told = await world.told()
        failed = order.check(told)
        assert (failed["status"], text(failed), told[-1]["type"]) == ("failed", "so", "error")
        assert await world.got(failed) == failed
        with pytest.raises((RunnerDied, StreamCut)):
            await world.asked()

    played(refused, unknown)
    played(broken, dies)
    played(broken, stops)


def test_who_leaves_in_the_middle_leaves_what_was_said() -> None:
    async def test(world: World) -> None:
        world.talk.may.clear()
        stream = world.flow.stream(create(stream=True), Visit("r", LOCAL))
        await anext(stream)
        await stream.aclose()
        whole = asyncio.ensure_future(world.asked())
        await world.talk.begun.wait()
        whole.cancel()
        await asyncio.wait((whole,))
        assert [(one.status, text(json.loads(one.body))) for one in world.store.kept.values()] == [
            ("cancelled", "hi")
        ] * 2

    played(test)


def test_the_background_goes_on_without_its_caller() -> None:
    async def test(world: World) -> None:
        world.talk.may.clear()
        queued = await world.asked(background=True)
        assert (queued["status"], queued["output"], queued["usage"]) == ("queued", [], None)
        assert (await world.got(queued))["status"] == "queued"
        with pytest.raises(InvalidRequest, match="has not ended"):
            await world.asked(previous_response_id=queued["id"])
        await world.talk.begun.wait()
        assert text(await world.got(queued)) == "hi"
        world.talk.may.set()
        told = [data async for data in world.flow.replay(queued["id"], LOCAL)]
        events = order.parsed(b"".join(told))
        done = order.check(events)
        assert [event["type"] for event in events[:3]] == [
            "response.created",
            "response.queued",
            "response.in_progress",
        ]
        assert (await world.got(queued)) == done == json.loads(world.store.kept[queued["id"]].body)
        assert [visit.id for visit in world.visits] == ["r"]
        late = b"".join([data async for data in world.flow.replay(queued["id"], LOCAL, 4)])
        assert order.parsed(late) == events[5:]

    played(test)


def test_a_background_stream_is_watched_from_the_beginning() -> None:
    async def test(world: World) -> None:
        told = await world.told(background=True)
        assert order.check(told)["background"] is True

    played(test)


def test_events_are_dropped_after_a_while_and_told_anew_from_what_is_kept() -> None:
    async def test(world: World) -> None:
        events = await world.told(background=True)
        await asyncio.sleep(0)
        again = order.parsed(b"".join([data async for data in world.flow.replay(events[0]["response"]["id"], LOCAL)]))
        assert order.check(again) == events[-1]["response"]
        assert len(again) < len(events), "each item in one piece"

    played(test, linger=0.0)


def test_a_background_response_can_be_cancelled_once_and_for_all() -> None:
    async def test(world: World) -> None:
        world.talk.may.clear()
        queued = await world.asked(background=True)
        await world.talk.begun.wait()
        cancelled = json.loads(await world.flow.cancel(queued["id"], LOCAL))
        assert (cancelled["status"], text(cancelled)) == ("cancelled", "hi")
        assert world.talk.left.is_set()
        assert json.loads(await world.flow.cancel(queued["id"], LOCAL)) == cancelled
        assert world.store.kept[queued["id"]].status == "cancelled"
        events = order.parsed(b"".join([data async for data in world.flow.replay(queued["id"], LOCAL)]))
        assert events[-1]["type"] == "error"
        at_once = await world.asked(background=True)
        assert json.loads(await world.flow.cancel(at_once["id"], LOCAL))["status"] == "cancelled"

    played(test)


def test_only_the_background_can_be_cancelled() -> None:
    async def test(world: World) -> None:
        with pytest.raises(InvalidRequest, match="background"):
            await world.flow.cancel((await world.asked())["id"], LOCAL)

    played(test)


def test_what_is_deleted_while_it_goes_on_is_broken_off() -> None:
    async def test(world: World) -> None:
        world.talk.may.clear()
        queued = await world.asked(background=True)
        await world.talk.begun.wait()
        await world.flow.delete(queued["id"], LOCAL)
        assert world.talk.left.is_set()
        with pytest.raises(NotFound):
            await world.got(queued)

    played(test)


def test_what_another_gateway_answers_is_seen_here_and_not_changed() -> None:
    async def test(world: World) -> None:
        world.talk.may.clear()
        queued = await world.asked(background=True)
        await world.talk.begun.wait()
        other = ResponseFlow(world.talk, world.store)
        assert json.loads(await other.get(queued["id"], LOCAL))["status"] == "queued"
        for end in (other.cancel, other.delete):
            with pytest.raises(Conflict, match="is queued at another gateway"):
                await end(queued["id"], LOCAL)
        await world.flow.cancel(queued["id"], LOCAL)
        await other.cancel(queued["id"], LOCAL)
        await other.delete(queued["id"], LOCAL)
        assert world.store.kept == {}

    played(test)


def test_an_error_in_the_background_is_told_and_kept() -> None:
    async def test(world: World) -> None:
        told = await world.told(background=True)
        assert order.check(told)["status"] == "failed"
        assert (await world.got(told[0]["response"]))["error"]["code"] == "invalid_prompt"
        assert isinstance(world.visits[0].error, ModelNotFound)

    played(test, unknown)


def test_a_defect_in_the_middle_is_told_and_kept_before_it_is_raised() -> None:
    async def fails(request: ChatRequest) -> AsyncGenerator[list[Event], None]:
        yield [Chunk("so")]
        raise ValueError("nobody foresaw this")

    async def test(world: World) -> None:
        told = bytearray()

        async def listen() -> None:
            async for data in world.flow.stream(create(stream=True), Visit("r", LOCAL)):
                told.extend(data)

        with pytest.raises(ValueError, match="nobody foresaw"):
            await listen()
        failed = order.check(order.parsed(bytes(told)))
        assert (failed["status"], text(failed), failed["error"]["code"]) == ("failed", "so", "server_error")
        assert await world.got(failed) == failed
        behind = await world.told(background=True)
        assert order.check(behind)["status"] == "failed"
        assert b"foresaw" not in told

    played(test, fails)


def test_the_background_needs_a_place_to_keep_it() -> None:
    async def test(world: World) -> None:
        with pytest.raises(Unsupported):
            await world.asked(background=True)

    async def full(world: World) -> None:
        world.store.full = True
        await test(world)

    played(test, retention=0.0)
    played(full)


def test_what_a_server_leaves_in_the_middle_has_failed() -> None:
    async def test(world: World) -> None:
        world.talk.may.clear()
        queued = await world.asked(background=True)
        await world.talk.begun.wait()
        later = ResponseFlow(world.talk, world.store)
        assert await later.recover() == 1
        failed = json.loads(await later.get(queued["id"], LOCAL))
        assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
        assert await later.recover() == 0
        await world.flow.close()

    played(test)


def test_what_goes_on_is_not_taken_for_left() -> None:
    async def test(world: World) -> None:
        world.talk.may.clear()
        queued = await world.asked(background=True)
        assert await world.flow.recover() == 0
        assert (await world.got(queued))["status"] == "queued"
        await world.flow.close()

    played(test)


def test_a_server_that_ends_breaks_off_what_goes_on() -> None:
    async def test(world: World) -> None:
        world.talk.may.clear()
        queued = await world.asked(background=True)
        await world.talk.begun.wait()
        await world.flow.close()
        kept = world.store.kept[queued["id"]]
        assert (kept.status, text(json.loads(kept.body))) == ("failed", "hi")

    played(test)


def test_questions_are_counted_with_all_that_came_before() -> None:
    async def test(world: World) -> None:
        first = await world.asked()
        assert await world.flow.count(create(previous_response_id=first["id"]), Visit("r", LOCAL)) == 3

    played(test)


def test_too_many_events_are_not_kept_but_the_response_is() -> None:
    async def test() -> None:
        events = Events(background_responses.Memory(), most=10)
        events.add(b"event: a\ndata: {}\n\n")
        with pytest.raises(InvalidRequest, match="no longer kept"):
            await anext(events.after(-1))

    asyncio.run(test())


def test_of_all_jobs_together_those_that_ended_first_are_forgotten_first() -> None:
    async def test() -> None:
        memory = background_responses.Memory(most=100)
        first, second, running, last = (Events(memory) for _ in range(4))
        frame = b"data: " + b"x" * 22 + b"\n\n"
        for events in (second, first):
            events.add(frame)
            events.end()
        running.add(frame)
        last.add(frame)
        assert memory.size == 90
        for gone, kept in ((second, first), (first, running)):
            with pytest.raises(InvalidRequest, match="no longer kept"):
                await anext(gone.after(-1))
            assert frame in await anext(kept.after(-1))
            if kept is first:
                running.add(frame)
        last.add(frame)  # none has ended any more, so it goes itself
        with pytest.raises(InvalidRequest, match="no longer kept"):
            await anext(last.after(-1))
        assert await anext(running.after(-1)) == frame * 2
        assert memory.size == 60
        running.drop()
        running.drop()
        assert memory.size == 0

    asyncio.run(test())


def test_what_has_expired_is_swept_every_ten_minutes_in_which_something_is_kept() -> None:
    now = [0]

    async def test(world: World) -> None:
        swept = []
        for minutes in (0, 9, 10, 19, 20, 50):
            now[0] = minutes * 60 * 10**9
            await world.asked()
            swept.append(world.store.sweeps)
        assert swept == [0, 0, 1, 1, 2, 3]

    played(test, clock=lambda: now[0])
