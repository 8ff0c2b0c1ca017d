"""The kinds of other servers: whatever one kind has that another has not is in its row of this table.

A kind's name, and what people copy behind an address, stand in ``core.servers``, where the settings are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from localmodels.backends.http import Http
from localmodels.backends.probes import Look, look_at_anthropic, look_at_llamacpp, look_at_ollama, look_at_openai
from localmodels.backends.remote import ChatServer, LlamaServer, OllamaServer, OpenAIServer
from localmodels.core.servers import AnyKind, ServerSpec
from localmodels.dialects.llamacpp import LlamaCpp
from localmodels.dialects.openai import OpenAI
from localmodels.dialects.protocol import Call
from localmodels.dialects.table import CHATS, DIALECTS

AGENT = {"User-Agent": "LocalModels"}
ANTHROPIC_VERSION = "2023-06-01"
_TEXTS: frozenset[Call] = frozenset({"chat", "generate", "embed"})


class Kind(Struct, frozen=True, kw_only=True):
    """An API, as far as a server that speaks it is asked by us.

    Attributes:
        backend: what speaks it, over these connections.
        native: the dialect in which requests can pass to it byte for byte.
        passes: what they can ask for.
        look: asks it how it is.
        show: the path of what it tells of one model, in Ollama's form; empty where it tells nothing.
        unload: the path by which it takes a model out of memory, in Ollama's form; empty where it cannot be told to.
        key: the header of a key, and what stands before the key.
        headers: further ones that it asks for.
    """

    backend: Callable[[Http], ChatServer]
    native: str
    passes: frozenset[Call] = _TEXTS
    look: Look = look_at_openai
    show: str = ""
    unload: str = ""
    key: tuple[str, str] = ("Authorization", "Bearer ")
    headers: Mapping[str, str] = {}


KINDS: Mapping[AnyKind, Kind] = {
    "openai": Kind(backend=lambda http: OpenAIServer(http, OpenAI()), native="openai"),
    "ollama": Kind(
        backend=lambda http: OllamaServer(http, DIALECTS["ollama"]),
        native="ollama",
        look=look_at_ollama,
        show="/api/show",
        unload="/api/generate",
    ),
    "llamacpp": Kind(backend=lambda http: LlamaServer(http, LlamaCpp()), native="openai", look=look_at_llamacpp),
    "anthropic": Kind(
        backend=lambda http: ChatServer(http, CHATS["anthropic"]),
        native="anthropic",
        passes=frozenset({"chat", "count"}),
        look=look_at_anthropic,
        key=("x-api-key", ""),
        headers={"anthropic-version": ANTHROPIC_VERSION},
    ),
}


def credentials(spec: ServerSpec) -> dict[str, str]:
    """The headers by which a server knows us."""
    kind = KINDS[spec.kind]
    name, before = kind.key
    return {**AGENT, **kind.headers, **({name: before + spec.key.reveal()} if spec.key else {})}
