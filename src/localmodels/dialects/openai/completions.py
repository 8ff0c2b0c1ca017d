"""OpenAI's text completions: a raw prompt, as text or token ids, and the text that follows it.

The prompt goes to the model as it stands. Log-probabilities are columns here, and a prompt that was asked back comes
before the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from localmodels.core.chat import Answer, Done, Event, GenerateRequest, TokenLogprob
from localmodels.core.errors import InvalidRequest, InvalidValue, LocalModelsError, Unsupported
from localmodels.dialects import asked, strict_json
from localmodels.dialects.framing import sse_event
from localmodels.dialects.openai import wire
from localmodels.dialects.openai.answers import ending, finish_reason, whole, write_error
from localmodels.dialects.openai.requests import shared, written
from localmodels.dialects.protocol import Stamp
from localmodels.dialects.strict_json import encode

_COMPLETE = msgspec.json.Decoder(wire.Complete)

MAX_TEXT_LOGPROBS = asked.MAX_TOP_LOGPROBS


def read_generate(body: bytes) -> GenerateRequest:
    """``POST /v1/completions``. Without ``max_tokens`` nothing is cut at 16, as in Ollama and llama.cpp."""
    sent = strict_json.read(body, _COMPLETE)
    if sent.best_of not in {None, 1}:
        raise Unsupported("best_of: only one answer per request can be had", param="best_of")
    prompt = _read_prompt(sent.prompt)
    if sent.echo and not isinstance(prompt, str):
        raise Unsupported("echo needs a prompt of text", param="echo")
    if sent.echo and sent.logprobs not in {None, False}:
        raise Unsupported("echo and logprobs cannot be had together", param="echo")
    top = asked.within(int(sent.logprobs or 0), 0, MAX_TEXT_LOGPROBS, "logprobs") or 0
    return GenerateRequest(
        prompt=prompt,
        suffix=sent.suffix or "",
        raw=True,
        echo=bool(sent.echo),
        logprobs=sent.logprobs is not None and sent.logprobs is not False,
        top_logprobs=top,
        **shared(sent),
    )


def _read_prompt(sent: str | list[Any] | None) -> str | tuple[int, ...]:
    """A text, one text in a list, token ids, or one list of token ids in a list."""
    if sent is None:
        raise InvalidRequest("prompt is required", param="prompt")
    if isinstance(sent, str):
        return sent
    if len(sent) == 1 and isinstance(sent[0], (str, list)):
        return _read_prompt(sent[0])
    if sent and isinstance(sent[0], (str, list)):
        raise Unsupported("prompt: only one prompt per request can be answered", param="prompt")
    return token_ids(sent, "prompt")


def token_ids(sent: Any, name: str) -> tuple[int, ...]:
    """Token ids, at least one."""
    if (
        not isinstance(sent, list | tuple)
        or not sent
        or not all(type(token) is int and 0 <= token < 2**31 for token in sent)
    ):
        raise InvalidValue(f"{name} must be a text or a list of token ids", param=name)
    return tuple(sent)


def write_generate(request: GenerateRequest) -> bytes:
    """The request as a client sends it.

    Raises:
        Unsupported: pictures, a system prompt, a template or an earlier context, which this API has no place for.
    """
    if request.images or request.system or request.template or request.context:
        raise Unsupported("OpenAI's completions take no images, system prompt, template or context", param="prompt")
    return encode(
        wire.Complete(
            prompt=request.prompt if isinstance(request.prompt, str) else list(request.prompt),
            suffix=request.suffix or None,
            echo=request.echo or None,
            logprobs=request.top_logprobs if request.logprobs else None,
            **written(request),
        )
    )


class TextWriter:
    """Writes a streamed text."""

    def __init__(self, stamp: Stamp, request: GenerateRequest) -> None:
        self._head = (stamp.id, "text_completion", stamp.created // 10**9, stamp.model)
        self._top = request.top_logprobs
        self._usage = request.include_usage
        self._echo = echoed(request)
        self._offset = 0

    def write(self, event: Event) -> bytes:
        """One piece; for ``Done`` all that ends the stream."""
        echo, self._echo = self._echo, ""
        if isinstance(event, Done):
            return ending(
                self._head, wire.TextChoice(echo, finish_reason=finish_reason(event)), event, usage=self._usage
            )
        if not (event.text or event.logprobs or echo):
            return b""
        choice = wire.TextChoice(echo + event.text, logprobs=columns(event.logprobs, self._top, self._offset))
        self._offset += len(event.text)
        return sse_event(wire.Written(*self._head, (choice,)))

    def fail(self, error: LocalModelsError) -> bytes:
        """The event that ends a broken stream; no ``[DONE]`` follows."""
        return b"data: %b\n\n" % write_error(error)


def write_generate_answer(stamp: Stamp, request: GenerateRequest, answer: Answer) -> bytes:
    """A whole text in one object."""
    choice = wire.TextChoice(
        echoed(request) + answer.text,
        logprobs=columns(answer.logprobs, request.top_logprobs, 0),
        finish_reason=finish_reason(answer.done),
    )
    return whole((stamp.id, "text_completion", stamp.created // 10**9, stamp.model), choice, answer.done)


def echoed(request: GenerateRequest) -> str:
    """The prompt, if it was asked back."""
    return request.prompt if request.echo and isinstance(request.prompt, str) else ""


def columns(tokens: Sequence[TokenLogprob], top: int, offset: int) -> wire.TextLogprobs | None:
    """Tokens as this API says them; ``offset`` is where in the answer the first one begins."""
    if not tokens:
        return None
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.token)
    return wire.TextLogprobs(
        tokens=tuple(token.token for token in tokens),
        token_logprobs=tuple(token.logprob for token in tokens),
        top_logprobs=tuple({other.token: other.logprob for other in token.top[:top]} for token in tokens),
        text_offset=tuple(offsets),
    )
