"""An adapter as llama.cpp reads it, with its scale in the weights.

llama.cpp multiplies ``B @ A`` by alpha and divides by the rank, for all matrices alike; PEFT may do otherwise for each
(``use_rslora``, ``alpha_pattern``). The rule: what PEFT does is folded into B, so that llama.cpp's own factor gives it;
of a plain LoRA nothing changes, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from msgspec import Struct

from localmodels.artifacts.convert.folder import Floats, Folder
from localmodels.artifacts.convert.lora.adapter import Adapter, Low
from localmodels.artifacts.convert.lora.rules import EMBEDDING, OUTPUT, Rule, Rules, short
from localmodels.artifacts.gguf import DEFAULT_ALIGNMENT, LONGEST_NAME
from localmodels.artifacts.gguf_header import WEIGHT_TYPES
from localmodels.artifacts.gguf_write import Plain, beginning, pair, tensor_info
from localmodels.core.errors import ModelDamaged, Unsupported

_F32 = WEIGHT_TYPES[0]


class MustBeMerged(Unsupported):
    """What this adapter changes, no file beside its base can hold."""


class Half(Struct, frozen=True):
    """A tensor of the file: a half of a change, in 32-bit floats.

    Attributes:
        name: in the file.
        shape: (rows, columns).
        low: whose half it is; ``is_b`` which.
        rule: where the matrix goes that it changes.
    """

    name: str
    shape: tuple[int, int]
    low: Low
    is_b: bool
    rule: Rule


class AdapterFile(Struct, frozen=True):
    """A file to be made of an adapter.

    Attributes:
        architecture: of the base, by llama.cpp's name.
        head: everything before the weights.
        halves: in the order of the file.
        size: bytes of the file.
    """

    adapter: Adapter
    architecture: str
    head: bytes
    halves: tuple[Half, ...]
    size: int

    def pieces(self, folder: Folder) -> Iterator[bytes]:
        """The bytes of the file in order.

        Args:
            folder: of the adapter.

        Raises:
            ModelDamaged: weights that are no numbers or infinite, or become so.
        """
        yield self.head
        for half in self.halves:
            weights = np.ascontiguousarray(_weights(half, folder, self.adapter.recipe.alpha))
            yield weights.tobytes()
            yield bytes(-weights.nbytes % DEFAULT_ALIGNMENT)


def adapter_file(adapter: Adapter, rules: Rules, architecture: str, *, title: str = "adapter") -> AdapterFile:
    """The plan for one adapter.

    Args:
        adapter: as the folder has it.
        rules: of the base.
        architecture: of the base, by llama.cpp's name.
        title: what the adapter calls itself.

    Raises:
        MustBeMerged: it cannot be a file of its own.
        Unsupported: it changes what the base has not or has otherwise; names the tensor.
        ModelDamaged: its shapes are not those of the base.
    """
    why = adapter.needs_merging()
    if why:
        raise MustBeMerged(f"this adapter must be merged into its base: {why}")
    halves = tuple(half for low in adapter.lows for half in _halves(low, adapter, rules))
    pairs: dict[str, Plain] = {
        "general.architecture": architecture,
        "general.type": "adapter",
        "general.name": title,
        "adapter.type": "lora",
        "adapter.lora.alpha": adapter.recipe.alpha,
    }
    infos, offset = [], 0
    for half in halves:
        if len(half.name.encode()) > LONGEST_NAME:
            raise ModelDamaged(f"tensor {half.name!r:.80} has an impossible name")
        infos.append(tensor_info(half.name, half.shape[::-1], _F32, offset))
        offset += -(-math.prod(half.shape) * _F32.size // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT
    head = beginning(len(halves), len(pairs)) + b"".join(pair(key, value) for key, value in pairs.items())
    head += b"".join(infos)
    head += bytes(-len(head) % DEFAULT_ALIGNMENT)
    return AdapterFile(adapter, architecture, head, halves, len(head) + offset)


def rule_for(low: Low, adapter: Adapter, rules: Rules) -> Rule:
    """Where the matrix goes that a change is for.

    Raises:
        Unsupported: the base has none, or keeps it otherwise.
        ModelDamaged: it has another shape there.
    """
    rule = rules.get(short(low.target))
    if rule is None:
        raise Unsupported(f"tensor {low.a!r}: the base has no matrix {low.target!r}, or keeps it together with others")
    a, b = adapter.shapes[low.a], adapter.shapes[low.b]
    rows, columns = (a[1], b[0]) if low.is_embedding else (b[0], a[1])
    if (rows, columns) != (rule.rows, rule.columns):
        raise ModelDamaged(
            f"tensors {low.a!r} and {low.b!r} are for a matrix of {rows} x {columns}, and {rule.name!r} of the base "
            f"has {rule.rows} x {rule.columns}: it was made for another model"
        )
    return rule


def _halves(low: Low, adapter: Adapter, rules: Rules) -> Iterator[Half]:
    rule = rule_for(low, adapter, rules)
    if rule.name == EMBEDDING and not any(other.name == OUTPUT for other in rules.values()):
        raise Unsupported(
            f"tensor {low.a!r} changes the embeddings of a model whose output matrix they are too; the engine cannot "
            "change the one without the other"
        )
    if (rule.name == EMBEDDING) is not low.is_embedding:
        raise Unsupported(f"tensor {low.a!r}: {rule.name!r} of the base is not of the kind that this changes")
    # llama.cpp looks embeddings up in the first half, so it has to have a row for each token.
    first = (rule.rows, low.rank) if low.is_embedding else (low.rank, rule.columns)
    second = (rule.columns, low.rank) if low.is_embedding else (rule.rows, low.rank)
    yield Half(f"{rule.name}.lora_a", first, low, is_b=False, rule=rule)
    yield Half(f"{rule.name}.lora_b", second, low, is_b=True, rule=rule)


def _weights(half: Half, folder: Folder, alpha: float) -> Floats:
    low = half.low
    weights = folder.floats(low.b if half.is_b else low.a)
    if half.is_b:
        factor = low.scale * low.rank / alpha
        if half.rule.order is not None:
            weights = weights[half.rule.order]
        if not math.isclose(factor, 1.0, rel_tol=1e-12):
            with np.errstate(over="ignore"):
                weights = weights * np.float32(factor)
    elif low.is_embedding:
        weights = weights.T
    if not np.isfinite(weights).all():
        name = low.b if half.is_b else low.a
        raise ModelDamaged(f"tensor {name!r} has weights that are infinite, not a number, or too large")
    return weights
