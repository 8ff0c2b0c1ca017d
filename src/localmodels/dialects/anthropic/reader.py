"""Anthropic's answers, read as a client.

``Done`` is what stands in three places: the prompt's tokens in ``message_start``, the reason and the figures in
``message_delta``, and ``message_stop``. It is believed when ``message_stop`` comes after a reason, and never else.
Blocks may be open side by side and close late, as llama-server's do; what nobody here knows is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from localmodels.core.chat import Answer, Chunk, Done, Event, FinishReason, Fold, ToolCallDelta, Usage
from localmodels.core.errors import Garbled
from localmodels.dialects import failures, figures
from localmodels.dialects.anthropic import wire
from localmodels.dialects.framing import ServerSentEvents, StreamReader
from localmodels.dialects.strict_json import encode

T = TypeVar("T")

_EVENT = msgspec.json.Decoder(wire.Read)
_WHOLE = msgspec.json.Decoder(wire.ReadMessage)

# Every other word is an end as well.
_REASONS: Mapping[str, FinishReason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}


class _Call(Struct):
    """A call that has begun: its number among the calls, and its input if it came with the beginning."""

    number: int
    input: Any
    grown: bool = False


def reader() -> StreamReader:
    """Reads a streamed answer."""
    return StreamReader(ServerSentEvents(), PieceReader().read)


class PieceReader:
    """Reads one event after the other and keeps what will be ``Done`` until it is."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._stop = ""
        self._usage = wire.ReadUsage()
        self._calls: dict[int, _Call] = {}
        self._begun = 0

    def read(self, data: bytes) -> Iterable[Event]:
        """The events of one event.

        Raises:
            LocalModelsError: the event says that the server failed.
            Garbled: it is not one of Anthropic's.
        """
        said = decoded(data, _EVENT)
        if said.type == "error" or said.error is not None:
            raise failures.in_band(said.error)
        take = _TAKES.get(said.type)
        return take(self, said) if take else ()

    def _start(self, said: wire.Read) -> Iterator[Event]:
        if said.message is None or said.message.usage is None:
            return
        self._count(said.message.usage)
        prompt = _usage(self._usage)
        if prompt.prompt_tokens:
            yield Chunk(prompt=figures.usage(prompt.prompt_tokens, 0, prompt.cached_tokens))

    def _begin(self, said: wire.Read) -> Iterator[Event]:
        block = said.content_block
        if block is None:
            return
        if block.type == "tool_use":
            self._calls[said.index] = _Call(self._begun, block.input)
            yield Chunk(tool_calls=(ToolCallDelta(self._begun, block.id or "", block.name or ""),))
            self._begun += 1
        elif block.text or block.thinking:
            yield Chunk(block.text or "", block.thinking or "")

    def _grow(self, said: wire.Read) -> Iterator[Event]:
        delta = said.delta
        if delta is None:
            return
        if delta.partial_json and (call := self._calls.get(said.index)):
            call.grown = True
            yield Chunk(tool_calls=(ToolCallDelta(call.number, arguments=delta.partial_json),))
        elif delta.text or delta.thinking:
            yield Chunk(delta.text or "", delta.thinking or "")

    def _end(self, said: wire.Read) -> Iterator[Event]:
        if call := self._calls.pop(said.index, None):
            yield from _whole_input(call)

    def _note(self, said: wire.Read) -> Iterator[Event]:
        if said.delta is not None:
            self._reason = said.delta.stop_reason or self._reason
            self._stop = said.delta.stop_sequence or self._stop
        if said.usage is not None:
            self._count(said.usage)
        return iter(())

    def _stopped(self, said: wire.Read) -> Iterator[Event]:
        if self._reason is None:
            return
        for call in self._calls.values():
            yield from _whole_input(call)
        yield Done(_REASONS.get(self._reason, "stop"), _usage(self._usage), stop=self._stop)

    def _count(self, usage: wire.ReadUsage) -> None:
        """Figures are of all of the answer: later ones take the place of earlier ones, where they are said."""
        for name in usage.__struct_fields__:
            if (figure := getattr(usage, name)) is not None:
                setattr(self._usage, name, figure)


_TAKES = {
    "message_start": PieceReader._start,
    "content_block_start": PieceReader._begin,
    "content_block_delta": PieceReader._grow,
    "content_block_stop": PieceReader._end,
    "message_delta": PieceReader._note,
    "message_stop": PieceReader._stopped,
}


def _whole_input(call: _Call) -> Iterator[Event]:
    """The input of a call that did not grow: what it began with."""
    if not call.grown:
        yield Chunk(tool_calls=(ToolCallDelta(call.number, arguments=_text(call.input)),))


def _text(value: Any) -> str:
    return encode({} if value is None else value).decode()


def read_answer(body: bytes) -> Answer:
    """A whole answer.

    Raises:
        StreamCut: it has no ``stop_reason``.
        Garbled, LocalModelsError: as an event of a stream.
    """
    said = decoded(body, _WHOLE)
    if said.error is not None:
        raise failures.in_band(said.error)
    if said.content is None:
        raise Garbled("the server's answer is not Anthropic's: it has no content")
    folded = Fold()
    for event in _events(said):
        folded.add(event)
    return folded.answer()


def _events(said: wire.ReadMessage) -> Iterator[Event]:
    calls = 0
    for block in said.content or ():
        if block.type == "tool_use":
            yield Chunk(tool_calls=(ToolCallDelta(calls, block.id or "", block.name or "", _text(block.input)),))
            calls += 1
        else:
            yield Chunk(block.text or "", block.thinking or "")
    if said.stop_reason is not None:
        usage = _usage(said.usage or wire.ReadUsage())
        yield Done(_REASONS.get(said.stop_reason, "stop"), usage, stop=said.stop_sequence or "")


def _usage(said: wire.ReadUsage) -> Usage:
    """Tokens; those of the prompt are counted in three places."""
    cached = said.cache_read_input_tokens
    prompt = figures.together(said.input_tokens, said.cache_creation_input_tokens, cached)
    details = said.output_tokens_details
    return figures.usage(prompt, said.output_tokens, cached, details.thinking_tokens if details else None)


def decoded(data: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """What a server sent.

    Raises:
        Garbled: it has another shape.
    """
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(f"the server's answer is not Anthropic's: {error}") from error
