"""The names that leave the choice of the model to us, as models of a list: ``auto``, and ``auto:CAPABILITY``.

Pure. The rule: such a name is listed where it means a choice, and is no model's own. ``auto`` does where there is a
fleet, or more than one model that holds conversations; ``auto:code`` where some of these can do ``code``, or stand on a
server that is there for it, and others do not. Whoever reads the list may ask for the name and for the models that are
chosen among. And what is told of the name holds for whichever of them answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from localmodels.core.access import ANYBODY
from localmodels.core.catalog import Capability, Model
from localmodels.core.via import leads
from localmodels.dialects.offered import EPOCH
from localmodels.fleet.automatic import AUTO, NEEDS, grants
from localmodels.fleet.hosts import Holding, Host, same_name
from localmodels.flows.routing.model_list import Copy

OWNER = "localmodels"  # stands where lists say whose a model is
_KINDS = frozenset(NEEDS.values())
_CHAT = NEEDS["chat"]
# What every conversation needs, and what is another call: no words to choose a model by.
_PLAIN = _KINDS | {"insert"}


def left_to_us(
    here: Sequence[Model],
    hosts: Iterable[Host],
    passed: tuple[str, ...] = (),
    may: Callable[[str], bool] = ANYBODY.may_ask,
) -> Iterator[Model]:
    """The names.

    Args:
        here: the models of this machine, as its library lists them.
        hosts: of the fleet, in their order.
        passed: the gateways that ask one for another, this one as the last; another gateway is told none of these
            names, since it chooses by itself.
        may: which names are listed, and which models are chosen among.
    """
    if len(passed) > 1:
        return
    hosts = tuple(hosts)
    every = [(same_name(copy[1].model), copy) for copy in _copies(here, hosts, passed)]
    talking = [(name, copy) for name, copy in every if _talks(copy[1]) and may(name)]
    models = {name for name, _ in talking}
    if not models or (len(models) == 1 and not any(host.spec.registered for host in hosts)):
        return
    taken = {name for name, _ in every}
    for name, able in _choices([copy for _, copy in talking]):
        if may(name) and same_name(name) not in taken:
            yield _model(name, able)


def _choices(copies: Sequence[Copy]) -> Iterator[tuple[str, Sequence[Copy]]]:
    """The names that mean a choice, and those that each chooses among."""
    yield AUTO, copies
    words = {word for host, holding in copies for word in (*host.spec.capabilities, *holding.capabilities)}
    for word in sorted(words - _PLAIN):
        able = [copy for copy in copies if grants(*copy, frozenset({word}))]
        if len(able) < len(copies):
            yield f"{AUTO}:{word}", able


def _copies(here: Sequence[Model], hosts: Iterable[Host], passed: tuple[str, ...]) -> Iterator[Copy]:
    """Every model on every host among which the choice is ours."""
    for host in hosts:
        if not (host.is_shared and host.may_be_asked):
            continue
        if host.is_own:
            yield from ((host, host.holds(same_name(model.name)) or _held(model)) for model in here)
        elif host.sight is not None:
            yield from ((host, one) for one in host.sight.holdings.values() if leads(one.gateways, passed))


def _held(model: Model) -> Holding:
    """A model of this machine, before it has told of it as one of many."""
    return Holding(model.name, capabilities=frozenset(model.capabilities), context_length=model.context_length)


def _talks(holding: Holding) -> bool:
    """Does it hold conversations, as far as is known? One of which nothing is told may."""
    kinds = holding.capabilities & _KINDS
    return not kinds or _CHAT in kinds


def _model(name: str, copies: Sequence[Copy]) -> Model:
    """The name as a model: all of its copies can do what is said of it."""
    common = frozenset.intersection(*(holding.capabilities for _, holding in copies))
    words: tuple[Capability, ...] = ("completion", "tools", "thinking", "vision")
    return Model(
        name=name,
        size=0,
        digest="",
        modified_at=EPOCH,  # clients want a moment of every model
        capabilities=tuple(word for word in words if word in common),
        context_length=min(holding.context_length for _, holding in copies),
        server=OWNER,
    )
