"""The models of a fleet as one list: each name once, with those who have it, and what is in memory anywhere.

Pure. The rule: a name whose digests differ says so, and is described as this machine has it, else as most hosts have
it. Who does not answer, or may not be asked, has nothing. A list has the names by which whoever reads it may ask, and
no others: the bare one where he may and it leads to a server of its row, else ``SERVER/MODEL`` for each server where he
may. And another gateway that asks is not told what would lead back to it (``core.via``): else two that ask each other
would tell each other for ever what neither has any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import cast, get_args

from msgspec.structs import replace

from localmodels.core.catalog import Capability, Model, Running
from localmodels.core.fleet import LOCAL
from localmodels.core.via import leads
from localmodels.dialects.offered import named
from localmodels.fleet.hosts import Holding, Host, Loaded, same_name

Copy = tuple[Host, Holding]
May = Callable[[str, Sequence[str]], bool]
"""May whoever reads a list ask for this name, and does it lead to one of these servers?"""

_CAPABILITIES = frozenset(get_args(Capability))


def everything(name: str, where: Sequence[str]) -> bool:
    """Whoever reads the list may ask for all, and no name leads elsewhere."""
    return True


def merged(
    here: Sequence[Model], hosts: Iterable[Host], passed: tuple[str, ...] = (), may: May = everything
) -> tuple[Model, ...]:
    """All models: those of this machine in their order, then the others by name, then those of servers of the file.

    Args:
        here: the models of this machine, as its library lists them.
        hosts: of the fleet, in their order. The models of those of the configuration's file are listed under
            ``SERVER/MODEL`` and no other name. The host of this machine says whether it may be asked, and its name.
        passed: the gateways that ask one for another, this one as the last.
        may: which names are listed.
    """
    hosts = tuple(hosts)
    file = tuple(_of_file(hosts, passed, may))
    return (*_by_bare_names(here, hosts, passed, may, alone=not file), *file)


def _by_bare_names(
    here: Sequence[Model], hosts: Iterable[Host], passed: tuple[str, ...], may: May, *, alone: bool
) -> Iterator[Model]:
    """Those of this machine and of registered servers; ``alone``: no others are listed."""
    local, others = _sides(hosts)
    if local is not None and not local.spec.is_active:
        here = ()
    if alone and not others:
        for model in here:
            yield from _named(model, (LOCAL,), may, (replace(model, name=f"{LOCAL}/{model.name}"),))
        return
    mine = {same_name(model.name): model for model in here}
    copies: dict[str, list[Copy]] = {}
    for host in filter(_has, others):
        for name, holding in host.sight.holdings.items() if host.sight else ():
            if leads(holding.gateways, passed):
                copies.setdefault(name, []).append((host, holding))
    place = local.spec.name if local is not None else LOCAL
    for name, model in mine.items():
        ours = replace(model, name=f"{place}/{model.name}", servers=(place,))
        held = copies.get(name, ())
        every = _everywhere(model, place, held)
        yield from _named(every, every.servers, may, (ours, *map(_alone, held)))
    for name in sorted(copies):
        if name not in mine:
            every = _elsewhere(copies[name])
            yield from _named(every, every.servers, may, map(_alone, copies[name]))


def _of_file(hosts: Iterable[Host], passed: tuple[str, ...], may: May) -> Iterator[Model]:
    """Those of the servers of the file, under their servers' names.

    What stands in a server's table is its owner's word, also while the server does not tell.
    """
    for host in _file(hosts):
        if not (_has(host) or (host.spec.is_active and host.spec.models)):
            continue
        for holding in host.sight.holdings.values() if host.sight else ():
            name = f"{host.spec.name}/{holding.model}"
            if holding.listed and may(name, (host.spec.name,)) and leads(holding.gateways, passed):
                yield _alone((host, holding))


def _named(model: Model, where: Sequence[str], may: May, apart: Iterable[Model]) -> Iterator[Model]:
    """A model by its bare name, or, where that may not be asked or leads elsewhere, as each of its servers has it."""
    if may(model.name, where):
        yield model
    else:
        yield from (one for one in apart if may(one.name, one.servers or where))


def _alone(copy: Copy) -> Model:
    """A model as one host has it, under the host's name."""
    host, holding = copy
    name = f"{host.spec.name}/{holding.model}"
    return replace(model_of(host, holding), name=name, servers=(host.spec.name,), gateways=holding.gateways)


def running(here: Sequence[Running], hosts: Iterable[Host], passed: tuple[str, ...] = ()) -> tuple[Running, ...]:
    """What is in memory: of this machine first, then of each host, as it told when it was asked last.

    Args:
        here: of this machine.
        hosts: as :func:`merged`.
        passed: likewise.
    """
    hosts = tuple(hosts)
    local, others = _sides(hosts)
    there = tuple(
        _loaded(host, name, one)
        for host in filter(_has, (*others, *_file(hosts)))
        for name, one in _memory(host).items()
        if leads(one.gateways, passed)
    )
    if not (others or there):
        return tuple(here)
    place = local.spec.name if local is not None else LOCAL
    return (*(replace(row, server=place) for row in here), *there)


