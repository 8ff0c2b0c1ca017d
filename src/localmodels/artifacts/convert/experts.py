"""Mixtures of experts: many small networks of a layer become three tensors, one matrix of each upon the other.

Folders have them in two forms: a matrix by itself for each expert, or (transformers 5, if it was told so) all experts
in two tensors, gate lying upon up. The rule: nothing is copied that lies in order already.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from localmodels.artifacts.convert.config import Config
from localmodels.artifacts.convert.drawing import Change, Drawing, Made, Part
from localmodels.artifacts.convert.folder import Tensor
from localmodels.artifacts.gguf_write import Plain


class Experts(Struct, frozen=True):
    """Sizes of a mixture.

    Attributes:
        count: experts in each layer.
        used: by one token.
        feed: width inside one.
        gate: what its three matrices are called in the folder, and ``up`` and ``down``.
    """

    count: int
    used: int
    feed: int
    gate: str
    up: str
    down: str


def read_experts(config: Config, *, feed: str, names: tuple[str, str, str]) -> Experts:
    """The mixture that a configuration describes.

    Args:
        config: of the model.
        feed: the field that says how wide they are.
        names: of the three matrices: gate, up, down.

    Raises:
        ModelDamaged: a field is missing or out of bounds.
    """
    old, new = "num_experts", "num_local_experts"  # of the same field: it was renamed in some families
    number = config.count(old if config.get(new) is None else new, high=1024)
    return Experts(number, config.count("num_experts_per_tok", high=number), config.count(feed), *names)


def expert_pairs(architecture: str, experts: Experts) -> Mapping[str, Plain]:
    """The metadata of a mixture."""
    return {f"{architecture}.expert_count": experts.count, f"{architecture}.expert_used_count": experts.used}


def expert_tensors(drawing: Drawing, layer: int, source: str, width: int, experts: Experts) -> None:
    """The router and the three tensors of one layer.

    Args:
        drawing: takes them.
        layer: from 0.
        source: beginning of their names in the folder.
        width: of the model.
        experts: sizes and names.
    """
    block = f"blk.{layer}"
    drawing.add(f"{block}.ffn_gate_inp.weight", f"{source}.gate.weight", experts.count, width)
    if drawing.has(f"{source}.experts.gate_up_proj"):
        _fused(drawing, block, f"{source}.experts", width, experts)
        return
    for name, matrix, rows, columns in (
        ("ffn_gate_exps", experts.gate, experts.feed, width),
        ("ffn_down_exps", experts.down, width, experts.feed),
        ("ffn_up_exps", experts.up, experts.feed, width),
    ):
        sources = [f"{source}.experts.{number}.{matrix}.weight" for number in range(experts.count)]
        drawing.stack(f"{block}.{name}.weight", sources, rows, columns)


def _fused(drawing: Drawing, block: str, source: str, width: int, experts: Experts) -> None:
    both = drawing.take(f"{source}.gate_up_proj", experts.count, 2 * experts.feed, width)
    for name, first in (("ffn_gate_exps", 0), ("ffn_up_exps", experts.feed)):
        parts = tuple(Part((both,), _rows(number, first, experts.feed)) for number in range(experts.count))
        drawing.put(Made(f"{block}.{name}.weight", (experts.count, experts.feed, width), parts))
    drawing.add(f"{block}.ffn_down_exps.weight", f"{source}.down_proj", experts.count, width, experts.feed)


def _rows(expert: int, first: int, count: int) -> Change:
    def change(weights: Tensor) -> Tensor:
        rows: Tensor = weights[expert, first : first + count]
        return rows

    return change
