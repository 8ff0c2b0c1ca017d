"""Other servers behind this one, as their owner describes them: values, and how a table of the settings becomes one.

The one rule: no key stands in a table. A table names the place of its key, and what is wrong with a table is said
without any of its texts that could hold a secret: those are its address and what names its key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from localmodels.core.errors import InvalidValue
from localmodels.core.quantity import parse_duration
from localmodels.core.secrets import Secret

ServerKind = Literal["openai", "ollama", "llamacpp", "anthropic"]
# Also this process's own engine, where it stands in a row with others.
AnyKind = ServerKind | Literal["local"]
# How near a server was when it was registered, and no connection to it leads nearer (``core.destinations``): on this
# machine, on the local network, where everybody can reach it. ``any`` is for servers that stand in the owner's file.
Reach = Literal["any", "loopback", "private", "public"]

# Our own engine's name wherever a server is named.
RESERVED = frozenset({"local"})
DAY = 86_400.0
MOST_PLACES = 100_000
_SHOWN = 40  # characters of a value that is wrong
# Every kind, and what people copy from other clients' settings: the path that we put behind the address ourselves.
_BEHIND: Mapping[str, str] = {"openai": "/v1", "ollama": "/api", "llamacpp": "/v1", "anthropic": "/v1"}

# What can be the name of a model anywhere.
MODEL_NAME = re.compile(r"[\x21-\x7e]{1,300}")

# Of a server that is registered through the API: a name for people, of which :func:`prefix_of` makes one for models.
SERVER_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,62}[A-Za-z0-9])?")
KEY = re.compile(r"[\x21-\x7e]{1,4096}")

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_NOT_IN_A_PREFIX = re.compile(r"[^a-z0-9_-]+")
_HOST = r"(?:[a-z0-9_][a-z0-9_.\-]{0,252}|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?"
_URL = re.compile(rf"https?://{_HOST}(?:/[a-z0-9._~%\-]+)*/?", re.IGNORECASE)
# An address without its scheme that can be repeated: nothing in it could be a user, a password or a key.
_PLACE = re.compile(
    r"(?:[a-z0-9_][a-z0-9_.\-]{0,252}|\[[0-9a-f:.]+\]):[0-9]{1,5}|[0-9]{1,3}(?:\.[0-9]{1,3}){3}", re.IGNORECASE
)
# How another LocalModels says what a key may not do there, and the scopes without which no gateway's key is of any use.
_SCOPE = re.compile(r"needs the scope '([a-z]{1,20})'")
_USUAL_SCOPES = ("infer", "list")
# What people call the field of a key, none of which is one.
_KEYS = ("key", "api_key", "token")


class ServerSpec(Struct, frozen=True, kw_only=True):
    """Another server.

    Attributes:
        name: stands before the names of its models, ``name/model``.
        url: ``http://host:port`` or ``https://…``, perhaps with a path; without a slash at its end.
        kind: the API it speaks.
        key: sent to it and to nobody else; empty for none.
        key_file: where the key was found, if in a file.
        models: the only ones that are offered, also under their bare names; empty offers whatever it lists.
        max_concurrent: requests that it gets at once; 0 is without limit.
        max_queue: requests that may wait for one of these places.
        first_byte: seconds of silence before an answer begins.
        idle: seconds of silence in the middle of it.
        ca_file: further authorities (PEM) that its certificate may come from.
        id: UUID as text, by which the API names it.
        registered: was it registered through the API? Then its models are offered under their bare names too, each
            wherever a host of the fleet has it. Else it stands in the file.
        capabilities: what it is for, in its owner's words (``general``, ``code``, ``embedding``, …).
        priority: hosts with a higher one are asked first.
        weight: how fast it is beside the others.
        is_default: is it the first choice where nothing else speaks for another?
        is_active: may it be asked at all?
        reach: where connections to it may go.
    """

    name: str
    url: str
    kind: AnyKind
    key: Secret = Secret("")
    key_file: Path | None = None
    models: tuple[str, ...] = ()
    max_concurrent: int = 0
    max_queue: int = 64
    first_byte: float = 60.0
    idle: float = 120.0
    ca_file: Path | None = None
    id: str = ""
    registered: bool = False
    capabilities: tuple[str, ...] = ()
    priority: int = 0
    weight: float = 1.0
    is_default: bool = False
    is_active: bool = True
    reach: Reach = "any"

    def __str__(self) -> str:
        return f"{self.name}={self.url} ({self.kind})"


def prefix_of(name: str) -> str:
    """What stands before the names of a server's models: ``Ollama Server 1`` offers ``ollama-server-1/qwen3``.

    The names of servers of the file, and whatever is a prefix already, stay as they are.
    """
    return _NOT_IN_A_PREFIX.sub("-", name.lower())


def key_goes(spec: ServerSpec, which: str = "one") -> str:
    """How its owner gives a server a key, or another: what a sentence goes on with."""
    if spec.registered:
        return f"`localmodels servers set {prefix_of(spec.name)} --key-file FILE` gives it {which}"
    return f"key_file or key_env in the file of settings gives it {which}"


def scope_missing(said: str, spec: ServerSpec) -> str:
    """What our key lacks on another LocalModels, and what its owner does on either machine.

    Args:
        said: how it has refused a request.
        spec: the server.

    Returns:
        It in words; empty where something else is the reason.
    """
    found = _SCOPE.search(said)
    if found is None:
        return ""
    scopes = ",".join(dict.fromkeys((*_USUAL_SCOPES, found[1])))
    made = f"on its machine `localmodels keys add NAME --scopes {scopes}` makes one that has it"
    return f"our key lacks the scope '{found[1]}': {made}, and here {key_goes(spec, 'that')}"


def scheme_missing(text: str) -> str:
    """What was meant by an address in which nothing but the scheme is missing; empty where it cannot be repeated.

    >>> scheme_missing("127.0.0.1:8766"), scheme_missing("me:sesame@box")
    (', such as http://127.0.0.1:8766', '')
    """
    return f", such as http://{text}" if _PLACE.fullmatch(text) else ""


def bare_url(url: str, kind: AnyKind) -> str:
    """The address without what people copy behind it, since we put that there ourselves."""
    return url.rstrip("/").removesuffix(_BEHIND.get(kind, ""))


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """A server as it stands in the file."""

    name: str
    url: str
    kind: str
    key_env: str = ""
    key_file: str = ""
    models: tuple[str, ...] = ()
    max_concurrent: int = 0
    max_queue: int = 64
    first_byte: str | float = 60.0
    idle: str | float = 120.0
    ca_file: str = ""


FIELDS = Table.__struct_fields__


class Around(Struct, frozen=True):
    """What a table may point at: ``path`` makes a text of it absolute, ``environ`` and ``read`` hold the keys."""

    path: Callable[[str], Path | None]
    environ: Mapping[str, str]
    read: Callable[[Path], bytes]


def read_server(table: str, around: Around) -> ServerSpec:
    """The server that a table (as JSON) describes.

    Raises:
        InvalidValue: it cannot be one; the message names the server, what is wrong and what would be right.
    """
    try:
        said = msgspec.json.decode(table, type=Table)
    except msgspec.ValidationError as error:
        what = _misplaced(table) or f"{error}; a server has {', '.join(FIELDS)}"
        raise InvalidValue(f"{_whose(table)}{what}") from error
    except msgspec.DecodeError as error:
        raise InvalidValue(f"a server is a table with {', '.join(FIELDS)}") from error
    if said.name in RESERVED:
        raise InvalidValue(f"name must be another: '{said.name}' is our own engine's")
    if not _NAME.fullmatch(said.name):
        right = "1 to 32 of a-z, 0-9, - and _, beginning with a letter or digit"
        raise InvalidValue(f"name must be {right}, and {said.name[:_SHOWN]!r} is not")
    try:
        return _read(said, around)
    except InvalidValue as error:
        raise InvalidValue(f"the server '{said.name}': {error.message}") from error


def _whose(table: str) -> str:
    """Which server a table that cannot be read is of; empty if it does not say."""
    name = _fields(table).get("name")
    return f"the server '{name}': " if isinstance(name, str) and _NAME.fullmatch(name) else ""


def _misplaced(table: str) -> str:
    """What is said of a table in which a key stands itself; empty where none does."""
    wrong = next((name for name in _KEYS if name in _fields(table)), "")
    right = "say in which variable of the environment it is (key_env), or in which file (key_file)"
    return f"a key does not stand in the table, and there is no field '{wrong}': {right}" if wrong else ""


def _fields(table: str) -> Mapping[str, object]:
    fields = msgspec.json.decode(table)
    return fields if isinstance(fields, dict) else {}


def _read(said: Table, around: Around) -> ServerSpec:
    if said.kind not in _BEHIND:
        raise InvalidValue(f"kind must be one of {', '.join(_BEHIND)}, not {said.kind[:_SHOWN]!r}")
    if not _URL.fullmatch(said.url):
        raise InvalidValue(f"url must {_right_url(said.url)}")
    if wrong := [name for name in said.models if not MODEL_NAME.fullmatch(name)]:
        raise InvalidValue(f"models must be names without spaces, and {wrong[0][:_SHOWN]!r} is none")
    return ServerSpec(
        name=said.name,
        url=bare_url(said.url, said.kind),  # type: ignore[arg-type]  # looked at above
        kind=said.kind,  # type: ignore[arg-type]  # looked at above
        key=_key(said, around),
        key_file=around.path(said.key_file),
        models=said.models,
        max_concurrent=_within("max_concurrent", said.max_concurrent, 0),
        max_queue=_within("max_queue", said.max_queue, 0),
        first_byte=_seconds("first_byte", said.first_byte),
        idle=_seconds("idle", said.idle),
        ca_file=around.path(said.ca_file),
    )


def _right_url(url: str) -> str:
    """What an address lacks that is none; nothing of it is repeated that could be a secret."""
    if not url.lower().startswith(("http://", "https://")):
        return f"begin with http:// or https://{scheme_missing(url)}"
    if "@" in url:
        return "be without a user and a password: key_env or key_file says where its key is"
    return "be http://HOST:PORT or https://HOST, perhaps with a path, and nothing else"


def _key(said: Table, around: Around) -> Secret:
    """The key, from where the table says it is."""
    if said.key_env and said.key_file:
        raise InvalidValue("key_env and key_file exclude each other")
    if said.key_env:
        text, where = around.environ.get(said.key_env, "").strip(), f"key_env: {said.key_env} in the environment"
    elif said.key_file:
        path = around.path(said.key_file)
        text, where = _file(path, around), f"key_file: {path}"
    else:
        return Secret("")
    if not text:
        raise InvalidValue(f"{where} is empty or not there")
    if not KEY.fullmatch(text):
        raise InvalidValue(f"{where} is no key: it holds spaces, or more than one line")
    return Secret(text)


def _file(path: Path | None, around: Around) -> str:
    try:
        return around.read(path).decode("ascii").strip() if path else ""
    except OSError as error:
        raise InvalidValue(f"key_file: {path} cannot be read: {error.strerror or 'it is not there'}") from error
    except UnicodeDecodeError:
        raise InvalidValue(f"key_file: {path} is no key: it holds more than ASCII") from None


def _within(field: str, number: int, low: int) -> int:
    if not low <= number <= MOST_PLACES:
        raise InvalidValue(f"{field} must be a whole number from {low} to {MOST_PLACES}, not {number}")
    return number


def _seconds(field: str, value: str | float) -> float:
    try:
        seconds = parse_duration(str(value))
    except InvalidValue:
        seconds = 0.0
    if not 0 < seconds <= DAY:
        raise InvalidValue(
            f"{field} must be seconds, or a duration such as 30s or 5m, of at most a day, not {str(value)[:_SHOWN]!r}"
        )
    return seconds
