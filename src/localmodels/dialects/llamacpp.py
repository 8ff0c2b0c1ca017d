"""llama.cpp's own server, as a client speaks to it: our runner, and any ``llama-server``.

Chats go to its OpenAI route with its own fields beside, raw texts to ``/completion`` and ``/infill``. Answers of chats
are OpenAI's pieces with llama.cpp's ``timings``; answers of texts end with an object that has ``stop: true`` and no
``[DONE]``. Checked against ``tools/server`` of build 11549 (``server-schema.cpp``, ``server-common.cpp``,
``server-task.cpp``).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Done,
    EmbedRequest,
    Event,
    FinishReason,
    Fold,
    Format,
    GenerateRequest,
)
from localmodels.core.errors import Garbled, InvalidValue, Unsupported
from localmodels.core.options import OPTIONS, Options
from localmodels.core.rerank import RerankRequest
from localmodels.dialects import failures, figures, rerank
from localmodels.dialects.forced import CallReader, forced
from localmodels.dialects.forced import shape as forced_shape
from localmodels.dialects.framing import SSE, ServerSentEvents, StreamReader
from localmodels.dialects.openai import answers, embeddings, wire
from localmodels.dialects.openai.requests import write_format, write_message
from localmodels.dialects.openai.tools import write_tools
from localmodels.dialects.protocol import Call, EventReader
from localmodels.dialects.strict_json import encode

T = TypeVar("T")

# Options that are fields of a request here; the others shape the runner when it starts.
_FIELDS: Mapping[str, str] = {name: name for name, option in OPTIONS.items() if not option.load} | {
    "num_predict": "n_predict",
    "num_keep": "n_keep",
}
# `repeat_last_n: -1` means the whole context, which the server refuses: its ring takes any length, at 4 bytes a token.
WHOLE_CONTEXT = 131_072
_STOPS: Mapping[str, FinishReason] = {"limit": "length"}
# What stands for a picture in a prompt, where a server does not tell: newer ones draw their own word when they start.
MEDIA_MARKER = "<__media__>"
# One blank after a comma and a colon, as in nearly all JSON that models have read: without it small ones go astray.
_TIGHT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_IMAGE_MARK = re.compile(r"\[img-([0-9]{1,4})\]")


class LlamaCpp:
    """The client's half of a dialect."""

    name: str = "llamacpp"
    stream_type: str = SSE
    paths: Mapping[Call, str] = {
        "chat": "/v1/chat/completions",
        "generate": "/completion",
        "embed": "/v1/embeddings",
        "models": "/v1/models",
        "rerank": "/v1/rerank",
    }

    read_chat_answer = staticmethod(answers.read_answer)
    read_embeddings = staticmethod(embeddings.read_embeddings)
    read_error = staticmethod(failures.read_error)
    read_models = staticmethod(embeddings.read_models)
    read_ranking = staticmethod(rerank.read_answer)

    @staticmethod
    def chat_reader(request: ChatRequest | None = None) -> EventReader:
        """Reads the answer to this conversation; a call that it must make comes as JSON (:mod:`.forced`)."""
        if request is None:
            return answers.reader()
        reader = answers.reader(early=request.early_prompt, stops=request.options.stop or ())
        return CallReader(reader) if forced(request) else reader

    @staticmethod
    def write_chat(
        request: ChatRequest, *, id_slot: int | None = None, n_predict: int | None = None, progress: bool = False
    ) -> bytes:
        """A conversation to go on with; always streamed.

        Args:
            request: ``truncate`` and ``shift`` are not said: the first is the flow's, the second the runner's.
            id_slot: the seat that must answer; None lets the server choose.
            n_predict: instead of the request's own limit; 0 only reads the prompt into the cache.
            progress: have the server say something after each batch of the prompt. Readers pass it over; but the server
                looks whether anybody listens only when it speaks, and else once a second.

        Raises:
            Unsupported: log-probabilities together with tools, which the server cannot stream.
            InvalidValue: an earlier tool call whose arguments are not JSON; the template reads them.
        """
        _check_arguments(request)
        if request.logprobs and request.tools:
            raise Unsupported("log-probabilities cannot be had together with tools", param="logprobs")
        must_call = forced(request)
        choice = "none" if must_call else request.tool_choice.mode  # "required" is left where a shape cannot say it
        shape = forced_shape(must_call) if must_call else request.format
        fields: dict[str, Any] = {
            "model": request.model,
            "messages": [write_message(message) for message in request.messages],
            "stream_options": {"include_usage": True},
            "reasoning_format": "auto",
            **_common(request, id_slot, n_predict, progress=progress),
            **_thinking(request),
        }
        if request.tools:
            fields |= {"tools": write_tools(must_call or request.tools), "tool_choice": choice}
            if request.parallel_tool_calls is not None:
                fields["parallel_tool_calls"] = request.parallel_tool_calls
        if request.options.stop:
            # The server tells which of them it was only among its secrets, the whole prompt for one: one is enough.
            fields |= {"verbose": True, "response_fields": ["stopping_word"]}
        if shape is not None:
            fields["response_format"] = write_format(tight(shape))
        if request.logprobs:
            fields |= {"logprobs": True, "top_logprobs": max(1, request.top_logprobs)}
        return encode(fields)

    @staticmethod
    def generate_path(request: GenerateRequest) -> str:
        """``/infill`` where there is a text after the gap, else ``/completion``."""
        return "/infill" if request.suffix else "/completion"

    @staticmethod
    def write_generate(
        request: GenerateRequest,
        *,
        id_slot: int | None = None,
        n_predict: int | None = None,
        progress: bool = False,
        marker: str = MEDIA_MARKER,
    ) -> bytes:
        """A text to go on with, as it stands; for :meth:`generate_path`, and always streamed.

        Args:
            request: ``system`` and ``echo`` are not said: a template's matter, and the answering dialect's.
            id_slot: as in :meth:`write_chat`.
            n_predict: as in :meth:`write_chat`.
            progress: as in :meth:`write_chat`.
            marker: what stands for a picture in the server's own prompts, see :class:`Props`.

        Raises:
            Unsupported: pictures or token ids beside a gap, pictures among token ids.
        """
        fields = {**_common(request, id_slot, n_predict, progress=progress), **_prompt(request, marker)}
        if request.visible:
            fields["preserved_tokens"] = request.visible
        if request.format is not None:
            fields["json_schema"] = tight(request.format).schema
        if request.logprobs:
            fields["n_probs"] = max(1, request.top_logprobs)
        return encode(fields)

    @staticmethod
    def generate_reader() -> StreamReader:
        """Reads what ``/completion`` and ``/infill`` stream."""
        return StreamReader(ServerSentEvents(), _read_text)

    @staticmethod
    def read_generate_answer(body: bytes) -> Answer:
        """A whole answer of ``/completion``."""
        folded = Fold()
        for event in _read_text(body):
            folded.add(event)
        return folded.answer()

    @staticmethod
    def write_embed(request: EmbedRequest) -> bytes:
        """Texts and token ids to turn into vectors; base64 is read five times faster than decimals."""
        inputs = [text if isinstance(text, str) else list(text) for text in request.inputs]
        return encode({"input": inputs, "encoding_format": "base64"})

    @staticmethod
    def write_rerank(request: RerankRequest) -> bytes:
        """A question and the documents that are to be scored; the best are chosen by who asks."""
        return encode({"query": request.query, "documents": request.documents})

    @staticmethod
    def write_tokenize(text: str, *, special: bool = True) -> bytes:
        """``/tokenize``; ``special`` adds the tokens that begin every prompt."""
        return encode({"content": text, "add_special": special, "parse_special": True})

    @staticmethod
    def read_tokens(body: bytes) -> tuple[int, ...]:
        """The answer of ``/tokenize``."""
        return _read(body, _TOKENS).tokens

    @staticmethod
    def write_detokenize(tokens: tuple[int, ...]) -> bytes:
        """``/detokenize``."""
        return encode({"tokens": tokens})

    @staticmethod
    def read_text(body: bytes) -> str:
        """The answer of ``/detokenize``."""
        return _read(body, _CONTENT).content

    @staticmethod
    def read_prompt(body: bytes) -> str:
        """The answer of ``/apply-template``, which takes what :meth:`write_chat` writes."""
        return _read(body, _PROMPT).prompt

    @staticmethod
    def read_props(body: bytes) -> Props:
        """The answer of ``/props``."""
        return _read(body, _PROPS)

    @staticmethod
    def read_slots(body: bytes) -> tuple[Slot, ...]:
        """The answer of ``/slots``."""
        return _read(body, _SLOTS)


