"""The gateway's own small API (seed 003): one message in, one text out, and a list of models.

A question is one message, so a conversation of several turns has no place here. Streamed answers are server-sent
events: pieces, one last piece with the figures, ``[DONE]``. The one rule: the last piece and ``[DONE]`` are told of an
answer that came to its end, and of no other; what breaks ends with ``{"detail": "…"}``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from localmodels.core.catalog import Details, Model
from localmodels.core.chat import Answer, ChatRequest, Chunk, Done, Event, Fold, Message, Text, Usage
from localmodels.core.errors import Garbled, InvalidRequest, LocalModelsError, Unsupported
from localmodels.dialects import asked, failures, figures, strict_json
from localmodels.dialects.allowances import openai_level
from localmodels.dialects.durations import read_keep_alive, write_keep_alive
from localmodels.dialects.framing import SSE, SSE_DONE, ServerSentEvents, StreamReader, sse_event
from localmodels.dialects.openai.answers import REASONS, finish_reason
from localmodels.dialects.peek import Way
from localmodels.dialects.plain import Detail, Plain
from localmodels.dialects.protocol import Call, Stamp
from localmodels.dialects.strict_json import encode

# The seed's own. Its temperature of 0.7 is everybody's here, unless the model's author set another.
MOST_TOKENS = 512
EFFORT = "medium"
_WORDS = {effort: word for word, effort in asked.EFFORTS.items() if word not in {"minimal", "xhigh"}}


class Ask(Struct, omit_defaults=True, kw_only=True):
    """``POST /chat`` and ``POST /chat/{model_name}``; from ``system`` on, ours."""

    message: str | None = None
    model: str | None = None
    max_tokens: Any = None
    temperature: Any = None
    reasoning: str | None = None
    stream: bool | None = None
    system: str | None = None
    options: dict[str, Any] | None = None
    keep_alive: float | str | None = None


class _Usage(Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Piece(Struct, frozen=True, omit_defaults=True):
    """A piece of an answer, its last one, or the whole; some of it in each."""

    response: str | None = None
    model: str = ""
    reasoning: str | None = None
    finish_reason: str | None = None
    usage: _Usage | None = None
    detail: str | None = None


class ListedModel(Struct, frozen=True):
    """One model of ``GET /models``."""

    name: str
    model: str = ""
    modified_at: str = ""
    size: int = 0
    digest: str = ""
    details: Details = Details()
    servers: tuple[str, ...] | UnsetType = UNSET
    digests: dict[str, str] | UnsetType = UNSET
    conflict: bool | UnsetType = UNSET


class Listed(Struct, frozen=True):
    """``GET /models``."""

    models: tuple[ListedModel, ...] = ()


write_error = Plain().write_error
_ASK = msgspec.json.Decoder(Ask)
_PIECE = msgspec.json.Decoder(Piece)
_LIST = msgspec.json.Decoder(Listed)


def read_chat(body: bytes) -> ChatRequest:
    """``POST /chat``. An empty ``model`` is for the address, or the default, to fill in."""
    sent = strict_json.read(body, _ASK)
    options = asked.read_options(sent.options, {"max_tokens": sent.max_tokens, "temperature": sent.temperature})
    system = (Message("system", (Text(sent.system),)),) if sent.system else ()
    return ChatRequest(
        model=sent.model or "",
        messages=(*system, Message("user", (Text(asked.required(sent.message, "message")),))),
        options=replace(options, num_predict=MOST_TOKENS) if options.num_predict is None else options,
        think=asked.read_effort(sent.reasoning or EFFORT, "reasoning"),
        think_wish=True,
        stream=bool(sent.stream),
        keep_alive=read_keep_alive(sent.keep_alive),
    )


def at_address(request: ChatRequest, name: str) -> ChatRequest:
    """The request as it was sent to ``/chat/{name}``.

    Raises:
        InvalidRequest: it names another model itself.
    """
    if request.model not in {"", name}:
        raise InvalidRequest(f"the address names the model '{name}', the body '{request.model[:200]}'", param="model")
    return replace(request, model=name)


def write_chat(request: ChatRequest) -> bytes:
    """The request as a client sends it.

    Raises:
        Unsupported: it is more than a question of text under a system prompt, or wants a shape or tools.
    """
    *system, question = request.messages or (Message("user"),)
    texts = all(isinstance(part, Text) for message in request.messages for part in message.parts)
    fits = question.role == "user" and [message.role for message in system] in ([], ["system"])
    if not (texts and fits) or request.tools or request.format or request.logprobs:
        raise Unsupported("this API takes one question of text, no conversation, tools or formats", param="messages")
    options = asked.write_options(request.options)
    return encode(
        Ask(
            message=question.text,
            model=request.model or None,
            max_tokens=options.pop("num_predict", None),
            temperature=options.pop("temperature", None),
            reasoning=None if request.think is None else _WORDS.get(request.think, EFFORT),
            stream=request.stream or None,
            system=system[0].text if system else None,
            options=options or None,
            keep_alive=write_keep_alive(request.keep_alive),
        )
    )


class ChatWriter:
    """Writes a streamed answer."""

    def __init__(self, stamp: Stamp, request: ChatRequest) -> None:
        self._model = stamp.model

    def write(self, event: Event) -> bytes:
        """One piece, thoughts and text apart; for ``Done`` all that ends the stream."""
        if isinstance(event, Done):
            reason, usage = finish_reason(event.reason), _write_usage(event.usage)
            return sse_event(Piece("", self._model, finish_reason=reason, usage=usage)) + SSE_DONE
        thought = sse_event(Piece(model=self._model, reasoning=event.thinking)) if event.thinking else b""
        return thought + sse_event(Piece(event.text, self._model)) if event.text else thought

    def fail(self, error: LocalModelsError) -> bytes:
        """The event that ends a broken stream; no ``[DONE]`` follows."""
        return b"data: %b\n\n" % write_error(error)


def write_chat_answer(stamp: Stamp, request: ChatRequest, answer: Answer) -> bytes:
    """A whole answer."""
    usage = _write_usage(answer.done.usage)
    return encode(Piece(answer.text, stamp.model, answer.thinking or None, finish_reason(answer.done.reason), usage))


def _write_usage(usage: Usage) -> _Usage:
    return _Usage(usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens + usage.completion_tokens)


def chat_reader() -> StreamReader:
    """Reads a streamed answer."""
    return StreamReader(ServerSentEvents(), _Reader().read)


class _Reader:
    """Keeps the end until ``[DONE]`` says that it is one."""

    def __init__(self) -> None:
        self._done: Done | None = None

    def read(self, data: bytes) -> Iterator[Event]:
        if data == b"[DONE]":
            if self._done is not None:
                yield self._done
            return
        said = _read(data)
        if said.reasoning or said.response:
            yield Chunk(said.response or "", said.reasoning or "")
        self._done = _done(said) or self._done


def read_chat_answer(body: bytes) -> Answer:
    """A whole answer.

    Raises:
        StreamCut: it does not say how it ended.
        LocalModelsError: it says that the server failed.
        Garbled: it is something else.
    """
    folded, reader = Fold(), _Reader()
    for event in (*reader.read(body), *reader.read(b"[DONE]")):
        folded.add(event)
    return folded.answer()


def _done(said: Piece) -> Done | None:
    if said.finish_reason is None:
        return None
    usage = said.usage or _Usage()
    return Done(REASONS.get(said.finish_reason, "stop"), figures.usage(usage.prompt_tokens, usage.completion_tokens))


def _read(data: bytes) -> Piece:
    try:
        said = _PIECE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(f"the server's answer is not the gateway's: {error}") from error
    if said.detail is not None:
        raise failures.in_band(said.detail)
    return said


def write_models(models: Iterable[Model]) -> bytes:
    """``GET /models``: as Ollama's list, but for the digest, which is a file's name here."""
    return encode(
        Listed(
            tuple(
                ListedModel(
                    model.name,
                    model.name,
                    model.modified_at,
                    model.size,
                    _file_name(model.digest),
                    model.details,
                    model.servers or UNSET,
                    {server: _file_name(digest) for server, digest in model.digests.items()} or UNSET,
                    bool(model.digests) or UNSET,
                )
                for model in models
            )
        )
    )


def _file_name(digest: str) -> str:
    return f"sha256-{digest}" if digest else ""


def read_models(body: bytes) -> tuple[str, ...]:
    """The names in it.

    Raises:
        Garbled: it is something else.
    """
    try:
        return tuple(model.name for model in _LIST.decode(body).models)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Garbled(f"the server's list is not the gateway's: {error}") from error


class Gateway:
    """A :class:`~localmodels.dialects.protocol.ChatDialect`."""

    name: str = "gateway"
    title: str = "The gateway's own API"
    roots: tuple[str, ...] = ()
    failure: type[Struct] = Detail
    stream_type: str = SSE
    way: Way | None = None
    paths: Mapping[Call, str] = {"chat": "/chat", "models": "/models"}

    read_chat = staticmethod(read_chat)
    write_chat = staticmethod(write_chat)
    chat_writer = ChatWriter
    chat_reader = staticmethod(chat_reader)
    write_chat_answer = staticmethod(write_chat_answer)
    read_chat_answer = staticmethod(read_chat_answer)
    write_error = staticmethod(write_error)
    status = staticmethod(failures.status)
    write_level = staticmethod(openai_level)
    read_error = staticmethod(failures.read_error)
    read_models = staticmethod(read_models)
