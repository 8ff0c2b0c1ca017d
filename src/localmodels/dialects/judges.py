"""What the messages of an answer mean to somebody who only passes them on: an error, a count, the end.

The one rule: an end is an end only when the dialect says it in full. A message is decoded as far as that needs; all of
it has to be sound JSON.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from localmodels.core.chat import Usage
from localmodels.core.errors import Garbled, StreamCut
from localmodels.dialects import failures, figures


class Judge:
    """Knows what the messages of one answer mean.

    Attributes:
        usage: as far as it was told; None where what was told cannot be true.
        reason: why the answer ended, in the server's word.
        done: was its end said, and proven?
    """

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.reason = ""
        self.done = False

    def see(self, message: bytes) -> bool:
        """Takes the next message; is it for the caller's eyes only if he asked to be told the usage?

        Raises:
            LocalModelsError: it says that the server failed, or is not of this dialect.
        """
        raise NotImplementedError

    def see_whole(self, body: bytes) -> None:
        """Takes an answer in one piece; raises as :meth:`see`."""
        self.see(body)

    def _counted(self, usage: Usage) -> None:
        self.usage = usage if usage.counted else None

    def _decoded(self, decoder: msgspec.json.Decoder[Any], message: bytes, api: str) -> Any:
        try:
            said = decoder.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Garbled(f"the server's answer is not {api}: {error}") from error
        if said.error is not None:
            raise failures.in_band(said.error)
        return said


class _PromptDetails(Struct):
    cached_tokens: int | None = None


class _OpenAIUsage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Choice(Struct):
    finish_reason: str | None = None


class _Piece(Struct):
    choices: tuple[_Choice, ...] | None = None
    usage: _OpenAIUsage | None = None
    error: Any = None
    data: Any = None


_PIECE = msgspec.json.Decoder(_Piece)
# Words with which a server says that it did not let the model end its answer.
_BROKEN = frozenset(("abort", "cancelled", "error"))


class OpenAIJudge(Judge):
    """``[DONE]`` after a ``finish_reason`` is the end, and nothing else."""

    def see(self, message: bytes) -> bool:
        """Is it the usage in a message of its own?"""
        if message == b"[DONE]":
            if not self.reason:
                raise StreamCut("the answer ended before its end was said")
            self.done = True
            return False
        said = self._decoded(_PIECE, message, "OpenAI's")
        self._note(said)
        return not said.choices and said.usage is not None

    def see_whole(self, body: bytes) -> None:
        """A chat, a text, or vectors."""
        said = self._decoded(_PIECE, body, "OpenAI's")
        self._note(said)
        if said.data is None and not self.reason:
            raise StreamCut("the answer ended before its end was said")
        self.done = True

    def _note(self, said: _Piece) -> None:
        for choice in said.choices or ():
            if choice.finish_reason in _BROKEN:
                raise StreamCut(f"the server broke the answer off ({choice.finish_reason})")
            self.reason = choice.finish_reason or self.reason
        if (usage := said.usage) is not None:
            cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
            self._counted(figures.usage(usage.prompt_tokens, usage.completion_tokens, cached))


class _Line(Struct):
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    prompt_eval_cached_count: int | None = None
    eval_count: int | None = None
    error: Any = None
    embeddings: Any = None
    embedding: Any = None


_LINE = msgspec.json.Decoder(_Line)


class OllamaJudge(Judge):
    """``"done": true`` is the end."""

    def see(self, message: bytes) -> bool:
        """Usage comes with the end, for everybody."""
        said = self._decoded(_LINE, message, "Ollama's")
        if said.done:
            self._end(said)
        return False

    def see_whole(self, body: bytes) -> None:
        """A chat, a text, or vectors."""
        said = self._decoded(_LINE, body, "Ollama's")
        if not said.done and said.embeddings is None and said.embedding is None:
            raise StreamCut("the answer ended before its end was said")
        self._end(said)

    def _end(self, said: _Line) -> None:
        self.done = True
        self.reason = said.done_reason or "stop"
        self._counted(figures.usage(said.prompt_eval_count, said.eval_count, said.prompt_eval_cached_count))


class _AnthropicUsage(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Said(Struct):
    stop_reason: str | None = None
    usage: _AnthropicUsage | None = None


class _Event(Struct):
    type: str = ""
    message: _Said | None = None
    delta: _Said | None = None
    usage: _AnthropicUsage | None = None
    stop_reason: str | None = None
    input_tokens: int | None = None
    error: Any = None


_EVENT = msgspec.json.Decoder(_Event)


class AnthropicJudge(Judge):
    """``message_stop`` is the end."""

    def __init__(self) -> None:
        super().__init__()
        self._told = _AnthropicUsage()

    def see(self, message: bytes) -> bool:
        """Usage comes to everybody."""
        said: _Event = self._decoded(_EVENT, message, "Anthropic's")
        if said.message is not None:
            self._count(said.message.usage)
        self._count(said.usage)
        if said.delta is not None:
            self.reason = said.delta.stop_reason or self.reason
        self.done = said.type == "message_stop"
        return False

    def see_whole(self, body: bytes) -> None:
        """A message, or a count of tokens."""
        said: _Event = self._decoded(_EVENT, body, "Anthropic's")
        if said.stop_reason is None and said.input_tokens is None:
            raise StreamCut("the answer ended before its end was said")
        self._count(said.usage)
        self.reason = said.stop_reason or ""
        self.done = True

    def _count(self, usage: _AnthropicUsage | None) -> None:
        """Figures are of all of the answer: later ones take the place of earlier ones, where they are said."""
        if usage is None:
            return
        told = self._told
        for name in usage.__struct_fields__:
            if (figure := getattr(usage, name)) is not None:
                setattr(told, name, figure)
        cached = told.cache_read_input_tokens
        prompt = figures.together(told.input_tokens, told.cache_creation_input_tokens, cached)
        self._counted(figures.usage(prompt, told.output_tokens, cached))