def _check_arguments(request: ChatRequest) -> None:
    for i, message in enumerate(request.messages):
        for j, call in enumerate(message.tool_calls):
            try:
                msgspec.json.decode(call.arguments or "{}")
            except msgspec.DecodeError:
                name = f"messages[{i}].tool_calls[{j}].function.arguments"
                raise InvalidValue(f"{name} is not JSON", param=name) from None


def tight(wanted: Format) -> Format:
    """The schema without room for blanks between its words, and an object where none was given.

    llguidance, with which the wheel is built, lets a model write white space for ever (its docs/json_schema.md); a
    build without it passes the key over.
    """
    schema = wanted.schema if wanted.schema is not None else {"type": "object"}
    return Format({**schema, "x-guidance": _TIGHT}, wanted.name)


class Props(Struct, frozen=True):
    """What a server says of itself and its model, as far as it matters here."""

    total_slots: int = 1
    model_path: str = ""
    chat_template: str = ""
    build_info: str = ""
    is_sleeping: bool = False
    media_marker: str = MEDIA_MARKER


class Slot(Struct, frozen=True):
    """A seat. ``n_ctx`` is the context of one request, in tokens."""

    id: int
    n_ctx: int = 0
    is_processing: bool = False


class _Tokens(Struct):
    tokens: tuple[int, ...]


