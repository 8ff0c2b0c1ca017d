"""OpenAI's chat answers, written as a server and read as a client.

A streamed answer is server-sent events. ``Done`` is what stands in three places: ``finish_reason`` in the last choice,
``usage`` and figures in it or in a piece of their own, and ``[DONE]``. It is believed when ``[DONE]`` comes after a
``finish_reason``, and at no other time; what ends before that was cut.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

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
    TopLogprob,
    Usage,
)
from localmodels.core.errors import Garbled, LocalModelsError, QuotaExceeded, StreamCut
from localmodels.dialects import failures, figures
from localmodels.dialects.framing import SSE_DONE, ServerSentEvents, StreamReader, sse_event
from localmodels.dialects.openai import wire
from localmodels.dialects.openai.tools import read_deltas, write_call, write_delta
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
    """Writes a streamed chat, or several."""

    def __init__(self, stamp: Stamp, request: ChatRequest) -> None:
        self._head = (stamp.id, "chat.completion.chunk", stamp.created // 10**9, stamp.model)
        self._top = request.top_logprobs
        self._usage = request.include_usage
        self._begun: set[int] = set()

    def write(self, event: Event) -> bytes:
        """One piece; for ``Done`` all that ends the stream."""
        index, role = event.choice, None
        if index not in self._begun:
            self._begun.add(index)
            role = "assistant"
        if isinstance(event, Done):
            choice = wire.ChatChoice(wire.Delta(role), index, finish_reason=finish_reason(event.reason))
            return ending(self._head, choice, event, usage=self._usage)
        delta = wire.Delta(role, event.text or None, event.thinking or None)
        if event.tool_calls:
            delta.tool_calls = tuple(write_delta(call) for call in event.tool_calls)
        choice = wire.ChatChoice(delta, index)
        if event.logprobs:
            choice.logprobs = wire.Logprobs(write_logprobs(event.logprobs, self._top))
        if event.ended:
            choice.finish_reason = finish_reason(event.ended)
        return piece(self._head, choice, usage=self._usage)

    def fail(self, error: LocalModelsError) -> bytes:
        """The event that ends a broken stream; no ``[DONE]`` follows."""
        return b"data: %b\n\n" % write_error(error)


Head = tuple[str, str, int, str]


def piece(head: Head, choice: wire.ChatChoice | wire.TextChoice, *, usage: bool) -> bytes:
    """A piece of a stream; where the usage is asked for, each but the last says that it is not yet known."""
    return sse_event(wire.Written(*head, (choice,), None if usage else UNSET))


def ending(head: Head, choice: wire.ChatChoice | wire.TextChoice, done: Done, *, usage: bool) -> bytes:
    """The last choice, the usage in a piece of its own if it was asked for, and ``[DONE]``."""
    timings, dropped = write_timings(done.timings), done.truncated_messages or UNSET
    if not usage:
        last = wire.Written(*head, (choice,), timings=timings, truncated_messages=dropped)
        return sse_event(last) + SSE_DONE
    figures = wire.Written(*head, (), write_usage(done.usage), timings, dropped)
    return piece(head, choice, usage=usage) + sse_event(figures) + SSE_DONE


def finish_reason(reason: FinishReason) -> str:
    """The word for why an answer ended; moving a model in or out of memory is none of this API's."""
    return reason if reason in REASONS else "stop"


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
    """A whole chat, or several, in one object."""
    choices = tuple(_whole_choice(one, i, request.top_logprobs) for i, one in enumerate((answer, *answer.others)))
    return whole((stamp.id, "chat.completion", stamp.created // 10**9, stamp.model), choices, answer.done)


def _whole_choice(answer: Answer, index: int, top: int) -> wire.WholeChoice:
    message = wire.Message(
        "assistant",
        answer.text if answer.text or not answer.tool_calls else None,
        answer.thinking or None,
        tool_calls=[write_call(call) for call in answer.tool_calls] or None,
    )
    logprobs = wire.Logprobs(write_logprobs(answer.logprobs, top)) if answer.logprobs else None
    return wire.WholeChoice(message, index, logprobs, finish_reason(answer.done.reason))


def whole(head: Head, choices: tuple[wire.WholeChoice | wire.TextChoice, ...], done: Done) -> bytes:
    """An answer in one object, with its figures."""
    timings, dropped = write_timings(done.timings), done.truncated_messages or UNSET
    return encode(wire.Written(*head, choices, write_usage(done.usage), timings, dropped))


# The most specific class of our tree decides; the words are those that OpenAI's SDK, Ollama and llama.cpp know.
_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}


def write_error(error: LocalModelsError) -> bytes:
    """``{"error": {"message", "type", "param", "code"}}``."""
    kind = error_type(error)
    return encode(wire.Failure(wire.Failed(failures.sayable(error.message), kind, error.param, error.code)))


def error_type(error: LocalModelsError) -> str:
    """The kind of an error, in OpenAI's words."""
    if isinstance(error, QuotaExceeded):
        return error.code
    return _TYPES.get(error.status) or ("server_error" if error.status >= 500 else "invalid_request_error")


def reader(*, early: bool = False, stops: Collection[str] = ()) -> StreamReader:
    """Reads a streamed chat or text; the arguments are those of :class:`PieceReader`."""
    return StreamReader(ServerSentEvents(), PieceReader(early=early, stops=stops).read)


class PieceReader:
    """Reads one event after the other and keeps what will be ``Done`` until it is.

    Args:
        early: tell the prompt's tokens as soon as the server does.
        stops: the texts that the request names as stops; a server names those of the template as well.
    """

    def __init__(self, *, early: bool = False, stops: Collection[str] = ()) -> None:
        self._early = early
        self._stops = stops
        self._stop = ""
        self._over: tuple[int, FinishReason] | None = None  # the choice that ended latest, and why
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
            if self._over is not None:
                number, reason = self._over
                yield Done(reason, self._usage, self._timings, self._dropped, stop=self._stop, choice=number)
            return
        said = decoded(data)
        if self._early and (progress := said.prompt_progress):
            self._early = False
            yield Chunk(prompt=figures.usage(progress.total, 0, progress.cache))
        for choice in said.choices or ():
            chunk = read_choice(choice)
            if chunk.text or chunk.thinking or chunk.tool_calls or chunk.logprobs:
                yield chunk
            if isinstance(choice.stop_reason, str) and choice.stop_reason in self._stops:
                self._stop = choice.stop_reason
            if choice.finish_reason:
                yield from self._ended(choice.index, read_reason(choice.finish_reason))
        self._note(said)

    def _ended(self, choice: int, reason: FinishReason) -> Iterator[Event]:
        """Of several answers, tells the end of the one before; which one is the last is known at the end of all."""
        if self._over is not None and self._over[0] != choice:
            yield Chunk(choice=self._over[0], ended=self._over[1])
        self._over = choice, reason

    def _note(self, said: wire.Read) -> None:
        if said.usage or said.timings:
            self._usage, self._timings = read_usage(said), read_timings(said.timings, self._timings)
        if said.verbose and said.verbose.stopping_word in self._stops:
            self._stop = said.verbose.stopping_word
        self._dropped = figures.tokens(said.truncated_messages) or self._dropped


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
        return Chunk(choice.text or "", logprobs=logprobs, choice=choice.index)
    return Chunk(
        said.content or said.refusal or "",
        said.reasoning_content or said.reasoning or "",
        read_deltas(said.tool_calls) if said.tool_calls else (),
        logprobs,
        choice=choice.index,
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
        cached = timings.cache_n
        return figures.usage(figures.together(timings.prompt_n, cached), timings.predicted_n, cached)
    details = said.usage.prompt_tokens_details
    cached = details.cached_tokens if details else timings.cache_n
    return figures.usage(said.usage.prompt_tokens, said.usage.completion_tokens, cached)


def read_timings(timings: wire.Timings | None, known: Timings = _NO_TIMINGS) -> Timings:
    """Durations in nanoseconds, from ours or from llama.cpp's."""
    if timings is None:
        return known
    return figures.timings(
        timings.total_duration,
        timings.load_duration,
        timings.prompt_eval_duration or figures.milliseconds(timings.prompt_ms),
        timings.eval_duration or figures.milliseconds(timings.predicted_ms),
    )


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
