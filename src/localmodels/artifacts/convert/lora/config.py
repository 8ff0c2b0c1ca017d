"""``adapter_config.json``: what PEFT says of an adapter. What changes its weights is read; what cannot be is refused.

The rule: a field that is not known here is refused if it says anything, since PEFT grows by fields that change what an
adapter computes, and to pass over one would give a model that nobody trained.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from localmodels.artifacts.convert.lora.patterns import matching
from localmodels.artifacts.convert.vocab.files import Files
from localmodels.artifacts.model_files import ADAPTER_CONFIG
from localmodels.core.errors import ModelDamaged, Unsupported

HIGHEST_RANK = 2**14

MOST_PATTERNS = 10_000  # one for each module of the largest models is a tenth of it

Rank = Annotated[int, Meta(ge=1, le=HIGHEST_RANK)]
Names = list[str] | str | None

# How weights may be drawn at first without the base's being changed. The others (PiSSA, OLoRA, LoftQ, CorDA, LoRA-GA)
# take something from the base for it, so that their adapter fits only what they left of it.
_HARMLESS_BEGINNINGS = frozenset({True, False, "gaussian", "eva", "orthogonal"})

# Which modules were trained, how, and of what: nothing of it changes what the adapter's tensors mean.
_HARMLESS = frozenset({
    "auto_mapping", "base_model_name_or_path", "revision", "peft_version", "task_type", "inference_mode",
    "target_modules", "exclude_modules", "lora_dropout", "layers_to_transform", "layers_pattern", "runtime_config",
    "loftq_config", "eva_config", "corda_config", "lora_ga_config", "megatron_core", "qalora_group_size",
    "ensure_weight_tying", "save_embedding_layers",
})  # fmt: skip


class Recipe(Struct, frozen=True):
    """What the file says.

    Attributes:
        alpha: the scale of the adapter, times its rank (or the root of it, with ``rooted``).
        ranks: other ranks than ``rank``, by pattern; ``alphas`` likewise.
        saved: modules that are whole in the adapter.
        biases: are there biases of the base in it, changed?
        base: the name of the model that it was made for, as its maker had it.
    """

    rank: int
    alpha: float
    rooted: bool = False
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    saved: tuple[str, ...] = ()
    biases: bool = False
    base: str = ""

    def rank_of(self, module: str) -> int:
        """The rank that a module should have.

        Raises:
            Unsupported: a pattern cannot be read.
        """
        pattern = matching(self.ranks, module)
        return self.rank if pattern is None else self.ranks[pattern]

    def scale_of(self, module: str) -> float:
        """What ``B @ A`` is multiplied by.

        Raises:
            Unsupported: a pattern cannot be read.
        """
        return self.alpha_of(module) / self._divisor(self.rank_of(module))

    def alpha_of(self, module: str) -> float:
        """The module's alpha.

        Raises:
            Unsupported: a pattern cannot be read.
        """
        pattern = matching(self.alphas, module)
        return self.alpha if pattern is None else self.alphas[pattern]

    def _divisor(self, rank: int) -> float:
        return math.sqrt(rank) if self.rooted else float(rank)


class _Said(Struct):
    """The fields that matter, as the file has them."""

    peft_type: str = ""
    r: Rank = 8
    lora_alpha: float = 8.0
    use_rslora: bool = False
    use_dora: bool = False
    rank_pattern: Annotated[dict[str, Rank], Meta(max_length=MOST_PATTERNS)] | None = None
    alpha_pattern: Annotated[dict[str, float], Meta(max_length=MOST_PATTERNS)] | None = None
    modules_to_save: list[str] | None = None
    bias: str = "none"
    lora_bias: bool = False
    fan_in_fan_out: bool = False
    init_lora_weights: bool | str = True
    base_model_name_or_path: str | None = None


def read_recipe(files: Files) -> Recipe:
    """The configuration of an adapter.

    Raises:
        ModelDamaged: it is missing or not sound.
        Unsupported: it is no LoRA, or one that cannot be converted; names the field.
    """
    if not files.has(ADAPTER_CONFIG):
        raise ModelDamaged(f"{ADAPTER_CONFIG}: missing in the folder")
    fields = files.read_object(ADAPTER_CONFIG)
    try:
        said = msgspec.convert(fields, _Said)
    except msgspec.ValidationError as error:
        raise ModelDamaged(f"{ADAPTER_CONFIG}: {error}") from error
    if said.peft_type != "LORA":
        raise Unsupported(f"{ADAPTER_CONFIG}: 'peft_type' is {said.peft_type!r:.60}; of adapters, LoRA is converted")
    _refuse(said, fields)
    alphas = {"lora_alpha": said.lora_alpha, **(said.alpha_pattern or {})}
    for name, alpha in alphas.items():
        if not math.isfinite(alpha) or not 0 < abs(alpha) < 1e9:
            raise ModelDamaged(f"{ADAPTER_CONFIG}: {name!r:.60} must be a number that is not 0, not {alpha}")
    return Recipe(
        rank=said.r,
        alpha=said.lora_alpha,
        rooted=said.use_rslora,
        ranks=dict(said.rank_pattern or {}),
        alphas=dict(said.alpha_pattern or {}),
        saved=tuple(said.modules_to_save or ()),
        biases=said.bias != "none",
        base=said.base_model_name_or_path or "",
    )


def _refuse(said: _Said, fields: dict[str, Any]) -> None:
    if said.fan_in_fan_out:
        raise Unsupported(
            f"{ADAPTER_CONFIG}: 'fan_in_fan_out': adapters for layers that lie the other way are not converted"
        )
    if said.bias not in {"none", "all", "lora_only"}:
        raise ModelDamaged(f"{ADAPTER_CONFIG}: 'bias' must be none, all or lora_only, not {said.bias!r:.60}")
    if said.init_lora_weights not in _HARMLESS_BEGINNINGS:
        raise Unsupported(
            f"{ADAPTER_CONFIG}: 'init_lora_weights' is {said.init_lora_weights!r:.60}, which changes the base as well; "
            "save the adapter converted to a plain LoRA (path_initial_model_for_weight_conversion)"
        )
    known = _HARMLESS | set(_Said.__struct_fields__)
    for name, value in fields.items():
        if name not in known and value:
            raise Unsupported(f"{ADAPTER_CONFIG}: {name!r:.60} is {value!r:.100}, which is not converted")
