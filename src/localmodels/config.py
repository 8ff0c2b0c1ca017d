"""What can be set, in one table, and how a setting is found: flag, else environment, else file, else default.

``SETTINGS`` is the table: flags of ``serve``, names in the environment, keys of the file, ``localmodels config`` and
one page of the reference are all made from it. Its rule: a value that cannot be used ends the start with an error that
names the setting, the value, where it came from and what would be right; nothing is guessed, and a misspelt key is
never ignored.
"""

from __future__ import annotations

import difflib
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
from msgspec import Struct

from localmodels.core.address import Address, Site
from localmodels.core.catalog import ModelName
from localmodels.core.errors import InvalidValue
from localmodels.core.options import OPTIONS
from localmodels.core.quantity import parse_duration, parse_size, write_duration, write_size
from localmodels.core.secrets import Secret
from localmodels.core.servers import Around, ServerSpec, read_server

PREFIX = "LOCALMODELS_"
FILE_NAME = "localmodels.toml"

# Names in the environment that begin as settings do but belong to the client and to the search for the file.
_NOT_SETTINGS = {"LOCALMODELS_HOST", "LOCALMODELS_API_KEY", "LOCALMODELS_CONFIG"}
# Ollama's switches that have no meaning here; whoever sets one is told so.
_IGNORED = {
    "OLLAMA_FLASH_ATTENTION": "the engine decides on flash attention by itself",
    "OLLAMA_SCHED_SPREAD": "layers are spread over GPUs as they fit",
    "OLLAMA_GPU_OVERHEAD": "use memory_limit",
    "OLLAMA_LLM_LIBRARY": "use llama_server",
    "OLLAMA_DEBUG": "use log_level",
}

Source = Literal["flag", "environment", "file"]
# When a model's files are hashed before they are loaded.
Policy = Literal["first", "always", "never"]


class ConfigError(Exception):
    """A setting that cannot be used; the message is for the person who set it."""


class ModelFile(Struct, frozen=True):
    """A model run from where it lies: its name, its GGUF file and, for models that see, the projector's file."""

    name: ModelName
    file: Path
    projector: Path | None = None

    def __str__(self) -> str:
        return f"{self.name}={self.file}" + (f",{self.projector}" if self.projector else "")


class Alias(Struct, frozen=True):
    """Another name for a model."""

    name: ModelName
    model: ModelName

    def __str__(self) -> str:
        return f"{self.name}={self.model}"


class ForHost(Struct, frozen=True):
    """URLs that belong to the host of a registry, as names of models write it."""

    host: str
    urls: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.host}={','.join(self.urls)}"


class Config(Struct, frozen=True, kw_only=True):
    """Every setting, checked. What each means stands in its row of ``SETTINGS``.

    Durations are seconds (``keep_alive`` < 0 is for ever), sizes bytes, paths absolute.
    """

    listen: tuple[Address, ...]
    home: Path
    models: tuple[Path, ...]
    model: tuple[ModelFile, ...]
    default_model: str
    alias: tuple[Alias, ...]
    llama_server: Path | None
    keep_alive: float
    num_parallel: int
    max_loaded_models: int
    max_queue: int
    context_length: int
    kv_cache_type: str
    memory_limit: int
    gpu_layers: int
    spin: bool
    verify: Policy
    load_timeout: float
    queue_timeout: float
    max_wait: float
    chat_timeout: float
    drain_timeout: float
    max_connections: int
    max_connections_per_address: int
    allowed_hosts: tuple[str, ...]
    origins: tuple[str, ...]
    request_templates: bool
    hf_endpoint: str
    hf_token: Secret
    mirrors: tuple[ForHost, ...]
    insecure_registries: tuple[str, ...]
    trusted_origins: tuple[ForHost, ...]
    ca_file: Path | None
    servers: tuple[ServerSpec, ...]
    require_key: bool
    response_retention: float
    response_quota: int
    insecure_no_auth: bool
    log_level: str
    log_format: str
    access_log: bool
    traces: str


