"""How positions are turned into angles (RoPE): the dozen spellings of a configuration, and what llama.cpp makes of it.

transformers 5 writes ``rope_parameters``, older versions ``rope_theta`` beside ``rope_scaling``, whose kind is called
``rope_type`` or ``type``; both are read. The rule: a kind or a field that is not known is refused, since a model with
wrong angles answers well to short prompts and nonsense to long ones.

Formulas: Llama 3's from its own release (``apply_scaling`` in ``llama/model.py``), YaRN's from its paper (arXiv
2309.00071), LongRoPE's from Phi-3's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from localmodels.artifacts.convert.config import FILE, Config, is_number
from localmodels.artifacts.gguf_write import Plain
from localmodels.core.errors import ModelDamaged, Unsupported


class Rope(Struct, frozen=True):
    """Angles as llama.cpp wants to be told.

    Attributes:
        base: of the frequencies, ``rope_theta``.
        pairs: further metadata, without the architecture's prefix.
        factors: by which each frequency is divided; empty if they are not, of length head / 2 otherwise.
        short: the same for texts within the context that the model was first trained with; LongRoPE has both.
    """

    base: float
    pairs: tuple[tuple[str, Plain], ...] = ()
    factors: tuple[float, ...] = ()
    short: tuple[float, ...] = ()


Values = Mapping[str, Any]

# Between how many turns in the original context frequencies are stretched partly. llama.cpp b11549 reads other values
# from a file (yarn_beta_fast, yarn_beta_slow) in families alone that are not ours.
YARN_TURNS: Mapping[str, float] = {"beta_fast": 32.0, "beta_slow": 1.0}

# What may stand beside the kind and its own fields.
_COMMON = frozenset({"rope_type", "type", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings"})


def read_rope(config: Config, *, width: int, default: float = 10_000.0, layers: str = "full_attention") -> Rope:
    """What a configuration says of angles.

    Args:
        config: of the model.
        width: how much of a head is turned; even.
        default: base of the frequencies if nothing is said.
        layers: which layers are asked for, where a configuration tells them apart.

    Raises:
        ModelDamaged: a number is missing or none.
        Unsupported: the kind, or one of its fields, is not known.
    """
    values = rope_values(config, layers)
    kind = str(values.get("rope_type") or values.get("type") or "default").lower()
    if kind not in _KINDS:
        raise Unsupported(f"{FILE}: rope type {kind!r:.40} is not known here; known are {', '.join(sorted(_KINDS))}")
    fields, read = _KINDS[kind]
    unknown = [name for name, value in values.items() if name not in fields | _COMMON and value is not None]
    if unknown:
        raise Unsupported(f"{FILE}: {unknown[0]!r:.60} is not a field of rope type {kind!r} that is known here")
    base = _number(values, "rope_theta", default)
    return read(Question(config, values, base, width))


def rope_values(config: Config, layers: str = "full_attention") -> Values:
    """The fields of all spellings as one table."""
    scaling = config.table("rope_scaling")
    given = config.table("rope_parameters")
    nested = given.get(layers)
    if nested is None and any(isinstance(value, dict) for value in given.values()):
        raise ModelDamaged(f"{FILE}: rope_parameters say nothing of {layers!r}")
    parameters = nested if isinstance(nested, dict) else given
    theta = config.get("rope_theta")
    return {**({} if theta is None else {"rope_theta": theta}), **scaling, **parameters}


class Question(Struct, frozen=True):
    """What is asked of one kind."""

    config: Config
    values: Values
    base: float
    width: int

    def number(self, name: str, default: float | None = None) -> float:
        """One of the fields, above 0.

        Raises:
            ModelDamaged: it is missing, and there is no default; or it is none.
        """
        return _number(self.values, name, default)

    @property
    def original(self) -> int:
        """Tokens that the model was trained with before its context was stretched; all of them if nothing is said."""
        name = "original_max_position_embeddings"
        beside = self.config.get(name)
        context = self.config.count("max_position_embeddings", high=2**31 - 1)
        return int(self.number(name, context if beside is None else _number({name: beside}, name)))


def _number(values: Values, name: str, default: float | None = None) -> float:
    value = values.get(name)
    if value is None and default is not None:
        return default
    if not is_number(value) or not value > 0:
        raise ModelDamaged(f"{FILE}: {name} of the rope parameters must be a number above 0, not {value!r:.40}")
    return float(value)


# Kinds


def _plain(asked: Question) -> Rope:
    return Rope(asked.base)


def _linear(asked: Question) -> Rope:
    return Rope(asked.base, (("rope.scaling.type", "linear"), ("rope.scaling.factor", asked.number("factor"))))


def _llama3(asked: Question) -> Rope:
    """Low frequencies are divided by the factor, high ones left alone, and those between mixed of both."""
    factor = asked.number("factor")
    low, high = asked.number("low_freq_factor"), asked.number("high_freq_factor")
    if not high > low:
        raise ModelDamaged(f"{FILE}: high_freq_factor must be above low_freq_factor")
    trained = asked.original
    factors = []
    for index in range(0, asked.width, 2):
        turns = trained / (2 * math.pi * asked.base ** (index / asked.width))  # in the context it was trained with
        share = min(max((turns - low) / (high - low), 0.0), 1.0)  # of the frequency as it was
        factors.append(1 / ((1 - share) / factor + share))
    return Rope(asked.base, factors=tuple(factors))


def _yarn(asked: Question) -> Rope:
    factor = asked.number("factor")
    pairs: list[tuple[str, Plain]] = [
        ("rope.scaling.type", "yarn"),
        ("rope.scaling.factor", factor),
        ("rope.scaling.original_context_length", asked.original),
    ]
    if asked.values.get("mscale") is not None or asked.values.get("mscale_all_dim") is not None:
        raise Unsupported(f"{FILE}: mscale and mscale_all_dim of rope type 'yarn' are not known to the engine here")
    for name, due in YARN_TURNS.items():
        if asked.number(name, due) != due:
            raise Unsupported(
                f"{FILE}: {name} of rope type 'yarn' is {asked.values[name]!r:.40}; the engine takes {due}"
            )
    if asked.values.get("attention_factor") is not None:
        # llama.cpp multiplies by the factor of YaRN's paper anyway.
        ratio = asked.number("attention_factor") / (0.1 * math.log(factor) + 1 if factor > 1 else 1)
        if abs(ratio - 1) > 1e-6:
            pairs.append(("rope.scaling.attn_factor", ratio))
    return Rope(asked.base, tuple(pairs))


def _longrope(asked: Question) -> Rope:
    original = asked.original
    stretch = asked.config.count("max_position_embeddings", high=2**31) / original
    if asked.values.get("factor") is not None:
        stretch = asked.number("factor")
    due = math.sqrt(1 + math.log(stretch) / math.log(original)) if stretch > 1 else 1.0
    pairs: tuple[tuple[str, Plain], ...] = (
        ("rope.scaling.original_context_length", original),
        ("rope.scaling.attn_factor", asked.number("attention_factor", due)),
    )
    return Rope(asked.base, pairs, factors=_factors(asked, "long_factor"), short=_factors(asked, "short_factor"))


def _factors(asked: Question, name: str) -> tuple[float, ...]:
    values = asked.values.get(name)
    if not isinstance(values, list) or len(values) * 2 != asked.width:
        raise ModelDamaged(f"{FILE}: {name} of the rope parameters must be a list of {asked.width // 2} numbers")
    return tuple(_number({name: value}, name) for value in values)


_LONGROPE = (frozenset({"long_factor", "short_factor", "factor", "attention_factor"}), _longrope)
_KINDS: Mapping[str, tuple[frozenset[str], Callable[[Question], Rope]]] = {
    "default": (frozenset(), _plain),
    "linear": (frozenset({"factor"}), _linear),
    "llama3": (frozenset({"factor", "low_freq_factor", "high_freq_factor"}), _llama3),
    "yarn": (
        frozenset({
            "factor", "beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate",
        }),
        _yarn,
    ),
    "longrope": _LONGROPE,
    "su": _LONGROPE,
}  # fmt: skip
