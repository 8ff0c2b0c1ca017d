"""Shapes of OpenAI's JSON, with the extensions that its imitators share.

Incoming shapes are wide (nulls, two spellings, parts or text); outgoing ones are exact.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType, field

from localmodels.core.options import OPTIONS
from localmodels.dialects.asked import Adapter


class ImageUrl(Struct, omit_defaults=True):
    """A picture, here always as ``data:`` URL."""

    url: str


class Part(Struct, omit_defaults=True):
    """A piece of a message."""

    type: str
    text: str | None = None
    image_url: ImageUrl | str | None = None
    refusal: str | None = None


class Function(Struct, omit_defaults=True):
    """A call's name and arguments; ``arguments`` is JSON text, from some servers an object."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class CustomCall(Struct, omit_defaults=True):
    """The name of a custom tool that was called, and the text for it."""

    name: str | None = None
    input: str | None = None


class ToolCall(Struct, omit_defaults=True):
    """A call, or a piece of one."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: Function | None = None
    custom: CustomCall | None = None


class Message(Struct, omit_defaults=True):
    """A turn of the conversation, in both directions."""

    role: str = ""
    content: str | list[Part] | UnsetType | None = UNSET
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None
    tool_call_id: str | None = None
    name: str | None = None


class ToolFunction(Struct, omit_defaults=True):
    """What a tool is called and takes."""

    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Grammar(Struct, omit_defaults=True):
    """A grammar; ``syntax`` is ``lark`` or ``regex``."""

    syntax: str | None = None
    definition: str | None = None


class CustomFormat(Struct, omit_defaults=True):
    """What the text for a custom tool looks like: ``text`` or ``grammar``."""

    type: str
    grammar: Grammar | None = None


class CustomTool(Struct, omit_defaults=True):
    """What a custom tool is called, and what text it takes."""

    name: str = ""
    description: str | None = None
    format: CustomFormat | None = None


class Tool(Struct, omit_defaults=True):
    """A tool that may be called."""

    type: str
    function: ToolFunction | None = None
    custom: CustomTool | None = None


class Named(Struct):
    """The name of a tool."""

    name: str


class AllowedTool(Struct):
    """A tool named in a choice."""

    type: str
    function: Named | None = None
    custom: Named | None = None


class AllowedTools(Struct):
    """A choice among some of the tools."""

    mode: str
    tools: list[AllowedTool]


class ToolChoice(Struct, omit_defaults=True):
    """A choice that takes more than a word."""

    type: str = "function"
    function: Named | None = None
    custom: Named | None = None
    allowed_tools: AllowedTools | None = None


class JsonSchema(Struct, omit_defaults=True):
    """The shape of the answer."""

    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFormat(Struct, omit_defaults=True):
    """``schema`` beside ``json_object`` is llama.cpp's."""

    type: str
    json_schema: JsonSchema | None = None
    schema: dict[str, Any] | None = None


class StreamOptions(Struct, omit_defaults=True):
    """What else a stream tells."""

    include_usage: bool | None = None


class Reasoning(Struct):
    """The effort, in the form of the Responses API, which Ollama and OpenRouter take here too."""

    effort: str | None = None


class Request(Struct, omit_defaults=True, kw_only=True):
    """What chats and texts share; from ``max_tokens`` on, the options."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    response_format: ResponseFormat | None = None
    keep_alive: float | str | None = None
    options: dict[str, Any] | None = None
    truncation: str | None = None
    shift: bool | None = None
    lora: list[Adapter] | None = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    top_k: Any = None
    min_p: Any = None
    typical_p: Any = None
    repeat_penalty: Any = None
    repetition_penalty: Any = None
    repeat_last_n: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    mirostat: Any = None
    mirostat_tau: Any = None
    mirostat_eta: Any = None
    seed: Any = None
    stop: Any = None
    logit_bias: Any = None
    num_ctx: Any = None

    def chosen(self) -> dict[str, Any]:
        """The options that were sent, each by its name on the wire; the newer name of the limit wins.

        ``repetition_penalty`` is what vLLM and SGLang call Ollama's ``repeat_penalty``.
        """
        sent = {name: value for name in TOP_OPTIONS if (value := getattr(self, name)) is not None}
        if self.repetition_penalty is not None:
            sent.setdefault("repeat_penalty", self.repetition_penalty)
        if "max_completion_tokens" in sent:
            sent.pop("max_tokens", None)
        return sent


TOP_OPTIONS = tuple(
    name for name in Request.__struct_fields__ if name in OPTIONS or name in {"max_tokens", "max_completion_tokens"}
)


class Chat(Request, omit_defaults=True, kw_only=True):
    """``POST /v1/chat/completions``."""

    messages: list[Message] | None = None
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Any = None
    function_call: Any = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    think: bool | str | None = None
    reasoning_effort: str | None = None
    reasoning: Reasoning | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class Complete(Request, omit_defaults=True, kw_only=True):
    """``POST /v1/completions``."""

    prompt: str | list[Any] | None = None
    suffix: str | None = None
    echo: bool | None = None
    logprobs: int | bool | None = None
    best_of: int | None = None


class Embed(Struct, omit_defaults=True, kw_only=True):
    """``POST /v1/embeddings``."""

    model: str | None = None
    input: str | list[Any] | None = None
    encoding_format: str | None = None
    dimensions: int | None = None
    truncation: str | None = None
    keep_alive: float | str | None = None
    options: dict[str, Any] | None = None


class TopLogprob(Struct):
    """An alternative."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None


