"""Which server a name means, and what is said where that leads nowhere: one reading of names, and one table of texts.

A server goes by the prefix of its models, by its name or by its id; a model by its own name, or with its server's
prefix before it, ``SERVER/MODEL``. The rule: nobody is told of a model that his key may not ask for, nor where it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from localmodels.core import via
from localmodels.core.access import Caller, Guarded, not_for
from localmodels.core.catalog import ModelName
from localmodels.core.errors import MOST_NAME, Forbidden, InvalidValue, ModelNotFound
from localmodels.core.servers import MODEL_NAME, ServerSpec, prefix_of
from localmodels.fleet.fleet import Fleet
from localmodels.fleet.hosts import LATEST, Host, same_name

Hindrance = Literal["no server", "server off", "model off", "lacks"]

SHOWN = 3  # servers that a text names
MOST_SERVER = 60  # characters of a server's name that is repeated
NO_ALIASES: Mapping[str, str] = {}

TEXTS: Mapping[Hindrance, str] = {
    "no server": "there is no server '{server}'",
    "server off": "the server '{server}' is switched off",
    "model off": "it is switched off on the server '{server}'",
    "lacks": "the server '{server}' has no model '{model}'",
}
"""What stands between a name and an answer."""


def text(why: Hindrance, server: str, model: str = "") -> str:
    """It in words."""
    return TEXTS[why].format(server=server[:MOST_SERVER], model=model[:MOST_NAME])


# Servers by name.


def server_meant(word: str, specs: Sequence[ServerSpec]) -> ServerSpec | None:
    """The server that goes by this prefix, name or id, in any case of letters; the first, where several do."""
    if not word:
        return None
    for wanted in dict.fromkeys((word.lower(), prefix_of(word))):
        for spec in specs:
            if wanted in (prefix_of(spec.name), spec.id.lower()):
                return spec
    return None


# Models by name.


class Named(NamedTuple):
    """A model of one server, as ``SERVER/MODEL`` names it."""

    host: Host
    model: str


def named(name: str, fleet: Fleet) -> Named | None:
    """The server that stands before a name, switched off or not, and the model's name there; None where none does."""
    prefix, slash, model = name.partition("/")
    host = fleet.named(prefix) if slash and model else None
    return Named(host, model) if host is not None else None


def hindrance(named: Named, fleet: Fleet) -> Hindrance | None:
    """Why a model cannot be asked for there, as far as that is known without asking; None where it can."""
    host, model = named
    if not host.spec.is_active:
        return "server off"
    if not offers(host.spec, model):
        return "lacks"
    return "model off" if is_off(host, model, fleet) else None


def offers(spec: ServerSpec, model: str) -> bool:
    """May this model be asked for there?"""
    if not spec.is_active:
        return False
    return model in spec.models if spec.models else MODEL_NAME.fullmatch(model) is not None


def listed_as(model: str) -> str:
    """The name under which a model would be listed that somebody calls so: without what Ollama's names need not say."""
    try:
        return str(ModelName.parse(model))
    except InvalidValue:
        return same_name(model)


def plain(model: str) -> str:
    """A name in the one spelling of all that may mean the same model: Ollama asks neither for case nor for defaults."""
    return listed_as(model).lower()


def is_off(host: Host, model: str, fleet: Fleet) -> bool:
    """Has its owner switched this model off there?"""
    off = fleet.off(host)
    return bool(off) and plain(model) in map(plain, off)


# Where a name leads nowhere.


class Holder(Struct, frozen=True):
    """A server that has the model, and the names by which it can be asked for there, the best first."""

    server: str
    names: tuple[str, ...]


class Astray(Guarded, ModelNotFound):
    """A name that leads nowhere, before it is known who may learn why; until then it says no more than that.

    Attributes:
        said: the caller's word for it; empty where he has named none.
        asked: what the name stands for, as it would be listed.
        why: what stands between it and an answer, where anything of ours does.
        server: that it means.
        model: that it means.
        elsewhere: who has the model.
    """

    def __init__(
        self,
        name: str,
        asked: str,
        model: str,
        why: Hindrance | None = None,
        server: str = "",
        elsewhere: tuple[Holder, ...] = (),
        said: str | None = None,
    ) -> None:
        super().__init__(name)
        self.said = name if said is None else said
        self.asked = asked
        self.why = why
        self.server = server
        self.model = model
        self.elsewhere = elsewhere

    def told_to(self, caller: Caller) -> ModelNotFound | Forbidden:
        """Why, by the names for which he may ask; for who might not ask it, as if there were the model."""
        may = caller.may_ask
        if not may(self.asked):
            return not_for(self.said)
        known = [(one.server, name) for one in self.elsewhere if (name := next(filter(may, one.names), ""))]
        if self.why is None or (self.why == "no server" and not known):
            return ModelNotFound(self.name)
        right = f"; {_have_it(known)}" if known else ""
        return ModelNotFound(self.name, text(self.why, self.server, self.model) + right)


