"""What is served, and at which addresses."""

from __future__ import annotations

from localmodels.config.setting import Machine, Setting
from localmodels.config.values import ConfigError


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


ROWS: tuple[Setting, ...] = (
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
)
