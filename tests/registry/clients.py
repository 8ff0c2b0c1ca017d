"""A whole client, put together as the composition root will do it, with numbers that suit loopback."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from msgspec import Struct
from tests.registry.models import blobs_of

from localmodels.registry.addresses import Origin, Place
from localmodels.registry.auth import RegistryTokens
from localmodels.registry.credentials import Login, MemoryCredentials
from localmodels.registry.distribution import Distribution
from localmodels.registry.downloads import Downloads
from localmodels.registry.memory import MemoryShelf
from localmodels.registry.outbound import Lookup, Outbound, Patience
from localmodels.registry.pace import Pace
from localmodels.registry.pull import Puller
from localmodels.registry.push import Pusher

KIB = 1024
# Parts of 64 KiB, so that small blobs have several; waits of a millisecond; what stalls is found after half a second.
PACE = Pace(part=64 * KIB, first_wait=0.001, longest_wait=0.004, longest_retry_after=0.01, stall=0.5, floor=KIB)
PATIENCE = Patience(connect=5.0, head=0.5, whole=0.5)
# Where time must not be able to matter.
PATIENT = Patience(connect=20.0, head=20.0, whole=20.0)
UNHURRIED = Pace(part=64 * KIB, first_wait=0.001, longest_wait=0.004, longest_retry_after=0.01, stall=20.0, floor=KIB)


class Client(Struct, frozen=True):
    """Everything, and the shelf that it pulls into and pushes from."""

    outbound: Outbound
    tokens: RegistryTokens
    registry: Distribution
    downloads: Downloads
    puller: Puller
    pusher: Pusher
    shelf: MemoryShelf


@asynccontextmanager
async def client(
    *named: str,
    logins: Mapping[str, Login] | None = None,
    shelf: MemoryShelf | None = None,
    pace: Pace = UNHURRIED,
    patience: Patience = PATIENT,
    lookup: Lookup | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Client]:
    """A client to which these origins are named."""
    shelf = shelf or MemoryShelf()
    chance = random.Random(7)
    credentials = MemoryCredentials({Origin.parse(origin): login for origin, login in (logins or {}).items()})
    async with Outbound(frozenset(map(Origin.parse, named)), patience=patience, lookup=lookup, tls=tls) as outbound:
        tokens = RegistryTokens(outbound, credentials)
        registry = Distribution(outbound, tokens)
        downloads = Downloads(shelf, pace=pace, chance=chance)
        puller = Puller(registry, downloads, blobs_of, pace=pace, interval=0.0, chance=chance)
        pusher = Pusher(registry, shelf.sources, pace=pace, interval=0.0, chance=chance)
        yield Client(outbound, tokens, registry, downloads, puller, pusher, shelf)


def at(url: str, *trusted: str) -> Place:
    """A place that the operator named."""
    return Place.parse(url, trusted=trusted)