def astray(
    name: str,
    fleet: Fleet,
    passed: tuple[str, ...] = (),
    said: str | None = None,
    *,
    aliases: Mapping[str, str] = NO_ALIASES,
) -> Astray:
    """Why a name leads nowhere, and what would lead to its model.

    Args:
        name: that nobody has answered to: of a server that may be asked, the server itself has said so.
        fleet: the servers.
        passed: the gateways that the request has passed.
        said: the caller's word for it, where that is another; empty where he has named none.
        aliases: other names for models; none of them is recommended for the model that it hides.
    """
    told = said or name
    meant = named(name, fleet)
    if meant is not None:
        host, model = meant
        others = _elsewhere(model, fleet, passed, aliases, besides=host)
        asked = f"{host.spec.name}/{model}"
        return Astray(told, asked, model, hindrance(meant, fleet) or "lacks", host.spec.name, others, said)
    asked = listed_as(name)
    if (off := _switched_off(name, asked, fleet)) is not None:
        why, server = off
        return Astray(told, asked, name, why, server, _elsewhere(asked, fleet, passed, aliases), said)
    prefix, _, model = name.partition("/")
    if prefix and model and (others := _elsewhere(model, fleet, passed, aliases)):
        return Astray(told, asked, model, "no server", prefix, others, said)
    return Astray(told, asked, name, said=said)


def _switched_off(name: str, listed: str, fleet: Fleet) -> tuple[Hindrance, str] | None:
    """What has been switched off, the model or its server, and where; None where no host has the name switched off.

    Args:
        name: as it was asked for.
        listed: as it would be listed; our own engine reads names as Ollama does, others are asked as one writes.
        fleet: the servers.
    """
    for host in fleet.hosts():
        if not host.is_shared and name not in host.spec.models:
            continue
        if not host.spec.is_active and host.holds(listed if host.is_own else same_name(name)) is not None:
            return "server off", host.spec.name
        if host.spec.is_active and is_off(host, name, fleet):
            return "model off", host.spec.name
    return None


def _elsewhere(
    model: str, fleet: Fleet, passed: tuple[str, ...], aliases: Mapping[str, str], besides: Host | None = None
) -> tuple[Holder, ...]:
    """Who has told of this model and may be asked for it."""
    name = same_name(model)
    return tuple(
        Holder(host.spec.name, _names(host, model, fleet, aliases))
        for host in fleet.hosts()
        if host is not besides
        and host.spec.is_active
        and (holding := host.holds(name)) is not None
        and holding.listed
        and via.leads(holding.gateways, passed)
    )


def _names(host: Host, model: str, fleet: Fleet, aliases: Mapping[str, str]) -> tuple[str, ...]:
    """The names by which a host is asked for its model: the model's own, where that may mean this host."""
    bare = model.removesuffix(LATEST)
    tables = [other for other in fleet.hosts() if other.spec.is_active and bare in other.spec.models]
    its_own = (host in tables if tables else host.is_shared) and bare not in aliases
    return (*([bare] if its_own else []), f"{host.spec.name}/{model}")


def _have_it(known: Sequence[tuple[str, str]]) -> str:
    """Who has a model, by which name: ``'s2' and 's3' have it: ask for 'm'``."""
    ones = sorted(known, key=lambda one: one[1].startswith(f"{one[0]}/"))
    names = [f"'{server}'" for server, _ in ones[:SHOWN]]
    more = [f"{len(ones) - SHOWN} more"] if len(ones) > SHOWN else []
    *others, last = [*names, *more]
    who = f"{', '.join(others)} and {last} have" if others else f"{last} has"
    return f"{who} it: ask for '{ones[0][1][:MOST_NAME]}'"
