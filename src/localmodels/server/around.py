"""What a server needs of the machine around it, looked at before it listens."""

from __future__ import annotations

import importlib.util
import os

from localmodels.config import Config, ConfigError


def make_home(config: Config) -> None:
    """The directory of everything that this server keeps, for its user alone.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"home: {config.home} cannot be made: {error.strerror}") from error


def check_outside(config: Config) -> None:
    """Looks at what the configuration names and the first request would need.

    Raises:
        ConfigError: it is not there, or not what it should be.
    """
    check_program(config)
    check_ca_file(config)
    check_traces(config)


def check_program(config: Config) -> None:
    """Looks at a ``llama-server`` of the user's own before the first request has to.

    Raises:
        ConfigError: there is no program at this path.
    """
    program = config.llama_server
    if program and not (program.is_file() and os.access(program, os.X_OK)):
        raise ConfigError(f"llama_server: {program} is not a program")


def check_ca_file(config: Config) -> None:
    """Looks at the certificates before the first pull has to.

    Raises:
        ConfigError: there are none in this file.
    """
    try:
        if config.ca_file is not None and b"-----BEGIN CERTIFICATE-----" not in config.ca_file.read_bytes():
            raise ConfigError(f"ca_file: {config.ca_file} has no certificate in it, as PEM has them")
    except OSError as error:
        raise ConfigError(f"ca_file: {config.ca_file} cannot be read: {error.strerror}") from error


def check_traces(config: Config) -> None:
    """Looks for what traces are made with.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        missing = bool(config.traces) and importlib.util.find_spec("opentelemetry.sdk") is None
    except ModuleNotFoundError:
        missing = True
    if missing:
        raise ConfigError("traces: the extra `otel` is not installed; in the clone: pip install '.[otel]'")
