"""How verbs name a registry: by the host with which names of models begin, or by its URL."""

from __future__ import annotations

import argparse

from localmodels.config import Config
from localmodels.core.catalog import DEFAULT_HOST
from localmodels.core.errors import InvalidValue
from localmodels.registry.addresses import Place
from localmodels.registry.configured import registries


def registry_argument(parser: argparse.ArgumentParser) -> None:
    """Which registry, and how it is reached."""
    parser.add_argument(
        "registry", nargs="?", default=DEFAULT_HOST, metavar="REGISTRY", help="host[:port], as names of models begin"
    )
    parser.add_argument("--insecure", action="store_true", help="the registry is reached by plain HTTP")


def place_of(registry: str, config: Config, *, insecure: bool) -> Place:
    """Where a registry is: what is configured for its host, else the host itself. Its mirrors are others.

    Raises:
        InvalidValue: the text is neither a host nor a URL.
    """
    if "://" in registry:
        return Place.parse(registry)
    try:
        return registries(config).of_host(registry, insecure=insecure, named=True)[-1]
    except InvalidValue as error:
        raise InvalidValue(f"{registry[:120]!r} is not the address of a registry: host or host:port") from error
