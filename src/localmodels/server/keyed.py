"""The composition of keys: what a start needs of them before it listens, and what stands at the door while it runs.

A home in which no key was ever made gets its first one, an administrator's, when the server accepts connections: a
start that fails leaves nothing behind. Its text is told once, with the greeting, on standard output and nowhere else.
Where that is kept (systemd's journal, a container's log), it is kept there too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from time import time_ns

from msgspec import Struct

from localmodels.config import Config, ConfigError, Settings
from localmodels.core.access import Wish
from localmodels.core.secrets import Secret
from localmodels.flows.access.housekeeping import Rounds
from localmodels.flows.access.keys import Issuer, Keyring, make_key
from localmodels.flows.access.ledger import Ledger
from localmodels.flows.access.limits import Limiter
from localmodels.server.identify import Doorkeeper
from localmodels.server.management import Management
from localmodels.state import starting
from localmodels.state.choosing import NOWHERE
from localmodels.state.files import StateError
from localmodels.state.kept import Kept
from localmodels.state.whereabouts import Whereabouts, place_of, written

FIRST = Wish("admin", frozenset({"admin"}))


class Keyed(Struct, frozen=True):
    """What a server with keys is made of."""

    ring: Keyring
    keys: Issuer
    limiter: Limiter
    ledger: Ledger
    doorkeeper: Doorkeeper
    management: Management
    rounds: Rounds


def keyed(config: Config, state: Kept) -> Keyed:
    """The parts, over a state; they know no key before :func:`followed`."""
    ring = Keyring()
    keys, ledger = Issuer(state.keys, ring), Ledger(state.usage, ring)
    limiter = Limiter(ledger)
    doorkeeper = Doorkeeper(ring, limiter, ledger, require_key=config.require_key, anybody=config.insecure_no_auth)
    return Keyed(ring, keys, limiter, ledger, doorkeeper, Management(keys, ledger), Rounds(keys, ledger))


@asynccontextmanager
async def followed(parts: Keyed) -> AsyncIterator[None]:
    """Knows the keys before the first request, follows their changes, and writes down at the end what was used."""
    await parts.keys.refresh()
    await parts.ledger.recount()
    async with parts.rounds:
        yield


def has_keys(home: Path, database: Secret = NOWHERE) -> bool:
    """Is there a key that opens anything?

    Raises:
        ConfigError: nobody can tell.
    """
    try:
        return any(key.alive(time_ns()) for key in starting.known_keys(home, database))
    except StateError as error:
        raise ConfigError(f"{'database_url' if database else 'home'}: {error}") from error


def first_key(home: Path, ring: Keyring, database: Secret = NOWHERE) -> Secret | None:
    """The text of the first key of a home or database, which opens everything; None where one was made before.

    Raises:
        ConfigError: it cannot be kept.
    """
    key, text = make_key(FIRST, time_ns())
    try:
        known = starting.first_key(home, key, database)
    except StateError as error:
        raise ConfigError(f"{'database_url' if database else 'home'}: {error}") from error
    if known is None:
        return None
    ring.take(*known)
    return text


@contextmanager
def state_told(settings: Settings) -> Iterator[None]:
    """The home says meanwhile where its keys are, for commands that ask no server.

    Raises:
        ConfigError: that cannot be written there.
    """
    config = settings.config
    database = place_of(config.database_url)
    said = Whereabouts(database, settings.origins["database_url"] if database else "")
    with ExitStack() as held:
        try:
            held.enter_context(written(config.home, said))
        except StateError as error:
            raise ConfigError(f"home: {error}") from error
        yield
