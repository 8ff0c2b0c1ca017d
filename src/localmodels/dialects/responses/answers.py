"""Responses as they come about: written as events and as one object.

A stream is server-sent events, each named and numbered. The rule: every item is opened, filled and closed, in the order
of ``output``, and a stream ends in exactly one of ``response.completed``, ``response.incomplete`` and ``error``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from localmodels.core.chat import Answer, ChatRequest, Chunk, Done, Event, TokenLogprob, ToolCallDelta, Usage, unfold
from localmodels.core.errors import CallerError, ContextLengthExceeded, LocalModelsError, QuotaExceeded, RateLimited
from localmodels.core.responses import Status
from localmodels.dialects import failures
from localmodels.dialects.openai.answers import error_type, write_timings
from localmodels.dialects.protocol import Stamp
from localmodels.dialects.responses import wire
from localmodels.dialects.responses.items import PREFIXES
from localmodels.dialects.responses.making import Call, Frames, Item, Message, Named, Thought, write_logprobs
from localmodels.dialects.responses.requests import Create, plain
from localmodels.dialects.strict_json import encode

# The words for why a response failed that clients of this API know; the most specific class counts.
_CODES: Mapping[type[LocalModelsError], str] = {
    QuotaExceeded: "insufficient_quota",
    RateLimited: "rate_limit_exceeded",
    ContextLengthExceeded: "context_length_exceeded",
    CallerError: "invalid_prompt",
    LocalModelsError: "server_error",
}
CANCELLED = "the response was cancelled"


class ResponseWriter:
    """Writes one response, and knows it at any moment.

    Args:
        stamp: its id is the response's.
        create: what was asked.
    """

    def __init__(self, stamp: Stamp, create: Create) -> None:
        self._stamp = stamp
        self._create = create
        self._frames = Frames()
        self._output: list[Item] = []
        self._said: Message | Thought | None = None  # the text or the thought that grows
        self._calls: dict[int, Call] = {}
        self._response = replace(
            create.echo, id=stamp.id, model=stamp.model, created_at=stamp.created // 10**9, status="in_progress"
        )
        self._awake = False

    @property
    def begun(self) -> bool:
        """Has an event been written?"""
        return self._frames.number > 0

    @property
    def status(self) -> Status:
        """Where it stands."""
        return self._response.status

    def response(self) -> wire.Response:
        """The object, as it is now."""
        return replace(self._response, output=tuple(item.written() for item in self._output))

    def answered_by(self, model: str) -> None:
        """Whoever answers is known by now to be this model."""
        if model != self._response.model:
            self._response = replace(self._response, model=model)

    def begin(self, *, queued: bool = False) -> bytes:
        """The events before the first piece, if they have not been written: ``queued`` ones wait for the others."""
        if queued:
            self._response = replace(self._response, status="queued")
            return self._lifecycle("response.created") + self._lifecycle("response.queued")
        if self._awake:
            return b""
        self._awake = True
        self._response = replace(self._response, status="in_progress")
        created = b"" if self._frames.number else self._lifecycle("response.created")
        return created + self._lifecycle("response.in_progress")

    def write(self, event: Event) -> bytes:
        """One piece; for ``Done`` all that ends the stream."""
        if isinstance(event, Done):
            return self.close(event) + self.end()
        if (
            isinstance(self._said, Message)
            and event.text
            and not (event.thinking or event.tool_calls or event.logprobs)
        ):
            return self._frames.write(*self._said.add(event.text, ()))  # nearly all of them
        return self.begin() + self._frames.all(self._pieces(event))

    def close(self, done: Done) -> bytes:
        """The events before the last: whoever keeps the response does so now, since after the last it is asked for."""
        return self.begin() + self._frames.all(self._ending(done))

    def end(self, *, kept: bool | None = None) -> bytes:
        """The last event. ``kept`` says whether the response can be asked for later; None is as it was asked."""
        if kept is not None:
            self._response = replace(self._response, store=kept)
        return self._lifecycle(f"response.{self._response.status}")

    def fail(self, error: LocalModelsError) -> bytes:
        """The events that end a broken stream: the response as far as it came, and the error."""
        head = self.begin()
        self._close_all("incomplete")
        self._settle("failed", error=wire.Failed(code_of(error), _told(error)))
        said = wire.FailedEvent(error_type(error), error.code, failures.sayable(error.message), error.param)
        return head + self._lifecycle("response.failed") + self._error(said)

    def cancel(self) -> bytes:
        """The event that ends a stream which somebody cancelled."""
        self._close_all("incomplete")
        self._settle("cancelled")
        return self._error(wire.FailedEvent("invalid_request_error", "response_cancelled", CANCELLED, None))

    def _error(self, said: wire.FailedEvent) -> bytes:
        """Flat as documented and nested as sent by OpenAI; only the nested one becomes an error of its SDK."""
        flat = {"code": said.code, "message": said.message, "param": said.param}
        return self._frames.write("error", {**flat, "error": said})

    def _lifecycle(self, name: str) -> bytes:
        return self._frames.write(name, {"response": self.response()})

    def _pieces(self, chunk: Chunk) -> Iterator[Named]:
        if chunk.thinking:
            yield from self._switched(Thought)
            yield from self._grown(chunk.thinking, ())
        if chunk.text or chunk.logprobs:
            yield from self._switched(Message)
            yield from self._grown(chunk.text, chunk.logprobs)
        for delta in chunk.tool_calls:
            yield from self._called(delta)

    def _switched(self, kind: type[Message | Thought]) -> Iterator[Named]:
        """Opens an item of this kind, unless one is open."""
        if isinstance(self._said, kind):
            return
        yield from self._hushed("completed")
        yield from self._finished()
        place = self._place(kind.kind)
        self._said = Message(*place) if kind is Message else self._thought(*place)
        yield from self._opened(self._said)

    def _thought(self, item_id: str, place: int) -> Thought:
        return Thought(item_id, place, summary=self._create.summary, encrypted=self._create.encrypted)

    def _hushed(self, status: wire.ItemStatus) -> Iterator[Named]:
        """Closes the text or the thought that is open."""
        if self._said:
            yield from self._said.close(status)
            self._said = None

    def _grown(self, text: str, logprobs: Iterable[TokenLogprob]) -> Iterator[Named]:
        if self._said:
            yield self._said.add(text, write_logprobs(logprobs, self._create.request.top_logprobs))

    def _called(self, delta: ToolCallDelta) -> Iterator[Named]:
        call = self._calls.get(delta.index)
        if call is None:
            yield from self._hushed("completed")
            yield from self._finished()
            kind = "custom_tool_call" if delta.custom else "function_call"
            item_id, place = self._place(kind)
            name = self._create.namespaces.get(delta.name, ("", delta.name))
            call_id = delta.id or f"call_{item_id}"
            call = self._calls[delta.index] = Call(item_id, place, call_id, name, custom=delta.custom)
            yield from self._opened(call)
        if delta.arguments and call.status == "in_progress":
            yield call.add(delta.arguments)

    def _finished(self) -> Iterator[Named]:
        """Closes the calls of which nothing more can come. Others stay open beside what follows: it may come yet."""
        for call in self._calls.values():
            if call.is_whole:
                yield from call.close("completed")

    def _place(self, kind: str) -> tuple[str, int]:
        """Id and index of the next item."""
        place = len(self._output)
        return f"{PREFIXES[kind]}{self._stamp.id.removeprefix('resp_')}_{place}", place

    def _opened(self, item: Item) -> Iterator[Named]:
        self._output.append(item)
        yield from item.open()

    def _ending(self, done: Done) -> Iterator[Named]:
        cut = done.reason == "length"
        calls = [call for call in self._calls.values() if call.status == "in_progress"]
        last = self._said or (calls[-1] if calls else None)
        for call in calls:
            yield from call.close("incomplete" if cut and call is last else "completed")
        yield from self._hushed("incomplete" if cut else "completed")
        self._settle(
            "incomplete" if cut else "completed",
            incomplete_details=wire.Incomplete("max_output_tokens") if cut else None,
            usage=write_usage(done.usage),
            timings=write_timings(done.timings),
            truncated_messages=done.truncated_messages or UNSET,
        )

    def _close_all(self, status: wire.ItemStatus) -> None:
        """What is open stays as it is, which its status says; nobody is told by events."""
        for item in self._output:
            if item.status == "in_progress":
                item.status = status

    def _settle(self, status: Status, **fields: Any) -> None:
        clock = self._stamp.clock
        now = clock() if clock else self._stamp.created
        self._response = replace(self._response, status=status, completed_at=now // 10**9, **fields)


def chat_writer(stamp: Stamp, request: ChatRequest) -> ResponseWriter:
    """Writes the response to a request that did not come in this dialect's own words."""
    return ResponseWriter(stamp, plain(request))


def write_chat_answer(stamp: Stamp, request: ChatRequest, answer: Answer) -> bytes:
    """A whole response."""
    writer = chat_writer(stamp, request)
    for event in unfold(answer):
        writer.write(event)
    return encode(writer.response())


def write_usage(usage: Usage) -> wire.Usage:
    """Tokens."""
    return wire.Usage(
        usage.prompt_tokens,
        wire.InputDetails(usage.cached_tokens),
        usage.completion_tokens,
        wire.OutputDetails(usage.reasoning_tokens or 0),
        usage.prompt_tokens + usage.completion_tokens,
    )


def code_of(error: LocalModelsError) -> str:
    """The word for why a response failed."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def _told(error: LocalModelsError) -> str:
    """The sentence; clients that come back by themselves read in it when to."""
    message = failures.sayable(error.message)
    if isinstance(error, RateLimited) and error.retry_after is not None:
        return f"{message} Please try again in {max(1, math.ceil(error.retry_after))}s."
    return message
