"""Hostile ``config.json`` and what stands beside it: every field with every wrong value; and what hurts together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.hostile_folders.bases import BERT, MIXTURE
from tests.hostile_folders.kinds import Body, Change, Hostile, edited, raw_field, removed, replaced, with_field
from tests.weight_folders import LLAMA

FILE = "config.json"
INDEX = "model.safetensors.index.json"

# Written as they are: some of them no writer of JSON would give.
WRONG = (
    "null", '"x"', '""', "[]", "{}", "true", "-1", "0", "1", "3", "0.5", "1e9", "1e308", "1e999", "NaN", "-0.0",
    "9007199254740993", "9223372036854775807", "18446744073709551616", "1" + "0" * 40, "1" + "0" * 400, "-1e308",
    "[1, 2]", '{"a": {}}',
    '["LlamaForCausalLM"]', '"' + "x" * 5000 + '"', '"\\u0000"', '"../../etc/passwd"', '"{{ 7 * 7 }}"',
)  # fmt: skip
# Of these a wrong value is refused, whatever it is (but for those named: they say the same, or nothing).
NEEDED: Mapping[str, tuple[str, ...]] = {
    "hidden_size": (), "num_attention_heads": (), "intermediate_size": (), "vocab_size": (),
    "num_hidden_layers": ("1",), "architectures": ('["LlamaForCausalLM"]',),
}  # fmt: skip

SOUND = {("bert", "num_attention_heads", "1"), *(("mixture", "intermediate_size", wrong) for wrong in WRONG)}


def corpus() -> dict[str, Hostile]:
    """All of them by name."""
    return {**_fields(), **_whole(), **_together(), **_ropes(), **_families(), **_indexes()}


def _fields() -> dict[str, Hostile]:
    found = {}
    for base, config in (("llama", LLAMA), ("bert", BERT), ("mixture", MIXTURE)):
        for field in config:
            for number, wrong in enumerate(WRONG):
                same = wrong in NEEDED.get(field, (wrong,)) or (base, field, wrong) in SOUND
                fate: Any = "either" if same else "refused"
                found[f"config of {base}: {field} is {wrong:.24} #{number}"] = Hostile(
                    raw_field(FILE, field, wrong), fate, says=f"{FILE}|tensor '" if fate == "refused" else "", base=base
                )
            found[f"config of {base}: no {field}"] = Hostile(with_field(FILE, field, value=...), "either", base=base)
    return found


def _whole() -> dict[str, Hostile]:
    bodies: Mapping[str, Body] = {
        "nothing": b"", "a list": b"[]", "null": b"null", "a number": b"1", "a text": b'"x"', "half": b'{"a": ',
        "no UTF-8": b'{"a": "\xff"}', "two bytes a letter": '{"a": 1}'.encode("utf-16"), "zeros": bytes(1000),
        "deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "a pickle": b"\x80\x04\x95\x05\x00\x00\x00.", "a zip": b"PK\x03\x04rest", "a GGUF": b"GGUF\x03\x00\x00\x00",
        "17 MB": lambda: b'{"a": "' + b"x" * (17 * 2**20) + b'"}',
        "lists, 12 MB": lambda: b'{"a":[' + b"[]," * (4 * 2**20) + b"[]]}",
        "an empty object": b"{}", "a program": b"import os\nos.system('true')\n",
    }  # fmt: skip
    found = {f"config: {name}": Hostile(replaced(FILE, raw), says=FILE) for name, raw in bodies.items()}
    found |= {
        "config: missing": Hostile(removed(FILE), says=FILE),
        "config: a field twice": Hostile(_twice, "either"),
        "config: 100,000 fields": Hostile(
            edited(FILE, lambda v: v.update((f"f{i}", 1) for i in range(100_000))), says=FILE
        ),
        "config: a field that nobody knows": Hostile(with_field(FILE, "secret_scale", value=2), says="secret_scale"),
        "config: a field named by a megabyte": Hostile(with_field(FILE, "x" * 2**20, value=2), says=FILE),
        "config: a field with escapes": Hostile(with_field(FILE, "\x1b[2J\n", value=2), says=FILE),
    }
    return found


def _twice(place: Path) -> None:
    path = place / FILE
    path.write_text('{"vocab_size": 1e9, ' + path.read_text()[1:])


def _together() -> dict[str, Hostile]:
    def config(says: str, **fields: object) -> Hostile:
        return Hostile(edited(FILE, lambda values: values.update(fields)), says=says)

    found = {
        "heads that do not divide": config("heads", num_attention_heads=5, num_key_value_heads=2),
        "more heads than width": config("", num_attention_heads=128, num_key_value_heads=128),
        "shared heads of more": config("heads", num_key_value_heads=8),
        "layers, a billion": config("num_hidden_layers", num_hidden_layers=10**9),
        "layers, 512 of one": config("layers.1", num_hidden_layers=512),
        "a head of a million": config("", head_dim=2**20),
        "a vocabulary of a billion": config("vocab_size", vocab_size=10**9),
        "a vocabulary of 16 million": config("embed_tokens", vocab_size=2**24),
        "text_config is a list": config("text_config", text_config=[1]),
        "text_config is empty": config(FILE, text_config={}),
        "text_config in itself": config(FILE, text_config={"text_config": dict(LLAMA)}),
        "text_config of others": config("", text_config={**LLAMA, "hidden_size": 128}),
        "no architecture": config("architectures", architectures=[]),
        "an architecture of the web": config("architectures", architectures={"auto_map": "evil.Model"}),
        "an architecture that is none": config("EvilForCausalLM", architectures=["EvilForCausalLM"]),
        "an architecture by path": config("cannot be converted", architectures=["../../evil"]),
        "an architecture of Python": config("cannot be converted", architectures=["__class__"]),
        "an architecture of a megabyte": config("cannot be converted", architectures=["A" * 2**20]),
        "another activation": config("hidden_act", hidden_act="relu"),
        "an activation of Python": config("hidden_act", hidden_act="__import__('os').system('true')"),
        "weights of 4 bits": config("", quantization_config={"quant_method": "gptq", "bits": 4}, hidden_act="relu"),
        "a window of layers": config("layer", layer_types=["strange_attention"], use_sliding_window=True),
        "another multiplier": config("embedding_multiplier", embedding_multiplier=12.0),
        "an epsilon below 0": config("rms_norm_eps", rms_norm_eps=-1e-6),
        "an epsilon as text": config("rms_norm_eps", rms_norm_eps="1e-6"),
        "tied in words": config("tie_word_embeddings", tie_word_embeddings="yes"),
        "not tied, and no output": config("lm_head.weight", tie_word_embeddings=False),
    }
    return {f"config: {name}": hostile for name, hostile in found.items()}


def _ropes() -> dict[str, Hostile]:
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 64}  # fmt: skip
    ropes: dict[str, object] = {
        "unknown": {"rope_type": "spiral", "factor": 2.0}, "a text": "linear", "a list": [1], "a number": 4,
        "without a type": {"factor": 2.0}, "of two types": {"rope_type": "yarn", "type": "linear", "factor": 2.0},
        "by 0": {"rope_type": "linear", "factor": 0.0}, "below 0": {"rope_type": "linear", "factor": -2.0},
        "by a text": {"rope_type": "linear", "factor": "2"}, "dynamic": {"rope_type": "dynamic", "factor": 2.0},
        "nothing but a type": {"rope_type": "llama3"}, "yarn alone": {"rope_type": "yarn"},
        "longrope alone": {"rope_type": "longrope"}, "type is a list": {"rope_type": ["linear"]},
        "longrope of texts": {"rope_type": "longrope", "short_factor": ["1"] * 8, "long_factor": ["1"] * 8},
        "longrope of one": {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]},
        "longrope of many": {"rope_type": "longrope", "short_factor": [1.0] * 10**5, "long_factor": [1.0] * 10**5},
        "longrope by 0": {"rope_type": "longrope", "short_factor": [0.0] * 8, "long_factor": [0.0] * 8},
        "high and low alike": {**llama3, "high_freq_factor": 1.0},
        "high below low": {**llama3, "high_freq_factor": 0.5},
    }  # fmt: skip
    wrong: tuple[object, ...] = (0, -1, None, "x", [], 1e308, 10**40, True)
    for key in list(llama3)[1:]:
        ropes |= {f"llama3, {key} is {value!r}": {**llama3, key: value} for value in wrong}
    loose = {"high and low alike", "high below low", "without a type", "of two types", "yarn alone"}
    found = {}
    for key in ("rope_scaling", "rope_parameters"):
        for name, value in ropes.items():
            fate: Any = "either" if name.startswith("llama3") or name in loose else "refused"
            found[f"{key}: {name}"] = Hostile(
                with_field(FILE, key, value=value), fate, says=FILE if fate == "refused" else ""
            )
    return found


def _families() -> dict[str, Hostile]:
    def mixture(says: str, **fields: object) -> Hostile:
        return Hostile(edited(FILE, lambda values: values.update(fields)), says=says, base="mixture")

    def bert(says: str, **fields: object) -> Hostile:
        return Hostile(edited(FILE, lambda values: values.update(fields)), says=says, base="bert")

    found = {
        "mixture: weights that are not made one": mixture("norm_topk_prob", norm_topk_prob=False),
        "mixture: weights that nobody speaks of": mixture("norm_topk_prob", norm_topk_prob=None),
        "mixture: no experts": mixture("num_experts", num_experts=0),
        "mixture: a million experts": mixture("num_experts", num_experts=10**6),
        "mixture: one expert too many": mixture("mlp.gate.weight", num_experts=3),
        "mixture: more used than there are": mixture("num_experts_per_tok", num_experts_per_tok=3),
        "mixture: every other layer": mixture("decoder_sparse_step", decoder_sparse_step=2),
        "mixture: layers without": mixture("mlp_only_layers", mlp_only_layers=[0]),
        "bert: another way of positions": bert("position_embedding_type", position_embedding_type="relative_key"),
        "bert: a decoder": bert("is_decoder", is_decoder=True),
        "bert: 65 types": bert("type_vocab_size", type_vocab_size=65),
        "bert: heads that do not divide": bert("", num_attention_heads=5, hidden_act="relu"),
        "bert: classes of three": bert("", architectures=["BertForSequenceClassification"], num_labels=3),
    }
    pooling: Mapping[str, str] = {
        "no list": "{}", "a list of numbers": "[1]", "a step of code": '[{"type": "evil.modeling.Step", "path": ""}]',
        "a dense layer": '[{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]', "deep": "[" * 10**5,
    }  # fmt: skip
    found |= {f"bert: modules: {name}": Hostile(replaced("modules.json", text), says="modules.json", base="bert")
              for name, text in pooling.items()}  # fmt: skip
    found |= {
        f"bert: pooling by {name}": Hostile(_pooling(place, values), says="config.json", base="bert")
        for name, place, values in (
            ("max", "1_Pooling", {"pooling_mode_max_tokens": True}),
            ("two", "1_Pooling", {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}),
            ("nothing", "1_Pooling", {}),
            ("a file outside", "../../../etc", {}),
            ("an absolute file", "/etc", {}),
            ("numbers", "1_Pooling", {"pooling_mode_mean_tokens": 1}),
        )
    }
    return found


def _pooling(where: str, values: Mapping[str, object]) -> Change:
    def change(place: Path) -> None:
        steps = [{"type": "sentence_transformers.models.Pooling", "path": where}]
        (place / "modules.json").write_text(json.dumps(steps))
        (place / "1_Pooling").mkdir()
        (place / "1_Pooling" / "config.json").write_text(json.dumps(values))

    return change


def _indexes() -> dict[str, Hostile]:
    def shard(name: object) -> Change:
        def edit(values: dict[str, Any]) -> None:
            values["weight_map"] = dict.fromkeys(values["weight_map"], name)

        return edited(INDEX, edit)

    bad: Mapping[str, object] = {
        "missing": "model-00003-of-00002.safetensors", "outside": "../../etc/passwd", "absolute": "/etc/passwd",
        "of another machine": "\\\\host\\share", "the index itself": INDEX, "the configuration": FILE, "no name": "",
        "a number": 7, "null": None, "a list": [], "a place": ".", "zeros": "model\0.safetensors",
        "the tokenizer": "tokenizer.json", "a device": "/dev/zero", "long": "x" * 100_000,
        "a web address": "https://a/b",
    }  # fmt: skip
    found = {f"index: shards {name}": Hostile(shard(value), base="sharded") for name, value in bad.items()}
    bodies: Mapping[str, Body] = {
        "nothing": b"", "a list": b"[]", "an empty object": b"{}", "no map": b'{"weight_map": []}',
        "an empty map": b'{"weight_map": {}}', "deep": b"[" * 100_000, "a pickle": b"\x80\x04.",
        "a million tensors": lambda: b'{"weight_map": {' + b",".join(b'"%d": "a"' % i for i in range(10**6)) + b"}}",
        "a million files": lambda: b'{"weight_map": {' + b",".join(b'"%d": "%d"' % (i,
        i) for i in range(500_000)) + b"}}",
    }  # fmt: skip
    found |= {f"index: {name}": Hostile(replaced(INDEX, raw), base="sharded") for name, raw in bodies.items()}
    found |= {
        "index: one shard is gone": Hostile(
            removed("model-00002-of-00002.safetensors"), says="model-00002-of-00002.safetensors", base="sharded"
        ),
        "index: both shards alike": Hostile(_alike, says="is in model-00001", base="sharded"),
        "index: one is a pickle": Hostile(
            replaced("model-00002-of-00002.safetensors", b"\x80\x04\x95."), says="pickle", base="sharded"
        ),
    }
    return found


def _alike(place: Path) -> None:
    first, second = (place / f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    second.write_bytes(first.read_bytes())
