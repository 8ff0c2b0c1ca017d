"""Every request that could tell a hole: routes, methods, who asks, how the key is carried, how the address is spelled.

One function, :func:`expected`, says what must come of each, and it knows the table of permissions and nothing of how
the server decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from msgspec import Struct
from msgspec.structs import replace
from tools.reference import rows

from localmodels.core.access import Key, Wish
from localmodels.flows.access.keys import Keyring, make_key
from localmodels.server.permissions import PERMISSIONS
from localmodels.server.routes import OLLAMA_PREFIX

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get")
FAR_FUTURE = 2**62
NOW = 10**18


def _key(name: str, *scopes: str, **fields: object) -> tuple[Key, str]:
    made, text = make_key(Wish(name, frozenset(scopes), expires_at=FAR_FUTURE), NOW)
    return replace(made, **fields), text.reveal()


KEYS: Mapping[str, tuple[Key, str]] = {
    "revoked": _key("revoked", "admin", revoked_at=NOW),
    "expired": _key("expired", "admin", expires_at=NOW + 1),
    **{word: _key(word, word) for word in ("list", "infer", "manage", "observe", "admin")},
}
NEVER_ISSUED = "lm-" + "A" * 43


class Credential(Struct, frozen=True):
    """What is shown: the word for it, its text, and what it may once it is believed; None is believed by nobody."""

    name: str
    text: str
    scopes: frozenset[str] | None


CREDENTIALS = (
    Credential("none", "", None),
    Credential("unknown", NEVER_ISSUED, None),
    Credential("revoked", KEYS["revoked"][1], frozenset()),
    Credential("expired", KEYS["expired"][1], frozenset()),
    *(Credential(word, KEYS[word][1], frozenset({word})) for word in ("list", "infer", "manage", "observe", "admin")),
)

# How a credential is carried; the lists stand for what is really looked at.
CARRIERS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "bearer": (("authorization", "Bearer {}"),),
    "x-api-key": (("x-api-key", "{}"),),
    "both": (("authorization", "bearer {}"), ("x-api-key", "{}")),
    "basic": (("authorization", "Basic {}"),),
    "cookie": (("cookie", "authorization=Bearer {}; x-api-key={}"),),
    "query": (),
    "two": (("authorization", "Bearer {}"), ("x-api-key", "another")),
}
LOOKED_AT = frozenset({"bearer", "x-api-key", "both"})

# What becomes of the path; the parser decodes `%2f` and `%2e` before we see it.
SPELLINGS = ("plain", "//", "trailing", "upper", "semicolon", "%2f", "%2e", "dotdot", "%00", "question")


class Place(Struct, frozen=True):
    """Where a request arrives."""

    name: str
    host: str
    reached: str


PLACES = (
    Place("here", "localhost:8000", "127.0.0.1"),
    Place("elsewhere", "10.0.0.5:8000", "10.0.0.5"),
    Place("proxy", "models.example.org", "127.0.0.1"),
)


class Case(Struct, frozen=True):
    """One request."""

    place: Place
    method: str
    pattern: str
    path: str
    spelling: str
    credential: Credential
    carrier: str


@cache
def patterns() -> tuple[str, ...]:
    """Every pattern of the program's own table of routes."""
    return tuple(dict.fromkeys(row.path for row in rows()))


def filled(pattern: str) -> str:
    """A path that the pattern matches."""
    parts = (part if not part.startswith("{") else "x" for part in pattern.split("/"))
    return "/".join(parts)


def spelled(path: str, spelling: str) -> str:
    """The path as the application gets it, written in another way that some server somewhere takes for the same."""
    match spelling:
        case "//":
            return "/" + path
        case "trailing":
            return path + "/"
        case "upper":
            return path.upper()
        case "semicolon":
            return path + ";x=1"
        case "%2f":
            return path.replace("/", "%2f")[3:] if path.count("/") > 1 else path + "%2f"
        case "%2e":
            return "/%2e" + path
        case "dotdot":
            return "/health/.." + path
        case "%00":
            return path + "\0"
    return path


def cases(place: Place) -> Iterator[Case]:
    """All of them: all carriers for the plain spelling, and all spellings for the plain carriers."""
    for pattern in patterns():
        path = filled(pattern)
        for credential in CREDENTIALS:
            for carrier in CARRIERS if credential.text else ("bearer",):
                for method in METHODS:
                    yield Case(place, method, pattern, path, "plain", credential, carrier)
            for spelling in SPELLINGS[1:]:
                for method in ("GET", "POST", "DELETE"):
                    yield Case(place, method, pattern, spelled(path, spelling), spelling, credential, "bearer")


def expected(case: Case, matched: str | None) -> int:
    """The status, by the table of permissions; ``matched`` is the pattern that this spelling of the path belongs to."""
    if case.method == "OPTIONS":
        return 204
    credential = case.credential
    if case.carrier == "two" and credential.text:
        return 400
    seen = credential.text and case.carrier in LOOKED_AT
    if seen and credential.scopes == frozenset():
        return 401  # revoked or expired: opens nothing, anywhere
    scopes = credential.scopes if seen else None
    if scopes is None:
        if case.place.name == "here":
            scopes = frozenset({"admin"})
        elif seen:
            return 401
        else:
            scopes = frozenset()
    grants = PERMISSIONS[matched.removeprefix(OLLAMA_PREFIX)] if matched else {}
    scope = grants.get(case.method)
    if scope is None:
        if not scopes:
            return 401
        return 405 if matched else 404
    if scope == "open" or "admin" in scopes or scope in scopes or (scope == "known" and scopes):
        return 200
    return 403 if scopes else 401


def ring() -> Keyring:
    """Every key of the matrix, after the expired one has expired."""
    made = Keyring(lambda: NOW + 2)
    made.take(1, [key for key, _ in KEYS.values()])
    return made
