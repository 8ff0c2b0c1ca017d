"""llama.cpp's mixtures as tables: by file type and by what a tensor is for, which weight type it becomes.

What matters most to the answers gets more bits: the output matrix, the values of attention, the way down of the
feed-forward network, and of these the first and last layers. The rule: the numbers and names are those of
``src/llama-quant.cpp`` of llama.cpp b11549; how they are applied stands in :mod:`.mixing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct

Kind = Literal["output", "embedding", "values", "key", "query", "attention_output", "up", "gate", "down", "other"]


class Model(Struct, frozen=True):
    """What the mixtures ask of a model.

    Attributes:
        layers: all of them, those that only predict ahead included.
        group: query heads that share one key and value head, in the first layer; 0 without attention.
        is_70b: llama.cpp takes it for one of the 70 B models, by its layers.
        is_tied: the token embeddings are the output matrix too.
        values: how many tensors are values.
    """

    architecture: str
    layers: int
    group: int
    experts: int
    is_70b: bool
    is_tied: bool
    values: int

    @property
    def is_falcon(self) -> bool:
        """The only architecture with exceptions of its own in the tables."""
        return self.architecture == "falcon"


class Spot(Struct, frozen=True):
    """Where a tensor stands: the ``index``-th of ``count`` of its kind (or layers) in this model."""

    model: Model
    index: int
    count: int


Condition = Callable[[Spot], bool]
Choices = tuple[tuple[str, Condition], ...]
"""Weight types and when to take them; the first that holds counts, and the main type where none does."""


# Conditions


def always(_spot: Spot) -> bool:
    """No matter where."""
    return True


def grouped(spot: Spot) -> bool:
    """Four or more query heads share the values, which are small then and matter more."""
    return spot.model.group >= 4


def grouped_or_experts(spot: Spot) -> bool:
    """As :func:`grouped`, or the model is a mixture of at least four experts."""
    return grouped(spot) or spot.model.experts >= 4


def among_first(count: int) -> Condition:
    """One of the first so many."""
    return lambda spot: spot.index < count


def in_first(part: int) -> Condition:
    """In the first eighth (8) or sixteenth (16)."""
    return lambda spot: spot.index < spot.count // part


def in_middle(spot: Spot) -> bool:
    """Neither in the first eighth nor in the last."""
    return spot.count // 8 <= spot.index < 7 * spot.count // 8


def more_bits(spot: Spot) -> bool:
    """In the first or last eighth, and every third between."""
    return not in_middle(spot) or (spot.index - spot.count // 8) % 3 == 2


def early_or_eight_experts(spot: Spot) -> bool:
    """In the first eighth; in a mixture of eight also where :func:`more_bits` holds."""
    return in_first(8)(spot) or (spot.model.experts == 8 and more_bits(spot))


def falcon(condition: Condition) -> Condition:
    """Only in a Falcon."""
    return lambda spot: spot.model.is_falcon and condition(spot)


def not_falcon(condition: Condition) -> Condition:
    """In any other model."""
    return lambda spot: not spot.model.is_falcon and condition(spot)


# Tables, by file type. What is not in them is of the main type.

# These need an importance matrix for most tensors, and have rules of their own throughout.
LOWEST = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"})

VALUES: Mapping[str, Choices] = {
    "Q2_K": (("Q4_K", grouped), ("Q3_K", always)),
    "Q2_K_S": (("Q4_K", grouped),),
    "IQ3_XXS": (("Q4_K", grouped), ("IQ3_S", always)),
    "IQ3_XS": (("Q4_K", grouped),),
    "IQ3_S": (("Q4_K", grouped),),
    "IQ3_M": (("Q4_K", always),),
    "Q3_K_M": (("Q5_K", among_first(2)), ("Q4_K", always)),
    "Q3_K_L": (("Q5_K", always),),
    "IQ4_NL": (("Q5_K", grouped),),
    "IQ4_XS": (("Q5_K", grouped),),
    "Q4_K_S": (("Q5_K", among_first(4)),),
    "Q4_K_M": (("Q6_K", more_bits),),
    "Q5_K_M": (("Q6_K", more_bits),),
    "IQ2_S": (("Q4_K", grouped_or_experts), ("IQ3_S", always)),
    "IQ2_M": (("Q4_K", grouped_or_experts), ("IQ3_S", always)),
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"), (("Q4_K", grouped_or_experts), ("Q2_K", always))),
}
DOWN: Mapping[str, Choices] = {
    "Q2_K": (("Q3_K", always),),
    "Q2_K_S": (("Q4_K", in_first(8)),),
    "IQ3_XXS": (("Q4_K", in_first(8)), ("Q3_K", always)),
    "IQ3_M": (("Q4_K", early_or_eight_experts),),
    "Q3_K_M": (("Q5_K", in_first(16)), ("Q4_K", not_falcon(always)), ("Q4_K", more_bits)),
    "Q3_K_L": (("Q4_K", falcon(always)), ("Q5_K", always)),
    "IQ4_NL": (("Q5_K", in_first(8)),),
    "IQ4_XS": (("Q5_K", in_first(8)),),
    "Q4_K_S": (("Q5_K", not_falcon(in_first(8))),),
    "Q4_K_M": (("Q6_K", falcon(in_first(16))), ("Q5_K", falcon(more_bits)), ("Q6_K", not_falcon(more_bits))),
    "Q5_K_M": (("Q6_K", more_bits),),
    "IQ2_S": (("IQ3_S", in_first(8)),),
    "IQ2_M": (("IQ3_S", in_first(8)),),
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"), (("Q2_K", in_first(8)),)),
}
ATTENTION_OUTPUT: Mapping[str, Choices] = {
    "Q2_K": (("Q3_K", not_falcon(always)),),
    "IQ3_XXS": (("IQ3_S", not_falcon(always)),),
    "Q3_K_M": (("Q4_K", not_falcon(always)),),
    "Q3_K_L": (("Q4_K", falcon(always)), ("Q5_K", always)),
    "IQ3_M": (("Q4_K", not_falcon(always)),),
    "IQ1_S": (("IQ2_XXS", always),),
    "IQ1_M": (("IQ2_XXS", always),),
    "IQ2_S": (("IQ3_S", always),),
    "IQ2_M": (("IQ3_S", always),),
}
# In a mixture of eight experts, whose attention is small beside them, these take the place of the table above.
EIGHT_EXPERTS_OUTPUT = frozenset({
    "Q2_K", "IQ3_XS", "IQ3_XXS", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M", "IQ3_S", "IQ3_M", "IQ4_XS",
})  # fmt: skip
QUERY: Mapping[str, Choices] = {"IQ3_XS": (("IQ3_XXS", always),), "IQ3_XXS": (("IQ2_S", always),)}
WIDE: Mapping[str, Choices] = {"IQ3_XS": (("IQ3_XXS", in_middle),)}
EMBEDDING: Mapping[str, Choices] = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"), (("Q2_K", always),)),
    **dict.fromkeys(("IQ2_S", "IQ2_M", "IQ3_XXS"), (("IQ3_S", always),)),
    **dict.fromkeys(("TQ1_0", "TQ2_0", "Q2_0"), (("Q4_K", always),)),
}
TABLES: Mapping[Kind, Mapping[str, Choices]] = {
    "embedding": EMBEDDING,
    "values": VALUES,
    "key": QUERY,
    "query": QUERY,
    "attention_output": ATTENTION_OUTPUT,
    "up": WIDE,
    "gate": WIDE,
    "down": DOWN,
}

# The output matrix is Q6_K with nearly everything, and Q5_K with the smallest.
OUTPUT_Q5 = LOWEST | {"IQ3_XXS"}

# What takes the place of a type whose blocks (mostly of 256) the rows cannot be cut into: one with blocks of 32.
FALLBACKS: Mapping[str, str] = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_0", "Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
SMALL_BLOCK = 32

# By architecture, how many layers a model has that llama.cpp calls 70B.
LAYERS_OF_70B: Mapping[str, int] = {
    "llama": 80, "llama-embed": 80, "qwen2": 80, "deci": 80, "olmo": 80, "jais2": 68,
}  # fmt: skip
# What GLM 5 must not have below 8 bits.
GLM5_8BIT = ("attn_q_a", "attn_q_b", "nextn.eh_proj")