class TokenLogprob(Struct):
    """A token of the answer."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top_logprobs: tuple[TopLogprob, ...] | None = None


class Logprobs(Struct):
    """Those of one piece."""

    content: tuple[TokenLogprob, ...] | None = None


class TextLogprobs(Struct):
    """The form of ``/v1/completions``: columns instead of rows. Some servers send the rows here as well."""

    tokens: tuple[str, ...] | UnsetType = UNSET
    token_logprobs: tuple[float | None, ...] | UnsetType = UNSET
    top_logprobs: tuple[dict[str, float] | None, ...] | UnsetType | None = UNSET
    text_offset: tuple[int, ...] | UnsetType = UNSET
    content: tuple[TokenLogprob, ...] | UnsetType | None = UNSET


class PromptDetails(Struct):
    """How the prompt was read."""

    cached_tokens: int | None = 0


class Usage(Struct):
    """Tokens."""

    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    total_tokens: int | None = 0
    prompt_tokens_details: PromptDetails | None = None


class Timings(Struct, omit_defaults=True):
    """Ours in nanoseconds, with Ollama's words; then llama.cpp's in milliseconds, which are only read."""

    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_duration: int = 0
    eval_duration: int = 0
    prompt_ms: float | None = 0.0
    predicted_ms: float | None = 0.0
    prompt_n: int | None = 0
    predicted_n: int | None = 0
    cache_n: int | None = 0


class Delta(Struct, omit_defaults=True):
    """What a piece of a chat adds."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None


class ChatChoice(Struct):
    """A choice of a streamed chat."""

    delta: Delta
    index: int = 0
    logprobs: Logprobs | UnsetType = UNSET
    finish_reason: str | None = None


class TextChoice(Struct):
    """A choice of a text."""

    text: str
    index: int = 0
    logprobs: TextLogprobs | None = None
    finish_reason: str | None = None


class WholeChoice(Struct):
    """A choice of a whole chat."""

    message: Message
    index: int = 0
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class Written(Struct):
    """What is sent: a piece, or a whole answer."""

    id: str
    object: str
    created: int
    model: str
    choices: tuple[ChatChoice | TextChoice | WholeChoice, ...]
    usage: Usage | UnsetType | None = UNSET
    timings: Timings | UnsetType = UNSET
    truncated_messages: int | UnsetType = UNSET


class ReadMessage(Struct):
    """A delta or a whole message, as any server sends it."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None


class ReadChoice(Struct):
    """A choice, as any server sends it."""

    index: int = 0
    delta: ReadMessage | None = None
    message: ReadMessage | None = None
    text: str | None = None
    logprobs: TextLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: Any = None  # vLLM's: the text that ended the answer, or the id of the token that did


class Progress(Struct):
    """llama.cpp's, while it reads a prompt: its tokens, and those of them that it did not have to compute."""

    total: int = 0
    cache: int = 0


class Verbose(Struct):
    """llama.cpp's, at the end, as far as it was asked for: the text that ended the answer."""

    stopping_word: str = ""


class Read(Struct):
    """An answer or a piece of one, as any server sends it."""

    choices: tuple[ReadChoice, ...] | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    truncated_messages: int = 0
    prompt_progress: Progress | None = None
    verbose: Verbose | None = field(default=None, name="__verbose")
    error: Any = None


class Embedding(Struct):
    """One vector: numbers, or float32 little-endian in base64."""

    embedding: str | tuple[float, ...]
    index: int = 0
    object: str = "embedding"


class EmbeddingUsage(Struct):
    """Tokens of the inputs."""

    prompt_tokens: int | None = 0
    total_tokens: int | None = 0


class Embedded(Struct, kw_only=True):
    """The answer of ``/v1/embeddings``."""

    object: str = "list"
    data: tuple[Embedding, ...]
    model: str = ""
    usage: EmbeddingUsage | None = None
    timings: Timings | UnsetType | None = UNSET


class Failed(Struct):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class Failure(Struct):
    """Any error."""

    error: Failed


class ListedModel(Struct):
    """One model of a list."""

    id: str


class Listed(Struct):
    """``GET /v1/models``."""

    data: tuple[ListedModel, ...] | None = None
