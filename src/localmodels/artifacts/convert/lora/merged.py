"""A folder that is a base with an adapter merged into it: whoever converts folders converts it like any other.

The rule: a tensor is merged when it is asked for, so that memory is that of one tensor; and whatever can be refused is
refused when the two are put together.
"""

from __future__ import annotations

import numpy as np
from msgspec import structs

from localmodels.artifacts.convert.folder import Floats, Folder, Tensor
from localmodels.artifacts.convert.lora.adapter import Adapter, Low, read_adapter
from localmodels.artifacts.convert.lora.merge import merged, merged_embedding
from localmodels.artifacts.convert.lora.rules import short
from localmodels.artifacts.convert.safetensors import Stored
from localmodels.core.errors import ModelDamaged, Unsupported

_TOKENIZER = frozenset({
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "chat_template.json", "vocab.json", "merges.txt",
})  # fmt: skip


class Merged(Folder):
    """A base and an adapter as one folder.

    What was merged is of type F32. The tokenizer is the adapter's, if it brings one.

    Args:
        base: a whole model.
        adapter: as PEFT left it.

    Raises:
        ModelDamaged: one of them is not sound, or their shapes are not for one another.
        Unsupported: the adapter cannot be merged; names the field or tensor.
    """

    def __init__(self, base: Folder, adapter: Folder) -> None:
        files = dict(base._files)
        if adapter.has("tokenizer.json"):
            files = {name: path for name, path in files.items() if name not in _TOKENIZER}
            files |= {name: path for name, path in adapter._files.items() if name in _TOKENIZER}
        super().__init__(files, name=base.name)
        self._base = base
        self._adapter = adapter
        plan = read_adapter(adapter)
        self._names = {short(name): name for name in base.tensors()}
        self._lows = {self._named(low.target): low for low in plan.lows}
        self._biases = {self._named(f"{low.module}.bias"): low for low in plan.lows if low.bias}
        self._whole = {self._named(target): name for target, name in plan.whole.items()}
        self._changed = {name: self._restored(name, plan) for name in {*self._lows, *self._biases, *self._whole}}
        if "lm_head.weight" not in self._names:
            self._expect_untied()

    def tensors(self) -> dict[str, Stored]:
        return {**self._base.tensors(), **self._changed}

    def tensor(self, name: str) -> Tensor:
        return self.floats(name) if name in self._changed else self._base.tensor(name)

    def floats(self, name: str) -> Floats:
        if name not in self._changed:
            return self._base.floats(name)
        weights = self._adapter.floats(self._whole[name]) if name in self._whole else self._base.floats(name)
        if name in self._lows:
            weights = self._lowered(self._lows[name], weights)
        if name in self._biases:
            low = self._biases[name]
            weights = weights + np.float32(low.scale) * self._adapter.floats(low.bias)
        return np.ascontiguousarray(weights)

    def forget(self, name: str, weights: Tensor) -> None:
        if name not in self._changed:
            self._base.forget(name, weights)

    def _lowered(self, low: Low, weights: Floats) -> Floats:
        a, b = self._adapter.floats(low.a), self._adapter.floats(low.b)
        magnitude = self._adapter.floats(low.magnitude) if low.magnitude else None
        merge = merged_embedding if low.is_embedding else merged
        return merge(weights, a, b, low.scale, magnitude)

    def _named(self, target: str) -> str:
        """The base's own name for a tensor."""
        name = self._names.get(short(target))
        if name is None:
            raise Unsupported(f"the adapter changes tensor {target!r}, and the base has none of this name")
        return name

    def _restored(self, name: str, plan: Adapter) -> Stored:
        """A changed tensor as the folder describes it, once its shape is known to fit."""
        stored = self._base.tensors()[name]
        shape = plan.shapes[self._whole[name]] if name in self._whole else stored.shape
        if len(shape) != len(stored.shape) or shape[1:] != stored.shape[1:]:
            raise ModelDamaged(
                f"tensor {self._whole[name]!r} of the adapter has the shape {list(shape)}, and that of the base "
                f"{list(stored.shape)}: it was made for another model"
            )
        low = self._lows.get(name)
        if low is not None:
            a, b = plan.shapes[low.a], plan.shapes[low.b]
            due = (a[1], b[0]) if low.is_embedding else (b[0], a[1])
            if due != shape:
                raise ModelDamaged(
                    f"tensors {low.a!r} and {low.b!r} are for a matrix of {due[0]} x {due[1]}, and {name!r} of the "
                    f"base has the shape {list(shape)}: they were made for another model"
                )
        return structs.replace(stored, dtype="F32", shape=shape)

    def _expect_untied(self) -> None:
        for name, low in self._lows.items():
            if low.is_embedding:
                raise Unsupported(
                    f"tensor {low.a!r} changes the embeddings {name!r}, which are the output matrix too; training "
                    "changed the one and not the other, so they cannot be one tensor any more"
                )
