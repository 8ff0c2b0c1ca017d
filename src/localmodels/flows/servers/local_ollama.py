"""A real Ollama at the port that Ollama's clients know: it was there first, so it joins the fleet as ``ollama``.

The rule: nothing that somebody has registered is touched.
"""

from __future__ import annotations

import logging

from localmodels.backends.greetings import PATIENCE, is_ollama
from localmodels.core.address import Address
from localmodels.core.errors import Conflict, LocalModelsError
from localmodels.core.fleet import ServerChange
from localmodels.core.roster import ServerNow, Wish
from localmodels.core.servers import prefix_of
from localmodels.flows.servers.roster import address_of
from localmodels.flows.servers.servers import Servers

log = logging.getLogger(__name__)

NAME = "ollama"


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
