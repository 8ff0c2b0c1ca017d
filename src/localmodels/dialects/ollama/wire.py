"""Shapes of Ollama's JSON, as in its ``api/types.go``; zero and empty are left out, as Go's ``omitempty`` does."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType

from localmodels.dialects.asked import Adapter


class Function(Struct, omit_defaults=True):
    """``arguments`` is an object; some clients send the text of one."""

    name: str
    arguments: Raw = Raw(b"")
    index: int = 0


class ToolCall(Struct, omit_defaults=True):
    """A call in a message."""

    function: Function
    id: str | None = None


class Message(Struct, omit_defaults=True):
    """A turn of the conversation, in both directions."""

    role: str
    content: str | UnsetType | None = UNSET
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class ToolFunction(Struct, omit_defaults=True):
    """What a tool is called and takes."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(Struct):
    """A tool that may be called."""

    function: ToolFunction
    type: str | None = "function"


class TopLevel(Struct, omit_defaults=True):
    """Options outside ``options``, where seed 002 and Open WebUI put them."""

    temperature: Any = None
    max_tokens: Any = None
    top_p: Any = None
    top_k: Any = None
    min_p: Any = None
    repeat_penalty: Any = None
    seed: Any = None
    stop: Any = None

    def chosen(self) -> dict[str, Any]:
        """Those that were sent."""
        names = TopLevel.__struct_fields__
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class Request(TopLevel, omit_defaults=True, kw_only=True):
    """What ``chat`` and ``generate`` share."""

    model: str | None = None
    name: str | None = None
    stream: bool | None = None
    format: dict[str, Any] | str | None = None
    keep_alive: float | str | None = None
    options: dict[str, Any] | None = None
    think: bool | str | None = None
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    lora: list[Adapter] | None = None


class Chat(Request, omit_defaults=True, kw_only=True):
    """``POST /api/chat``."""

    messages: list[Message] | None = None
    tools: list[Tool] | None = None


class Generate(Request, omit_defaults=True, kw_only=True):
    """``POST /api/generate``."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[int] | None = None
    raw: bool | None = None
    images: list[str] | None = None


class Embed(Struct, omit_defaults=True):
    """``POST /api/embed``."""

    model: str | None = None
    name: str | None = None
    input: list[str] | str | None = None
    truncate: bool | None = None
    dimensions: int | None = None
    keep_alive: float | str | None = None
    options: dict[str, Any] | None = None


class LegacyEmbed(Struct):
    """``POST /api/embeddings``."""

    model: str | None = None
    name: str | None = None
    prompt: str | None = None
    keep_alive: float | str | None = None
    options: dict[str, Any] | None = None


class TopLogprob(Struct, omit_defaults=True):
    """An alternative."""

    token: str
    logprob: float
    bytes: tuple[int, ...] = ()


class Logprob(TopLogprob, omit_defaults=True):
    """A token of the answer."""

    top_logprobs: tuple[TopLogprob, ...] = ()


class ChatPiece(Struct):
    """The line of a streamed chat that comes once a token, and therefore has nothing to spare."""

    model: str
    created_at: str
    message: Message
    done: bool = False


class TextPiece(Struct):
    """The same of a streamed text."""

    model: str
    created_at: str
    response: str
    done: bool = False


class Line(Struct, omit_defaults=True, kw_only=True):
    """Any line of an answer, whole or streamed; ``truncated_messages`` is ours."""

    model: str = ""
    created_at: str = ""
    message: Message | None = None
    response: str | UnsetType | None = UNSET
    thinking: str | None = None
    done: bool | UnsetType = UNSET
    done_reason: str | None = None
    context: tuple[int, ...] | None = None
    logprobs: tuple[Logprob, ...] | None = None
    total_duration: int | None = 0
    load_duration: int | None = 0
    prompt_eval_count: int | None = 0
    prompt_eval_cached_count: int | None = 0
    prompt_eval_duration: int | None = 0
    eval_count: int | None = 0
    eval_duration: int | None = 0
    truncated_messages: int | None = 0
    error: Any = None


class Embedded(Struct, omit_defaults=True):
    """The answer of ``/api/embed``."""

    model: str
    embeddings: tuple[tuple[float, ...], ...]
    total_duration: int | None = 0
    load_duration: int | None = 0
    prompt_eval_count: int | None = 0


class LegacyEmbedded(Struct):
    """The answer of ``/api/embeddings``."""

    embedding: tuple[float, ...]


class Failure(Struct):
    """Any error."""

    error: str


class ListedModel(Struct):
    """One model of a list."""

    name: str = ""
    model: str = ""


class Listed(Struct):
    """``GET /api/tags``."""

    models: tuple[ListedModel, ...] | None = None
