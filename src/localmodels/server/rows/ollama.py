"""Ollama's API."""

from __future__ import annotations

from msgspec.structs import replace

from localmodels.dialects.ollama import library
from localmodels.dialects.protocol import Dialect
from localmodels.dialects.table import DIALECTS
from localmodels.server.inference import Codec, EventRoute, WholeRoute
from localmodels.server.library import (
    SMALL,
    BlobRoute,
    ChangeRoute,
    Changes,
    Operation,
    ProgressRoute,
    creation,
    transfer,
)
from localmodels.server.parts import Parts
from localmodels.server.relay import relaying
from localmodels.server.routes import OLLAMA_PREFIX, Row
from localmodels.server.unloading import UnloadRoute

NAME = "ollama"


def rows(parts: Parts) -> tuple[Row, ...]:
    """All of them, each also under the prefix ``/ollama``."""
    dialect = DIALECTS[NAME]
    own = (*_asking(dialect, parts), *_listing(parts), *_changing(dialect, parts))
    return (*own, *(replace(row, path=OLLAMA_PREFIX + row.path) for row in own))


def _asking(dialect: Dialect, parts: Parts) -> tuple[Row, ...]:
    answers, listings = parts.answers, parts.listings
    chat = Codec(dialect.read_chat, answers.chat, dialect.chat_writer, dialect.write_chat_answer)
    generate = Codec(dialect.read_generate, answers.generate, dialect.generate_writer, dialect.write_generate_answer)
    chats = relaying(parts.relays, dialect, "chat", EventRoute(dialect, chat, ""))
    texts = relaying(parts.relays, dialect, "generate", EventRoute(dialect, generate, ""))
    chats = UnloadRoute(parts.everywhere, chats, chat=True)
    texts = UnloadRoute(parts.everywhere, texts, chat=False)
    embed = relaying(parts.relays, dialect, "embed", WholeRoute(listings.embed(dialect)))
    legacy = WholeRoute(listings.legacy_embed)
    return (
        Row(("POST",), "/api/chat", NAME, "Goes on with a conversation.", chats, "chat"),
        Row(("POST",), "/api/generate", NAME, "Goes on with a text.", texts, "text_completion"),
        Row(("POST",), "/api/embed", NAME, "Turns texts into vectors.", embed, "embeddings"),
        Row(("POST",), "/api/embeddings", NAME, "Turns one text into a vector.", legacy, "embeddings"),
    )


def _listing(parts: Parts) -> tuple[Row, ...]:
    listings = parts.listings
    tags, show = WholeRoute(listings.tags, most=SMALL), WholeRoute(listings.show, most=SMALL)
    ps, version = WholeRoute(listings.ps, most=SMALL), WholeRoute(parts.status.version, most=SMALL)
    return (
        Row(("GET", "HEAD"), "/api/tags", NAME, "The models that can be asked.", tags),
        Row(("GET", "POST"), "/api/show", NAME, "All about one model.", show),
        Row(("GET",), "/api/ps", NAME, "The models in memory.", ps),
        Row(("GET", "HEAD"), "/api/version", NAME, "The version of this server.", version),
    )


def _changing(dialect: Dialect, parts: Parts) -> tuple[Row, ...]:
    everywhere = parts.everywhere
    changes = Changes(everywhere, parts.require_here)
    copy, delete = ChangeRoute(changes.copy), ChangeRoute(changes.delete)
    pull = ProgressRoute(dialect, Operation(library.read_pull, everywhere.pull, transfer))
    push = ProgressRoute(dialect, Operation(library.read_push, changes.push, transfer))
    create = ProgressRoute(dialect, Operation(library.read_create, everywhere.create, creation))
    blobs = BlobRoute(dialect, parts.keeper)
    return (
        Row(("POST",), "/api/pull", NAME, "Fetches a model from its registry.", pull),
        Row(("POST",), "/api/push", NAME, "Sends a model to its registry.", push),
        Row(("POST",), "/api/create", NAME, "Makes a model.", create),
        Row(("POST",), "/api/copy", NAME, "Gives a model a second name.", copy),
        Row(("DELETE",), "/api/delete", NAME, "Takes a name away.", delete),
        Row(("HEAD", "POST"), "/api/blobs/{digest}", NAME, "Is a blob here; takes one.", blobs),
    )
