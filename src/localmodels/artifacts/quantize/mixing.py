"""Which tensor becomes which weight type: llama.cpp's mixtures, applied to a model. Pure.

The rule: the same types as ``llama-quantize`` without options gives, tensor by tensor, including what looks odd there:
fused ``attn_qkv`` counts as values, and in a mixture of experts the layer is read from the name, since their tensors
are counted several times a layer. ``tools/llama_quantize`` compares the two.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from localmodels.artifacts.gguf_header import Header, TensorInfo
from localmodels.artifacts.quantize.file_types import FileType, is_quantized, weight_type
from localmodels.artifacts.quantize.mixtures import (
    EIGHT_EXPERTS_OUTPUT,
    FALLBACKS,
    GLM5_8BIT,
    LAYERS_OF_70B,
    LOWEST,
    OUTPUT_Q5,
    SMALL_BLOCK,
    TABLES,
    Kind,
    Model,
    Spot,
)
from localmodels.artifacts.quantize.untouched import is_kept
from localmodels.core.errors import Unsupported

_NAMES: Mapping[str, Kind] = {
    "output.weight": "output",
    "token_embd.weight": "embedding",
    "per_layer_token_embd.weight": "embedding",
}
_MARKS: tuple[tuple[str, Kind], ...] = (
    ("attn_qkv.weight", "values"),
    ("attn_kv_b.weight", "values"),
    ("attn_v.weight", "values"),
    ("attn_k.weight", "key"),
    ("attn_q.weight", "query"),
    ("attn_output.weight", "attention_output"),
    ("ffn_up", "up"),
    ("ffn_gate", "gate"),
    ("ffn_down", "down"),
)
_LAYER = re.compile(r"blk\.(\d+)")


def mixed(header: Header, target: FileType) -> tuple[tuple[TensorInfo, str], ...]:
    """Every tensor and the name of the weight type that it becomes, in the order of the file that llama.cpp writes.

    Raises:
        Unsupported: llama.cpp has no rule for a tensor.
    """
    ordered = sorted(header.tensors, key=lambda tensor: _place(tensor.name))
    model = facts(header)
    return tuple(zip(ordered, _types(ordered, model, target), strict=True))


def facts(header: Header) -> Model:
    """What the mixtures ask of this model."""
    kinds = Counter(kind_of(tensor.name) for tensor in header.tensors)
    heads, shared = (each[0] if each else 0 for each in (header.heads, header.kv_heads))
    experts = header.number("expert_count")
    return Model(
        architecture=header.architecture,
        layers=_layers(header),
        group=heads // shared if shared else 0,
        experts=experts,
        is_70b=_is_70b(header, alike=heads == shared, experts=experts),
        is_tied=not kinds["output"],
        values=kinds["values"],
    )


def kind_of(name: str) -> Kind:
    """What a tensor is for, by its name."""
    marked = (kind for mark, kind in _MARKS if mark in name)
    return _NAMES[name] if name in _NAMES else next(marked, "other")


def _place(name: str) -> tuple[int, str]:
    layer = _LAYER.match(name)
    return int(layer[1]) if layer else -1, name


def _layers(header: Header) -> int:
    """As llama.cpp counts them: two architectures run their layers several times, or have one more than they say."""
    if header.architecture == "nanbeige" and header.number("num_loops", 1) > 1:
        return (header.block_count - header.number("nextn_predict_layers")) * header.number("num_loops")
    return header.block_count + (header.architecture == "graniteswitch")


def _is_70b(header: Header, *, alike: bool, experts: int) -> bool:
    layers = header.block_count - header.number("nextn_predict_layers")
    if header.architecture.startswith("llama") and (alike or experts == 8):
        return False
    return LAYERS_OF_70B.get(header.architecture) == layers


def _types(tensors: list[TensorInfo], model: Model, target: FileType) -> Iterator[str]:
    seen: Counter[Kind] = Counter()
    for tensor in tensors:
        if is_kept(tensor, model.architecture):
            yield tensor.type.name
        elif not is_quantized(weight_type(target.main)):
            yield target.main
        else:
            kind = kind_of(tensor.name)
            yield _fitting(tensor, _chosen(tensor, kind, model, target, seen[kind]))
            seen[kind] += 1


def _chosen(tensor: TensorInfo, kind: Kind, model: Model, target: FileType, index: int) -> str:
    """The type by the tables, whether or not its rows fit."""
    if model.architecture == "glm5-next" and any(part in tensor.name for part in GLM5_8BIT):
        return "Q8_0"
    if kind == "output" or (kind == "embedding" and model.is_tied):
        return _of_output(tensor, model, target)
    if target.name == "MXFP4_MOE":
        return _of_experts(tensor, kind, model)
    choices = TABLES.get(kind, {}).get(target.name, ())
    spot = _spot(tensor, kind, model, target, index)
    chosen = next((name for name, holds in choices if holds(spot)), target.main)
    return _with_experts(chosen, kind, model, target)


def _of_output(tensor: TensorInfo, model: Model, target: FileType) -> str:
    ragged = tensor.shape[0] % weight_type(target.main).block != 0
    if target.name == "MXFP4_MOE" or model.is_falcon or ragged or target.main == "Q8_0":
        return "Q8_0"
    return "Q5_K" if target.name in OUTPUT_Q5 else "Q6_K"


def _of_experts(tensor: TensorInfo, kind: Kind, model: Model) -> str:
    """MXFP4 for what lies in three dimensions: the experts (and, in one family, other things that must not)."""
    stacked = len(tensor.shape) > 2 and tensor.shape[2] > 1
    if model.architecture == "bailingmoe3":
        stacked = stacked and kind in {"up", "gate", "down"}
    return "MXFP4" if stacked else "Q8_0"


def _spot(tensor: TensorInfo, kind: Kind, model: Model, target: FileType, index: int) -> Spot:
    if kind == "values":
        return Spot(model, index, model.values)
    if kind in {"up", "gate", "down"} and model.experts > 1 and target.name not in LOWEST:
        layer, _ = _place(tensor.name)
        if not 0 <= layer < model.layers:
            raise Unsupported(
                f"tensor {tensor.name!r} is in none of the model's {model.layers} layers; it cannot be quantized",
                param="quantize",
            )
        index = layer
    return Spot(model, index, model.layers)


def _with_experts(chosen: str, kind: Kind, model: Model, target: FileType) -> str:
    """Attention is small beside eight experts, and the values beside 70 B: they get more bits."""
    if kind == "attention_output" and model.experts == 8:
        if target.name in LOWEST:
            return "Q5_K"
        if not model.is_falcon:
            return "Q5_K" if target.name in EIGHT_EXPERTS_OUTPUT else target.main
    if kind == "key" and model.experts == 8:
        return "Q4_K" if target.name in LOWEST else "Q8_0"
    if kind == "values" and target.name not in LOWEST:
        if model.experts == 8:
            return "Q8_0"
        if model.is_70b and chosen in {"Q3_K", "Q4_K"}:
            return "Q5_K"
    return chosen


def _fitting(tensor: TensorInfo, chosen: str) -> str:
    """The type, or what stands in for it where the rows cannot be cut into its blocks."""
    columns = tensor.shape[0]
    block = weight_type(chosen).block
    if columns % block == 0:
        return chosen
    fallback = FALLBACKS.get(chosen, chosen if block <= SMALL_BLOCK else "")
    if not fallback:
        raise Unsupported(
            f"tensor {tensor.name!r} has rows of {columns} weights, which {chosen} cannot hold: it takes {block} at a "
            f"time; choose another quantization type",
            param="quantize",
        )
    return fallback if columns % weight_type(fallback).block == 0 else "F16"
