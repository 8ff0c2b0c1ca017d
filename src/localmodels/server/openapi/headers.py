"""The headers that the server heeds and sends, and where: OpenAPI's parameters and headers, written once, referred to.

The one rule: where a header stands is read from the tables that the server runs on, and not listed a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec import Struct

from localmodels.core.access import Level
from localmodels.dialects.anthropic import VERSION_HEADER
from localmodels.dialects.protocol import Spoken
from localmodels.dialects.table import SPOKEN
from localmodels.server import own_headers
from localmodels.server.openapi.bodies import Body
from localmodels.server.openapi.schema import Schema
from localmodels.server.routes import Row

PARAMETERS, HEADERS = "#/components/parameters/", "#/components/headers/"

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "integer"}


class Heeded(Struct, frozen=True):
    """A header of requests: what it is for, what it may hold, and the rows on which it changes anything."""

    doc: str
    holds: Schema
    on: Callable[[Row], bool]


def _every(row: Row) -> bool:
    return True


def _asks(row: Row) -> bool:
    return bool(row.operation)


def versioned(row: Row) -> bool:
    """Does the row speak Anthropic's dialect to those who name a version of its API?"""
    return row.dialect == "openai"


HEEDED: Mapping[str, Heeded] = {
    "X-Request-Id": Heeded(
        "An id for the request: letters, digits, dots, dashes and underscores. Anything else is passed over.",
        {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
        _every,
    ),
    "X-LocalModels-Session": Heeded(
        "Ties the requests of a conversation together, so that they go where it was read before.",
        {"type": "string", "maxLength": own_headers.MOST_SESSION},
        _asks,
    ),
    "X-LocalModels-Once": Heeded(
        "With `true` no second host is asked when a first may have begun to answer.",
        {"type": "string", "enum": ["true", "false", "1", "0"]},
        _asks,
    ),
    "traceparent": Heeded(
        "The trace that the request is a part of, in W3C's form; for servers that trace.", _TEXT, _asks
    ),
    VERSION_HEADER.decode(): Heeded(
        "Whoever names a version of Anthropic's API gets its form: of lists of models, and of errors.", _TEXT, versioned
    ),
}

# Of answers: what each says, and what it holds.
_IDS = {
    "X-Request-Id": ("The request's id: the one that it brought, or a new one.", _TEXT),
    "request-id": ("The same, under the name that Anthropic's clients look for.", _TEXT),
}
_OWN = {
    "X-LocalModels-Server": ("Who answered: the name of a server, or `local`.", _TEXT),
    "X-LocalModels-Route": ("Why he was chosen, where there was a choice.", _TEXT),
    "X-LocalModels-Truncated": ("Old messages that were left out to make the conversation fit.", _NUMBER),
    "X-LocalModels-Ignored-Options": ("Options of the request that nobody heeded, with commas between.", _TEXT),
    "X-LocalModels-Ignored-Tools": ("Tools that were offered and that nobody here runs, with commas between.", _TEXT),
    "X-LocalModels-Ignored-Items": ("Kinds of items that nobody here understands, with commas between.", _TEXT),
}
_AGAIN = {"Retry-After": ("Seconds after which asking again makes sense.", _NUMBER)}
_LIMITED = {
    "retry-after-ms": ("The same in milliseconds, where a limit of the key is the reason.", _NUMBER),
    "x-should-retry": ("`false` where a quota is used up.", _TEXT),
}
_LEVELS: Mapping[str, tuple[str, Schema]] = {
    "limit": ("Most {} in a minute that the key allows.", _NUMBER),
    "remaining": ("How many {} are left of them now.", _NUMBER),
    "reset": ("When all {} are there again: how long until then, or in Anthropic's words the moment.", _TEXT),
}
_SPELLED = {name.lower().encode(): name for name in _OWN}


def parameters(row: Row) -> Iterator[Schema]:
    """References to the headers that a row heeds."""
    for name, heeded in HEEDED.items():
        if heeded.on(row):
            yield {"$ref": PARAMETERS + name}


def asks(row: Row, body: Body) -> bool:
    """Is a model asked, whose server the answer names?"""
    return bool(row.operation) or body.asks


def of_answer(row: Row, body: Body) -> Schema:
    """References to the headers of an answer that is none of the failures."""
    return _references([*_always(row, body), *(_SPELLED[name] for name in body.tells)])


def of_failure(row: Row, body: Body, *, caller_s: bool) -> Schema:
    """References to the headers of an answer that says whose fault it is: the caller's, or the server's."""
    return _references([*_always(row, body), *_AGAIN, *(_LIMITED if caller_s else ())])


def _always(row: Row, body: Body) -> Iterator[str]:
    yield from _IDS
    if asks(row, body):
        yield _SPELLED[own_headers.SERVER]
        yield _SPELLED[own_headers.ROUTE]
    yield from _levels(SPOKEN[row.dialect])


def _levels(spoken: Spoken) -> dict[str, tuple[str, Schema]]:
    """What a dialect tells of limits, by the names that it writes."""
    told: dict[str, tuple[str, Schema]] = {}
    for things in ("requests", "tokens"):
        for name, _ in spoken.write_level(things, Level(0, 0, 0.0), 0):
            word = next(word for word in name.decode().split("-") if word in _LEVELS)
            doc, holds = _LEVELS[word]
            told[name.decode()] = doc.format(things), holds
    return told


def _references(names: Iterable[str]) -> Schema:
    return {name: {"$ref": HEADERS + name} for name in names}


def components() -> Schema:
    """What the references lead to."""
    sent = {**_IDS, **_OWN, **_AGAIN, **_LIMITED}
    for spoken in SPOKEN.values():
        sent |= _levels(spoken)
    return {
        "parameters": {
            name: {"name": name, "in": "header", "description": heeded.doc, "schema": heeded.holds}
            for name, heeded in HEEDED.items()
        },
        "headers": {name: {"description": doc, "schema": holds} for name, (doc, holds) in sent.items()},
    }
