"""Where the matrices of a base go in a GGUF file, and in which order their rows: what an adapter must follow.

Either from what a family makes of a folder (:mod:`..families`), or, of a base that is a GGUF file already, from its
header. The rule: a matrix that became part of another, or whose weights moved otherwise than by rows, has no rule, and
an adapter for it is refused or merged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from localmodels.artifacts.convert.decoder import PREFIXES
from localmodels.artifacts.convert.drawing import Made, Model
from localmodels.artifacts.convert.families.llama import halves_to_pairs
from localmodels.artifacts.gguf_header import Header

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"

# Names within a layer, in the file and in transformers, that families of decoders share.
_LAYER: Mapping[str, str] = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# Where two matrices are one, it has the place of the second.
_FUSED: Mapping[str, Mapping[str, str]] = {"phi3": {"ffn_up": "mlp.gate_up_proj"}}
_OUTSIDE = {EMBEDDING: "embed_tokens.weight", OUTPUT: "lm_head.weight"}
_NAME = re.compile(r"blk\.(?P<layer>\d+)\.(?P<name>\w+)\.weight")
# Architectures in which the rows of queries and keys have another order.
_PAIRED = frozenset({"llama"})


class Rule(Struct, frozen=True, eq=False):
    """What becomes of a matrix.

    Attributes:
        name: in the file.
        rows, columns: of the matrix.
        order: which row comes where; None where they stay.
    """

    name: str
    rows: int
    columns: int
    order: npt.NDArray[np.intp] | None = None


Rules = Mapping[str, Rule]
"""By the short name of the base's tensor; see :func:`short`."""


def short(name: str) -> str:
    """The name of a tensor without what stands before it for the class of the model."""
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
    return name.removeprefix(prefix)


def rules_of_model(model: Model) -> Rules:
    """Rules by what a family made of a folder."""
    return {short(made.parts[0].sources[0]): rule for made in model.tensors for rule in _of_made(made)}


def rules_of_header(header: Header) -> Rules:
    """Rules by the names in a GGUF file."""
    found: dict[str, Rule] = {}
    layer_names = {**_LAYER, **_FUSED.get(header.architecture, {})}
    for tensor in header.tensors:
        if len(tensor.shape) != 2:
            continue
        columns, rows = tensor.shape
        if tensor.name in _OUTSIDE:
            found[_OUTSIDE[tensor.name]] = Rule(tensor.name, rows, columns)
        elif (match := _NAME.fullmatch(tensor.name)) and match["name"] in layer_names:
            layer = int(match["layer"])
            order = _order(header, match["name"], layer, rows)
            found[f"layers.{layer}.{layer_names[match['name']]}.weight"] = Rule(tensor.name, rows, columns, order)
    return found


def _of_made(made: Made) -> Iterator[Rule]:
    if made.packed or made.values or len(made.shape) != 2 or len(made.parts) != 1 or len(made.parts[0].sources) != 1:
        return
    rows, columns = made.shape
    change = made.parts[0].change
    if change is None:
        yield Rule(made.name, rows, columns)
        return
    # Two columns that both say their row: if they come out alike, rows were moved and nothing else.
    moved = change(np.repeat(np.arange(rows)[:, None], 2, axis=1))
    if (
        moved.shape == (rows, 2)
        and (moved[:, 0] == moved[:, 1]).all()
        and (np.sort(moved[:, 0]) == np.arange(rows)).all()
    ):
        yield Rule(made.name, rows, columns, moved[:, 0].astype(np.intp))


def _order(header: Header, name: str, layer: int, rows: int) -> npt.NDArray[np.intp] | None:
    if header.architecture not in _PAIRED or name not in {"attn_q", "attn_k"}:
        return None
    heads = (header.heads if name == "attn_q" else header.kv_heads)[layer]
    return halves_to_pairs(heads)(np.arange(rows)).astype(np.intp)