class Place(Struct, frozen=True):
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


class Machine(Struct, frozen=True):
    """What defaults depend on: the environment, ``sys.platform`` and the working directory."""

    environ: Mapping[str, str]
    platform: str
    directory: Path

    @property
    def home(self) -> Path | None:
        """The user's home directory."""
        return Path(self.environ["HOME"]) if self.environ.get("HOME") else None


class Setting(Struct, frozen=True):
    """One row of the table.

    Attributes:
        name: in the file; with ``LOCALMODELS_`` before it and in capitals, in the environment.
        kind: how its texts are read, a row of ``KINDS``.
        default: as a text that ``kind`` reads, or a function where it depends on the machine.
        doc: one line.
        flag: on the command line; empty where it cannot be set there.
        metavar: what stands for the value in the help text.
        environ: further names in the environment.
        many: may it be given more than once? Then texts in the environment are split at ``separator``.
        low, high: the range of a number, inclusive.
        choices: the words of a choice.
        sources: where it may be set.
        default_doc: what the reference says of a default that depends on the machine.
        hot: does a running server change it when it is told to read its configuration again?
    """

    name: str
    kind: str
    default: str | Callable[[Machine], str]
    doc: str
    flag: str
    metavar: str = ""
    environ: tuple[str, ...] = ()
    many: bool = False
    separator: str = ","
    low: float = 0
    high: float = 0
    choices: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ("flag", "environment", "file")
    default_doc: str = ""
    hot: bool = False

    @property
    def environment(self) -> tuple[str, ...]:
        """Its names in the environment, the first one that is set counts."""
        own = (PREFIX + self.name.upper(),)
        return own + self.environ if "environment" in self.sources else ()


def default_home(machine: Machine) -> str:
    """The platform's data directory, as the XDG base directory specification and Apple's guidelines have it."""
    xdg = machine.environ.get("XDG_DATA_HOME", "")
    if xdg.startswith("/"):  # the specification: a relative one is to be ignored
        return f"{xdg}/localmodels"
    if machine.home is None:
        raise ConfigError("home: there is no HOME in the environment; say where with --home DIR")
    if machine.platform == "darwin":
        return f"{machine.home}/Library/Application Support/LocalModels"
    return f"{machine.home}/.local/share/localmodels"


def default_models(machine: Machine) -> str:
    """Where Ollama keeps its models: as the user's program, and as a service by its installer or a distribution."""
    own = [f"{machine.home}/.ollama/models"] if machine.home else []
    service = ["/usr/share/ollama/.ollama/models", "/var/lib/ollama/.ollama/models", "/var/lib/ollama/models"]
    return ":".join([*own, *(service if machine.platform == "linux" else [])])


DAY = 86_400.0

