"""OpenAI's chat answers, written as a server and read as a client.

A streamed answer is server-sent events. ``Done`` is what stands in three places: ``finish_reason`` in the last choice,
``usage`` and figures in it or in a piece of their own, and ``[DONE]``. It is believed when ``[DONE]`` comes after a
``finish_reason``, and at no other time; what ends before that was cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec
from msgspec import UNSET, UnsetType

from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Done,
    Event,
    FinishReason,
    Fold,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    TopLogprob,
    Usage,
)
from localmodels.core.errors import Garbled, LocalModelsError, StreamCut
from localmodels.dialects import failures
from localmodels.dialects.framing import SSE_DONE, ServerSentEvents, StreamReader, sse_event
from localmodels.dialects.openai import wire
from localmodels.dialects.openai.requests import arguments_text, write_call
from localmodels.dialects.protocol import Stamp
from localmodels.dialects.strict_json import encode

_READ = msgspec.json.Decoder(wire.Read)

REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
# A server that says so did not let the model end its answer.
_BROKEN = frozenset(("abort", "cancelled", "error"))


class ChatWriter:
    """Writes a streamed chat."""

    def __init__(self, stamp: Stamp, request: ChatRequest) -> None:
        self._head = (stamp.id, "chat.completion.chunk", stamp.created // 10**9, stamp.model)
        self._top = request.top_logprobs
        self._usage = request.include_usage
        self._role: str | None = "assistant"  # in the first piece only

    def write(self, event: Event) -> bytes:
        """One piece; for ``Done`` all that ends the stream."""
        role, self._role = self._role, None
        if isinstance(event, Done):
            choice = wire.ChatChoice(wire.Delta(role), finish_reason=finish_reason(event))
            return ending(self._head, choice, event, usage=self._usage)
        delta = wire.Delta(role, event.text or None, event.thinking or None)
        if event.tool_calls:
            delta.tool_calls = tuple(_write_delta(call) for call in event.tool_calls)
        choice = wire.ChatChoice(delta)
        if event.logprobs:
            choice.logprobs = wire.Logprobs(write_logprobs(event.logprobs, self._top))
        return sse_event(wire.Written(*self._head, (choice,)))

    def fail(self, error: LocalModelsError) -> bytes:
        """The event that ends a broken stream; no ``[DONE]`` follows."""
        return b"data: %b\n\n" % write_error(error)


def ending(
    head: tuple[str, str, int, str], choice: wire.ChatChoice | wire.TextChoice, done: Done, *, usage: bool
) -> bytes:
    """The last choice, the usage in a piece of its own if it was asked for, and ``[DONE]``."""
    timings, dropped = write_timings(done.timings), done.truncated_messages or UNSET
    if not usage:
        last = wire.Written(*head, (choice,), timings=timings, truncated_messages=dropped)
        return sse_event(last) + SSE_DONE
    figures = wire.Written(*head, (), write_usage(done.usage), timings, dropped)
    return sse_event(wire.Written(*head, (choice,))) + sse_event(figures) + SSE_DONE


def finish_reason(done: Done) -> str:
    """The word for why the answer ended; moving a model in or out of memory is none of this API's."""
    return done.reason if done.reason in REASONS else "stop"


def _write_delta(call: ToolCallDelta) -> wire.ToolCall:
    function = wire.Function(call.name or None, call.arguments)
    return wire.ToolCall(call.index, call.id or None, "function" if call.name else None, function)


def write_usage(usage: Usage) -> wire.Usage:
    """Tokens."""
    return wire.Usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.prompt_tokens + usage.completion_tokens,
        wire.PromptDetails(usage.cached_tokens),
    )


def write_timings(timings: Timings) -> wire.Timings | UnsetType:
    """Durations, if any were measured."""
    if timings == _NO_TIMINGS:
        return UNSET
    return wire.Timings(timings.total, timings.load, timings.prompt_eval, timings.eval)


_NO_TIMINGS = Timings()


def write_logprobs(tokens: Iterable[TokenLogprob], top: int) -> tuple[wire.TokenLogprob, ...]:
    """Tokens with as many alternatives as were asked for; an engine may have computed more."""
    return tuple(
        wire.TokenLogprob(
            token.token,
            token.logprob,
            token.bytes or None,
            tuple(wire.TopLogprob(other.token, other.logprob, other.bytes or None) for other in token.top[:top]),
        )
        for token in tokens
    )


