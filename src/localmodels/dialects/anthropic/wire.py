"""Shapes of the JSON of Anthropic's Messages API.

Incoming shapes are wide: one block for every type, since clients send types that nobody here knows, and what they are
is decided where they are read. Outgoing ones are exact. Checked against ``anthropic`` 2.12.0 (``anthropic/types``).
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType


class Source(Struct, omit_defaults=True):
    """Where a picture or a document is: in ``data`` (base64, or text), in ``content``, or not here at all."""

    type: str
    media_type: str | None = None
    data: str | None = None
    content: Raw = Raw()


class Block(Struct, omit_defaults=True):
    """A piece of a message. ``content`` is a text or blocks; in results of hosted tools it is anything."""

    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw()
    tool_use_id: str | None = None
    tool_name: str | None = None
    content: Raw = Raw()
    is_error: bool | None = None
    source: Source | str | None = None
    title: str | None = None
    context: str | None = None


class Message(Struct):
    """A turn of the conversation, in both directions."""

    role: str = ""
    content: str | list[Block] | None = None


class Tool(Struct, omit_defaults=True):
    """A tool that may be called. One with another ``type`` than ``custom`` is a tool of the server's."""

    name: str = ""
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    type: str | None = None


class ToolChoice(Struct, omit_defaults=True):
    """Which tools may or must be called."""

    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Struct, omit_defaults=True):
    """Whether to think, for how many tokens, and whether to show it."""

    type: str
    budget_tokens: int | None = None
    display: str | None = None


class OutputFormat(Struct, omit_defaults=True):
    """The shape of the answer."""

    type: str
    schema: dict[str, Any] | None = None


class OutputConfig(Struct, omit_defaults=True):
    """How much effort goes into the answer, and its shape."""

    effort: str | None = None
    format: OutputFormat | None = None


class Request(Struct, omit_defaults=True, kw_only=True):
    """``POST /v1/messages``; from ``options`` on, ours. Without the limit and the options: its ``count_tokens``."""

    model: str | None = None
    messages: list[Message] | None = None
    system: str | list[Block] | None = None
    max_tokens: int | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    stop_sequences: Any = None
    temperature: Any = None
    top_p: Any = None
    top_k: Any = None
    stream: bool | None = None
    options: dict[str, Any] | None = None
    keep_alive: float | str | None = None
    truncation: str | None = None


class Text(Struct, tag="text"):
    """A piece of an answer: what is said."""

    text: str
    citations: None = None


class Thought(Struct, tag="thinking"):
    """A piece of an answer: what is thought."""

    thinking: str
    signature: str


class ToolUse(Struct, tag="tool_use"):
    """A piece of an answer: a call."""

    id: str
    name: str
    input: Raw


Content = Text | Thought | ToolUse


class OutputDetails(Struct):
    """What the tokens of an answer were."""

    thinking_tokens: int = 0


class Usage(Struct):
    """Tokens. ``input_tokens`` are those of the prompt that were computed, without those of the cache."""

    input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int = 0
    output_tokens_details: OutputDetails | UnsetType = UNSET
    service_tier: str | UnsetType = UNSET


class Written(Struct, kw_only=True):
    """An answer: whole, or with nothing in it yet."""

    id: str
    type: str = "message"
    role: str = "assistant"
    model: str
    content: tuple[Content, ...] = ()
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Usage


class MessageStart(Struct, tag="message_start"):
    """The first event."""

    message: Written


class BlockStart(Struct, tag="content_block_start"):
    """A block begins, with nothing in it yet."""

    index: int
    content_block: Content


class TextDelta(Struct, tag="text_delta"):
    """More of what is said."""

    text: str


class ThinkingDelta(Struct, tag="thinking_delta"):
    """More of what is thought."""

    thinking: str


class SignatureDelta(Struct, tag="signature_delta"):
    """The seal under a thought."""

    signature: str


class InputDelta(Struct, tag="input_json_delta"):
    """More of a call's input, as JSON text."""

    partial_json: str


Delta = TextDelta | ThinkingDelta | SignatureDelta | InputDelta


class BlockDelta(Struct, tag="content_block_delta"):
    """A block grows."""

    index: int
    delta: Delta


class BlockStop(Struct, tag="content_block_stop"):
    """A block ends."""

    index: int


class End(Struct):
    """Why an answer ended."""

    stop_reason: str
    stop_sequence: str | None


class MessageDelta(Struct, tag="message_delta"):
    """Why the answer ended, and its figures, which are those of all of it."""

    delta: End
    usage: Usage


class MessageStop(Struct, tag="message_stop"):
    """The last event of an answer that is whole."""


class Ping(Struct, tag="ping"):
    """Says only that the connection lives."""


class ErrorDetails(Struct):
    """The stable word for what went wrong."""

    error_code: str


class Failed(Struct):
    """What went wrong."""

    type: str
    message: str
    details: ErrorDetails


class Failure(Struct, tag="error"):
    """Any error, as a body and as an event."""

    error: Failed
    request_id: str | None = None


class ReadBlock(Struct):
    """A block of an answer, as any server sends it: whole, or as it begins."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None


class ReadUsage(Struct):
    """Tokens, as any server counts them; none where it says nothing."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None


class ReadDelta(Struct):
    """What grows, or why it ended."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class ReadMessage(Struct):
    """A whole answer, or the frame of one."""

    content: list[ReadBlock] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: ReadUsage | None = None
    error: Any = None


class Read(Struct):
    """An event, as any server sends it."""

    type: str = ""
    index: int = 0
    message: ReadMessage | None = None
    content_block: ReadBlock | None = None
    delta: ReadDelta | None = None
    usage: ReadUsage | None = None
    error: Any = None


class Count(Struct):
    """The answer of ``/v1/messages/count_tokens``."""

    input_tokens: int


class Model(Struct, kw_only=True):
    """One model of the list."""

    type: str = "model"
    id: str
    display_name: str
    created_at: str
    lifecycle: str = "active"
    max_input_tokens: int | None = None
    max_tokens: int | None = None


class Models(Struct):
    """A page of ``GET /v1/models``."""

    data: tuple[Model, ...]
    has_more: bool
    first_id: str | None
    last_id: str | None


class ReadModel(Struct):
    """One model of a list, as any server sends it."""

    id: str


class ReadModels(Struct):
    """A list of models, as any server sends it."""

    data: tuple[ReadModel, ...] = ()