SETTINGS: Mapping[str, Setting] = {
    row.name: row
    for row in (
        Setting(
            "listen",
            "address",
            "127.0.0.1:8000,127.0.0.1:11434",
            "Address to listen on; given once or more, it replaces the defaults.",
            "--listen",
            "HOST:PORT",
            environ=("OLLAMA_HOST",),
            many=True,
        ),
        Setting(
            "home",
            "path",
            default_home,
            "Directory of everything this server keeps, mode 0700.",
            "--home",
            "DIR",
            sources=("flag", "environment"),
            default_doc="`$XDG_DATA_HOME/localmodels`, `~/.local/share/localmodels`; macOS: "
            "`~/Library/Application Support/LocalModels`",
        ),
        Setting(
            "models",
            "path",
            default_models,
            "Further directory in Ollama's layout, read and never written.",
            "--models",
            "DIR",
            environ=("OLLAMA_MODELS",),
            many=True,
            separator=":",
            default_doc="`~/.ollama/models`; Linux also those of Ollama's service",
        ),
        Setting(
            "model",
            "model",
            "",
            "Model to run from where it lies, with its projector if it sees.",
            "--model",
            "NAME=FILE.gguf[,MMPROJ.gguf]",
            many=True,
            separator=";",
        ),
        Setting(
            "default_model",
            "text",
            "",
            "Model that answers where none is named; empty: the newest one, else the built-in one.",
            "--default-model",
            "NAME",
            hot=True,
        ),
        Setting("alias", "alias", "", "Another name for a model.", "--alias", "NAME=MODEL", many=True, hot=True),
        Setting(
            "llama_server",
            "path",
            "",
            "A llama-server program to run models with; empty: the engine that came along.",
            "--llama-server",
            "PATH",
        ),
        Setting(
            "keep_alive",
            "duration",
            "5m",
            "How long a model stays loaded after its last request; -1 is for ever, 0 not at all.",
            "--keep-alive",
            "DURATION",
            environ=("OLLAMA_KEEP_ALIVE",),
            low=-1,
            high=3650 * DAY,
            hot=True,
        ),
        Setting(
            "num_parallel",
            "number",
            "0",
            "Requests that one model answers at once; 0 chooses by memory and cores.",
            "--num-parallel",
            "N",
            environ=("OLLAMA_NUM_PARALLEL",),
            high=OPTIONS["num_parallel"].high,
        ),
        Setting(
            "max_loaded_models",
            "number",
            "0",
            "Models in memory at once; 0: as many as fit.",
            "--max-loaded-models",
            "N",
            environ=("OLLAMA_MAX_LOADED_MODELS",),
            high=1024,
            hot=True,
        ),
        Setting(
            "max_queue",
            "number",
            "512",
            "Requests that may wait for one model; the next is answered 503.",
            "--max-queue",
            "N",
            environ=("OLLAMA_MAX_QUEUE",),
            low=1,
            high=100_000,
            hot=True,
        ),
        Setting(
            "context_length",
            "number",
            "0",
            "Context of one request, in tokens; 0 is 4096, or the model's own where that is less.",
            "--context-length",
            "N",
            environ=("OLLAMA_CONTEXT_LENGTH",),
            high=OPTIONS["num_ctx"].high,
        ),
        Setting(
            "kv_cache_type",
            "choice",
            "f16",
            OPTIONS["kv_cache_type"].doc,
            "--kv-cache-type",
            "TYPE",
            environ=("OLLAMA_KV_CACHE_TYPE",),
            choices=OPTIONS["kv_cache_type"].choices,
        ),
        Setting(
            "memory_limit",
            "size",
            "0",
            "Memory that all models together may take; 0: what the machine has.",
            "--memory-limit",
            "SIZE",
            high=2**60,
        ),
        Setting(
            "gpu_layers",
            "number",
            "-1",
            "Layers on the GPU; -1 is as many as fit.",
            "--gpu-layers",
            "N",
            low=-1,
            high=OPTIONS["num_gpu"].high,
        ),
        Setting(
            "spin",
            "switch",
            "false",
            "Let engine threads spin while they wait: faster alone, slower in company.",
            "--spin",
        ),
        Setting(
            "verify",
            "choice",
            "first",
            "When files with a digest are read to the end before they are loaded: the first time, if they changed and "
            "every 30 days; always; never.",
            "--verify",
            "WHEN",
            choices=get_args(Policy),
        ),
        Setting(
            "load_timeout",
            "duration",
            "10m",
            "Longest time to load a model.",
            "--load-timeout",
            "DURATION",
            environ=("OLLAMA_LOAD_TIMEOUT",),
            low=1,
            high=DAY,
            hot=True,
        ),
        Setting(
            "queue_timeout",
            "duration",
            "10m",
            "Longest time that a request waits for its turn.",
            "--queue-timeout",
            "DURATION",
            low=1,
            high=DAY,
            hot=True,
        ),
        Setting(
            "max_wait",
            "duration",
            "0",
            "Longest wait for a loaded model that is promised: a request that would wait longer is answered 503 at "
            "once; 0 promises nothing.",
            "--max-wait",
            "DURATION",
            high=DAY,
            hot=True,
        ),
        Setting(
            "chat_timeout",
            "duration",
            "30m",
            "Longest time for a whole answer of `/chat`; streams may take as long as they like.",
            "--chat-timeout",
            "DURATION",
            low=1,
            high=DAY,
        ),
        Setting(
            "drain_timeout",
            "duration",
            "30s",
            "Time that running answers get to finish when the server stops.",
            "--drain-timeout",
            "DURATION",
            high=DAY,
        ),
        Setting(
            "max_connections",
            "number",
            "2048",
            "Connections at a time; the next is answered 503.",
            "--max-connections",
            "N",
            low=1,
            high=1_000_000,
        ),
        Setting(
            "max_connections_per_address",
            "number",
            "64",
            "Of them from one address that is not this machine; a reverse proxy on another host needs more.",
            "--max-connections-per-address",
            "N",
            low=1,
            high=1_000_000,
        ),
        Setting(
            "allowed_hosts",
            "host",
            "",
            "Further name under which clients may call this server.",
            "--allowed-host",
            "NAME",
            many=True,
            hot=True,
        ),
        Setting(
            "origins",
            "origin",
            "",
            "Web origin whose pages may call this server.",
            "--origin",
            "URL",
            environ=("OLLAMA_ORIGINS",),
            many=True,
            hot=True,
        ),
        Setting(
            "request_templates",
            "switch",
            "false",
            "Take a prompt template from a request (`template` of `/api/generate`).",
            "--request-templates",
            hot=True,
        ),
        Setting(
            "hf_endpoint",
            "url",
            "https://huggingface.co",
            "Where the models of hf.co are: Hugging Face's hub, or one that stands in for it.",
            "--hf-endpoint",
            "URL",
            environ=("HF_ENDPOINT",),
        ),
        Setting(
            "hf_token",
            "secret",
            "",
            "Token for that hub, and for nobody else; empty: the login of hf.co.",
            "",
            "TOKEN",
            environ=("HF_TOKEN",),
            sources=("environment",),
        ),
        Setting(
            "mirrors",
            "mirror",
            "",
            "Where a registry's models are looked for first, in this order; the registry itself comes last.",
            "--mirror",
            "HOST=URL[,URL]",
            many=True,
            separator=";",
        ),
        Setting(
            "insecure_registries",
            "registry",
            "",
            "Registry that is spoken to by plain HTTP.",
            "--insecure-registry",
            "HOST[:PORT]",
            many=True,
        ),
        Setting(
            "trusted_origins",
            "trust",
            "",
            "Origin to which a registry may send us: its token service, which gets its login, or its store of files.",
            "--trusted-origin",
            "HOST=URL[,URL]",
            many=True,
            separator=";",
        ),
        Setting(
            "ca_file",
            "path",
            "",
            "File with further certificate authorities (PEM) that registries may have their certificates from.",
            "--ca-file",
            "FILE",
        ),
        Setting(
            "servers",
            "server",
            "",
            "Another server whose models are asked through this one, a table `[[servers]]` each.",
            "",
            "TABLE",
            many=True,
            sources=("file",),
            hot=True,
        ),
        Setting(
            "require_key",
            "switch",
            "false",
            "Ask programs of this machine for a key, too.",
            "--require-key",
        ),
        Setting(
            "response_retention",
            "duration",
            "720h",
            "How long answers of the Responses API are kept for their callers; 0 keeps none.",
            "--response-retention",
            "DURATION",
            high=3650 * DAY,
        ),
        Setting(
            "response_quota",
            "size",
            "1GiB",
            "Room on the disk that all kept answers together may take; the oldest go first.",
            "--response-quota",
            "SIZE",
            low=2**20,
            high=2**50,
        ),
        Setting(
            "insecure_no_auth",
            "switch",
            "false",
            "Answer anybody who reaches an address that is not loopback.",
            "--insecure-no-auth",
            sources=("flag",),
        ),
        Setting(
            "log_level",
            "choice",
            "info",
            "Least weight of what is logged.",
            "--log-level",
            "LEVEL",
            choices=("debug", "info", "warning", "error"),
            hot=True,
        ),
        Setting(
            "log_format",
            "choice",
            "text",
            "Lines for people, or one JSON object a line.",
            "--log-format",
            "FORMAT",
            choices=("text", "json"),
            hot=True,
        ),
        Setting(
            "access_log",
            "switch",
            "true",
            "A line in the log for each request: what was asked of whom, how it went; never what was said.",
            "--access-log",
            hot=True,
        ),
        Setting(
            "traces",
            "url",
            "",
            "Where traces are sent, by OTLP over HTTP; empty: nowhere. Needs the extra `otel`.",
            "--traces",
            "URL",
            environ=("OTEL_EXPORTER_OTLP_ENDPOINT",),
        ),
    )
}


