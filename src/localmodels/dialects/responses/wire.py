"""Shapes of the Responses API's JSON.

Incoming shapes are wide; outgoing ones are exact, with every field that the API has, since its clients read them
without looking whether they are there.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from localmodels.core.options import OPTIONS
from localmodels.core.responses import Status
from localmodels.dialects.asked import Adapter
from localmodels.dialects.openai.wire import StreamOptions, Timings, TokenLogprob

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class Part(Struct, omit_defaults=True):
    """A piece of a message, of a tool's output or of a thought."""

    type: str
    text: str | None = None
    image_url: str | None = None
    refusal: str | None = None
    file_id: str | None = None


class Item(Struct, omit_defaults=True, kw_only=True):
    """Something said, thought, called or answered: what a conversation is made of."""

    id: str | None = None
    type: str | None = None
    role: str | None = None
    content: str | list[Part] | None = None
    status: str | None = None
    phase: str | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: str | None = None
    input: str | None = None
    output: str | list[Part] | None = None
    summary: list[Part] | None = None
    encrypted_content: str | None = None


class Grammar(Struct, omit_defaults=True):
    """What the text for a custom tool looks like."""

    type: str
    syntax: str | None = None
    definition: str | None = None


class Tool(Struct, omit_defaults=True):
    """A tool that may be called, or a ``namespace`` of some."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    format: Grammar | None = None
    tools: list[dict[str, Any]] | None = None


class MoreTools(Struct):
    """Tools that are offered by an item."""

    tools: list[Any]


class Choice(Struct, omit_defaults=True):
    """A choice that takes more than a word."""

    type: str
    name: str | None = None
    namespace: str | None = None
    mode: str | None = None
    tools: list[dict[str, Any]] | None = None


class Format(Struct, omit_defaults=True, frozen=True):
    """The shape of the answer."""

    type: str
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class TextSettings(Struct, omit_defaults=True, frozen=True):
    """How the text is to be."""

    format: Format | None = None
    verbosity: str | None = None


class Reasoning(Struct, omit_defaults=True):
    """How hard to think, and how to tell it."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class Asked(Struct, omit_defaults=True, kw_only=True):
    """``POST /v1/responses``, and ``/v1/responses/input_tokens``."""

    model: str | None = None
    input: str | list[Any] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    background: bool | None = None
    tools: list[Any] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextSettings | None = None
    reasoning: Reasoning | None = None
    include: list[str] | None = None
    truncation: str | None = None
    metadata: dict[str, str] | None = None
    top_logprobs: int | None = None
    max_tool_calls: int | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    user: str | None = None
    keep_alive: float | str | None = None
    options: dict[str, Any] | None = None
    shift: bool | None = None
    lora: list[Adapter] | None = None
    max_output_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    seed: Any = None
    stop: Any = None
    num_ctx: Any = None

    def chosen(self) -> dict[str, Any]:
        """The options that were sent, each by its name on the wire."""
        return {name: value for name in TOP_OPTIONS if (value := getattr(self, name)) is not None}


TOP_OPTIONS = tuple(name for name in Asked.__struct_fields__ if name in OPTIONS or name == "max_output_tokens")


class OutputText(Struct):
    """What was said."""

    text: str
    type: str = "output_text"
    annotations: tuple[()] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class ReasoningText(Struct):
    """What was thought."""

    text: str
    type: str = "reasoning_text"


class SummaryText(Struct):
    """What was thought, for those who asked for a summary of it."""

    text: str
    type: str = "summary_text"


class MessageItem(Struct):
    """A message of the model's."""

    id: str
    status: ItemStatus
    content: tuple[OutputText, ...] = ()
    role: str = "assistant"
    type: str = "message"


class ReasoningItem(Struct):
    """A thought of the model's."""

    id: str
    status: ItemStatus
    content: tuple[ReasoningText, ...] = ()
    summary: tuple[SummaryText, ...] = ()
    encrypted_content: str | UnsetType = UNSET
    type: str = "reasoning"


