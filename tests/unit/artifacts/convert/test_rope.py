from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from localmodels.artifacts.convert.config import Config
from localmodels.artifacts.convert.rope import Rope, read_rope
from localmodels.core.errors import ModelDamaged, Unsupported

LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
YARN = {"factor": 4.0, "original_max_position_embeddings": 1024}


def read(width: int = 8, **fields: Any) -> Rope:
    return read_rope(Config({"max_position_embeddings": 4096, **fields}), width=width)


def test_both_spellings_say_the_same() -> None:
    assert read(rope_theta=5.0) == read(rope_parameters={"rope_type": "default", "rope_theta": 5.0}) == Rope(5.0)
    old = read(rope_theta=7.0, rope_scaling={"type": "linear", "factor": 2.0})
    assert old == read(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 7.0})
    assert dict(old.pairs) == {"rope.scaling.type": "linear", "rope.scaling.factor": 2.0}


def test_layers_of_two_kinds_are_told_apart() -> None:
    both = {"full_attention": {"rope_theta": 3.0}, "sliding_attention": {"rope_theta": 4.0}}
    config = Config({"rope_parameters": both})
    assert read_rope(config, width=8).base == 3.0
    assert read_rope(config, width=8, layers="sliding_attention").base == 4.0
    with pytest.raises(ModelDamaged, match="'other'"):
        read_rope(config, width=8, layers="other")


def test_llama_3_leaves_high_frequencies_and_divides_low_ones() -> None:
    factors = read(128, rope_theta=500_000.0, rope_scaling=LLAMA3).factors
    assert len(factors) == 64
    assert factors[0] == 1.0
    assert factors[-1] == 8.0
    assert all(one <= other for one, other in pairwise(factors))
    # Between: the wave of frequency 32 is 500000 ** (1 / 2) * 2 pi = 4443 tokens long, 1.844 turns of the context.
    share = (8192 / (2 * math.pi * math.sqrt(500_000)) - 1) / 3
    assert factors[32] == pytest.approx(1 / ((1 - share) / 8 + share))


def test_yarn_is_told_by_factor_and_first_context() -> None:
    pairs = dict(read(rope_scaling={"type": "yarn", **YARN}).pairs)
    assert pairs == {
        "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 1024,
    }  # fmt: skip
    pairs = dict(read(rope_scaling={"type": "yarn", "attention_factor": 2.0, **YARN}).pairs)
    assert pairs["rope.scaling.attn_factor"] == pytest.approx(2 / (0.1 * math.log(4) + 1))


@pytest.mark.parametrize("fields", [{"beta_fast": 24.0}, {"beta_slow": 2.0}, {"mscale": 1.0}, {"surprise": 1}])
def test_what_the_engine_does_not_do_of_yarn_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(Unsupported, match=next(iter(fields))):
        read(rope_scaling={"type": "yarn", **YARN, **fields})


def test_longrope_has_two_lists() -> None:
    lists = {"long_factor": [1.0, 2.0, 3.0, 4.0], "short_factor": [1.0] * 4}
    rope = read(rope_scaling={"type": "su", **lists}, original_max_position_embeddings=1024)
    assert rope.factors == (1.0, 2.0, 3.0, 4.0)
    assert rope.short == (1.0,) * 4
    assert dict(rope.pairs)["rope.scaling.attn_factor"] == pytest.approx(math.sqrt(1 + math.log(4) / math.log(1024)))
    with pytest.raises(ModelDamaged, match="long_factor"):
        read(12, rope_scaling={"type": "longrope", **lists})


@pytest.mark.parametrize("kind", ["dynamic", "ntk", "proportional"])
def test_other_kinds_are_refused(kind: str) -> None:
    with pytest.raises(Unsupported, match=kind):
        read(rope_scaling={"type": kind, "factor": 2.0})


@pytest.mark.parametrize("factor", [None, 0, -1.0, "2", True, float("nan")])
def test_a_factor_that_is_none_is_refused(factor: object) -> None:
    with pytest.raises(ModelDamaged, match="factor"):
        read(rope_scaling={"type": "linear", "factor": factor})
