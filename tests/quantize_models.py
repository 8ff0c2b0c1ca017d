"""Headers of models as llama.cpp knows them, without weights: names and shapes are what the mixtures look at."""

from __future__ import annotations

from localmodels.artifacts.gguf_header import Header, TensorInfo, Value
from localmodels.artifacts.quantize.file_types import weight_type

F16 = weight_type("F16")


def tensor(name: str, *shape: int, type: str = "F16", offset: int = 0) -> TensorInfo:  # noqa: A002
    form = weight_type(type)
    count = 1
    for size in shape:
        count *= size
    return TensorInfo(name, form, shape, offset, count // form.block * form.size)


def block(layer: int, *, width: int, ff: int, experts: int, fused: bool) -> list[TensorInfo]:
    """One layer, in the order in which converters write it, which is not the order of names."""
    name = f"blk.{layer}"
    attention = (
        [tensor(f"{name}.attn_qkv.weight", width, 2 * width)]
        if fused
        else [tensor(f"{name}.attn_{part}.weight", width, width) for part in "qkv"]
    )
    if experts:
        feed = [
            tensor(f"{name}.ffn_gate_inp.weight", width, experts),
            *(tensor(f"{name}.ffn_{part}_exps.weight", width, ff, experts) for part in ("gate", "up")),
            tensor(f"{name}.ffn_down_exps.weight", ff, width, experts),
        ]
    else:
        feed = [
            *(tensor(f"{name}.ffn_{part}.weight", width, ff) for part in ("gate", "up")),
            tensor(f"{name}.ffn_down.weight", ff, width),
        ]
    norm = tensor(f"{name}.attn_norm.weight", width, type="F32")
    return [norm, *attention, tensor(f"{name}.attn_output.weight", width, width), *feed]


def header(
    *,
    layers: int = 32,
    architecture: str = "llama",
    width: int = 256,
    ff: int = 512,
    heads: int = 32,
    kv_heads: int = 32,
    experts: int = 0,
    tied: bool = False,
    fused: bool = False,
    more: tuple[TensorInfo, ...] = (),
    **metadata: Value,
) -> Header:
    """A model; a Llama 2 with narrow layers, if nothing else is said."""
    tensors = [tensor("token_embd.weight", width, 1000), tensor("output_norm.weight", width, type="F32")]
    for layer in range(layers):
        tensors += block(layer, width=width, ff=ff, experts=experts, fused=fused)
    if not tied:
        tensors.append(tensor("output.weight", width, 1000))
    values: dict[str, Value] = {
        "block_count": layers,
        "embedding_length": width,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        **({"expert_count": experts, "expert_used_count": 2} if experts else {}),
        **metadata,
    }
    pairs = {f"{architecture}.{key}": value for key, value in values.items()}
    return Header("m.gguf", 3, {"general.architecture": architecture, **pairs}, (*tensors, *more), 32, 0, 0)
