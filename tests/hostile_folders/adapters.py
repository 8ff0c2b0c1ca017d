"""Hostile adapters of PEFT."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tests.hostile_folders.bases import ADAPTER, LAYER, adapter_tensors
from tests.hostile_folders.configs import WRONG
from tests.hostile_folders.kinds import Change, Hostile, raw_field, removed, replaced, with_field
from tests.weight_folders import WIDTH, Weights, drawn, safetensors

CONFIG = "adapter/adapter_config.json"
WEIGHTS = "adapter/adapter_model.safetensors"
SAYS = "adapter_config.json"


def corpus() -> dict[str, Hostile]:
    """All of them by name."""
    return {name: _of_adapter(hostile) for name, hostile in {**_fields(), **_tensors()}.items()}


def _of_adapter(hostile: Hostile) -> Hostile:
    return Hostile(hostile.change, hostile.fate, hostile.says, "adapted", hostile.target)


def _fields() -> dict[str, Hostile]:
    found = {}
    for field in (
        "peft_type",
        "r",
        "lora_alpha",
        "bias",
        "fan_in_fan_out",
        "target_modules",
        "base_model_name_or_path",
    ):
        for number, wrong in enumerate(WRONG):
            fate: Any = "refused" if field in {"peft_type", "r"} else "either"
            found[f"adapter: {field} is {wrong:.24} #{number}"] = Hostile(
                raw_field(CONFIG, field, wrong), fate, says=SAYS if fate == "refused" else ""
            )
    for field in ADAPTER:
        found[f"adapter: no {field}"] = Hostile(with_field(CONFIG, field, value=...), "either")
    more: Mapping[str, tuple[str, object]] = {
        "a field that nobody knows": ("evil_scale", 3), "alora": ("alora_invocation_tokens", [1]),
        "layers again": ("layer_replication", [[0, 1]]), "another beginning": ("init_lora_weights", "pissa"),
        "trained tokens": ("trainable_token_indices", [1, 2]), "parameters": ("target_parameters", ["x"]),
        "a bomb of a pattern": ("rank_pattern", {"(a+)+$": 4, "(.*.*.*.*.*)*x": 2}),
        "a bomb of alphas": ("alpha_pattern", {"(" * 100 + ")" * 100: 4.0, "((a|a)*)*b" * 20: 1.0}),
        "a pattern that is none": ("rank_pattern", {"[": 4}), "patterns, a list": ("rank_pattern", [1]),
        "a rank of 0 by pattern": ("rank_pattern", {"q_proj": 0}), "an alpha of 0": ("alpha_pattern", {"q_proj": 0.0}),
        "100,000 patterns": ("rank_pattern", {f"m{i}": 4 for i in range(100_000)}),
        "modules to save that are not": ("modules_to_save", ["lm_head"]), "modules, a number": ("modules_to_save", 7),
    }  # fmt: skip
    loose = {"modules to save that are not", "100,000 patterns", "a bomb of a pattern", "a bomb of alphas"}
    loose |= {"a pattern that is none"}
    for name, (field, value) in more.items():
        fate = "either" if name in loose else "refused"
        found[f"adapter: {name}"] = Hostile(
            with_field(CONFIG, field, value=value), fate, says="" if fate == "either" else SAYS
        )
    bodies = {
        "nothing": b"",
        "a list": b"[]",
        "deep": b"[" * 10**5,
        "a pickle": b"\x80\x04.",
        "no UTF-8": b'{"\xff": 1}',
    }
    found |= {f"adapter: {name}": Hostile(replaced(CONFIG, raw), says=SAYS) for name, raw in bodies.items()}
    found["adapter: no configuration"] = Hostile(removed(CONFIG), says=SAYS)
    return found


def _tensors() -> dict[str, Hostile]:
    a, b = f"{LAYER}.lora_A.weight", f"{LAYER}.lora_B.weight"

    def tensors(edit: Callable[[dict[str, Weights]], object]) -> Change:
        def change(place: Path) -> None:
            found = adapter_tensors()
            edit(found)
            (place / WEIGHTS).write_bytes(safetensors(found))

        return change

    def renamed(name: str) -> Change:
        return tensors(lambda t: t.update({name: t.pop(b)}))

    def spoilt(name: str, value: float) -> Change:
        def edit(found: dict[str, Weights]) -> None:
            found[name][0, 0] = value

        return tensors(edit)

    edits: Mapping[str, Change] = {
        "no A": tensors(lambda t: t.pop(a)), "no B": tensors(lambda t: t.pop(b)),
        "A the other way": tensors(lambda t: t.update({a: np.ascontiguousarray(t[a].T)})),
        "B of one rank more": tensors(lambda t: t.update({b: drawn(WIDTH, 5)})),
        "B of one row more": tensors(lambda t: t.update({b: drawn(WIDTH + 1, 4)})),
        "A of one column more": tensors(lambda t: t.update({a: drawn(4, WIDTH + 1)})),
        "both empty": tensors(lambda t: t.update({a: t[a][:, :0], b: t[b][:0]})),
        "of one dimension": tensors(lambda t: t.update({a: drawn(4)})),
        "of bytes": tensors(lambda t: t.update({a: t[a].astype(np.uint8)})),
        "a module that the base has not": renamed(f"{LAYER.replace('q_proj', 'z_proj')}.lora_B.weight"),
        "a layer that the base has not": tensors(
            lambda t: t.update({name.replace("layers.0", "layers.9"): t.pop(name) for name in (a, b)})
        ),
        "another beginning of the name": renamed("evil.lora_B.weight"),
        "a role that is none": renamed(f"{LAYER}.lora_C.weight"),
        "a token adapter": renamed(f"{LAYER}.token_adapter.weight"),
        "a tensor of nobody": tensors(lambda t: t.update({"base_model.model.x.weight": drawn(2)})),
        "lengths of rows, too few": tensors(lambda t: t.update({f"{LAYER}.lora_magnitude_vector": drawn(3)})),
        "a bias of a wrong length": tensors(lambda t: t.update({f"{LAYER}.lora_B.bias": drawn(3)})),
        "a name of 600 letters": renamed("base_model.model." + "x" * 583),
    }  # fmt: skip
    found = {f"adapter: {name}": Hostile(change) for name, change in edits.items()}
    for value in (float("nan"), float("inf"), 3e38):
        for name in (a, b):
            short = name.removeprefix("base_model.model.model.")
            found[f"adapter: {value} in {short[-13:]}"] = Hostile(spoilt(name, value), says="q_proj")
    found |= {
        "adapter: no weights": Hostile(removed(WEIGHTS)),
        "adapter: weights are a pickle": Hostile(replaced(WEIGHTS, b"\x80\x04\x95."), says="pickle"),
        "adapter: weights are cut": Hostile(lambda place: _cut(place / WEIGHTS), says="adapter_model.safetensors"),
    }
    return found


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
