"""How a setting is found: flag, else environment, else file, else default.

A value that cannot be used ends the start with an error that names the setting, the value, where it came from and what
would be right; nothing is guessed, and a misspelt key is never ignored.
"""

from __future__ import annotations

import difflib
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from localmodels.config.checks import check_servers
from localmodels.config.kinds import KINDS, Base
from localmodels.config.rows import SETTINGS
from localmodels.config.setting import PREFIX, Machine, Setting
from localmodels.config.values import Config, ConfigError
from localmodels.core.errors import InvalidValue

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
    base: Base


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
    check_servers(config)
    return Settings(config, {name: one.origin for name, one in found.items()}, _notes(environ))


def _default(setting: Setting, machine: Machine) -> Found:
    text = setting.default if isinstance(setting.default, str) else setting.default(machine)
    return Found(_split(setting, text), "default", Base(machine.directory, machine.home))


def _from_environment(machine: Machine) -> dict[str, Found]:
    base = Base(machine.directory, machine.home)
    found = {}
    for name, setting in SETTINGS.items():
        # An empty variable is one that is not set: so Ollama and most shells' users mean it.
        word = next((word for word in setting.environment if machine.environ.get(word, "").strip()), None)
        if word:
            text = machine.environ[word].strip().strip("\"'").strip()
            found[name] = Found(_split(setting, text), f"environment {word}", base)
    return found


def _from_flags(flags: Mapping[str, object], machine: Machine) -> dict[str, Found]:
    base = Base(machine.directory, machine.home)
    return {
        name: Found(_texts(setting, flags[name], f"flag {setting.flag}"), f"flag {setting.flag}", base)
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
    base = Base(path.parent, machine.home, machine.environ, read_file)
    found = {}
    for name, value in content.items():
        setting = SETTINGS.get(name)
        if setting is None:
            raise ConfigError(f"{path}: there is no setting '{name}'{_nearest(name)}")
        if "file" not in setting.sources:
            raise ConfigError(f"{path}: {name} cannot be set in the file, only with {_elsewhere(setting)}")
        found[name] = Found(_texts(setting, value, f"file {path}"), f"file {path}", base)
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
    for place, text in enumerate(found.texts, 1):
        try:
            values.append(kind.read(text, setting, found.base))
        except InvalidValue as error:
            if kind.table:
                raise ConfigError(f"{setting.name} ({found.origin}), table {place}: {error.message}") from None
            raise _wrong(setting, text, found.origin) from error
        except (ValueError, KeyError) as error:
            raise _wrong(setting, text, found.origin) from error
    return tuple(values) if setting.many else values[0]


def _wrong(setting: Setting, value: object, origin: str) -> ConfigError:
    hidden = setting.kind in {"secret", "database"} or KINDS[setting.kind].table
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