def askable(rows: Iterable[Running], may: May) -> Iterator[Running]:
    """Those that whoever reads the list may ask for, each by a name by which he may."""
    for row in rows:
        name, server = row.model.name, row.server or LOCAL
        apart = name if name.startswith(f"{server}/") else f"{server}/{name}"
        if may(name, (server,)):
            yield row
        elif may(apart, (server,)):
            yield replace(row, model=replace(row.model, name=apart))


def from_here(gateways: tuple[str, ...], passed: tuple[str, ...]) -> tuple[str, ...]:
    """The gateways of a model as whoever asks shall hear them: another gateway with this one before them; nobody else.

    Args:
        gateways: through which this one has it.
        passed: as :func:`merged`.
    """
    return (passed[-1], *gateways) if len(passed) > 1 else ()


def holders(model: str, hosts: Iterable[Host]) -> tuple[Copy, ...]:
    """Those registered hosts that have a model and answer, and how it is there; that which describes it best first.

    Args:
        model: its bare name, with or without ``:latest``.
        hosts: as :func:`merged`; this machine is not looked at.
    """
    name = same_name(model)
    found = ((host, host.holds(name)) for host in filter(_has, _sides(hosts)[1]))
    return tuple(_usual_first([(host, holding) for host, holding in found if holding is not None]))


def _sides(hosts: Iterable[Host]) -> tuple[Host | None, list[Host]]:
    """This machine, if it is a host of the fleet, and the servers that were registered."""
    local, others = None, []
    for host in hosts:
        if host.is_own:
            local = host
        elif host.spec.registered:
            others.append(host)
    return local, others


def _file(hosts: Iterable[Host]) -> Iterator[Host]:
    """The servers of the configuration's file."""
    return (host for host in hosts if not (host.is_own or host.spec.registered))


def _has(host: Host) -> bool:
    """Does what it told count?"""
    return host.may_be_asked and host.sight is not None


def _usual_first(copies: Sequence[Copy]) -> Sequence[Copy]:
    """The copies, those of the digest that most hosts have first; among equals in their order."""
    votes = Counter(holding.digest for _, holding in copies if holding.digest)
    return sorted(copies, key=lambda copy: -votes[copy[1].digest]) if len(votes) > 1 else copies


def _everywhere(model: Model, place: str, copies: Sequence[Copy]) -> Model:
    """A model of this machine, and who else has one of its name."""
    return replace(
        model,
        servers=(place, *(host.spec.name for host, _ in copies)),
        digests=_differing({place: model.digest, **_digests(copies)}),
    )


def _elsewhere(copies: Sequence[Copy]) -> Model:
    """A model that others alone have."""
    digests = _digests(copies) if len({holding.digest for _, holding in copies} - {""}) > 1 else {}
    host, holding = _usual_first(copies)[0] if digests else copies[0]
    return replace(
        model_of(host, holding),
        servers=tuple(host.spec.name for host, _ in copies),
        digests=digests,
        gateways=min((holding.gateways for _, holding in copies), key=len),
    )


def _digests(copies: Iterable[Copy]) -> dict[str, str]:
    return {host.spec.name: holding.digest for host, holding in copies if holding.digest}


def _differing(digests: Mapping[str, str]) -> Mapping[str, str]:
    return digests if len({*digests.values()}) > 1 else {}


def model_of(host: Host, holding: Holding) -> Model:
    """A model as a host tells of it, under its bare name. What it does not tell is as in other servers' lists."""
    unknown = named(host.spec.name, holding.model)  # clients of Ollama want a digest and a moment of every model
    return Model(
        name=holding.model,
        size=holding.size,
        digest=holding.digest or unknown.digest,
        modified_at=holding.modified_at or unknown.modified_at,
        details=holding.details,
        capabilities=tuple(cast("Capability", word) for word in sorted(holding.capabilities & _CAPABILITIES)),
        context_length=holding.context_length,
        server=host.spec.name,
    )


def in_memory(host: Host) -> tuple[Running, ...] | None:
    """What is in the memory of a host, by the names that it gives its models; None where it does not tell."""
    if host.sight is None or host.sight.loaded is None:
        return None
    return tuple(_running(host, name, one) for name, one in host.sight.loaded.items())


def _memory(host: Host) -> Mapping[str, Loaded]:
    return (host.sight.loaded if host.sight else None) or {}


def _loaded(host: Host, name: str, one: Loaded) -> Running:
    row = _running(host, name, one)
    if host.is_shared:
        return row
    return replace(row, model=replace(row.model, name=f"{host.spec.name}/{row.model.name}"))


def _running(host: Host, name: str, one: Loaded) -> Running:
    return Running(
        model=replace(model_of(host, host.holds(name) or Holding(one.model)), gateways=one.gateways),
        status="running",
        pid=0,
        size=one.size,
        size_vram=one.size_vram,
        expires_at=one.expires_at,
        context_length=one.context_length,
        server=host.spec.name,
    )
