"""Every address that answers, in one table: method, path, dialect, what it is for, and who answers.

A feature is a row. The reference page is made from this table, so a route that is not in it does not exist. There are
no redirects between ``/path`` and ``/path/``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial

from msgspec import Struct
from starlette.routing import compile_path
from starlette.types import ASGIApp

from localmodels.core.errors import MethodNotAllowed, NotFound
from localmodels.dialects.ollama import library
from localmodels.dialects.plain import Plain
from localmodels.dialects.protocol import Dialect
from localmodels.dialects.table import DIALECTS
from localmodels.flows.chat import Answers
from localmodels.flows.keeper import Keeper
from localmodels.server.inference import Codec, EventRoute, WholeRoute
from localmodels.server.library import BlobRoute, Changes, Operation, ProgressRoute
from localmodels.server.listings import Listings
from localmodels.server.outside import Moves
from localmodels.server.status import Status
from localmodels.server.tokens import Tokens

OLLAMA_PREFIX = "/ollama"


class Row(Struct, frozen=True):
    """One address. ``dialect`` is the name of the codec in which its errors are written."""

    methods: tuple[str, ...]
    path: str
    dialect: str
    doc: str
    answers: ASGIApp


def table(
    answers: Answers, listings: Listings, status: Status, tokens: Tokens, keeper: Keeper, moves: Moves
) -> tuple[Row, ...]:
    """All rows, each Ollama one also under the prefix ``/ollama``."""
    plain = partial(WholeRoute, Plain())
    ollama = (
        *ollama_rows(DIALECTS["ollama"], answers, listings, status),
        *library_rows(DIALECTS["ollama"], keeper, moves),
    )
    return (
        Row(("GET", "HEAD"), "/", "plain", "What this server is.", status.root()),
        Row(("GET",), "/health", "plain", "Would a request be answered now? `?verbose=1` tells why.", status.health()),
        *ollama,
        *(Row(row.methods, OLLAMA_PREFIX + row.path, row.dialect, row.doc, row.answers) for row in ollama),
        *openai_rows(DIALECTS["openai"], answers, listings),
        Row(("POST",), "/tokenize", "plain", "Token ids of a text, by the model's tokenizer.", plain(tokens.tokenize)),
        Row(("POST",), "/detokenize", "plain", "The text of token ids.", plain(tokens.detokenize)),
    )  # fmt: skip


def ollama_rows(dialect: Dialect, answers: Answers, listings: Listings, status: Status) -> tuple[Row, ...]:
    """Ollama's API."""
    chat = Codec(dialect.read_chat, answers.chat, dialect.chat_writer, dialect.write_chat_answer)
    generate = Codec(dialect.read_generate, answers.generate, dialect.generate_writer, dialect.write_generate_answer)
    name, whole = "ollama", partial(WholeRoute, dialect)
    return (
        Row(("POST",), "/api/chat", name, "Goes on with a conversation.", EventRoute(dialect, chat, "")),
        Row(("POST",), "/api/generate", name, "Goes on with a text.", EventRoute(dialect, generate, "")),
        Row(("POST",), "/api/embed", name, "Turns texts into vectors.", whole(listings.embed(dialect))),
        Row(("POST",), "/api/embeddings", name, "Turns one text into a vector.", whole(listings.legacy_embed)),
        Row(("GET", "HEAD"), "/api/tags", name, "The models that can be asked.", whole(listings.tags)),
        Row(("GET", "POST"), "/api/show", name, "All about one model.", whole(listings.show)),
        Row(("GET",), "/api/ps", name, "The models in memory.", whole(listings.ps)),
        Row(("GET", "HEAD"), "/api/version", name, "The version of this server.", whole(status.version)),
    )  # fmt: skip


def library_rows(dialect: Dialect, keeper: Keeper, moves: Moves) -> tuple[Row, ...]:
    """Ollama's API, what changes the library."""
    changes = Changes(keeper)
    create = Operation(library.read_create, keeper.create)
    pull, push = Operation(library.read_pull, moves.pull), Operation(library.read_push, moves.push)
    name, whole = "ollama", partial(WholeRoute, dialect)
    return (
        Row(("POST",), "/api/pull", name, "Fetches a model from its registry.", ProgressRoute(dialect, pull)),
        Row(("POST",), "/api/push", name, "Sends a model to its registry.", ProgressRoute(dialect, push)),
        Row(("POST",), "/api/create", name, "Makes a model.", ProgressRoute(dialect, create)),
        Row(("POST",), "/api/copy", name, "Gives a model a second name.", whole(changes.copy)),
        Row(("DELETE",), "/api/delete", name, "Takes a name away.", whole(changes.delete)),
        Row(("HEAD", "POST"), "/api/blobs/{digest}", name, "Is a blob here; takes one.", BlobRoute(dialect, keeper)),
    )  # fmt: skip


def openai_rows(dialect: Dialect, answers: Answers, listings: Listings) -> tuple[Row, ...]:
    """OpenAI's API."""
    chat = Codec(dialect.read_chat, answers.chat, dialect.chat_writer, dialect.write_chat_answer)
    complete = Codec(dialect.read_generate, answers.generate, dialect.generate_writer, dialect.write_generate_answer)
    name, whole = "openai", partial(WholeRoute, dialect)
    return (
        Row(("POST",), "/v1/chat/completions", name, "Goes on with a conversation.",
            EventRoute(dialect, chat, "chatcmpl-")),
        Row(("POST",), "/v1/completions", name, "Goes on with a text.", EventRoute(dialect, complete, "cmpl-")),
        Row(("POST",), "/v1/embeddings", name, "Turns texts into vectors.",
            whole(listings.embed(dialect))),
        Row(("GET",), "/v1/models", name, "The models that can be asked.", whole(listings.openai_models)),
        Row(("GET",), "/v1/models/{id:path}", name, "One model.", whole(listings.openai_model)),
    )  # fmt: skip


class Directory:
    """Finds who answers: exact paths by one look into a dict, the few patterns after that, in order."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._exact: dict[str, dict[str, ASGIApp]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, ASGIApp]]] = []
        for row in rows:
            pattern, _, parameters = compile_path(row.path)
            if parameters:
                methods: dict[str, ASGIApp] = {}
                self._patterns.append((pattern, methods))
            else:
                methods = self._exact.setdefault(row.path, {})
            methods.update(dict.fromkeys(row.methods, row.answers))

    def find(self, method: str, path: str) -> tuple[ASGIApp, dict[str, str]]:
        """Who answers, and the parameters in the path.

        Raises:
            NotFound: nobody at this path.
            MethodNotAllowed: not this method; the message names those that are.
        """
        methods, parameters = self._methods(path)
        answers = methods.get(method)
        if answers is None:
            allowed = tuple(sorted(methods))
            raise MethodNotAllowed(f"{method} is not allowed here; {', '.join(allowed)} is", allowed=allowed)
        return answers, parameters

    def _methods(self, path: str) -> tuple[dict[str, ASGIApp], dict[str, str]]:
        if methods := self._exact.get(path):
            return methods, {}
        for pattern, methods in self._patterns:
            if match := pattern.match(path):
                return methods, match.groupdict()
        raise NotFound(f"there is nothing at {path[:200]}")
