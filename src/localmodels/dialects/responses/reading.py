"""Responses read as a client, from a stream or as one object.

Servers differ in what they leave out: numbers, indices, deltas, ids of items. The rule: what an item said is told once,
by its deltas if there are any, else when it is whole; and an answer is believed when its end says so, at no other time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from localmodels.core.chat import Answer, Chunk, Done, Event, FinishReason, Fold, Timings, ToolCallDelta, Usage
from localmodels.core.errors import Garbled, LocalModelsError, StreamCut
from localmodels.dialects import failures, figures
from localmodels.dialects.framing import ServerSentEvents, StreamReader
from localmodels.dialects.openai.answers import read_logprobs, read_timings
from localmodels.dialects.openai.wire import TextLogprobs
from localmodels.dialects.responses import wire
from localmodels.dialects.responses.items import full_name

_READ = msgspec.json.Decoder(wire.Read)
_WHOLE = msgspec.json.Decoder(wire.ReadResponse)
_CALLS = frozenset({"function_call", "custom_tool_call"})
_TEXT_DELTAS = frozenset({"response.output_text.delta", "response.refusal.delta"})
_THOUGHT_DELTAS = frozenset({"response.reasoning_text.delta", "response.reasoning_summary_text.delta"})
_CALL_DELTAS = frozenset({"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"})
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled", "error"})


def reader() -> StreamReader:
    """Reads a streamed response."""
    return StreamReader(ServerSentEvents(), EventReader().read)


class EventReader:
    """Reads one event after the other, and remembers which items have been told."""

    def __init__(self) -> None:
        self._told: dict[Any, str] = {}  # by item, the kind of event that told it
        self._calls: dict[Any, int] = {}  # numbers of calls, by item
        self._last: Any = None

    def read(self, data: bytes) -> Iterator[Event]:
        """The events of one of theirs.

        Raises:
            LocalModelsError: it says that the server failed.
            StreamCut: it says that the response was broken off.
            Garbled: it is not one of this API.
        """
        if data == b"[DONE]":
            return
        said = _decoded(data)
        if said.type in _ENDS:
            yield from self._ended(said)
        elif said.type == "response.output_item.added" and said.item:
            yield from self._begun(_item(said.item), said)
        elif said.type == "response.output_item.done" and said.item:
            yield from self._whole(_item(said.item), said)
        elif isinstance(said.delta, str):
            yield from self._delta(said, said.delta)

    def _delta(self, said: wire.Read, delta: str) -> Iterator[Event]:
        key = self._key(said.item_id, said.output_index)
        if self._told.setdefault(key, said.type) != said.type:
            return  # the same thought once more, as its summary
        if said.type in _TEXT_DELTAS:
            logprobs = read_logprobs(TextLogprobs(content=said.logprobs)) if said.logprobs else ()
            if delta or logprobs:
                yield Chunk(delta, logprobs=logprobs)
        elif said.type in _THOUGHT_DELTAS and delta:
            yield Chunk(thinking=delta)
        elif said.type in _CALL_DELTAS and delta:
            custom = said.type.startswith("response.custom")
            yield Chunk(tool_calls=(ToolCallDelta(self._calls.get(key, 0), arguments=delta, custom=custom),))

    def _begun(self, item: wire.ReadItem, said: wire.Read) -> Iterator[Event]:
        key = self._key(item.id or item.call_id, said.output_index)
        if item.type in _CALLS and key not in self._calls:
            number = self._calls[key] = len(self._calls)
            yield Chunk(tool_calls=(_opened(number, item),))

    def _whole(self, item: wire.ReadItem, said: wire.Read) -> Iterator[Event]:
        """What of a whole item has not been told."""
        key = self._key(item.id or item.call_id, said.output_index)
        yield from self._begun(item, said)
        if key not in self._told:
            self._told[key] = said.type
            yield from self._contents(item, self._calls.get(key, 0))

    @staticmethod
    def _contents(item: wire.ReadItem, number: int) -> Iterator[Event]:
        yield from _contents(item)
        arguments = (item.input if item.type == "custom_tool_call" else item.arguments) or ""
        if item.type in _CALLS and arguments:
            custom = item.type == "custom_tool_call"
            yield Chunk(tool_calls=(ToolCallDelta(number, arguments=arguments, custom=custom),))

    def _ended(self, said: wire.Read) -> Iterator[Event]:
        response = said.response or wire.ReadResponse()
        if said.type in {"response.failed", "error"}:
            raise _failure(response.error or said.error or said)
        if not self._told and not self._calls:
            yield from self.output(response)
        status = "incomplete" if said.type == "response.incomplete" else response.status
        yield ended(response, status, called=self.called)

    def output(self, response: wire.ReadResponse) -> Iterator[Event]:
        """Everything that is in a response."""
        for place, one in enumerate(response.output or ()):
            yield from self._whole(_item(one), wire.Read("whole", output_index=place))

    def _key(self, item_id: str | None, index: int | None) -> Any:
        """What stands for an item: its place, its id, or that it is the latest."""
        if item_id is not None or index is not None:
            self._last = item_id if index is None else index
        return self._last

    @property
    def called(self) -> bool:
        """Has a tool been called?"""
        return bool(self._calls)


def _opened(number: int, item: wire.ReadItem) -> ToolCallDelta:
    name = full_name(item.name or "", item.namespace)
    return ToolCallDelta(number, item.call_id or item.id or "", name, custom=item.type == "custom_tool_call")


def _contents(item: wire.ReadItem) -> Iterator[Chunk]:
    """What a message says or a thought thinks."""
    for part in item.content or item.summary or ():
        text = part.text or part.refusal or ""
        if item.type == "reasoning" and text:
            yield Chunk(thinking=text)
        elif item.type == "message" and (text or part.logprobs):
            logprobs = read_logprobs(TextLogprobs(content=part.logprobs)) if part.logprobs else ()
            yield Chunk(text, logprobs=logprobs)


def ended(response: wire.ReadResponse, status: str | None, *, called: bool) -> Done:
    """How a response ended.

    Raises:
        StreamCut: it did not end by itself.
        LocalModelsError: it failed.
    """
    if status == "failed":
        raise _failure(response.error)
    if status not in {"completed", "incomplete", None}:
        raise StreamCut(f"the server broke the answer off ({str(status)[:40]})")
    details = response.incomplete_details
    cut = status == "incomplete" and (details is None or details.reason in {None, "max_output_tokens", "max_tokens"})
    reason: FinishReason = "length" if cut else "tool_calls" if called else "stop"
    dropped = figures.tokens(response.truncated_messages)
    return Done(reason, _usage(response.usage), read_timings(response.timings, Timings()), dropped)


def _usage(said: wire.ReadUsage | None) -> Usage:
    if said is None:
        return Usage()
    cached = said.input_tokens_details.cached_tokens if said.input_tokens_details else 0
    thought = said.output_tokens_details.reasoning_tokens if said.output_tokens_details else None
    return figures.usage(said.input_tokens, said.output_tokens, cached, thought)


def read_chat_answer(body: bytes) -> Answer:
    """A whole response.

    Raises:
        StreamCut: it did not end by itself.
        Garbled, LocalModelsError: as an event of a stream.
    """
    try:
        response = _WHOLE.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(f"the server's answer is not of the Responses API: {error}") from error
    if response.status is None:
        raise failures.in_band(response.error) if response.error else Garbled("the server's answer has no status")
    reading, folded = EventReader(), Fold()
    for event in reading.output(response):
        folded.add(event)
    folded.add(ended(response, response.status, called=reading.called))
    return folded.answer()


def _decoded(data: bytes) -> wire.Read:
    try:
        return _READ.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(f"the server's answer is not of the Responses API: {error}") from error


def _item(sent: dict[str, Any]) -> wire.ReadItem:
    """An item; of those that we know nothing, no more than the kind."""
    kind = sent.get("type")
    if kind not in _CALLS and kind not in {"message", "reasoning"}:
        return wire.ReadItem(type=str(kind))
    try:
        return msgspec.convert(sent, wire.ReadItem)
    except msgspec.ValidationError as error:
        raise Garbled(f"the server's answer is not of the Responses API: {error}") from error


def _failure(error: Any) -> LocalModelsError:
    if isinstance(error, wire.Read):
        error = {"code": error.code, "message": error.message, "param": error.param}
    return failures.in_band(error or {"message": "the server failed without saying why"})
