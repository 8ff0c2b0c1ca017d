"""How verbs name a registry: by the host with which names of models begin, or by its URL."""

from __future__ import annotations

import argparse

from localmodels.config import Config
from localmodels.core.catalog import DEFAULT_HOST
from localmodels.core.errors import InvalidValue
from localmodels.registry.addresses import SAME, Place
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
    table = registries(config)
    if "://" in registry:
        meant = Place.parse(registry)
        host = meant.origin.host if meant.origin.is_usual else f"{meant.origin.host}:{meant.origin.port}"
        known = table.of_host(host, insecure=meant.origin.scheme == "http", named=True)
        same = {meant.origin, *SAME.get(meant.origin, ())}
        return next((place for place in known if place.origin in same), meant)
    try:
        return table.of_host(registry, insecure=insecure, named=True)[-1]
    except InvalidValue as error:
        raise InvalidValue(f"{registry[:120]!r} is not the address of a registry: host or host:port") from error
