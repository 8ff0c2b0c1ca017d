"""Ollama's answers, written as a server and read as a client.

A streamed answer is NDJSON; its last object has ``done: true`` and the figures. Tool calls are said whole: they wait
for the end of the answer, since only then is it known that nothing more belongs to them. An error in the middle is one
object ``{"error": …}``, with nothing after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Done,
    Event,
    FinishReason,
    Fold,
    GenerateRequest,
    TokenLogprob,
    ToolCallDelta,
    TopLogprob,
)
from localmodels.core.errors import CallerError, Garbled, LocalModelsError
from localmodels.core.moment import rfc3339
from localmodels.dialects import failures, figures
from localmodels.dialects.framing import JsonLines, StreamReader, json_line
from localmodels.dialects.ollama import wire
from localmodels.dialects.ollama.calls import message_calls, read_arguments
from localmodels.dialects.protocol import Stamp
from localmodels.dialects.strict_json import encode

_LINE = msgspec.json.Decoder(wire.Line)

# Ollama has no word for a turn that ended in tool calls: they speak for themselves.
_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "load": "load", "unload": "unload"}


class Head:
    """What every line of a stream begins with: the model and, as Ollama does, the moment of the line."""

    def __init__(self, stamp: Stamp) -> None:
        self._model = stamp.model
        self._clock = stamp.clock or (lambda: stamp.created)

    def __call__(self) -> tuple[str, str]:
        """Model and time of a line that is written now."""
        return self._model, rfc3339(self._clock())


class ChatWriter:
    """Writes a streamed chat."""

    def __init__(self, stamp: Stamp, request: ChatRequest) -> None:
        self._head = Head(stamp)
        self._top = request.top_logprobs
        self._calls: Fold | None = None

    def write(self, event: Event) -> bytes:
        """One line; none for a piece of a tool call, and before the last line one with all calls."""
        if isinstance(event, Done):
            last = _line(self._head(), message=wire.Message("assistant", ""), done=event)
            return self._called(event) + json_line(last)
        if event.tool_calls:
            self._calls = self._calls or Fold()
            self._calls.add(Chunk(tool_calls=event.tool_calls))
        if event.thinking or event.logprobs:
            message = wire.Message("assistant", event.text, event.thinking or None)
            return json_line(_line(self._head(), message=message, logprobs=write_logprobs(event.logprobs, self._top)))
        return json_line(wire.ChatPiece(*self._head(), wire.Message("assistant", event.text))) if event.text else b""

    def fail(self, error: LocalModelsError) -> bytes:
        """The line that ends a broken stream."""
        return write_error(error) + b"\n"

    def _called(self, done: Done) -> bytes:
        if self._calls is None:
            return b""
        self._calls.add(done)
        calls, leftover = message_calls(self._calls.answer().tool_calls)
        return json_line(_line(self._head(), message=wire.Message("assistant", leftover, tool_calls=calls or None)))


class TextWriter:
    """Writes a streamed text; after the prompt, if that was asked back."""

    def __init__(self, stamp: Stamp, request: GenerateRequest) -> None:
        self._head = Head(stamp)
        self._top = request.top_logprobs

    def write(self, event: Event) -> bytes:
        """One line."""
        if isinstance(event, Done):
            return json_line(_line(self._head(), response="", done=event, context=event.context or None))
        if event.thinking or event.logprobs:
            logprobs = write_logprobs(event.logprobs, self._top)
            thinking = event.thinking or None
            return json_line(_line(self._head(), response=event.text, thinking=thinking, logprobs=logprobs))
        return json_line(wire.TextPiece(*self._head(), event.text)) if event.text else b""

    def fail(self, error: LocalModelsError) -> bytes:
        """The line that ends a broken stream."""
        return write_error(error) + b"\n"


def write_chat_answer(stamp: Stamp, request: ChatRequest, answer: Answer) -> bytes:
    """A whole chat in one object."""
    calls, leftover = message_calls(answer.tool_calls)
    message = wire.Message("assistant", answer.text + leftover, answer.thinking or None, tool_calls=calls or None)
    logprobs = write_logprobs(answer.logprobs, request.top_logprobs)
    head = (stamp.model, rfc3339(stamp.created))
    return encode(_line(head, message=message, logprobs=logprobs, done=answer.done))


def write_generate_answer(stamp: Stamp, request: GenerateRequest, answer: Answer) -> bytes:
    """A whole text in one object."""
    return encode(
        _line(
            (stamp.model, rfc3339(stamp.created)),
            response=answer.text,
            thinking=answer.thinking or None,
            logprobs=write_logprobs(answer.logprobs, request.top_logprobs),
            done=answer.done,
            context=answer.done.context or None,
        )
    )


def write_error(error: LocalModelsError) -> bytes:
    """``{"error": "…"}``."""
    return encode(wire.Failure(failures.sayable(error.message)))


def write_logprobs(tokens: Iterable[TokenLogprob], top: int) -> tuple[wire.Logprob, ...] | None:
    """Tokens with as many alternatives as were asked for; an engine may have computed more."""
    return (
        tuple(
            wire.Logprob(
                token.token,
                token.logprob,
                token.bytes,
                tuple(wire.TopLogprob(other.token, other.logprob, other.bytes) for other in token.top[:top]),
            )
            for token in tokens
        )
        or None
    )


def _line(head: tuple[str, str], *, done: Done | None = None, **fields: Any) -> wire.Line:
    """A line that says more than a piece of text; with ``done`` the last one, with all its figures."""
    model, created = head
    if done is None:
        return wire.Line(model=model, created_at=created, done=False, **fields)
    return wire.Line(
        model=model,
        created_at=created,
        done=True,
        done_reason="stop" if done.reason == "tool_calls" else done.reason,
        total_duration=done.timings.total,
        load_duration=done.timings.load,
        prompt_eval_count=done.usage.prompt_tokens,
        prompt_eval_cached_count=done.usage.cached_tokens,
        prompt_eval_duration=done.timings.prompt_eval,
        eval_count=done.usage.completion_tokens,
        eval_duration=done.timings.eval,
        truncated_messages=done.truncated_messages,
        **fields,
    )


def reader() -> StreamReader:
    """Reads a streamed chat or text."""
    return StreamReader(JsonLines(), LineReader().read)


class LineReader:
    """Reads one line after the other; knows how many tool calls there were."""

    def __init__(self) -> None:
        self._calls = 0

    def read(self, line: bytes) -> Iterator[Event]:
        """The events of one line.

        Raises:
            LocalModelsError: the line says that the server failed.
            Garbled: it is not a line of Ollama's.
        """
        said = _decoded(line)
        message = said.message
        chunk = Chunk(
            text=(said.response if message is None else message.content) or "",
            thinking=(said.thinking if message is None else message.thinking) or "",
            tool_calls=self._called(message.tool_calls) if message and message.tool_calls else (),
            logprobs=read_logprobs(said.logprobs) if said.logprobs else (),
        )
        if chunk != _NOTHING:
            yield chunk
        if said.done is True:
            yield _done(said, called=self._calls > 0)

    def _called(self, calls: list[wire.ToolCall]) -> tuple[ToolCallDelta, ...]:
        first, self._calls = self._calls, self._calls + len(calls)
        return tuple(
            ToolCallDelta(first + i, call.id or "", call.function.name, _arguments(call.function))
            for i, call in enumerate(calls)
        )


_NOTHING = Chunk()


def read_answer(body: bytes) -> Answer:
    """A whole chat or text.

    Raises:
        StreamCut: the object does not say that the answer is done.
        Garbled, LocalModelsError: as a line of a stream.
    """
    folded = Fold()
    for event in LineReader().read(body):
        folded.add(event)
    return folded.answer()


def read_logprobs(tokens: Iterable[wire.Logprob]) -> tuple[TokenLogprob, ...]:
    """Tokens with their alternatives."""
    return tuple(
        TokenLogprob(
            token.token,
            token.logprob,
            token.bytes or (),
            tuple(TopLogprob(other.token, other.logprob, other.bytes or ()) for other in token.top_logprobs or ()),
        )
        for token in tokens
    )


def _decoded(line: bytes) -> wire.Line:
    try:
        said = _LINE.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(f"the server's answer is not Ollama's: {error}") from error
    if said.error is not None:
        raise failures.in_band(said.error)
    return said


def _arguments(function: wire.Function) -> str:
    try:
        return read_arguments(function.arguments, function.name)
    except (CallerError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Garbled("the server's tool call has no arguments that can be read") from error


def _done(said: wire.Line, *, called: bool) -> Done:
    reason = _REASONS.get(said.done_reason or "", "stop")
    return Done(
        reason="tool_calls" if called and reason == "stop" else reason,
        usage=figures.usage(said.prompt_eval_count, said.eval_count, said.prompt_eval_cached_count),
        timings=figures.timings(said.total_duration, said.load_duration, said.prompt_eval_duration, said.eval_duration),
        truncated_messages=figures.tokens(said.truncated_messages),
        context=said.context or (),
    )