def write_chat_answer(stamp: Stamp, request: ChatRequest, answer: Answer) -> bytes:
    """A whole chat in one object."""
    message = wire.Message(
        "assistant",
        answer.text if answer.text or not answer.tool_calls else None,
        answer.thinking or None,
        tool_calls=[write_call(call) for call in answer.tool_calls] or None,
    )
    logprobs = write_logprobs(answer.logprobs, request.top_logprobs) if answer.logprobs else None
    choice = wire.WholeChoice(
        message, logprobs=wire.Logprobs(logprobs) if logprobs else None, finish_reason=finish_reason(answer.done)
    )
    return whole((stamp.id, "chat.completion", stamp.created // 10**9, stamp.model), choice, answer.done)


def whole(head: tuple[str, str, int, str], choice: wire.WholeChoice | wire.TextChoice, done: Done) -> bytes:
    """An answer in one object, with its figures."""
    timings, dropped = write_timings(done.timings), done.truncated_messages or UNSET
    return encode(wire.Written(*head, (choice,), write_usage(done.usage), timings, dropped))


# The most specific class of our tree decides; the words are those that OpenAI's SDK, Ollama and llama.cpp know.
_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    503: "unavailable_error",
}


def write_error(error: LocalModelsError) -> bytes:
    """``{"error": {"message", "type", "param", "code"}}``."""
    kind = _TYPES.get(error.status) or ("server_error" if error.status >= 500 else "invalid_request_error")
    return encode(wire.Failure(wire.Failed(failures.sayable(error.message), kind, error.param, error.code)))


def reader() -> StreamReader:
    """Reads a streamed chat or text."""
    return StreamReader(ServerSentEvents(), PieceReader().read)


class PieceReader:
    """Reads one event after the other and keeps what will be ``Done`` until it is."""

    def __init__(self) -> None:
        self._reason: FinishReason | None = None
        self._usage = Usage()
        self._timings = Timings()
        self._dropped = 0

    def read(self, data: bytes) -> Iterator[Event]:
        """The events of one piece.

        Raises:
            LocalModelsError: the piece says that the server failed.
            StreamCut: the server says that it broke the answer off.
            Garbled: it is not a piece of an OpenAI stream.
        """
        if data == b"[DONE]":
            if self._reason is not None:
                yield Done(self._reason, self._usage, self._timings, self._dropped)
            return
        said = decoded(data)
        if said.choices and (chunk := read_choice(said.choices[0])) != _NOTHING:
            yield chunk
        self._note(said)

    def _note(self, said: wire.Read) -> None:
        if said.choices and said.choices[0].finish_reason:
            self._reason = read_reason(said.choices[0].finish_reason)
        if said.usage or said.timings:
            self._usage, self._timings = read_usage(said), read_timings(said.timings, self._timings)
        self._dropped = said.truncated_messages or self._dropped


_NOTHING = Chunk()


def decoded(data: bytes) -> wire.Read:
    """One object of an answer; raises the error that it says."""
    try:
        said = _READ.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(f"the server's answer is not OpenAI's: {error}") from error
    if said.error is not None:
        raise failures.in_band(said.error)
    return said


def read_choice(choice: wire.ReadChoice) -> Chunk:
    """What one choice brings, whether it is a piece or the whole."""
    said = choice.delta or choice.message
    logprobs = read_logprobs(choice.logprobs) if choice.logprobs else ()
    if said is None:
        return Chunk(choice.text or "", logprobs=logprobs)
    return Chunk(
        said.content or said.refusal or "",
        said.reasoning_content or said.reasoning or "",
        _read_calls(said.tool_calls) if said.tool_calls else (),
        logprobs,
    )


def _read_calls(calls: list[wire.ToolCall]) -> tuple[ToolCallDelta, ...]:
    return tuple(
        ToolCallDelta(
            i if call.index is None else call.index,
            call.id or "",
            (call.function.name if call.function else None) or "",
            arguments_text(call.function.arguments) if call.function else "",
        )
        for i, call in enumerate(calls)
    )


def read_reason(word: str) -> FinishReason:
    """Why the model ended; a word that we do not know is an end all the same.

    Raises:
        StreamCut: the word says that the server broke off.
    """
    if word in _BROKEN:
        raise StreamCut(f"the server broke the answer off ({word})")
    return REASONS.get(word, "stop")


def read_usage(said: wire.Read) -> Usage:
    """Tokens, from ``usage`` or from llama.cpp's ``timings``."""
    timings = said.timings or wire.Timings()
    if said.usage is None:
        cached = timings.cache_n or 0
        return Usage((timings.prompt_n or 0) + cached, timings.predicted_n or 0, cached)
    details = said.usage.prompt_tokens_details
    cached = (details.cached_tokens if details else timings.cache_n) or 0
    return Usage(said.usage.prompt_tokens or 0, said.usage.completion_tokens or 0, cached)


def read_timings(timings: wire.Timings | None, known: Timings = _NO_TIMINGS) -> Timings:
    """Durations in nanoseconds, from ours or from llama.cpp's."""
    if timings is None:
        return known
    return Timings(
        timings.total_duration,
        timings.load_duration,
        timings.prompt_eval_duration or _nanoseconds(timings.prompt_ms),
        timings.eval_duration or _nanoseconds(timings.predicted_ms),
    )


def _nanoseconds(milliseconds: float | None) -> int:
    return round((milliseconds or 0.0) * 1e6)


def read_logprobs(said: wire.TextLogprobs) -> tuple[TokenLogprob, ...]:
    """Tokens with their alternatives, from rows or from columns."""
    if said.content:
        return tuple(_read_row(row) for row in said.content)
    tokens, values = said.tokens or (), said.token_logprobs or ()
    tops = said.top_logprobs or (None,) * len(tokens)
    return tuple(
        TokenLogprob(token, value or 0.0, (), tuple(TopLogprob(*item) for item in (top or {}).items()))
        for token, value, top in zip(tokens, values, tops, strict=False)
    )


def _read_row(row: wire.TokenLogprob) -> TokenLogprob:
    return TokenLogprob(
        row.token,
        row.logprob,
        row.bytes or (),
        tuple(TopLogprob(other.token, other.logprob, other.bytes or ()) for other in row.top_logprobs or ()),
    )


def read_answer(body: bytes) -> Answer:
    """A whole chat or text.

    Raises:
        StreamCut: it has no ``finish_reason``.
        Garbled, LocalModelsError: as a piece of a stream.
    """
    folded, reader = Fold(), PieceReader()
    for event in (*reader.read(body), *reader.read(b"[DONE]")):
        folded.add(event)
    return folded.answer()
