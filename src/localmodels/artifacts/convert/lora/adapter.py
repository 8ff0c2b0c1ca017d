"""An adapter as a value: for each tensor of the base, what becomes of it. Reads names and shapes, and no weights.

PEFT's names, after ``base_model.model.`` and the module's own::

    .lora_A.weight (rank, columns)     .lora_B.weight (rows, rank)     .lora_B.bias (rows)
    .lora_embedding_A (rank, tokens)   .lora_embedding_B (columns, rank)
    .lora_magnitude_vector[.weight] (rows)        DoRA: the length of each row, trained by itself
    .weight, .bias, .base_layer.weight            the whole tensor (modules_to_save, bias, resized embeddings)

The rule: every tensor of the folder has one of these meanings, or it is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
from msgspec import Struct, structs

from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.convert.lora.config import Recipe, read_recipe
from localmodels.artifacts.convert.lora.rules import short
from localmodels.artifacts.convert.safetensors import Stored
from localmodels.artifacts.model_files import ADAPTER_CONFIG
from localmodels.core.errors import ModelDamaged, Unsupported

PREFIX = "base_model.model."
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_ROLE = re.compile(
    r"(?P<module>.+)\.(?P<role>lora_A\.weight|lora_B\.weight|lora_B\.bias|lora_embedding_A|lora_embedding_B"
    r"|lora_magnitude_vector(?:\.weight)?)"
)
_WHOLE = re.compile(r"(?P<module>.+?)(?:\.base_layer|\.modules_to_save(?:\.default)?)?\.(?P<kind>weight|bias)")
# Modules of embeddings, which PEFT saves whole when tokens were added.
_EMBEDDINGS = frozenset({"embed_tokens", "lm_head", "wte", "word_embeddings"})


class Low(Struct, frozen=True):
    """A change of low rank: ``scale * B @ A`` is added to a matrix of the base.

    Attributes:
        module: its name in the base.
        a, b: names of the two halves in the adapter's folder.
        rank: columns of ``b``.
        scale: of the product.
        magnitude: name of the lengths of the rows, if they were trained too (DoRA); else empty.
        bias: name of what is added to the bias; else empty.
        is_embedding: the halves are those of an embedding, whose product lies the other way.
    """

    module: str
    a: str
    b: str
    rank: int
    scale: float
    magnitude: str = ""
    bias: str = ""
    is_embedding: bool = False

    @property
    def target(self) -> str:
        """The tensor of the base that changes."""
        return f"{self.module}.weight"


class Adapter(Struct, frozen=True):
    """All that an adapter does.

    Attributes:
        recipe: what its configuration says.
        lows: changes of low rank.
        whole: tensors that take the place of the base's, by the name of the latter.
        shapes: of every tensor of the folder, by name.
    """

    recipe: Recipe
    lows: tuple[Low, ...]
    whole: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]

    def needs_merging(self) -> str:
        """Why it cannot be an adapter of llama.cpp but must be merged into its base; empty if it can be one."""
        for low in self.lows:
            if low.magnitude:
                return f"DoRA (tensor {low.magnitude!r}) changes the length of rows"
            if low.bias:
                return f"tensor {low.bias!r} changes a bias"
        for target in self.whole:
            return f"tensor {target!r} of the base is there as a whole (modules_to_save, or resized embeddings)"
        return ""


def read_adapter(folder: Folder) -> Adapter:
    """The adapter of a folder.

    Raises:
        ModelDamaged: something is missing, not sound, or has the wrong shape.
        Unsupported: it cannot be converted; names the field or tensor.
    """
    recipe = read_recipe(folder)
    stored = folder.tensors()
    roles: dict[str, dict[str, Stored]] = {}
    whole: dict[str, str] = {}
    for name, tensor in stored.items():
        if tensor.dtype not in _FLOATS:
            raise Unsupported(f"tensor {name!r} is of type {tensor.dtype}; F32, F16 and BF16 are converted")
        if not name.startswith(PREFIX):
            raise Unsupported(f"tensor {name!r} is not of an adapter that PEFT saved: its name begins otherwise")
        rest = name.removeprefix(PREFIX)
        if found := _ROLE.fullmatch(rest):
            roles.setdefault(found["module"], {})[found["role"].removesuffix(".weight")] = tensor
        else:
            whole[_whole(rest, recipe)] = name
    lows = tuple(_low(module, found, recipe) for module, found in roles.items())
    if not lows and not whole:
        raise ModelDamaged("there are no tensors in the adapter")
    return Adapter(recipe, lows, whole, {name: tensor.shape for name, tensor in stored.items()})


def without_base(adapter: Adapter, folder: Folder, base: Folder) -> Adapter:
    """The adapter without those whole tensors that are the base's own: PEFT saves embeddings so that were adapted."""
    names = {short(name): name for name in base.tensors()}

    def same(target: str, source: str) -> bool:
        name = names.get(short(target))
        known = name is not None and base.tensors()[name].shape == adapter.shapes[source]
        return known and np.array_equal(base.floats(names[short(target)]), folder.floats(source))

    whole = {target: source for target, source in adapter.whole.items() if not same(target, source)}
    return structs.replace(adapter, whole=whole)


