"""What a host told, as routing sees it: the models that may be asked there, with what their owner says of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import get_args

from msgspec.structs import replace

from localmodels.core.catalog import Capability, Model
from localmodels.core.fleet import LOCAL, ModelRow
from localmodels.core.servers import ServerSpec
from localmodels.dialects.told import Told
from localmodels.fleet.hosts import Holding, Loaded, Sight, same_name

Rows = Mapping[str, ModelRow]
"""The rows of one server's models, by :func:`~localmodels.fleet.hosts.same_name`."""


def sight_of(told: Told, spec: ServerSpec, rows: Rows, at: float) -> Sight:
    """The sight.

    Args:
        told: what it told.
        spec: the host; where its table lists models, these are all that it offers, whether it tells of them or not.
        rows: of its models; one that is switched off is not held.
        at: seconds of the fleet's clock.
    """
    itself = (told.gateway,) if told.gateway else ()
    held = {same_name(model): Holding(model, gateways=itself, listed=not told.whole) for model in spec.models}
    for model in told.models:
        name = same_name(model.name)
        if (spec.models and name not in held) or (spec.registered and is_ours(model.name)):
            continue
        held[name] = Holding(
            model=held[name].model if name in held else model.name,
            digest=model.digest,
            size=model.size,
            capabilities=frozenset(model.capabilities),
            context_length=model.context_length,
            modified_at=model.modified_at,
            details=model.details,
            gateways=model.gateways or itself,
        )
    return Sight(
        at=at,
        version=told.version,
        holdings={name: said for name, one in held.items() if (said := _as_owned(one, rows.get(name))) is not None},
        loaded=_loaded(told, itself),
        memory_free=told.memory_free,
        busy=told.busy,
        gateway=told.gateway,
        more=told.more,
        whole=told.whole,
    )


def is_ours(model: str) -> bool:
    """Does its name say that it is this machine's? Whoever asks for that means no other."""
    return model.lower().startswith(f"{LOCAL}/")


def remembered(rows: Rows) -> Told:
    """What a host told when its models were written down last, for as long as it has told nothing since."""
    return Told(
        models=tuple(
            Model(
                name=row.model,
                size=row.size,
                digest=row.digest,
                modified_at=row.modified_at,
                capabilities=_known(row.told),
                context_length=row.context_length,
            )
            for row in rows.values()
            if row.present
        )
    )


def _known(words: Collection[str]) -> tuple[Capability, ...]:
    """Of the words of a row those that we know."""
    return tuple(word for word in get_args(Capability) if word in words)


def _as_owned(holding: Holding, row: ModelRow | None) -> Holding | None:
    """With its owner's words; None where he has switched it off."""
    if row is None:
        return holding
    if not row.is_active:
        return None
    return replace(holding, capabilities=holding.capabilities | frozenset(row.capabilities), priority=row.priority)


def _loaded(told: Told, itself: tuple[str, ...]) -> dict[str, Loaded] | None:
    if told.running is None:
        return None
    loaded: dict[str, Loaded] = {}
    for one in told.running:
        if one.status != "stopping":  # a gateway tells its own before those of others, and the nearest counts
            loaded.setdefault(
                same_name(one.model.name),
                Loaded(
                    model=one.model.name,
                    size=one.size,
                    size_vram=one.size_vram,
                    expires_at=one.expires_at,
                    context_length=one.context_length,
                    gateways=one.model.gateways or itself,
                ),
            )
    return loaded