class FunctionItem(Struct):
    """A call of a function."""

    id: str
    status: ItemStatus
    call_id: str
    name: str
    arguments: str
    namespace: str | UnsetType = UNSET
    type: str = "function_call"


class CustomItem(Struct):
    """A call of a custom tool."""

    id: str
    status: ItemStatus
    call_id: str
    name: str
    input: str
    namespace: str | UnsetType = UNSET
    type: str = "custom_tool_call"


OutputItem = MessageItem | ReasoningItem | FunctionItem | CustomItem


class Failed(Struct):
    """Why a response failed."""

    code: str
    message: str


class Incomplete(Struct):
    """Why a response broke off in good order."""

    reason: str


class InputDetails(Struct):
    """How the prompt was read."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(Struct):
    """How the answer was made."""

    reasoning_tokens: int = 0


class Usage(Struct):
    """Tokens."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Effort(Struct, frozen=True):
    """The reasoning that was asked for."""

    effort: str | None = None
    summary: str | None = None


class Response(Struct, kw_only=True, frozen=True):
    """A response at any moment of its life. ``timings`` and ``truncated_messages`` are ours."""

    id: str = ""
    object: str = "response"
    created_at: int = 0
    completed_at: int | None = None
    status: Status = "in_progress"
    background: bool = False
    error: Failed | None = None
    incomplete_details: Incomplete | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    model: str = ""
    output: tuple[OutputItem, ...] = ()
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    reasoning: Effort = Effort()
    store: bool = True
    temperature: float = 1.0
    text: TextSettings = TextSettings(Format("text"))
    tool_choice: str | dict[str, Any] = "auto"
    tools: tuple[Any, ...] = ()
    top_logprobs: int = 0
    top_p: float = 1.0
    truncation: str = "disabled"
    usage: Usage | None = None
    user: str | None = None
    metadata: dict[str, str] = {}
    service_tier: str = "default"
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    timings: Timings | UnsetType = UNSET
    truncated_messages: int | UnsetType = UNSET


class ReadInputDetails(Struct):
    """How the prompt was read, as any server says it."""

    cached_tokens: int | None = 0


class ReadOutputDetails(Struct):
    """How the answer was made, as any server says it."""

    reasoning_tokens: int | None = None


class ReadUsage(Struct):
    """Tokens, as any server counts them."""

    input_tokens: int | None = 0
    output_tokens: int | None = 0
    input_tokens_details: ReadInputDetails | None = None
    output_tokens_details: ReadOutputDetails | None = None


class ReadPart(Struct):
    """A piece of a message, as any server sends it."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None


class ReadItem(Struct):
    """An item, as any server sends it; those of hosted tools have fields that nobody looks at."""

    id: str | None = None
    type: str = ""
    content: list[ReadPart] | None = None
    summary: list[ReadPart] | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: str | None = None
    input: str | None = None


class ReadIncomplete(Struct):
    """Why a response broke off, as any server says it."""

    reason: str | None = None


class ReadResponse(Struct):
    """A response, as any server sends it. ``output`` is read apart: an item of a hosted tool may have any shape."""

    status: str | None = None
    error: Any = None
    incomplete_details: ReadIncomplete | None = None
    output: list[dict[str, Any]] | None = None
    usage: ReadUsage | None = None
    timings: Timings | None = None
    truncated_messages: int = 0


class Read(Struct):
    """An event, as any server sends it."""

    type: str = ""
    response: ReadResponse | None = None
    item: dict[str, Any] | None = None
    item_id: str | None = None
    output_index: int | None = None
    delta: Any = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    error: Any = None
    code: str | None = None
    message: str | None = None
    param: str | None = None


class FailedEvent(Struct):
    """What went wrong in a stream, as OpenAI's own server says it."""

    type: str
    code: str
    message: str
    param: str | None


class Deleted(Struct):
    """A response that is no longer there."""

    id: str
    object: str = "response"
    deleted: bool = True


class Counted(Struct):
    """Tokens of a question."""

    input_tokens: int
    object: str = "response.input_tokens"


class Listed(Struct):
    """Items of a response."""

    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: str = "list"
