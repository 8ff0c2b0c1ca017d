"""What both clients need about servers of a fleet, without I/O: which one is meant, and what is wished for one."""

from __future__ import annotations

from collections.abc import Iterable

from localmodels.core.errors import NotFound
from localmodels.core.fleet import ServerChange
from localmodels.core.roster import Wish
from localmodels.core.secrets import Secret
from localmodels.dialects.servers import ShownServer

NOTHING = ServerChange()


def wish(said: ServerChange, key: str | None) -> Wish:
    """What is said of a server, and its key; an empty key takes away what it has, None leaves it."""
    return Wish(said=said, key=None if key is None else Secret(key))


def meant(server: str, servers: Iterable[ShownServer]) -> ShownServer:
    """The server of this id or name, or the one whose models stand under it, ``server/…``.

    Raises:
        NotFound: there is none; says which there are.
    """
    every = tuple(servers)
    word = server.lower()
    if found := next((one for one in every if word in {one.id, one.prefix, one.name.lower()}), None):
        return found
    there = ", ".join(one.name for one in every) or "none"
    raise NotFound(f"there is no server '{server[:60]}'; there are: {there}", param="server")
