"""How a model is unloaded on servers that are named: ``/api/generate`` or ``/api/chat`` with ``keep_alive`` 0 alone.

That much is Ollama's; ``server`` is ours. The answer is Ollama's too, and says beside what became of each server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from localmodels.core.errors import Garbled, InvalidRequest, InvalidValue
from localmodels.core.library import Outcome
from localmodels.dialects import asked, strict_json
from localmodels.dialects.durations import read_keep_alive
from localmodels.dialects.ollama import wire
from localmodels.dialects.ollama.library import read_servers, write_servers
from localmodels.dialects.strict_json import encode


class Unload(Struct, frozen=True):
    """Take a model out of the memory of these servers (ids, names, or ``*``)."""

    model: str
    servers: tuple[str, ...]
    stream: bool = True


class Asked(Struct):
    """What of such a request says that it is one."""

    model: str = ""
    name: str = ""
    server: str | list[str] | None = None
    keep_alive: float | str | None = None
    stream: bool | None = None
    prompt: Any = None
    suffix: Any = None
    images: Any = None
    context: Any = None
    messages: Any = None


class Unloaded(wire.Line, omit_defaults=True, kw_only=True):
    """The answer."""

    servers: tuple[Outcome, ...] = ()


_CONTENT = ("prompt", "suffix", "images", "context", "messages")
_NOTHING = frozenset({b"null", b'""', b"[]"})
_KEPT: msgspec.json.Decoder[float | str | None] = msgspec.json.Decoder(float | str | None)
_ASKED = msgspec.json.Decoder(Asked)
_UNLOADED = msgspec.json.Decoder(Unloaded)


def read_unload(body: bytes) -> Unload | None:
    """The request, where it names servers; None where it names none, and is anything else.

    Raises:
        InvalidRequest: it names servers, and asks for more than that they unload a model.
    """
    if b'"server"' not in body:
        return None
    sent = strict_json.read(body, _ASKED)
    servers = read_servers(sent.server)
    if not servers:
        return None
    content = (sent.prompt, sent.suffix, sent.images, sent.context, sent.messages)
    if any(content) or read_keep_alive(sent.keep_alive) != 0:
        what = (
            "server goes with keep_alive 0 and nothing to answer; to ask the model of one server, name it SERVER/MODEL"
        )
        raise InvalidRequest(what, param="server")
    return Unload(asked.required(sent.model or sent.name, "model"), servers, sent.stream is not False)


def is_unload(fields: Mapping[str, msgspec.Raw]) -> bool:
    """Do these fields of a request ask for nothing but that a model leaves the memory?"""
    if "keep_alive" not in fields:
        return False
    try:
        kept = read_keep_alive(_KEPT.decode(fields["keep_alive"]))
    except (msgspec.DecodeError, InvalidValue):
        return False  # whoever reads the request says what is wrong
    return kept == 0 and all(bytes(fields.get(name, b"null")) in _NOTHING for name in _CONTENT)


def write_unload(model: str, servers: Sequence[str]) -> bytes:
    """The same, as a client."""
    return encode({"model": model, "keep_alive": 0, "stream": False, "server": write_servers(servers)})


def write_unloaded(model: str, outcomes: tuple[Outcome, ...], *, chat: bool) -> bytes:
    """The answer of a chat, or of a text."""
    content: dict[str, Any] = {"message": wire.Message("assistant", "")} if chat else {"response": ""}
    created = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    line = Unloaded(model=model, created_at=created, done=True, done_reason="unload", servers=outcomes, **content)
    return encode(line)


def read_unloaded(body: bytes) -> tuple[Outcome, ...]:
    """What it says of each server.

    Raises:
        Garbled: it is something else.
    """
    try:
        return _UNLOADED.decode(body).servers
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Garbled(f"the server's answer is not what it should be: {error}") from error