class Kind(Struct, frozen=True):
    """How a text becomes a value and a value a text; ``right`` says to people what is expected.

    A ``table`` stands in the file alone; its text is JSON, and none of it is repeated to anybody.
    """

    read: Callable[[str, Setting, Place], Any]
    write: Callable[[Any], str] = str
    right: str = ""
    table: bool = False


def _read_path(text: str, setting: Setting, place: Place) -> Path | None:
    if not text:
        return None
    if text == "~" or text.startswith("~/"):
        if place.home is None:
            raise InvalidValue("there is no HOME in the environment to put in place of ~")
        return place.home / text[2:]
    return place.directory / text


def _read_address(text: str, setting: Setting, place: Place) -> Address:
    return Site.parse(text).address


def _read_model(text: str, setting: Setting, place: Place) -> ModelFile:
    name, found, files = text.partition("=")
    file, _, projector = files.partition(",")
    path = _read_path(file, setting, place)
    if not found or path is None:
        raise InvalidValue("there is no file in it")
    return ModelFile(ModelName.parse(name), path, _read_path(projector, setting, place))


def _read_alias(text: str, setting: Setting, place: Place) -> Alias:
    name, _, model = text.partition("=")
    return Alias(ModelName.parse(name), ModelName.parse(model))


def _read_number(text: str, setting: Setting, place: Place) -> int:
    return int(_within(setting, int(text)))


