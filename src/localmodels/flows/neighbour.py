"""A real Ollama at the port that Ollama's clients know: it was there first, so it joins the fleet as ``ollama``.

The rule: only what says that it is Ollama, in both places where Ollama says so, is taken for one; and nothing that
somebody has registered is touched.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec
from msgspec import Struct

from localmodels.backends.http import Http
from localmodels.backends.round_trip import Patience
from localmodels.backends.tcp import Tcp
from localmodels.core.address import Address
from localmodels.core.errors import Conflict, LocalModelsError
from localmodels.core.fleet import ServerChange
from localmodels.core.roster import ServerNow, Wish
from localmodels.core.servers import prefix_of
from localmodels.dialects import failures
from localmodels.flows.roster import address_of
from localmodels.flows.servers import Servers

log = logging.getLogger(__name__)

NAME = "ollama"
# What Ollama answers at its root, to whoever asks.
GREETING = b"Ollama is running"
MOST = 4_096  # bytes of either answer
PATIENCE = 2.0  # seconds for both; it is on this machine


class _Version(Struct):
    version: str


async def greet_ollama(servers: Servers, address: Address, *, patience: float = PATIENCE) -> ServerNow | None:
    """Registers the Ollama that has taken a port of ours.

    Nothing is done where something else answers there, or where a server of its name or address is known: the file's
    and the registered ones stand as they are, also one that was switched off.

    Args:
        servers: the fleet.
        address: of the port that was taken, on this machine.
        patience: seconds for its answers.

    Returns:
        The server, if it is new; None else.
    """
    if not await is_ollama(address, patience=patience):
        log.info("what listens on %s is no Ollama", address)
        return None
    url = f"http://{address}"
    if any(prefix_of(row.name) == NAME or address_of(row) == url for row in servers.roster.every()):
        return None
    said = ServerChange(name=NAME, url=url, kind="ollama", description="the Ollama of this machine, found at the start")
    try:
        found = await servers.add(Wish(said=said))
    except Conflict:
        return None  # somebody has registered it meanwhile
    except LocalModelsError as error:
        log.warning("the Ollama on %s is not registered: %s", address, error)
        return None
    log.info("the Ollama on %s is registered as the server '%s'", address, NAME)
    return found


async def is_ollama(address: Address, *, patience: float = PATIENCE) -> bool:
    """Does Ollama itself answer there? Another LocalModels greets otherwise unless it is asked in plain text."""
    carrier = Tcp(f"http://{address}", patience=Patience(connect=patience, first_byte=patience, idle=patience))
    http = Http(carrier, failures.read_error)
    try:
        async with asyncio.timeout(patience):
            greeting = await http.get("/", most=MOST)
            told = msgspec.json.decode(await http.get("/api/version", most=MOST), type=_Version)
    except (LocalModelsError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError):
        return False
    finally:
        await http.close()
    return greeting.strip() == GREETING and bool(told.version)
