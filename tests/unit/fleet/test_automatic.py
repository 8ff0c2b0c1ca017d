"""The model that ``auto`` means, found in short ways: it is the one that its rule, written out, names."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from localmodels.core.servers import ServerSpec
from localmodels.fleet.automatic import NEEDS, chosen, wished
from localmodels.fleet.hosts import Holding, Host, Loaded, Sight, View
from localmodels.fleet.targets import Ask

MODELS = tuple(f"{letter}:latest" for letter in "abcdef")
WORDS = ("completion", "embedding", "vision")
KINDS = frozenset(NEEDS.values())


def able(view: View, ask: Ask, model: str) -> bool:
    """Can this copy answer?"""
    holding = view.holdings.get(model)
    if holding is None or (view.id, model) in ask.rests or (ask.may is not None and not ask.may(model)):
        return False
    kinds = holding.capabilities & KINDS
    return wished(ask) - view.there_for <= holding.capabilities and (not kinds or NEEDS["chat"] in kinds)


def meant(ask: Ask, views: Sequence[View]) -> str:
    """As the rule says it."""
    order = sorted({(not view.free, view.id != ask.sticky, -view.priority) for view in views})
    for best in order:
        group = [view for view in views if (not view.free, view.id != ask.sticky, -view.priority) == best]
        warm = {model: [v for v in group if model in (v.loaded or ()) and able(v, ask, model)] for model in MODELS}
        ranks = [
            (
                min((-view.holdings[model].priority, not view.spec.is_default) for view in holders),
                -len(holders),
                model,
            )
            for model, holders in warm.items()
            if holders
        ]
        if ranks:
            return min(ranks)[-1]
        for view in sorted(group, key=lambda view: not view.spec.is_default):
            cold = [(-view.holdings[model].priority, model) for model in view.holdings if able(view, ask, model)]
            if cold:
                return min(cold)[-1]
    return ""


def fleet(chance: Random, *, plain: bool) -> list[View]:
    """Some hosts; ``plain`` ones differ in nothing but what they have and how busy they are."""
    default = -1 if plain else chance.randrange(8)
    return [_view(chance, number, default, plain=plain) for number in range(chance.randint(1, 8))]


def _view(chance: Random, number: int, default: int, *, plain: bool) -> View:
    holdings = {
        model: Holding(
            model,
            capabilities=frozenset(word for word in WORDS if chance.random() < 0.5),
            priority=0 if plain else chance.choice((0, 0, 0, 1)),
        )
        for model in MODELS
        if chance.random() < 0.7
    }
    told = {model: Loaded(model) for model in MODELS if chance.random() < 0.4}  # some of which it does not offer
    spec = ServerSpec(
        name=f"host-{number}",
        url=f"http://host-{number}",
        kind="ollama",
        id=str(number),
        max_concurrent=2,
        priority=0 if plain else chance.randrange(2),
        is_default=number == default,
        capabilities=() if plain or chance.random() < 0.7 else ("vision",),
    )
    host = Host(spec, Sight(0.0, holdings=holdings, loaded=chance.choice((told, told, told, None))), "up")
    host.in_flight = chance.randrange(3)
    return host.look()


def test_what_is_chosen_is_what_the_rule_says() -> None:
    chance, seen = Random(1), set[str]()
    for number in range(6000):
        views = fleet(chance, plain=number % 2 == 0)
        ask = Ask(
            chance.choice(("auto", "auto", "auto:vision")),
            sticky=chance.choice(("", "", "3")),
            rests=frozenset((str(at), chance.choice(MODELS)) for at in range(chance.choice((0, 0, 4)))),
            may=chance.choice((None, None, lambda model: model < "d")),
        )
        model = chosen(ask, views)
        assert model == meant(ask, views), (number, ask, views)
        seen.add(model)
    assert seen == {"", *MODELS}