class _Content(Struct):
    content: str


class _Prompt(Struct):
    prompt: str


class _Text(Struct):
    """An object of ``/completion``."""

    content: str = ""
    stop: bool = False
    stop_type: str = ""
    stopping_word: str = ""
    tokens_predicted: int = 0
    tokens_evaluated: int = 0
    timings: wire.Timings | None = None
    completion_probabilities: tuple[wire.TokenLogprob, ...] | None = None
    error: Any = None


_TOKENS = msgspec.json.Decoder(_Tokens)
_CONTENT = msgspec.json.Decoder(_Content)
_PROMPT = msgspec.json.Decoder(_Prompt)
_PROPS = msgspec.json.Decoder(Props)
_SLOTS = msgspec.json.Decoder(tuple[Slot, ...])
_TEXT = msgspec.json.Decoder(_Text)


def _read_text(data: bytes) -> Iterator[Event]:
    """The events of one object of ``/completion``.

    Raises:
        LocalModelsError: it says that the server failed.
        Garbled: it is not one of ``/completion``.
    """
    said = _read(data, _TEXT)
    if said.error is not None:
        raise failures.in_band(said.error)
    rows = said.completion_probabilities
    if said.content or rows:
        yield Chunk(said.content, logprobs=answers.read_logprobs(wire.TextLogprobs(content=rows)) if rows else ())
    if said.stop:
        cached = (said.timings.cache_n if said.timings else None) or 0
        yield Done(
            _STOPS.get(said.stop_type, "stop"),
            figures.usage(said.tokens_evaluated, said.tokens_predicted, cached),
            answers.read_timings(said.timings),
            stop=said.stopping_word,
        )


def _read(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(f"the engine's answer is not llama.cpp's: {error}") from error


def _common(
    request: ChatRequest | GenerateRequest, id_slot: int | None, n_predict: int | None, *, progress: bool
) -> dict[str, Any]:
    """What every question to the engine says."""
    fields: dict[str, Any] = {"stream": True, "cache_prompt": True, **_sampling(request.options)}
    if id_slot is not None:
        fields["id_slot"] = id_slot
    if n_predict is not None:
        fields["n_predict"] = n_predict
    if progress:
        fields["return_progress"] = True
    if request.lora:
        fields["lora"] = [{"id": _place(one.adapter), "scale": one.scale} for one in request.lora]
    return fields


def _place(adapter: str | int) -> int:
    if isinstance(adapter, str):
        raise Unsupported("this server knows adapters by their numbers alone", param="lora")
    return adapter


def _sampling(options: Options) -> dict[str, Any]:
    """The options of a request by their names and in their ranges here."""
    fields = {field: value for name, field in _FIELDS.items() if (value := getattr(options, name)) is not None}
    if fields.get("n_predict", 0) < -1:
        fields["n_predict"] = -1
    if fields.get("repeat_last_n") == -1:
        fields["repeat_last_n"] = options.num_ctx or WHOLE_CONTEXT
    if fields.get("seed") == -1:
        del fields["seed"]  # the server draws one
    return fields


def _thinking(request: ChatRequest) -> dict[str, Any]:
    """The switch and the level, each for the templates that know it; no template knows more than ``high``."""
    if request.think is None:
        return {}
    fields: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": request.think is not False}}
    if isinstance(request.think, str):
        fields["reasoning_effort"] = "high" if request.think == "max" else request.think
    if request.think_budget is not None:
        fields["thinking_budget_tokens"] = request.think_budget
    return fields


def _prompt(request: GenerateRequest, marker: str) -> dict[str, Any]:
    if request.images:
        return {"prompt": _with_pictures(request, marker)}
    if request.suffix:
        if not isinstance(request.prompt, str) or request.context:
            raise Unsupported("a gap can only be filled in text", param="suffix")
        return {"input_prefix": request.prompt, "input_suffix": request.suffix}
    if not request.context:
        return {"prompt": request.prompt}
    prompt = (request.prompt,) if isinstance(request.prompt, str) else request.prompt
    return {"prompt": (*request.context, *prompt)}


def _with_pictures(request: GenerateRequest, marker: str) -> dict[str, Any]:
    """The prompt with its marks (``[img-0]`` …) in the server's own words; a picture that has none goes in front."""
    if not isinstance(request.prompt, str) or request.context or request.suffix:
        raise Unsupported("images can only stand in a text", param="images")
    placed: list[int] = []

    def place(mark: re.Match[str]) -> str:
        number = int(mark[1])
        if number in placed or number >= len(request.images):
            return mark[0]
        placed.append(number)
        return marker

    text = _IMAGE_MARK.sub(place, request.prompt.replace(marker, ""))
    front = [number for number in range(len(request.images)) if number not in placed]
    pictures = [b64encode(request.images[number].data).decode("ascii") for number in (*front, *placed)]
    return {"prompt_string": marker * len(front) + text, "multimodal_data": pictures}