def _read_size(text: str, setting: Setting, place: Place) -> int:
    return int(_within(setting, parse_size(text)))


def _read_duration(text: str, setting: Setting, place: Place) -> float:
    seconds = parse_duration(text)
    return -1.0 if seconds < 0 and setting.low < 0 else _within(setting, seconds)


def _within(setting: Setting, value: float) -> float:
    if not setting.low <= value <= setting.high:
        raise InvalidValue("it is outside the range")
    return value


def _read_choice(text: str, setting: Setting, place: Place) -> str:
    if text not in setting.choices:
        raise InvalidValue("it is none of the words")
    return text


# `*` and `null` stand for pages that nobody named, and `file:` for any downloaded one (threat V-30).
_ORIGIN = re.compile(
    r"(?!file:)[a-z][a-z0-9+.\-]*://[a-z0-9_.\-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?"
)
_SWITCH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _read_switch(text: str, setting: Setting, place: Place) -> bool:
    return _SWITCH[text.lower()]


def _read_host(text: str, setting: Setting, place: Place) -> str:
    return Address.parse(text, port=0).host.lower()


_PLACE = r"(?:[a-z0-9_][a-z0-9_.\-]{0,252}|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?"
_REGISTRY = re.compile(_PLACE)
_URL = re.compile(rf"https?://{_PLACE}(?P<path>/[a-z0-9._~%/\-]*)?", re.IGNORECASE)
_TOKEN = re.compile(r"[\x21-\x7e]{0,4096}")


