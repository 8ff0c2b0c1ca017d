"""Which model answers where the caller leaves the choice to us: ``auto``, and ``auto:CAPABILITY``.

The rule: the model is chosen by what it can do and by what changes slowly, so that the same question finds the same
model; only a host without a place, or a model that would have to be loaded, changes that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import nsmallest
from itertools import chain

from localmodels.core.catalog import DEFAULT_TAG
from localmodels.dialects.protocol import Call
from localmodels.fleet.hosts import Holding, Host, View
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
_OTHERS: Mapping[Call, frozenset[str]] = {call: _KINDS - {need} for call, need in NEEDS.items()}
_NONE = frozenset[str]()
# Names, of those that equally many hosts have in memory, that are looked at before every copy is.
TRIED = 4


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


def chosen(ask: Ask, views: Sequence[View]) -> str:
    """The model, as :func:`~localmodels.fleet.hosts.same_name` spells it; empty where none will do.

    A free host goes before a full one, then the higher priority; there, a model that is in memory before one that is
    not. Among those, the copy with the highest priority, one on the default host, the one that most hosts have. A copy
    that rests is none.

    Args:
        ask: the request.
        views: of the hosts that may be asked.
    """
    wishes = wished(ask)
    for group in _groups(views, ask):
        if model := _warm(group, ask, wishes) or _cold(group, ask, wishes):
            return model
    return ""


def _groups(views: Sequence[View], ask: Ask) -> Iterator[Sequence[View]]:
    """Who is asked alike, the best first. Hardly ever is anybody looked for behind these, so they are found alone."""
    best = [view for view in views if view.free] or views
    if ask.sticky:
        best = [view for view in best if view.id == ask.sticky] or best
    if len(tiers := {view.priority for view in best}) > 1:
        highest = max(tiers)
        best = [view for view in best if view.priority == highest]
    yield best
    classes: dict[tuple[bool, bool, int], list[View]] = {}
    for view in views:
        classes.setdefault((not view.free, view.id != ask.sticky, -view.priority), []).append(view)
    for one in sorted(classes)[1:]:
        yield classes[one]


def _warm(views: Sequence[View], ask: Ask, wishes: frozenset[str]) -> str:
    """The best of the models that are in the memory of any of them."""
    return _most_common(views, ask, wishes) or _best_copy(views, ask, wishes)


def _most_common(views: Sequence[View], ask: Ask, wishes: frozenset[str]) -> str:
    """The same, where all copies are alike but for where they are; empty where they may not be, or it takes long.

    Counting names takes an eighth of the time that looking at each copy does.
    """
    counts = Counter(chain.from_iterable([view.loaded for view in views if view.loaded]))
    if not counts or wishes or ask.rests:
        return ""
    if [1 for view in views if view.ranked or (not view.is_even and view.spec.is_default)]:
        return ""
    most = max(counts.values())
    for model in nsmallest(TRIED, [model for model, count in counts.items() if count == most]):
        holders = [view for view in views if view.loaded and model in view.loaded]
        held = [holding.capabilities for view in holders if (holding := view.holdings.get(model)) is not None]
        if len(held) == most and (ask.may is None or ask.may(model)) and all(_answers(one, ask) for one in {*held}):
            return model
    return ""


def _best_copy(views: Sequence[View], ask: Ask, wishes: frozenset[str]) -> str:
    """The same, by a look at every copy."""
    ranks: dict[str, list[tuple[int, bool]]] = {}
    for view in views:
        for model, holding in _able(view, ask, wishes, view.loaded or ()):
            ranks.setdefault(model, []).append((-holding.priority, not view.spec.is_default))
    return min(ranks, key=lambda model: (min(ranks[model]), -len(ranks[model]), model), default="")


def _cold(views: Sequence[View], ask: Ask, wishes: frozenset[str]) -> str:
    """The best of the models of the first of them that has any; the default host is asked first."""
    for view in sorted(views, key=lambda view: not view.spec.is_default):
        able = [(-holding.priority, model) for model, holding in _able(view, ask, wishes, view.holdings)]
        if able:
            return min(able)[1]
    return ""


def _able(view: View, ask: Ask, wishes: frozenset[str], models: Iterable[str]) -> Iterator[tuple[str, Holding]]:
    """Those of these models that it has and that can do what is asked."""
    held = view.holdings
    wishes -= view.there_for
    for model in models:
        holding = held.get(model)
        # There may be thousands of models at a hundred hosts: what most of them fail by is looked at first.
        if holding is None or not wishes <= holding.capabilities or (ask.may is not None and not ask.may(model)):
            continue
        if _answers(holding.capabilities, ask) and (view.id, model) not in ask.rests:
            yield model, holding


def _answers(capabilities: frozenset[str], ask: Ask) -> bool:
    """Can a model that can do this answer such a call, as far as its host tells?"""
    kinds = capabilities & _KINDS
    return not kinds or bool(kinds - _OTHERS.get(ask.call, _NONE))
