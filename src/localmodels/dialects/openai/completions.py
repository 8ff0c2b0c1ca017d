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
from localmodels.dialects.openai import wire
from localmodels.dialects.openai.answers import ending, finish_reason, piece, whole, write_error
from localmodels.dialects.openai.requests import shared, written
from localmodels.dialects.protocol import Stamp
from localmodels.dialects.strict_json import encode

_COMPLETE = msgspec.json.Decoder(wire.Complete)

MAX_TEXT_LOGPROBS = asked.MAX_TOP_LOGPROBS
MAX_ANSWERS = 32  # to all prompts of one request


def read_generate(body: bytes) -> GenerateRequest:
    """``POST /v1/completions``. Without ``max_tokens`` nothing is cut at 16, as in Ollama and llama.cpp."""
    sent = strict_json.read(body, _COMPLETE)
    n = sent.n or 1
    if sent.best_of is not None and sent.best_of < n:
        raise InvalidValue(f"best_of must be at least n, which is {n}, not {sent.best_of}", param="best_of")
    if sent.best_of is not None and sent.best_of > n:
        raise Unsupported("best_of: every answer that is made is sent, none is thrown away", param="best_of")
    prompts = _read_prompts(sent.prompt)
    if len(prompts) * n > MAX_ANSWERS:
        raise InvalidValue(
            f"prompt: {len(prompts)} prompts and n {n} are more than {MAX_ANSWERS} answers", param="prompt"
        )
    if sent.echo and not all(isinstance(prompt, str) for prompt in prompts):
        raise Unsupported("echo needs a prompt of text", param="echo")
    if sent.echo and sent.logprobs not in {None, False}:
        raise Unsupported("echo and logprobs cannot be had together", param="echo")
    top = asked.within(int(sent.logprobs or 0), 0, MAX_TEXT_LOGPROBS, "logprobs") or 0
    return GenerateRequest(
        prompt=prompts[0],
        prompts=prompts[1:],
        suffix=sent.suffix or "",
        raw=True,
        echo=bool(sent.echo),
        logprobs=sent.logprobs is not None and sent.logprobs is not False,
        top_logprobs=top,
        **shared(sent),
    )


def _read_prompts(sent: str | list[Any] | None) -> tuple[str | tuple[int, ...], ...]:
    """A text, token ids, or a list of either."""
    if sent is None:
        raise InvalidRequest("prompt is required", param="prompt")
    if isinstance(sent, str):
        return (sent,)
    if sent and isinstance(sent[0], (str, list)):
        return tuple(prompt if isinstance(prompt, str) else token_ids(prompt, "prompt") for prompt in sent)
    return (token_ids(sent, "prompt"),)


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
            prompt=_write_prompts(request.every_prompt),
            suffix=request.suffix or None,
            echo=request.echo or None,
            logprobs=request.top_logprobs if request.logprobs else None,
            **written(request),
        )
    )


def _write_prompts(prompts: Sequence[str | tuple[int, ...]]) -> str | list[Any]:
    written = [prompt if isinstance(prompt, str) else list(prompt) for prompt in prompts]
    return written[0] if len(written) == 1 else written


class TextWriter:
    """Writes a streamed text, or several."""

    def __init__(self, stamp: Stamp, request: GenerateRequest) -> None:
        self._head = (stamp.id, "text_completion", stamp.created // 10**9, stamp.model)
        self._top = request.top_logprobs
        self._usage = request.include_usage
        self._echoes = dict(enumerate(echoed(request)))
        self._offsets = dict.fromkeys(self._echoes, 0)

    def write(self, event: Event) -> bytes:
        """One piece; for ``Done`` all that ends the stream."""
        echo, index = self._echoes.pop(event.choice, ""), event.choice
        if isinstance(event, Done):
            choice = wire.TextChoice(echo, index, finish_reason=finish_reason(event.reason))
            return ending(self._head, choice, event, usage=self._usage)
        reason = finish_reason(event.ended) if event.ended else None
        if not (event.text or event.logprobs or echo or reason):
            return b""
        offset = self._offsets[index]
        choice = wire.TextChoice(echo + event.text, index, columns(event.logprobs, self._top, offset), reason)
        self._offsets[index] = offset + len(event.text)
        return piece(self._head, choice, usage=self._usage)

    def fail(self, error: LocalModelsError) -> bytes:
        """The event that ends a broken stream; no ``[DONE]`` follows."""
        return b"data: %b\n\n" % write_error(error)


def write_generate_answer(stamp: Stamp, request: GenerateRequest, answer: Answer) -> bytes:
    """A whole text, or several, in one object."""
    choices = tuple(
        wire.TextChoice(
            echo + one.text, index, columns(one.logprobs, request.top_logprobs, 0), finish_reason(one.done.reason)
        )
        for index, (echo, one) in enumerate(zip(echoed(request), (answer, *answer.others), strict=True))
    )
    return whole((stamp.id, "text_completion", stamp.created // 10**9, stamp.model), choices, answer.done)


def echoed(request: GenerateRequest) -> list[str]:
    """For each answer its prompt, if that was asked back."""
    prompts = [prompt if request.echo and isinstance(prompt, str) else "" for prompt in request.every_prompt]
    return [prompt for prompt in prompts for _ in range(request.n)]


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
