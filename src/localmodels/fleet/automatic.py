"""Which model answers where the caller leaves the choice to us: ``auto``, and ``auto:CAPABILITY``.

The rule: the model is chosen by what it can do and by what changes slowly, so that the same question finds the same
model; only a host without a place, or a model that would have to be loaded, changes that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter

from localmodels.core.catalog import DEFAULT_TAG
from localmodels.dialects.protocol import Call
from localmodels.fleet.hosts import Holding, Host
from localmodels.fleet.targets import Ask

AUTO = "auto"
# What a call needs of a model. One of which its host tells none of these words may be able to do anything.
NEEDS: Mapping[Call, str] = {
    "chat": "completion",
    "generate": "completion",
    "count": "completion",
    "embed": "embedding",
    "rerank": "rerank",
}
_KINDS = frozenset(NEEDS.values())


def wished(ask: Ask) -> frozenset[str]:
    """What the model must be able to do, or its host be there for, by the name and the rest of the request.

    ``auto:latest`` is ``auto``: Ollama's clients write the tag out.
    """
    _, _, word = ask.model.partition(":") if is_automatic(ask.model) else ("", "", "")
    return frozenset({word, ask.capability} - {"", DEFAULT_TAG})


def is_automatic(model: str) -> bool:
    """Does this name leave the choice to us?"""
    return model == AUTO or model.startswith(AUTO + ":")


def grants(host: Host, holding: Holding, wishes: frozenset[str]) -> bool:
    """Can the model do all of this, or is its host there for it?"""
    return wishes.difference(host.spec.capabilities) <= holding.capabilities


def chosen(ask: Ask, hosts: Iterable[Host]) -> str:
    """The model, as :func:`~localmodels.fleet.hosts.same_name` spells it; empty where none will do.

    A free host goes before a full one, then the higher priority; there, a model that is in memory before one that is
    not. Among those, the copy with the highest priority, one on the default host, the one that most hosts have. A copy
    that rests is none.

    Args:
        ask: the request.
        hosts: that may be asked.
    """
    wishes = wished(ask)
    classes: dict[tuple[bool, bool, int], list[Host]] = {}
    for host in hosts:
        classes.setdefault(_class(host, ask), []).append(host)
    for _, group in sorted(classes.items(), key=itemgetter(0)):
        if model := _warm(group, ask, wishes) or _cold(group, ask, wishes):
            return model
    return ""


def _class(host: Host, ask: Ask) -> tuple[bool, bool, int]:
    return not host.free, host.id != ask.sticky, -host.spec.priority


def _warm(hosts: Sequence[Host], ask: Ask, wishes: frozenset[str]) -> str:
    """The best of the models that are in the memory of any of them."""
    ranks: dict[str, list[tuple[int, bool]]] = {}
    for host in hosts:
        loaded = host.sight.loaded if host.sight else None
        for model, holding in _able(host, ask, wishes, loaded or ()):
            ranks.setdefault(model, []).append((-holding.priority, not host.spec.is_default))
    return min(ranks, key=lambda model: (min(ranks[model]), -len(ranks[model]), model), default="")


def _cold(hosts: Sequence[Host], ask: Ask, wishes: frozenset[str]) -> str:
    """The best of the models of the first of them that has any; the default host is asked first."""
    for host in sorted(hosts, key=lambda host: not host.spec.is_default):
        models = host.sight.holdings if host.sight else ()
        able = [(-holding.priority, model) for model, holding in _able(host, ask, wishes, models)]
        if able:
            return min(able)[1]
    return ""


def _able(host: Host, ask: Ask, wishes: frozenset[str], models: Iterable[str]) -> Iterator[tuple[str, Holding]]:
    """Those of these models that it has and that can do what is asked."""
    held = host.sight.holdings if host.sight else {}
    others = _KINDS - {NEEDS[ask.call]} if ask.call in NEEDS else frozenset()
    wishes = wishes.difference(host.spec.capabilities)
    for model in models:
        holding = held.get(model)
        # There may be thousands of models at a hundred hosts: what most of them fail by is looked at first.
        if holding is not None and wishes <= holding.capabilities and (ask.may is None or ask.may(model)):
            kinds = holding.capabilities & _KINDS
            if (not kinds or kinds - others) and not (ask.rests and (host.id, model) in ask.rests):
                yield model, holding