def _read_url(text: str, setting: Setting, place: Place) -> str:
    if not (text or setting.default or setting.many):
        return ""  # none
    if not _URL.fullmatch(text):
        raise InvalidValue("it is not a URL of a host")
    return text.rstrip("/")


def _read_registry(text: str, setting: Setting, place: Place) -> str:
    if not _REGISTRY.fullmatch(text.lower()):
        raise InvalidValue("it is not a host")
    return text.lower()


def _read_for_host(text: str, setting: Setting, place: Place) -> ForHost:
    host, found, urls = text.partition("=")
    if not found:
        raise InvalidValue("there is no URL in it")
    split = tuple(_read_url(url.strip(), setting, place) for url in urls.split(","))
    return ForHost(_read_registry(host.strip(), setting, place), split)


def _read_trust(text: str, setting: Setting, place: Place) -> ForHost:
    found = _read_for_host(text, setting, place)
    if any("/" in url.partition("://")[2] for url in found.urls):
        raise InvalidValue("an origin has no path")
    return found


def _read_secret(text: str, setting: Setting, place: Place) -> Secret:
    if not _TOKEN.fullmatch(text):
        raise InvalidValue("it cannot be said in a header")
    return Secret(text)


def _read_server(text: str, setting: Setting, place: Place) -> ServerSpec:
    around = Around(lambda path: _read_path(path, setting, place), place.environ, place.read_file)
    return read_server(text, around)


def _read_origin(text: str, setting: Setting, place: Place) -> str:
    origin = text.lower().rstrip("/")
    if not _ORIGIN.fullmatch(origin):
        raise InvalidValue("it is not one origin")
    return origin


KINDS: Mapping[str, Kind] = {
    "text": Kind(lambda text, setting, place: text, right="a text"),
    "path": Kind(_read_path, lambda path: str(path or ""), "a path"),
    "address": Kind(_read_address, right="HOST:PORT, such as 127.0.0.1:8000 or [::1]:8000"),
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
    "server": Kind(_read_server, right="a table with name, url and kind", table=True),
    "origin": Kind(_read_origin, right="one origin, such as https://example.org or http://localhost:5173; no *"),
}


class Settings(Struct, frozen=True):
    """The configuration and how it came about.

    Attributes:
        config: the values.
        origins: where each came from, by name, in words.
        notes: what was found and has no effect, a sentence each.
    """

    config: Config
    origins: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def text(self, name: str) -> str | list[str]:
        """The value of a setting as one would write it; a list where it may be given more than once."""
        setting, value = SETTINGS[name], getattr(self.config, name)
        write = KINDS[setting.kind].write
        return [write(item) for item in value] if setting.many else write(value)


class Found(Struct, frozen=True):
    """A setting's texts and where they were found."""

    texts: tuple[str, ...]
    origin: str
    place: Place


def load(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    read_file: Callable[[Path], bytes] = Path.read_bytes,
    platform: str = sys.platform,
    directory: Path | None = None,
) -> Settings:
    """Every setting, from wherever it was set.

    Args:
        flags: by name of the setting (and ``config``, the file's path): a text, a list of texts, or True or False; None
            is not given.
        environ: the environment.
        read_file: gives the bytes of the file; ``FileNotFoundError`` where there is none.
        platform: as ``sys.platform``.
        directory: what relative paths in flags and environment start from; None is the working directory.

    Raises:
        ConfigError: a value that cannot be used, an unknown key, or a file that cannot be read.
    """
    machine = Machine(environ, platform, directory or Path.cwd())
    above = {**_from_environment(machine), **_from_flags(flags, machine)}
    home = _value(SETTINGS["home"], above.get("home") or _default(SETTINGS["home"], machine))
    content, path = _file(flags, machine, home, read_file)
    set_somewhere = {**_from_file(content, path, machine, read_file), **above}
    found = {name: set_somewhere.get(name) or _default(row, machine) for name, row in SETTINGS.items()}
    values = {name: _value(SETTINGS[name], one) for name, one in found.items()}
    config = Config(**values)
    _check_servers(config)
    return Settings(config, {name: one.origin for name, one in found.items()}, _notes(environ))


