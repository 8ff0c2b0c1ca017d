"""From a name to whoever answers: a model of other servers, or one of this machine.

The order: the name of a server before a slash; a bare name that tables of the owner's file list; a bare name that a
host of the fleet has, this machine among them; the library; ``auto``; and last the kind of a server before a slash, as
other gateways' clients write it. All but the library are looks into dicts, so that a request for another server never
waits for a disk. It is also the catalog of all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from msgspec.structs import replace

from localmodels.core import via
from localmodels.core.access import ANYBODY, EVERY_MODEL, Caller, Withheld, check_model
from localmodels.core.catalog import Description, Model, Running
from localmodels.core.errors import MOST_NAME, Conflict, LocalModelsError, ModelNotFound
from localmodels.core.fleet import LOCAL
from localmodels.fleet.automatic import is_automatic
from localmodels.fleet.hosts import same_name
from localmodels.fleet.routing import Explanation
from localmodels.fleet.turns import words_for
from localmodels.flows.answering.chat import Finder, Found
from localmodels.flows.connections import server_names
from localmodels.flows.connections.remotes import Remotes
from localmodels.flows.connections.server_names import Astray, astray, listed_as
from localmodels.flows.routing.auto_names import left_to_us
from localmodels.flows.routing.model_list import May, askable, from_here, holders, merged, running
from localmodels.flows.routing.pull_missing import Missing, Pulls
from localmodels.flows.routing.remote_model import RemoteTarget
from localmodels.flows.routing.routed_model import RoutedTarget
from localmodels.flows.routing.router import Meant, Routes

T = TypeVar("T")
HERE: frozenset[str] = frozenset({LOCAL})


async def _as_known() -> None:
    """Nobody is asked."""


class Here(Finder, Protocol):
    """The models of this machine."""

    async def models(self) -> tuple[Model, ...]: ...
    async def describe(self, name: str, *, verbose: bool) -> Description: ...
    def running(self) -> tuple[Running, ...]: ...


class Finders:
    """Finds models by name, and lists them.

    Args:
        here: the models of this machine.
        remotes: the other servers.
        default: the model that answers where none is named.
        aliases: other names for models.
        routes: decide where a request goes that may go to several hosts.
        pulls: fetch models that nobody has; None leaves them missing.
        fresh: has our own engine tell what it has, where nothing else asks it.
        told: has those servers tell what they have of which a list would not be true yet.
    """

    def __init__(
        self,
        here: Here,
        remotes: Remotes,
        *,
        default: str = "",
        aliases: Mapping[str, str] | None = None,
        routes: Routes | None = None,
        pulls: Pulls | None = None,
        fresh: Callable[[], Awaitable[object]] = _as_known,
        told: Callable[[], Awaitable[object]] = _as_known,
    ) -> None:
        self._here = here
        self._remotes = remotes
        self._routes = routes or Routes(remotes)
        self.pulls = pulls
        self._fresh = fresh
        self._told = told
        self.adopt(default=default, aliases=aliases or {})

    def adopt(self, *, default: str, aliases: Mapping[str, str]) -> None:
        """Goes by these names from now on."""
        self._default = default
        self._aliases = self._remotes.traffic.aliases = aliases

    @property
    def remote(self) -> bool:
        """Is there any other server?"""
        return bool(self._remotes.servers())

    def quick(self, name: str) -> RemoteTarget | RoutedTarget | None:
        """The model that this name means, where other servers have it; looks nowhere but into dicts."""
        asked = self._asked(name)
        if found := self._remotes.find(asked):
            return RemoteTarget(*found)
        meant = self._routes.meant(asked)
        if meant is None:
            return None
        host, *others = meant.hosts
        server = self._remotes.at(host)
        if not others and server is not None and not host.spec.registered:
            return RemoteTarget(server, asked)
        return RoutedTarget(self._routes, meant, self._here)

    def require_here(self, name: str) -> None:
        """Looks whether a model may be of this machine, which is asked when it was not found here.

        Raises:
            Conflict: it is on another server, and not ours to change.
        """
        target = self.quick(name)
        if isinstance(target, RemoteTarget):
            why = f"{name[:MOST_NAME]} is on the server '{target.server.name}'; manage it there"
            raise Conflict(why, param="model")
        if target is not None and all(host.spec.kind != LOCAL for host in target.meant.hosts):
            why = f"{name[:MOST_NAME]} is on {words_for(target.meant.hosts)}; say with `server` where"
            raise Conflict(why, param="model")

    async def find(self, name: str) -> Found:
        """The model that this name stands for.

        Raises:
            Astray: it stands for none; says why to whoever may know.
            Withheld: it stands for one that cannot be read; says so to whoever may ask for it.
        """
        if target := self.quick(name):
            return target
        try:
            return await self._of_this_machine(name)
        except ModelNotFound as error:
            lost = self._astray(name, error)
            if last := await self._last(name, lost):
                return last
            raise lost from None

    async def models(self, caller: Caller = ANYBODY, *, choices: bool = False) -> tuple[Model, ...]:
        """All models that a caller may ask, by names by which he may.

        Those of this machine and of registered servers, then those of each server of the file; last, where ``choices``
        are wanted, the names by which he may leave the choice of the model to us.
        """
        here, _ = await asyncio.gather(self._here.models(), self._told())
        fleet = self._remotes.fleet
        passed, hosts, own = via.way(), fleet.hosts(), fleet.named(LOCAL)
        if own is not None and fleet.off(own):
            here = tuple(one for one in here if not server_names.is_off(own, one.name, fleet))
        every = merged(here, hosts, passed, self._may(caller))
        ours = left_to_us(here, hosts, passed, caller.may_ask) if choices else ()
        return (
            *(replace(model, gateways=from_here(model.gateways, passed)) for model in every),
            *(one for one in ours if self._asked(one.name) == one.name and self.quick(one.name) is None),
        )

    async def describe(self, name: str, *, verbose: bool, caller: Caller = ANYBODY) -> Description:
        """All that is known about one that this caller may ask; nobody is asked for one that he may not.

        Raises:
            Astray: there is none of this name; says why to whoever may know.
            Withheld: it cannot be read; likewise.
            Forbidden: his key is for other models.
        """
        try:
            target = self.quick(name)
            if target is not None:
                check_model(caller, target.name, name)
            told = await self._described(name, target, verbose=verbose)
        except ModelNotFound as error:
            raise self._astray(name, error) from None
        check_model(caller, told.model.name, name)
        return told

    async def _described(self, name: str, target: RemoteTarget | RoutedTarget | None, *, verbose: bool) -> Description:
        if isinstance(target, RemoteTarget):
            await self._told()
            return await described_there(target, target.name)
        try:
            return await self._described_here(name, verbose=verbose)
        except ModelNotFound:
            prefix, _, model = self._asked(name).partition("/")
            if target is None and model and prefix.lower() == LOCAL:
                told = await self._described_here(model, f"{LOCAL}/", name, verbose=verbose)
                return replace(told, model=replace(told.model, name=f"{LOCAL}/{told.model.name}"))
            if target is None or (known := self._elsewhere(target)) is None:
                raise
        return await described_there(known, target.name)

    async def _described_here(self, name: str, prefix: str = "", said: str = "", *, verbose: bool) -> Description:
        """All about a model of the library. As :meth:`_found_here`."""
        self._require_open(name)
        told = await self._of_library(self._here.describe(name, verbose=verbose), name, prefix, said)
        self._require_open(name, told.model.name)
        return told

    async def explained(self, name: str, capability: str, session: str, caller: Caller) -> Explanation:
        """Where a request for this model would go now, and why; no other server is asked.

        Raises:
            Astray: no host has told of it; says why to whoever may know.
            Withheld: this machine has it, and it cannot be read; likewise.
            Forbidden: his key is for other models.
        """
        await self._fresh()
        asked = self._asked(name)
        try:
            meant = self._routes.explainable(asked) or await self._of_own(asked, name)
        except ModelNotFound as error:
            raise self._astray(name, error) from None
        if meant is None:
            raise self._astray(name, ModelNotFound(asked))
        target = self.quick(name)
        check_model(caller, target.name if target is not None else meant.name, name)
        return self._routes.explained(meant, capability, session, caller)

    def running(self, caller: Caller = ANYBODY) -> tuple[Running, ...]:
        """Models in memory, of this machine and of registered servers; as :meth:`models`."""
        passed = via.way()
        every = askable(running(self._here.running(), self._remotes.fleet.hosts(), passed), self._may(caller))
        return tuple(
            replace(one, model=replace(one.model, gateways=from_here(one.model.gateways, passed))) for one in every
        )

    def _may(self, caller: Caller) -> May:
        """Which names lead to what a list has under them, and may be asked by a caller.

        Aliases, tables of the owner's file, and servers that are called like the first part of a model's name, lead
        elsewhere: what has such a name is listed as its server's.
        """
        tables = any(server.spec.models for server in self._remotes.servers())
        plain = caller.models == EVERY_MODEL and not (tables or self._aliases)

        def may(name: str, where: Sequence[str]) -> bool:
            if plain and "/" not in name:  # nearly all names in nearly all lists
                return True
            target = self.quick(name)
            if self._asked(name) != name or not caller.may_ask(target.name if target is not None else name):
                return False
            return not _leading(target).isdisjoint(where)

        return may

    def _elsewhere(self, target: RoutedTarget) -> RemoteTarget | None:
        """The copy of another server by which a model is described best."""
        of_registered = holders(target.meant.model, target.meant.hosts)
        copies = of_registered or [(host, host.holds(target.meant.model)) for host in target.meant.hosts]
        for host, holding in copies:
            server = self._remotes.at(host)
            if server is not None and holding is not None:
                return RemoteTarget(server, holding.model)
        return None

    def _astray(self, name: str, error: ModelNotFound) -> Astray:
        """Why this name leads nowhere."""
        asked = self._asked(name) or error.name
        return astray(asked, self._remotes.fleet, via.way(), name, aliases=self._aliases)

    def _asked(self, name: str) -> str:
        asked = name or self._default
        return self._aliases.get(asked, asked)

    async def _of_this_machine(self, name: str) -> Found:
        """The model of the library.

        Raises:
            ModelNotFound: there is none of this name, or this machine shall answer nothing.
            Withheld: it cannot be read.
        """
        try:
            return await self._found_here(name)
        except ModelNotFound:
            meant = await self._of_own(self._asked(name), name)
            if meant is None:
                raise
            return RoutedTarget(self._routes, meant, self._here)

    async def _of_own(self, asked: str, said: str) -> Meant | None:
        """What a name means that has this machine's before it, ``local/MODEL``; None where it has not.

        Args:
            asked: the name.
            said: the caller's word for it.

        Raises:
            ModelNotFound, Withheld: as :meth:`_found_here`.
        """
        one = server_names.named(asked, self._remotes.fleet)
        if one is None or not one.host.is_own:
            return None
        place = one.host.spec.name
        listed = (await self._found_here(one.model, f"{place}/", said)).name
        await self._fresh()
        if one.host.holds(same_name(listed)) is None:
            return None
        return Meant(f"{place}/{listed}", same_name(listed), (one.host,))

    async def _found_here(self, name: str, prefix: str = "", said: str = "") -> Found:
        """The model of the library.

        Args:
            name: of the model.
            prefix: what the caller has put before it.
            said: the caller's word for it, where that is another.

        Raises:
            ModelNotFound: there is none of this name, or it is switched off, or all of this machine is.
            Withheld: it cannot be read.
        """
        self._require_open(name)
        found = await self._of_library(self._here.find(name), name, prefix, said)
        self._require_open(name, found.name)
        return found

    async def _of_library(self, looking: Awaitable[T], name: str, prefix: str, said: str) -> T:
        """What the library tells of a model. That it fails with it says that it has it: not to everybody."""
        try:
            return await looking
        except ModelNotFound:
            raise
        except LocalModelsError as error:
            raise Withheld(error, prefix + listed_as(self._asked(name)), said or name) from error

    def _require_open(self, name: str, listed: str = "") -> None:
        """Looks whether a model of this machine may be asked.

        Args:
            name: the caller's.
            listed: that of the model, once it is found: a name may leave out the only tag that there is.

        Raises:
            ModelNotFound: it may not.
        """
        fleet = self._remotes.fleet
        own = fleet.named(LOCAL)
        if own is not None and (not own.spec.is_active or server_names.is_off(own, listed or name, fleet)):
            raise ModelNotFound(name)

    async def _last(self, name: str, lost: Astray) -> Found | None:
        """What a name means that nobody has: the choice is ours, or a kind of server; or a model is to be fetched."""
        asked = self._asked(name)
        if is_automatic(asked):
            await self._fresh()
        if meant := self._routes.automatic(asked):
            return RoutedTarget(self._routes, meant, self._here)
        if found := self._remotes.of_kind(name):
            return RemoteTarget(*found)
        if self.pulls is not None and asked and server_names.named(asked, self._remotes.fleet) is None:
            return Missing(asked, self.pulls, self.quick, lost)
        return None


def _leading(target: RemoteTarget | RoutedTarget | None) -> frozenset[str]:
    """The servers that a name leads to: this machine, where it means no other's model."""
    if target is None:
        return HERE
    if isinstance(target, RemoteTarget):
        return frozenset({target.server.name})
    return frozenset(host.spec.name for host in target.meant.hosts)


async def described_there(known: RemoteTarget, name: str) -> Description:
    """What a server tells of its model, and what its list alone tells, under the name by which we list it."""
    told = await known.describe()
    holding = known.server.host.holds(same_name(known.name.partition("/")[2]))
    length = told.model.context_length or (holding.context_length if holding is not None else 0)
    return replace(told, model=replace(told.model, name=name, context_length=length))
