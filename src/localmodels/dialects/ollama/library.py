"""Ollama's requests about the library (pull, push, create, copy, delete) and its streams of progress, in both roles.

The rule of the streams: ``success`` is said once, last, and only when everything is done; a stream that ends without it
was cut, and an error is one object ``{"error": …}`` with nothing after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from localmodels.core.errors import Garbled, InvalidRequest, InvalidValue, StreamCut
from localmodels.core.library import (
    KEPT_PARAMETERS,
    SUCCESS,
    CopyRequest,
    CreateRequest,
    DeleteRequest,
    Progress,
    PullRequest,
    PushRequest,
    unknown_parameter,
)
from localmodels.core.options import OPTIONS, check
from localmodels.dialects import asked, failures, strict_json
from localmodels.dialects.framing import JsonLines, json_line
from localmodels.dialects.strict_json import encode

MAX_FILES = 1_024
MAX_PARAMETERS = 256
ROLES = ("system", "user", "assistant", "tool")


class Transfer(Struct, omit_defaults=True):
    """``POST /api/pull`` and ``/api/push``."""

    model: str = ""
    name: str = ""
    insecure: bool = False
    stream: bool | None = None


class Copy(Struct):
    """``POST /api/copy``."""

    source: str = ""
    destination: str = ""


class Delete(Struct, omit_defaults=True):
    """``DELETE /api/delete``."""

    model: str = ""
    name: str = ""


class _Message(Struct):
    role: str
    content: str = ""


class Create(Struct, omit_defaults=True, rename={"base": "from"}):
    """``POST /api/create``."""

    model: str = ""
    name: str = ""
    base: str | None = None
    files: dict[str, str] | None = None
    adapters: dict[str, str] | None = None
    template: str | None = None
    system: str | None = None
    parameters: dict[str, Any] | None = None
    messages: list[_Message] | None = None
    license: str | list[str] | None = None
    quantize: str | None = None
    quantization: str | None = None
    renderer: str | None = None
    parser: str | None = None
    requires: str | None = None
    modelfile: str | None = None
    stream: bool | None = None
    artifact: str | None = None  # ours


class Line(Struct, omit_defaults=True):
    """A line of progress."""

    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0
    error: Any = None


_TRANSFER = msgspec.json.Decoder(Transfer)
_COPY = msgspec.json.Decoder(Copy)
_DELETE = msgspec.json.Decoder(Delete)
_CREATE = msgspec.json.Decoder(Create)
_LINE = msgspec.json.Decoder(Line)


def read_pull(body: bytes) -> PullRequest:
    """``POST /api/pull``."""
    sent = strict_json.read(body, _TRANSFER)
    return PullRequest(asked.required(sent.model or sent.name, "model"), sent.insecure, sent.stream is not False)


def write_pull(request: PullRequest) -> bytes:
    """The same, as a client."""
    return encode(Transfer(request.model, insecure=request.insecure, stream=request.stream))


def read_push(body: bytes) -> PushRequest:
    """``POST /api/push``."""
    sent = strict_json.read(body, _TRANSFER)
    return PushRequest(asked.required(sent.model or sent.name, "model"), sent.insecure, sent.stream is not False)


def write_push(request: PushRequest) -> bytes:
    """The same, as a client."""
    return encode(Transfer(request.model, insecure=request.insecure, stream=request.stream))


def read_copy(body: bytes) -> CopyRequest:
    """``POST /api/copy``."""
    sent = strict_json.read(body, _COPY)
    return CopyRequest(asked.required(sent.source, "source"), asked.required(sent.destination, "destination"))


def write_copy(request: CopyRequest) -> bytes:
    """The same, as a client."""
    return encode(Copy(request.source, request.destination))


def read_delete(body: bytes) -> DeleteRequest:
    """``DELETE /api/delete``."""
    sent = strict_json.read(body, _DELETE)
    return DeleteRequest(asked.required(sent.model or sent.name, "model"))


def write_delete(request: DeleteRequest) -> bytes:
    """The same, as a client."""
    return encode(Delete(request.model))


def read_create(body: bytes) -> CreateRequest:
    """``POST /api/create``.

    Raises:
        InvalidRequest: nothing to make it of; a file that is named by a path which leads elsewhere.
        InvalidValue: a parameter that nobody knows, or out of its range.
    """
    sent = strict_json.read(body, _CREATE)
    request = CreateRequest(
        model=asked.required(sent.model or sent.name, "model"),
        base=sent.base or "",
        files=_files(sent.files, "files"),
        adapters=_files(sent.adapters, "adapters"),
        template=sent.template,
        system=sent.system,
        parameters=read_parameters(sent.parameters or {}, "parameters."),
        messages=None if sent.messages is None else tuple(map(_message, range(len(sent.messages)), sent.messages)),
        license=_license(sent.license),
        quantize=sent.quantize or sent.quantization or "",
        renderer=sent.renderer or "",
        parser=sent.parser or "",
        requires=sent.requires or "",
        modelfile=sent.modelfile or "",
        stream=sent.stream is not False,
        artifact=sent.artifact or "",
    )
    if not (request.modelfile or request.base or request.files or request.artifact):
        raise InvalidRequest("neither 'from' or 'files' was specified", param="from")
    return request


def write_create(request: CreateRequest) -> bytes:
    """The same, as a client."""
    return encode(
        Create(
            model=request.model,
            base=request.base or None,
            files=dict(request.files) or None,
            adapters=dict(request.adapters) or None,
            template=request.template,
            system=request.system,
            parameters=dict(request.parameters) or None,
            messages=None if request.messages is None else [_Message(*message) for message in request.messages],
            license=None if request.license is None else list(request.license),
            quantize=request.quantize or None,
            renderer=request.renderer or None,
            parser=request.parser or None,
            requires=request.requires or None,
            modelfile=request.modelfile or None,
            stream=request.stream,
            artifact=request.artifact or None,
        )
    )


def read_parameters(sent: Mapping[str, Any], prefix: str) -> tuple[tuple[str, Any], ...]:
    """Parameters of a model, by the table of options where it has them.

    Raises:
        InvalidValue: one that neither we nor any Ollama knows, or a value out of range.
    """
    asked.at_most(list(sent), MAX_PARAMETERS, prefix.rstrip("."))
    return tuple((name, _parameter(name, value, prefix)) for name, value in sent.items() if value is not None)


def _parameter(name: str, value: Any, prefix: str) -> Any:
    if name in OPTIONS:
        return check(OPTIONS[name], value, param=prefix + name)
    if name not in KEPT_PARAMETERS:
        raise InvalidValue(unknown_parameter(name), param=prefix + name[:60])
    if isinstance(value, bool | int | float | str):
        return value
    raise InvalidValue(f"{prefix}{name} must be a number, a text, true or false", param=prefix + name)


def _files(sent: Mapping[str, str] | None, name: str) -> tuple[tuple[str, str], ...]:
    files = tuple(asked.at_most(list((sent or {}).items()), MAX_FILES, name))
    for file, _ in files:
        if not file or any(part in {"", ".", ".."} for part in file.split("/")):
            raise InvalidRequest(f"file path must be relative: {file[:80]!r}", param=name)
    return files


def _license(sent: str | list[str] | None) -> tuple[str, ...] | None:
    if sent is None:
        return None
    return (sent,) if isinstance(sent, str) else tuple(sent)


def _message(place: int, sent: _Message) -> tuple[str, str]:
    role = sent.role.lower()
    if role not in ROLES:
        where = f"messages[{place}].role"
        raise InvalidValue(f"{where} must be one of {', '.join(ROLES)}, not '{sent.role[:60]}'", param=where)
    return role, sent.content


def write_progress(progress: Progress) -> bytes:
    """One line."""
    return json_line(Line(progress.status, progress.digest, progress.total, progress.completed))


class ProgressReader:
    """Reads a stream of progress, in any pieces."""

    def __init__(self) -> None:
        self._lines = JsonLines()
        self._done = False

    def feed(self, data: bytes) -> Iterator[Progress]:
        """What these bytes complete.

        Raises:
            LocalModelsError: the server said that it failed.
            Garbled: these are not lines of progress.
        """
        for line in self._lines.feed(data):
            try:
                said = _LINE.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise Garbled(f"the answer is not a line of progress: {error}") from error
            if said.error:
                raise failures.in_band(said.error)
            self._done = self._done or said.status == SUCCESS
            yield Progress(said.status, said.digest, said.total, said.completed)

    def close(self) -> None:
        """Tells that the connection ended.

        Raises:
            StreamCut: ``success`` has not come.
        """
        if not self._done:
            raise StreamCut("the connection ended before the operation did")