def _whole(rest: str, recipe: Recipe) -> str:
    """The tensor of the base that this one takes the place of."""
    found = _WHOLE.fullmatch(rest)
    if found and ".lora_" not in rest and ".token_adapter." not in rest:
        module = found["module"]
        # PEFT takes every module whose name ends so, and with it what is inside.
        saved = any(name and f"{name}." in f"{module}." for name in recipe.saved)
        bias = recipe.biases and found["kind"] == "bias"
        if saved or bias or module.rpartition(".")[2] in _EMBEDDINGS:
            return f"{module}.{found['kind']}"
    raise Unsupported(
        f"tensor {PREFIX + rest!r}: nothing in {ADAPTER_CONFIG} says what it is for, so it is not converted"
    )


def _low(module: str, found: Mapping[str, Stored], recipe: Recipe) -> Low:
    halves = tuple(_halves(found))
    if len(halves) != 1:
        raise ModelDamaged(f"module {module!r} of the adapter must have one A and one B, and it has {sorted(found)}")
    is_embedding, a, b = halves[0]
    rank = recipe.rank_of(module)
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != rank or b.shape[1] != rank:
        raise ModelDamaged(
            f"tensors {a.name!r} {list(a.shape)} and {b.name!r} {list(b.shape)} must have the rank {rank} that "
            f"{ADAPTER_CONFIG} says"
        )
    if 0 in a.shape or 0 in b.shape:
        raise ModelDamaged(f"tensor {a.name!r} or {b.name!r} is empty")
    columns, rows = (b.shape[0], a.shape[1]) if is_embedding else (a.shape[1], b.shape[0])
    lengths = {"lora_magnitude_vector": columns if is_embedding else rows, "lora_B.bias": rows}
    extra = {role: found[role] for role in lengths if role in found}
    for role, tensor in extra.items():
        if tensor.shape != (lengths[role],):
            raise ModelDamaged(f"tensor {tensor.name!r} has the shape {list(tensor.shape)}, due are [{lengths[role]}]")
    names = {role: tensor.name for role, tensor in extra.items()}
    return Low(
        module,
        a.name,
        b.name,
        rank,
        recipe.scale_of(module),
        magnitude=names.get("lora_magnitude_vector", ""),
        bias=names.get("lora_B.bias", ""),
        is_embedding=is_embedding,
    )


def _halves(found: Mapping[str, Stored]) -> Iterator[tuple[bool, Stored, Stored]]:
    for is_embedding, kind in ((False, "lora_{}"), (True, "lora_embedding_{}")):
        a, b = (found.get(kind.format(half)) for half in "AB")
        if a is not None and b is not None:
            yield is_embedding, a, b