def check_binds(config: Config, *, has_keys: bool) -> None:
    """Refuses to serve the network where nobody could have a key.

    Args:
        config: says where to listen.
        has_keys: is there a key that opens anything?

    Raises:
        ConfigError: an address is not loopback, there is no key and ``insecure_no_auth`` is off; the message says the
            ways out.
    """
    exposed = [str(address) for address in config.listen if not address.is_loopback]
    if not exposed or has_keys or config.insecure_no_auth:
        return
    port = config.listen[0].port
    raise ConfigError(
        f"{', '.join(exposed)} can be reached from other machines, and there is no key yet. Either\n"
        "  - make one, and give it to who may ask: localmodels keys add NAME --admin\n"
        f"  - listen on this machine only: --listen 127.0.0.1:{port}\n"
        f"  - come in through a tunnel: ssh -L {port}:127.0.0.1:{port} THIS-MACHINE\n"
        "  - put a reverse proxy that authenticates in front of a loopback address\n"
        "  - or let anybody in who reaches it: --insecure-no-auth"
    )


def _check_servers(config: Config) -> None:
    """Looks at the servers beside each other and beside ourselves.

    Raises:
        ConfigError: a name or a bare model twice, or a server that is this one.
    """
    seen: dict[str, str] = {}
    for server in config.servers:
        for what in (f"the server '{server.name}'", *(f"the model '{model}'" for model in server.models)):
            if what in seen:
                raise ConfigError(f"servers: {what} is there twice, of {seen[what]} and of {server.name}")
            seen[what] = server.name
        address = Site.parse(server.url).address
        if any(ours == address or (ours.port == address.port and ours.is_loopback and address.is_loopback)
               for ours in config.listen):  # fmt: skip
            raise ConfigError(f"servers: the server '{server.name}' is this one: {address} is where we listen")


def _default(setting: Setting, machine: Machine) -> Found:
    text = setting.default if isinstance(setting.default, str) else setting.default(machine)
    return Found(_split(setting, text), "default", Place(machine.directory, machine.home))


def _from_environment(machine: Machine) -> dict[str, Found]:
    place = Place(machine.directory, machine.home)
    found = {}
    for name, setting in SETTINGS.items():
        # An empty variable is one that is not set: so Ollama and most shells' users mean it.
        word = next((word for word in setting.environment if machine.environ.get(word, "").strip()), None)
        if word:
            text = machine.environ[word].strip().strip("\"'").strip()
            found[name] = Found(_split(setting, text), f"environment {word}", place)
    return found


def _from_flags(flags: Mapping[str, object], machine: Machine) -> dict[str, Found]:
    place = Place(machine.directory, machine.home)
    return {
        name: Found(_texts(setting, flags[name], f"flag {setting.flag}"), f"flag {setting.flag}", place)
        for name, setting in SETTINGS.items()
        if flags.get(name) is not None
    }


def _file(
    flags: Mapping[str, object], machine: Machine, home: Path, read_file: Callable[[Path], bytes]
) -> tuple[Mapping[str, object], Path]:
    """The file's content and its path; empty where there is none and none was asked for."""
    asked = str(flags.get("config") or machine.environ.get("LOCALMODELS_CONFIG") or "")
    path = machine.directory / asked if asked else home / FILE_NAME
    try:
        return tomllib.loads(read_file(path).decode()), path
    except FileNotFoundError:
        if asked:
            raise ConfigError(f"config: there is no file {path}") from None
        return {}, path
    except OSError as error:
        raise ConfigError(f"config: cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config: {path} is not TOML: {error}") from error


