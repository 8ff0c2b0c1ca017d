"""How a text becomes the value of a setting, and a value a text: a row a kind.

A text that cannot be read is an ``InvalidValue``, ``ValueError`` or ``KeyError``; who reads it names the setting.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from localmodels.config.setting import Setting
from localmodels.config.values import Alias, ForHost, ModelFile
from localmodels.core.address import Address, Site
from localmodels.core.catalog import ModelName
from localmodels.core.errors import InvalidValue
from localmodels.core.quantity import parse_duration, parse_size, write_duration, write_size
from localmodels.core.secrets import Secret
from localmodels.core.servers import Around, ServerSpec, read_server


class Base(Struct, frozen=True):
    """Where settings are read: what a text in them may stand on.

    Attributes:
        directory: what a relative path starts from.
        home: the user's own directory, for ``~``; None where there is none.
        environ: the environment, for texts that name a variable.
        read_file: gives the bytes of a file that a text names.
    """

    directory: Path
    home: Path | None = None
    environ: Mapping[str, str] = {}
    read_file: Callable[[Path], bytes] = Path.read_bytes


class Kind(Struct, frozen=True):
    """How a text becomes a value and a value a text; ``right`` says to people what is expected.

    A ``table`` stands in the file alone; its text is JSON, and is never repeated as a whole: keys may be in it.
    """

    read: Callable[[str, Setting, Base], Any]
    write: Callable[[Any], str] = str
    right: str = ""
    table: bool = False


def _read_path(text: str, setting: Setting, base: Base) -> Path | None:
    if not text:
        return None
    if text == "~" or text.startswith("~/"):
        if base.home is None:
            raise InvalidValue("there is no HOME in the environment to put in base of ~")
        return base.home / text[2:]
    return base.directory / text


def _read_address(text: str, setting: Setting, base: Base) -> Address:
    return Site.parse(text).address


def _read_model(text: str, setting: Setting, base: Base) -> ModelFile:
    name, found, files = text.partition("=")
    file, _, projector = files.partition(",")
    path = _read_path(file, setting, base)
    if not found or path is None:
        raise InvalidValue("there is no file in it")
    return ModelFile(ModelName.parse(name), path, _read_path(projector, setting, base))


def _read_alias(text: str, setting: Setting, base: Base) -> Alias:
    name, _, model = text.partition("=")
    return Alias(ModelName.parse(name), ModelName.parse(model))


def _read_number(text: str, setting: Setting, base: Base) -> int:
    return int(_within(setting, int(text)))


def _read_size(text: str, setting: Setting, base: Base) -> int:
    return int(_within(setting, parse_size(text)))


def _read_duration(text: str, setting: Setting, base: Base) -> float:
    seconds = parse_duration(text)
    return -1.0 if seconds < 0 and setting.low < 0 else _within(setting, seconds)


def _within(setting: Setting, value: float) -> float:
    if not setting.low <= value <= setting.high:
        raise InvalidValue("it is outside the range")
    return value


def _read_choice(text: str, setting: Setting, base: Base) -> str:
    if text not in setting.choices:
        raise InvalidValue("it is none of the words")
    return text


# `*` and `null` stand for pages that nobody named, and `file:` for any downloaded one (threat V-30).
_ORIGIN = re.compile(
    r"(?!file:)[a-z][a-z0-9+.\-]*://[a-z0-9_.\-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?"
)
_SWITCH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _read_switch(text: str, setting: Setting, base: Base) -> bool:
    return _SWITCH[text.lower()]


def _read_host(text: str, setting: Setting, base: Base) -> str:
    return Address.parse(text, port=0).host.lower()


_PLACE = r"(?:[a-z0-9_][a-z0-9_.\-]{0,252}|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?"
_REGISTRY = re.compile(_PLACE)
_URL = re.compile(rf"https?://{_PLACE}(?P<path>/[a-z0-9._~%/\-]*)?", re.IGNORECASE)
_TOKEN = re.compile(r"[\x21-\x7e]{0,4096}")


def _read_url(text: str, setting: Setting, base: Base) -> str:
    if not (text or setting.default or setting.many):
        return ""  # none
    if not _URL.fullmatch(text):
        raise InvalidValue("it is not a URL of a host")
    return text.rstrip("/")


def _read_registry(text: str, setting: Setting, base: Base) -> str:
    if not _REGISTRY.fullmatch(text.lower()):
        raise InvalidValue("it is not a host")
    return text.lower()


def _read_for_host(text: str, setting: Setting, base: Base) -> ForHost:
    host, found, urls = text.partition("=")
    if not found:
        raise InvalidValue("there is no URL in it")
    split = tuple(_read_url(url.strip(), setting, base) for url in urls.split(","))
    return ForHost(_read_registry(host.strip(), setting, base), split)


def _read_trust(text: str, setting: Setting, base: Base) -> ForHost:
    found = _read_for_host(text, setting, base)
    if any("/" in url.partition("://")[2] for url in found.urls):
        raise InvalidValue("an origin has no path")
    return found


def _read_secret(text: str, setting: Setting, base: Base) -> Secret:
    if not _TOKEN.fullmatch(text):
        raise InvalidValue("it cannot be said in a header")
    return Secret(text)


# With a socket's directory in `?host=` in place of a host, as PostgreSQL's own programs write it.
_DATABASE = re.compile(r"postgres(?:ql)?://[\x21-\x7e]{1,2000}")
_PASSWORD = re.compile(r"(?<=://)([^/?@:]*):[^/?]*(?=@)|([?&]password=)[^&]*", re.IGNORECASE)
# Who asks, where a sign that ends that place stands in his password as it is: nobody can tell what is still secret.
_TORN = re.compile(r"(?<=://)[^/?#]*[/?#].*@.*")


def _read_database(text: str, setting: Setting, base: Base) -> Secret:
    if text and not _DATABASE.fullmatch(text):
        raise InvalidValue("it is not a URL of PostgreSQL")
    return Secret(text)


def _write_database(url: Secret) -> str:
    text = _TORN.sub("***", url.reveal())
    return _PASSWORD.sub(lambda found: f"{found[1]}:***" if found[2] is None else f"{found[2]}***", text)


def _read_server(text: str, setting: Setting, base: Base) -> ServerSpec:
    around = Around(lambda path: _read_path(path, setting, base), base.environ, base.read_file)
    return read_server(text, around)


def _read_origin(text: str, setting: Setting, base: Base) -> str:
    origin = text.lower().rstrip("/")
    if not _ORIGIN.fullmatch(origin):
        raise InvalidValue("it is not one origin")
    return origin


KINDS: Mapping[str, Kind] = {
    "text": Kind(lambda text, setting, base: text, right="a text"),
    "path": Kind(_read_path, lambda path: str(path or ""), "a path"),
    "address": Kind(_read_address, right="HOST:PORT, the port at most 65535, such as 127.0.0.1:8000 or [::1]:8000"),
    "model": Kind(_read_model, right="NAME=FILE.gguf, or NAME=FILE.gguf,MMPROJ.gguf"),
    "alias": Kind(_read_alias, right="NAME=MODEL"),
    "number": Kind(_read_number, right="a whole number"),
    "size": Kind(_read_size, write_size, "bytes, or a size such as 8GiB"),
    "duration": Kind(_read_duration, write_duration, "seconds, or a duration such as 30s, 5m or 1h30m"),
    "choice": Kind(_read_choice, right="one of"),
    "switch": Kind(_read_switch, lambda value: "true" if value else "false", "true or false"),
    "host": Kind(_read_host, right="a host name"),
    "url": Kind(_read_url, right="a URL such as https://hub.example or http://10.0.0.5:8080/hub"),
    "mirror": Kind(_read_for_host, right="HOST=URL, or HOST=URL,URL, such as registry.ollama.ai=https://cache.example"),
    "registry": Kind(_read_registry, right="a host, such as registry.example or 10.0.0.5:5000"),
    "trust": Kind(_read_trust, right="HOST=URL, or HOST=URL,URL, such as registry.example=https://auth.example"),
    "secret": Kind(_read_secret, lambda secret: str(secret) if secret else "", right="a token without spaces"),
    "database": Kind(_read_database, _write_database, "postgresql://USER:PASSWORD@HOST:PORT/NAME"),
    "server": Kind(_read_server, right="a table with name, url and kind", table=True),
    "origin": Kind(_read_origin, right="one origin, such as https://example.org or http://localhost:5173; no *"),
}
