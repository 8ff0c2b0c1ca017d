"""Registries, certificates and tokens as the configuration names them."""

from __future__ import annotations

import ssl
from itertools import product

from localmodels.config import Config, ForHost
from localmodels.core.errors import BackendError
from localmodels.registry.addresses import Place, Registries
from localmodels.registry.credentials import Credentials
from localmodels.registry.hub import HubTokens


def registries(config: Config) -> Registries:
    """Where the models of each host are."""
    return Registries.configured(
        hub=config.hf_endpoint,
        mirrors=_pairs(config.mirrors),
        insecure=config.insecure_registries,
        trusted=_pairs(config.trusted_origins),
    )


def hub_tokens(config: Config, logins: Credentials) -> HubTokens:
    """Which token is said to which hub: the configured one to the configured hub alone."""
    origin = Place.parse(config.hf_endpoint).origin
    return HubTokens(logins, {origin: config.hf_token} if config.hf_token else {})


def certificates(config: Config) -> ssl.SSLContext:
    """Whose certificates are believed: the system's authorities, and those of the configuration.

    Raises:
        BackendError: the file of the configuration cannot be read.
    """
    context = ssl.create_default_context()
    if config.ca_file is not None:
        try:
            context.load_verify_locations(config.ca_file)
        except OSError as error:  # what is wrong with a certificate is one too
            why = error.strerror or str(error)
            raise BackendError(f"ca_file: {config.ca_file.name} cannot be read as certificates: {why}") from error
    return context


def _pairs(settings: tuple[ForHost, ...]) -> list[tuple[str, str]]:
    return [pair for one in settings for pair in product((one.host,), one.urls)]