def _from_file(
    content: Mapping[str, object], path: Path, machine: Machine, read_file: Callable[[Path], bytes]
) -> dict[str, Found]:
    place = Place(path.parent, machine.home, machine.environ, read_file)
    found = {}
    for name, value in content.items():
        setting = SETTINGS.get(name)
        if setting is None:
            raise ConfigError(f"{path}: there is no setting '{name}'{_nearest(name)}")
        if "file" not in setting.sources:
            raise ConfigError(f"{path}: {name} cannot be set in the file, only with {_elsewhere(setting)}")
        found[name] = Found(_texts(setting, value, f"file {path}"), f"file {path}", place)
    return found


def _elsewhere(setting: Setting) -> str:
    """How to set what cannot be set in the file."""
    return setting.flag or f"{' or '.join(setting.environment)} in the environment"


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name.lower().replace("-", "_"), SETTINGS, n=1)
    return f"; did you mean '{near[0]}'?" if near else "; `localmodels config` lists them all"


def _split(setting: Setting, text: str) -> tuple[str, ...]:
    """One text from the environment or the defaults, as the texts of its setting."""
    if not setting.many:
        return (text,)
    return tuple(part.strip() for part in text.split(setting.separator) if part.strip())


def _texts(setting: Setting, value: object, origin: str) -> tuple[str, ...]:
    """A value from the flags or the file, as texts; a TOML table is a list of ``key=value``."""
    if isinstance(value, Mapping) and setting.many and not KINDS[setting.kind].table:
        value = [f"{key}={item}" for key, item in value.items()]
    if KINDS[setting.kind].table:
        return _tables(setting, value, origin)
    items: Iterable[object] = value if isinstance(value, (list, tuple)) and setting.many else [value]
    texts = []
    for item in items:
        if not isinstance(item, (str, int, float)):
            raise _wrong(setting, value, origin)
        texts.append(str(item).lower() if isinstance(item, bool) else str(item))
    return tuple(texts)


def _tables(setting: Setting, value: object, origin: str) -> tuple[str, ...]:
    """An array of tables, as texts."""
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise _wrong(setting, value, origin)
    return tuple(msgspec.json.encode(item).decode() for item in value)


def _value(setting: Setting, found: Found) -> Any:
    """The checked value of a setting."""
    kind = KINDS[setting.kind]
    values = []
    for text in found.texts:
        try:
            values.append(kind.read(text, setting, found.place))
        except InvalidValue as error:
            if kind.table:
                raise ConfigError(f"{setting.name} ({found.origin}): {error.message}") from None
            raise _wrong(setting, text, found.origin) from error
        except (ValueError, KeyError) as error:
            raise _wrong(setting, text, found.origin) from error
    return tuple(values) if setting.many else values[0]


def _wrong(setting: Setting, value: object, origin: str) -> ConfigError:
    hidden = setting.kind == "secret" or KINDS[setting.kind].table
    shown = "***" if hidden else str(value)[:200]
    return ConfigError(f"{setting.name}: '{shown}' ({origin}) cannot be used; it must be {expected(setting)}")


def expected(setting: Setting) -> str:
    """What a value of this setting must be, in words."""
    right = KINDS[setting.kind].right
    if setting.choices:
        return f"{right} {', '.join(setting.choices)}"
    if setting.high:
        write = KINDS[setting.kind].write
        return f"{right}, from {write(setting.low)} to {write(setting.high)}"
    return right


def _notes(environ: Mapping[str, str]) -> tuple[str, ...]:
    """What is set in the environment and does nothing."""
    known = {word for setting in SETTINGS.values() for word in setting.environment} | _NOT_SETTINGS
    unknown = sorted(word for word in environ if word.startswith(PREFIX) and word not in known)
    return tuple(
        [f"{word} is no setting{_nearest(word.removeprefix(PREFIX))}" for word in unknown]
        + [f"{word} is ignored: {why}" for word, why in _IGNORED.items() if environ.get(word)]
    )
