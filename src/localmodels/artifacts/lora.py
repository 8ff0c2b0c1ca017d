"""Whether a LoRA adapter fits a model, told by their headers: what llama.cpp would refuse when the model is loaded.

The rules are those of llama.cpp b11549 (src/llama-adapter.cpp), and one of ours: a scale that is no number would make
every answer noise. Pure: two headers in, a sentence or nothing out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isfinite

from localmodels.artifacts.gguf_header import Header, TensorInfo

ALPHA = "adapter.lora.alpha"
A, B = ".lora_a", ".lora_b"
# llama.cpp reads over them, since it cannot apply them.
SKIPPED = "_norm.weight"
EMBEDDING = "token_embd.weight"


def misfit(adapter: Header, architecture: str, tensors: Iterable[TensorInfo]) -> str:
    """Why an adapter cannot be used with a model, as the end of a sentence about the adapter; empty if it can.

    Args:
        adapter: its header.
        architecture: of the model.
        tensors: of the model, all of them.
    """
    return next(_misfits(adapter, architecture, {tensor.name: tensor.shape for tensor in tensors}), "")


def _misfits(adapter: Header, architecture: str, base: dict[str, tuple[int, ...]]) -> Iterator[str]:
    if adapter.architecture != architecture:
        yield f"it is for the architecture {adapter.architecture[:40]!r}, not {architecture[:40]!r}"
    kind = adapter.text("adapter.type")
    if kind != "lora":
        yield f"it is of the type {kind[:40]!r}, not 'lora'"
    alpha = adapter.metadata.get(ALPHA, 0.0)
    if not isinstance(alpha, float) or not isfinite(alpha):
        yield f"its {ALPHA} must be a number, not {alpha!r:.40}"
    pairs: dict[str, dict[str, tuple[int, ...]]] = {}
    for tensor in adapter.tensors:
        name, part = tensor.name[: -len(A)], tensor.name[-len(A) :]
        if part in {A, B}:
            pairs.setdefault(name, {})[part] = tensor.shape
        elif not tensor.name.endswith(SKIPPED):
            yield f"its tensor {tensor.name[:80]!r} is no part of a LoRA"
    for name, pair in pairs.items():
        yield from _pair(name, pair, base.get(name))


def _pair(name: str, pair: dict[str, tuple[int, ...]], shape: tuple[int, ...] | None) -> Iterator[str]:
    """What is wrong with the two matrices that stand for one of the model's; columns come first in a shape."""
    said = f"its tensor {name[:80]!r}"
    if len(pair) < 2:
        yield f"{said} lacks its other half"
        return
    if shape is None:
        yield f"{said} is not in the model"
        return
    a, b = _matrix(pair[A]), _matrix(pair[B])
    columns, rows = _matrix(shape)
    ours = (b[1], a[1]) if name == EMBEDDING else (a[0], b[1])
    if ours != (columns, rows):
        yield f"{said} is for a matrix of {ours[0]} x {ours[1]}, which is {columns} x {rows} in the model"
    elif name != EMBEDDING and a[1] != b[0]:
        yield f"{said} has halves of rank {a[1]} and {b[0]}"


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], shape[1] if len(shape) > 1 else 1
