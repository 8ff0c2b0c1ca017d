"""Ollama's requests about the library (pull, push, create, copy, delete) and its streams of progress, in both roles.

The rule of the streams: ``success`` is said once, last, and only when everything is done; a stream that ends without it
was cut, and an error is one object ``{"error": …}`` with nothing after it. Where several servers do the same, each line
says whose it is; the last one is of none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from localmodels.core.errors import Garbled, InvalidRequest, InvalidValue, StreamCut
from localmodels.core.library import (
    FAILED,
    KEPT_PARAMETERS,
    SUCCESS,
    CopyRequest,
    CreateRequest,
    DeleteRequest,
    Outcome,
    PartlyDone,
    Progress,
    PullRequest,
    PushRequest,
    partly_done,
    unknown_parameter,
)
from localmodels.core.options import OPTIONS, check
from localmodels.dialects import asked, failures, figures, strict_json
from localmodels.dialects.framing import JsonLines, json_line
from localmodels.dialects.strict_json import encode

MAX_FILES = 1_024
MAX_PARAMETERS = 256
MOST_SERVERS = 1_000
ROLES = ("system", "user", "assistant", "tool")


class Transfer(Struct, omit_defaults=True):
    """``POST /api/pull`` and ``/api/push``."""

    model: str = ""
    name: str = ""
    insecure: bool = False
    stream: bool | None = None
    server: str | list[str] | None = None  # ours


class Copy(Struct, omit_defaults=True):
    """``POST /api/copy``."""

    source: str = ""
    destination: str = ""
    server: str | list[str] | None = None  # ours


class Delete(Struct, omit_defaults=True):
    """``DELETE /api/delete``."""

    model: str = ""
    name: str = ""
    server: str | list[str] | None = None  # ours


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
    artifact: str | None = None  # ours, like the next
    server: str | list[str] | None = None


class Line(Struct, omit_defaults=True):
    """A line of progress.

    ``server`` and ``failure`` are ours: what happens on one of several servers. Clients of Ollama leave at the first
    ``error``, so that is said once, last, when the others are done.
    """

    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0
    server: str = ""
    failure: str = ""
    error: Any = None


class Told(Struct, omit_defaults=True):
    """The answer of what is not streamed; ``servers`` where some were named.

    With ``error`` its status is 502: Ollama's clients take 207 for a success, and read ``error`` of any that is not.
    """

    status: str = ""
    servers: tuple[Outcome, ...] = ()
    error: Any = None


_TRANSFER = msgspec.json.Decoder(Transfer)
_COPY = msgspec.json.Decoder(Copy)
_DELETE = msgspec.json.Decoder(Delete)
_CREATE = msgspec.json.Decoder(Create)
_LINE = msgspec.json.Decoder(Line)
_TOLD = msgspec.json.Decoder(Told)


def read_pull(body: bytes) -> PullRequest:
    """``POST /api/pull``."""
    sent = strict_json.read(body, _TRANSFER)
    return PullRequest(
        asked.required(sent.model or sent.name, "model"),
        sent.insecure,
        sent.stream is not False,
        servers=read_servers(sent.server),
    )


def write_pull(request: PullRequest) -> bytes:
    """The same, as a client."""
    server = write_servers(request.servers)
    return encode(Transfer(request.model, insecure=request.insecure, stream=request.stream, server=server))


def read_push(body: bytes) -> PushRequest:
    """``POST /api/push``."""
    sent = strict_json.read(body, _TRANSFER)
    return PushRequest(
        asked.required(sent.model or sent.name, "model"),
        sent.insecure,
        sent.stream is not False,
        servers=read_servers(sent.server),
    )


def write_push(request: PushRequest) -> bytes:
    """The same, as a client."""
    server = write_servers(request.servers)
    return encode(Transfer(request.model, insecure=request.insecure, stream=request.stream, server=server))


def read_copy(body: bytes) -> CopyRequest:
    """``POST /api/copy``."""
    sent = strict_json.read(body, _COPY)
    return CopyRequest(
        asked.required(sent.source, "source"),
        asked.required(sent.destination, "destination"),
        read_servers(sent.server),
    )


def write_copy(request: CopyRequest) -> bytes:
    """The same, as a client."""
    return encode(Copy(request.source, request.destination, write_servers(request.servers)))


def read_delete(body: bytes) -> DeleteRequest:
    """``DELETE /api/delete``."""
    sent = strict_json.read(body, _DELETE)
    return DeleteRequest(asked.required(sent.model or sent.name, "model"), read_servers(sent.server))


def write_delete(request: DeleteRequest) -> bytes:
    """The same, as a client."""
    return encode(Delete(request.model, server=write_servers(request.servers)))


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
        servers=read_servers(sent.server),
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
            server=write_servers(request.servers),
        )
    )


def read_servers(sent: str | Sequence[str] | None) -> tuple[str, ...]:
    """The servers that a request names, each once; none where it names none.

    Raises:
        InvalidRequest: an empty name, or too many.
    """
    if sent is None:
        return ()
    names = asked.at_most([sent] if isinstance(sent, str) else list(sent), MOST_SERVERS, "server")
    if not names or not all(names):
        raise InvalidRequest("server is the id or the name of a server, '*' for every one, or a list", param="server")
    return tuple(dict.fromkeys(names))


def write_servers(servers: Sequence[str]) -> str | list[str] | None:
    """The same, as a client."""
    return None if not servers else servers[0] if len(servers) == 1 else list(servers)


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
    return json_line(
        Line(
            progress.status,
            progress.digest,
            progress.total,
            progress.completed,
            progress.server,
            failures.sayable(progress.failure),
        )
    )


def write_outcomes(outcomes: Sequence[Outcome], error: str = "") -> bytes:
    """What became of a short operation on several servers; with an error where it is not all done."""
    sayable = tuple(replace(one, failure=failures.sayable(one.failure)) for one in outcomes)
    return encode(Told(FAILED if error else SUCCESS, sayable, failures.sayable(error) or None))


def read_outcomes(body: bytes) -> tuple[Outcome, ...]:
    """The same, of an answer with status 200; none where the operation named no server.

    Raises:
        Garbled: it is something else.
    """
    if not body:
        return ()  # Ollama itself says nothing
    try:
        return _TOLD.decode(body).servers
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Garbled(f"the server's answer is not what it should be: {error}") from error


def read_partly_done(body: bytes) -> PartlyDone | None:
    """The error in an answer that is none of success, where it says what became of each of several servers."""
    try:
        return partly_done(_TOLD.decode(body).servers)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class ProgressReader:
    """Reads a stream of progress, in any pieces."""

    def __init__(self) -> None:
        self._lines = JsonLines()
        self._done = False
        self._rows: dict[str, Outcome] = {}  # the newest of each server

    def feed(self, data: bytes) -> Iterator[Progress]:
        """What these bytes complete.

        Raises:
            PartlyDone: it failed on some of several servers.
            LocalModelsError: the server said that it failed.
            Garbled: these are not lines of progress.
        """
        for line in self._lines.feed(data):
            try:
                said = _LINE.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise Garbled(f"the answer is not a line of progress: {error}") from error
            if said.error:
                raise partly_done(tuple(self._rows.values())) or failures.in_band(said.error)
            if said.server:
                self._rows[said.server] = Outcome(said.server, said.status, said.failure)
            self._done = self._done or (said.status == SUCCESS and not said.server)
            total, completed = figures.size(said.total), figures.size(said.completed)
            yield Progress(said.status, said.digest, total, completed, said.server, said.failure)

    def close(self) -> None:
        """Tells that the connection ended.

        Raises:
            StreamCut: ``success`` has not come.
        """
        if not self._done:
            raise StreamCut("the connection ended before the operation did")
