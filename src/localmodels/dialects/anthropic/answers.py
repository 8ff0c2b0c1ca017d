"""Anthropic's answers, written as a server.

A streamed answer is server-sent events with their names: clients pass over an event without one. ``message_stop`` is
said of an answer that is whole, and of no other.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from localmodels.core.chat import Answer, ChatRequest, Done, Event, FinishReason, unfold
from localmodels.core.chat import Usage as Tokens
from localmodels.core.errors import InvalidValue, LocalModelsError, Unavailable
from localmodels.dialects import failures
from localmodels.dialects.anthropic import wire
from localmodels.dialects.anthropic.steps import Steps, gathered
from localmodels.dialects.protocol import Stamp
from localmodels.dialects.strict_json import encode

_REASONS: Mapping[FinishReason, str] = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "end_turn"}
_TIER = "standard"


_EVENTS: tuple[type[Struct], ...] = (
    wire.MessageStart,
    wire.BlockStart,
    wire.BlockDelta,
    wire.BlockStop,
    wire.MessageDelta,
    wire.MessageStop,
    wire.Ping,
    wire.Failure,
)
_NAMES = {event: str(event.__struct_config__.tag).encode() for event in _EVENTS}


def named(event: Struct) -> bytes:
    """One server-sent event, under the name that its type is."""
    return b"event: %b\ndata: %b\n\n" % (_NAMES[type(event)], encode(event))


PING = named(wire.Ping())
_STOP = named(wire.MessageStop())


class ChatWriter:
    """Writes a streamed answer."""

    def __init__(self, stamp: Stamp, request: ChatRequest) -> None:
        self._stamp = stamp
        self._request = request
        self._steps = _steps(stamp, request)
        self._begun = False

    def write(self, event: Event) -> bytes:
        """The events of one event of ours; for ``Done`` all that ends the stream."""
        written = [named(step) for step in self._steps.take(event)]
        if not self._begun:
            written.insert(0, self._start(event))
        if isinstance(event, Done):
            end = wire.MessageDelta(_end(self._request, event, called=bool(self._steps.called)), _usage(event.usage))
            written += (named(end), _STOP)
        return b"".join(written)

    def _start(self, event: Event) -> bytes:
        """The first event, with the prompt's tokens as far as they are known; the last one has them in any case."""
        self._begun = True
        known = event.usage if isinstance(event, Done) else event.prompt
        usage = _usage(Tokens(known.prompt_tokens, 0, known.cached_tokens) if known else Tokens())
        usage.service_tier = _TIER
        return named(wire.MessageStart(wire.Written(id=self._stamp.id, model=self._stamp.model, usage=usage)))

    def fail(self, error: LocalModelsError) -> bytes:
        """The event that ends a broken stream; no ``message_stop`` follows."""
        return named(_failure(error, self._stamp.request_id))


def write_chat_answer(stamp: Stamp, request: ChatRequest, answer: Answer) -> bytes:
    """A whole answer in one object: what the stream of the same events leads to."""
    steps = _steps(stamp, request)
    content = gathered(step for event in unfold(answer) for step in steps.take(event))
    end = _end(request, answer.done, called=bool(steps.called))
    usage = _usage(answer.done.usage)
    usage.service_tier = _TIER
    return encode(
        wire.Written(
            id=stamp.id,
            model=stamp.model,
            content=content,
            stop_reason=end.stop_reason,
            stop_sequence=end.stop_sequence,
            usage=usage,
        )
    )


def _steps(stamp: Stamp, request: ChatRequest) -> Steps:
    return Steps(stamp.id.removeprefix("msg_"), shows_thinking=request.include_thinking)


def _end(request: ChatRequest, done: Done, *, called: bool) -> wire.End:
    """Why the answer ended. A text that the caller did not name as a stop is the template's, and none of his."""
    if called and done.reason != "length":
        return wire.End("tool_use", None)
    if done.reason == "stop" and done.stop and done.stop in (request.options.stop or ()):
        return wire.End("stop_sequence", done.stop)
    if done.reason == "length" and _has_room(request, done):
        return wire.End("model_context_window_exceeded", None)
    return wire.End(_REASONS.get(done.reason, "end_turn"), None)


def _has_room(request: ChatRequest, done: Done) -> bool:
    """Could the answer have been longer, as far as its limit goes? Then it was the context that ended."""
    limit = request.options.num_predict
    return limit is not None and 0 < done.usage.completion_tokens < limit


def _usage(tokens: Tokens) -> wire.Usage:
    """Tokens; those of the prompt that came from the cache are counted apart."""
    cached = min(tokens.cached_tokens, tokens.prompt_tokens)
    usage = wire.Usage(tokens.prompt_tokens - cached, 0, cached, tokens.completion_tokens)
    if tokens.reasoning_tokens is not None:
        usage.output_tokens_details = wire.OutputDetails(tokens.reasoning_tokens)
    return usage


# By status; others are the caller's fault below 500, and ours from there on.
_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# Anthropic's API has no 422, and says 529 where others say 503.
_STATUSES: tuple[tuple[type[LocalModelsError], int], ...] = ((InvalidValue, 400), (Unavailable, 529))


def status(error: LocalModelsError) -> int:
    """The status of an answer that failed before it began."""
    return next((code for kind, code in _STATUSES if isinstance(error, kind)), error.status)


def write_error(error: LocalModelsError) -> bytes:
    """``{"type": "error", "error": {"type", "message", "details"}, "request_id"}``."""
    return encode(_failure(error, ""))


def _failure(error: LocalModelsError, request_id: str) -> wire.Failure:
    code = status(error)
    kind = _TYPES.get(code) or ("invalid_request_error" if code < 500 else "api_error")
    details = wire.ErrorDetails(error.code)
    return wire.Failure(wire.Failed(kind, failures.sayable(error.message), details), request_id or None)
