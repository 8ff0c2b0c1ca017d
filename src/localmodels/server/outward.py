"""The composition of what goes out to registries. It is loaded by the first pull or push, by :mod:`.outside`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from localmodels.config import Config
from localmodels.flows.library.transfers import Transfers
from localmodels.registry import auth
from localmodels.registry.configured import certificates, hub_tokens, registries
from localmodels.registry.credentials import FileCredentials
from localmodels.registry.distribution import Distribution
from localmodels.registry.hub import Hub
from localmodels.registry.outbound import Outbound
from localmodels.store.library import Library
from localmodels.store.model_store import ModelStore


@asynccontextmanager
async def open_transfers(config: Config, store: ModelStore, library: Library) -> AsyncIterator[Transfers]:
    """Pulls and pushes, with the door out open."""
    logins = FileCredentials(config.home)
    async with Outbound(tls=await asyncio.to_thread(certificates, config)) as outbound:
        yield Transfers(
            store,
            library,
            Distribution(outbound, auth.RegistryTokens(outbound, logins)),
            Hub(outbound, hub_tokens(config, logins)),
            registries(config),
        )
