"""``localmodels login [REGISTRY]``: keeps a name and a password for a registry, once it has taken them.

The login is kept in the home of the server on this machine, which uses it from its next request on. It is never part
of a command line, which everybody on the machine could read.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Mapping

from localmodels.cli.flags import home_argument, home_config, json_argument
from localmodels.cli.misuse import Misuse
from localmodels.cli.registries import place_of, registry_argument
from localmodels.cli.tables import write_json
from localmodels.cli.world import World
from localmodels.config import Config
from localmodels.core.errors import InvalidRequest
from localmodels.registry.addresses import Language, Place
from localmodels.registry.auth import RegistryTokens
from localmodels.registry.configured import certificates
from localmodels.registry.credentials import FileCredentials, Login, MemoryCredentials
from localmodels.registry.distribution import Distribution
from localmodels.registry.hub import Hub, HubTokens
from localmodels.registry.outbound import Outbound

UNASKED = "it did not ask who you are, so the login is kept without a proof"
# A hub knows who somebody is by his token alone; a login has a name all the same.
ANYBODY = "token"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    registry_argument(parser)
    parser.add_argument("-u", "--username", metavar="NAME", help="who you are there; else it is asked for")
    parser.add_argument("--password-stdin", action="store_true", help="read the password from a pipe")
    home_argument(parser)
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Asks, tries, keeps."""
    config = home_config(args, world)
    place = place_of(args.registry, config, insecure=args.insecure)
    login = read_login(args, place, world)
    proved = asyncio.run(takes(place, login, config))
    FileCredentials(config.home).put(place.origin, login)
    if args.json:
        said = {"registry": str(place.origin), "username": login.username, "status": "logged in", "proved": proved}
        write_json(said, world.out)
    else:
        world.err.write(f"logged in to {place.origin} as {login.username}{'' if proved else '; ' + UNASKED}\n")
    return 0


def read_login(args: argparse.Namespace, place: Place, world: World) -> Login:
    """The name and the password, from where they were said to be.

    Raises:
        Misuse: a pipe holds the password, and nothing says whose it is.
        InvalidRequest: nobody is there to be asked.
        InvalidValue: they cannot be said to a registry.
    """
    username = args.username or (ANYBODY if place.speaks == "hub" else "")
    if args.password_stdin:
        if not username:
            raise Misuse("--password-stdin needs --username; the pipe holds the password alone")
        return Login.parse(username, world.stdin.read().removesuffix("\n").removesuffix("\r"))
    if not world.stdin.isatty():
        raise InvalidRequest("there is no terminal to ask at; give --username and --password-stdin")
    try:
        username = username or world.read_line("Username: ").strip()
        return Login.parse(username, world.read_secret("Token: " if place.speaks == "hub" else "Password: "))
    except EOFError:
        raise InvalidRequest("nothing was typed") from None


async def takes(place: Place, login: Login, config: Config) -> bool:
    """Tries the login; false if the registry asked nobody who he is.

    Raises:
        Unauthenticated: it does not take it.
    """
    async with Outbound(tls=certificates(config)) as outbound:
        return await CHECKS[place.speaks](outbound, place, login)


async def registry_takes(outbound: Outbound, place: Place, login: Login) -> bool:
    """Of a registry; see :meth:`localmodels.registry.distribution.Distribution.check`."""
    return await Distribution(outbound, RegistryTokens(outbound, MemoryCredentials())).check(place, login)


async def hub_takes(outbound: Outbound, place: Place, login: Login) -> bool:
    """Of a hub, whose logins are tokens; see :meth:`localmodels.registry.hub.Hub.check`."""
    await Hub(outbound, HubTokens(MemoryCredentials())).check(place, login.password)
    return True


CHECKS: Mapping[Language, Callable[[Outbound, Place, Login], Awaitable[bool]]] = {
    "oci": registry_takes,
    "hub": hub_takes,
}
