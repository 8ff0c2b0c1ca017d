"""Models spoilt on purpose: the comparison must see it, or it would prove nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from msgspec import structs

from localmodels.artifacts.convert.drawing import Made, Model, Part

# A spoilt model is further off than any sound one by this factor at least.
APART = 100.0


@dataclass(frozen=True)
class Control:
    """A case (of ``models.CASES``) and what is done to its model."""

    case: str
    spoil: Callable[[Model], Model]


def _each(spoil: Callable[[Made], Made]) -> Callable[[Model], Model]:
    return lambda model: structs.replace(model, tensors=tuple(spoil(made) for made in model.tensors))


def _unmoved(made: Made) -> Made:
    if ".attn_q." not in made.name and ".attn_k." not in made.name:
        return made
    return structs.replace(made, parts=tuple(Part(part.sources) for part in made.parts))


def _unshifted(made: Made) -> Made:
    return structs.replace(made, shift=0.0)


def _without(model: Model, name: str) -> Model:
    return structs.replace(model, tensors=tuple(made for made in model.tensors if made.name != name))


def _swapped(model: Model, one: str, other: str) -> Model:
    """Two tensors with the same shape change places."""
    names = {one: other, other: one}
    tensors = tuple(
        structs.replace(made, name=made.name.replace(found, names[found]))
        if (found := next((name for name in names if f".{name}." in made.name), ""))
        else made
        for made in model.tensors
    )
    return structs.replace(model, tensors=tensors)


def _key(model: Model, key: str, value: float) -> Model:
    pairs = tuple((name, value if name.endswith(key) else old) for name, old in model.pairs)
    return structs.replace(model, pairs=pairs)


CONTROLS: Mapping[str, Control] = {
    "llama: rows of queries and keys not moved": Control("llama", _each(_unmoved)),
    "llama-3: no factors of frequencies": Control("llama-3", lambda model: _without(model, "rope_freqs.weight")),
    "mixtral: gate and up exchanged": Control("mixtral", lambda model: _swapped(model, "ffn_gate_exps", "ffn_up_exps")),
    "qwen3: norms of queries and keys exchanged": Control(
        "qwen3", lambda model: _swapped(model, "attn_q_norm", "attn_k_norm")
    ),
    "qwen2: another base of frequencies": Control("qwen2", lambda model: _key(model, "rope.freq_base", 5_000.0)),
    "gemma2: norms not shifted": Control("gemma2", _each(_unshifted)),
    "gemma3: norms not shifted": Control("gemma3", _each(_unshifted)),
    "gemma3: one base for all layers": Control("gemma3", lambda model: _key(model, "rope.freq_base_swa", 1_000_000.0)),
    "phi3: long factors for short texts": Control(
        "phi3-short", lambda model: _swapped_whole(model, "rope_factors_long.weight", "rope_factors_short.weight")
    ),
    "gpt-oss: gate and up exchanged": Control("gpt-oss", lambda model: _swapped(model, "ffn_gate_exps", "ffn_up_exps")),
}


def _swapped_whole(model: Model, one: str, other: str) -> Model:
    names = {one: other, other: one}
    tensors = tuple(structs.replace(made, name=names.get(made.name, made.name)) for made in model.tensors)
    return structs.replace(model, tensors=tensors)
