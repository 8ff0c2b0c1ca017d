"""Hostile safetensors: heads that lie about their length, their tensors or themselves, and weights that are none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tests.hostile_folders.kinds import Body, Change, Hostile, made
from tests.weight_folders import WIDTH, Weights, bf16, drawn, llama_tensors, safetensors, with_head

FILE = "model.safetensors"
NORM, QUERY = "model.norm.weight", "model.layers.0.self_attn.q_proj.weight"
HUGE = 10**30
DEEP = 100_000


def corpus() -> dict[str, Hostile]:
    """All of them by name."""
    return {**_fields(), **_entries(), **_raw(), **_lengths(), **_tensors(), **_weights(), **_no_files()}


def truncations(longest: int = 512) -> dict[str, Hostile]:
    """A file cut after each of its first bytes."""
    return {f"safetensors: cut after {length} bytes": Hostile(_cut(length), says=FILE) for length in range(longest)}


def with_entries(edit: Callable[[dict[str, Any]], object]) -> Change:
    """Changes the head of the file; what ``edit`` gives back takes its place, unless it is None."""

    def change(place: Path) -> None:
        raw = (place / FILE).read_bytes()
        length = int.from_bytes(raw[:8], "little")
        head = json.loads(raw[8 : 8 + length])
        given = edit(head)
        (place / FILE).write_bytes(with_head(head if given is None else given, raw[8 + length :]))  # type: ignore[arg-type]

    return change


def with_tensors(edit: Callable[[dict[str, Weights]], object]) -> Change:
    """Changes the tensors; the file around them is sound."""

    def change(place: Path) -> None:
        tensors = llama_tensors()
        edit(tensors)
        (place / FILE).write_bytes(safetensors(tensors))

    return change


def _cut(length: int) -> Change:
    return lambda place: os.truncate(place / FILE, length)


def _put(tensor: str, key: str, value: object) -> Change:
    return with_entries(lambda head: head[tensor].update({key: value}))


def _fields() -> dict[str, Hostile]:
    values: Mapping[str, tuple[object, ...]] = {
        "dtype": ("F99", "", None, 7, [], {}, "f32", "I64", "F16", "BF16", "F64", "U8", "BOOL", "F8_E4M3", "C64", "F4",
                  "F32\0", "F" * 10_000),
        "shape": (None, "64", {}, 64, [-64], [64.0], [True], ["64"], [[64]], [2**63], [2**64], [HUGE], [2**32, 2**32],
                  [2**62, 4, 0], [0], [64, 0], [], [1] * 9, [1] * 10_000, [64, 1], [1, 64], [2**31, 2**33], [63], [65],
                  [32, 2], [None]),
        "data_offsets": (None, [], [0], [0, 1, 2], ["0", "256"], [0.0, 256.0], [256, 0], [-256, 0], [0, 2**64],
                         [2**63, 2**63 + 256], [HUGE, HUGE + 256], [0, 255], [False, 256], [0, 256], [1, 257], {}, 0,
                         [[0, 256]], [2**47, 2**47 + 256], [10**6, 10**6 + 256]),
    }  # fmt: skip
    return {
        f"safetensors: {key} {value!r:.40} #{number}": Hostile(_put(NORM, key, value), says=f"{FILE}|{NORM}")
        for key, listed in values.items()
        for number, value in enumerate(listed)
        if not (key == "shape" and value == [64, 1])
    } | {"safetensors: a shape of one dimension more": Hostile(_put(NORM, "shape", [WIDTH, 1]), says=NORM)}


def _entry(value: object) -> Change:
    return with_entries(lambda head: head.update({NORM: value}))


def _without(key: str) -> Change:
    return with_entries(lambda head: head[NORM].pop(key))


def _instead(name: str, change: Callable[[Weights], Weights] | None) -> Change:
    """Another tensor in the place of one; None: none at all."""

    def edit(tensors: dict[str, Weights]) -> None:
        weights = tensors.pop(name)
        if change:
            tensors[name] = change(weights)

    return with_tensors(edit)


def _more(name: str) -> Change:
    return with_tensors(lambda tensors: tensors.update({name: drawn(4, 4)}))


def _entries() -> dict[str, Hostile]:
    def renamed(name: str) -> Change:
        return with_entries(lambda head: head.update({name: head.pop(NORM)}))

    def both(head: dict[str, Any]) -> None:
        start = head[QUERY]["data_offsets"][0]
        head[NORM]["data_offsets"] = [start, start + 256]

    def aliased(head: dict[str, Any]) -> None:
        head["model.other.weight"] = dict(head[NORM])

    def gap(head: dict[str, Any]) -> None:
        head.pop(NORM)

    entries: Mapping[str, object] = {
        "null": None, "a list": [], "a text": "x", "a number": 5, "nothing": {}, "an empty text": "", "true": True,
    }  # fmt: skip
    found = {f"safetensors: an entry is {name}": _entry(value) for name, value in entries.items()}
    found |= {f"safetensors: an entry without {key}": _without(key) for key in ("dtype", "shape", "data_offsets")}
    found |= {
        "safetensors: an entry with more": with_entries(lambda head: head[NORM].update(code="import os")),
        "safetensors: two overlap": with_entries(both),
        "safetensors: two are the same bytes": with_entries(aliased),
        "safetensors: bytes that nobody has": with_entries(gap),
        "safetensors: all at 0": with_entries(lambda head: [e.update(data_offsets=[0, 256]) for e in head.values()]),
        "safetensors: no tensors": lambda place: (place / FILE).write_bytes(with_head({})),
        "safetensors: metadata is a list": with_entries(lambda head: head.update(__metadata__=[])),
        "safetensors: metadata of numbers": with_entries(lambda head: head.update(__metadata__={"a": 1})),
        "safetensors: metadata nested": with_entries(lambda head: head.update(__metadata__={"a": {"b": "c"}})),
        "safetensors: metadata null": with_entries(lambda head: head.update(__metadata__=None)),
    }
    names = {
        "no": "", "a zero byte": "model.norm.weight\0", "a path": "../../../etc/passwd",
        "100,000 letters": "a" * 100_000,
        "a line break": "model\nnorm", "half a letter": "\ud800", "a mark that turns": "model.\u202enorm",
        "spaces": "  ",
        "an escape": "\x1b[2J", "percent": "%s%n{0}{place}", "600 letters": "x" * 600,
    }  # fmt: skip
    refused = {
        name: Hostile(change, says="" if name.endswith("no tensors") else FILE) for name, change in found.items()
    }
    refused |= {f"safetensors: a name of {name}": Hostile(renamed(text)) for name, text in names.items()}
    return refused


def _raw() -> dict[str, Hostile]:
    def head(raw: Body) -> Change:
        return lambda place: (place / FILE).write_bytes(with_head(made(raw)))

    def many(count: int, *, twice: bool = False) -> Change:
        def change(place: Path) -> None:
            entries = [f'"t{number}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for number in range(count)]
            raw = "{" + ",".join(entries + entries[-1:] * twice) + "}"
            (place / FILE).write_bytes(with_head(raw.encode()))

        return change

    def doubled(place: Path) -> None:
        raw = (place / FILE).read_bytes()
        length = int.from_bytes(raw[:8], "little")
        found = raw[8 : 8 + length].rstrip()
        entry = json.dumps({NORM: {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}})[1:]
        (place / FILE).write_bytes(with_head(found[:-1] + b"," + entry.encode(), raw[8 + length :]))

    bodies: Mapping[str, Body] = {
        "a list": b"[]", "null": b"null", "a number": b"7", "half an object": b"{", "nothing": b" " * 16,
        "something after it": b"{} x", "two objects": b"{}{}", "NaN": b'{"a": NaN}', "Infinity": b'{"a": Infinity}',
        "minus Infinity": b'{"a": -Infinity}', "an exponent": b'{"a": 1e999}',
        "many digits": b'{"a": ' + b"9" * 5000 + b"}",
        "a mark of order": b"\xef\xbb\xbf{}", "two bytes a letter": "{}".encode("utf-16"),
        "no UTF-8": b'{"\xff\xfe": 1}',
        "Latin": '{"é": 1}'.encode("latin-1"), "a comment": b"{/* */}", "other quotes": b"{'a': 1}",
        "zeros": b"{}" + bytes(64), "deep lists": b'{"a":' + b"[" * DEEP, "deep objects": b'{"a":' * DEEP,
        "deep and closed": b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}", "overlong UTF-8": b'{"\xc0\x80": 1}',
        "a pickle within": b'{"a": "\x80\x04\x95"}', "a control letter": b'{"a\nb": 1}',
        "empty lists, 8 MB": lambda: b'{"a":[' + b"[]," * (8 * 2**20 // 3) + b"[]]}",
        "numbers, 8 MB": lambda: b'{"a":[' + b"1," * (4 * 2**20) + b"1]}",
        "a text of 8 MB": lambda: b'{"a":"' + b"x" * (8 * 2**20) + b'"}',
        "spaces, 16 MB": lambda: b"{" + b" " * (16 * 2**20),
        "objects, 15 MB": lambda: b'{"a":[' + b"{}," * (5 * 2**20) + b"{}]}",
    }  # fmt: skip
    found = {f"safetensors: head of {name}": Hostile(head(raw), says=FILE) for name, raw in bodies.items()}
    found |= {
        "safetensors: a name twice": Hostile(doubled, says=NORM),
        "safetensors: a name twice, after 130,000": Hostile(many(130_000, twice=True), says="t129999"),
        "safetensors: 131,073 tensors": Hostile(many(131_073), says="131073 tensors"),
        "safetensors: 100,000 empty tensors": Hostile(many(100_000)),
    }
    return found


def _lengths() -> dict[str, Hostile]:
    def length(number: Callable[[int], int]) -> Change:
        def change(place: Path) -> None:
            raw = (place / FILE).read_bytes()
            (place / FILE).write_bytes((number(len(raw)) % 2**64).to_bytes(8, "little") + raw[8:])

        return change

    def holed(size: int, said: int) -> Change:
        """A file of holes that says its head is so long."""

        def change(place: Path) -> None:
            with (place / FILE).open("wb") as file:
                file.write(said.to_bytes(8, "little") + b"{")
                file.truncate(size)

        return change

    numbers: Mapping[str, Callable[[int], int]] = {
        "0": lambda size: 0, "1": lambda size: 1, "2": lambda size: 2, "2^63": lambda size: 2**63,
        "2^64 - 1": lambda size: -1, "2^64 - 8": lambda size: -8, "2^32": lambda size: 2**32,
        "all that follows": lambda size: size - 8, "one more": lambda size: size - 7, "the file": lambda size: size,
        "one less": lambda size: int(size * 0.9),
    }  # fmt: skip
    found = {
        f"safetensors: a head of {name} bytes": Hostile(length(number), says=FILE) for name, number in numbers.items()
    }
    found |= {
        "safetensors: a head of 100 MB": Hostile(holed(101 * 10**6, 100 * 10**6), says=FILE),
        "safetensors: a head of 16 MB of zeros": Hostile(holed(20 * 2**20, 16 * 2**20), says=FILE),
        "safetensors: 1 TB of holes": Hostile(holed(10**12, 10**11), says=FILE),
        "safetensors: one byte more": Hostile(_longer, says=FILE),
        "safetensors: one byte less": Hostile(_shorter, says=FILE),
    }
    return found


def _longer(place: Path) -> None:
    with (place / FILE).open("ab") as file:
        file.write(b"\0")


def _shorter(place: Path) -> None:
    os.truncate(place / FILE, (place / FILE).stat().st_size - 1)


def _tensors() -> dict[str, Hostile]:
    found: dict[str, Hostile] = {}
    for name, weights in llama_tensors().items():
        short = name.removeprefix("model.").removesuffix(".weight")
        found |= {
            f"tensor {short}: missing": Hostile(_instead(name, None), says=short),
            f"tensor {short}: one row more": Hostile(
                _instead(name, lambda weights: np.concatenate([weights, weights[:1]])), says=short
            ),
            f"tensor {short}: bytes": Hostile(_instead(name, lambda weights: weights.astype(np.uint8)), says=short),
            f"tensor {short}: whole numbers": Hostile(
                _instead(name, lambda weights: weights.astype(np.int64)), says=short
            ),
            f"tensor {short}: empty": Hostile(_instead(name, lambda weights: weights[:0]), says=short),
        }
        if weights.ndim == 2 and weights.shape[0] != weights.shape[1]:
            found[f"tensor {short}: the other way"] = Hostile(
                _instead(name, lambda weights: np.ascontiguousarray(weights.T)), says=short
            )
    extra = {
        "of a second layer": "model.layers.1.mlp.up_proj.weight", "of nobody": "evil.weight",
        "of an adapter": "model.layers.0.self_attn.q_proj.lora_A.weight",
        "of a layer below 0": "model.layers.-1.x.weight",
        "of a far layer": f"model.layers.{HUGE}.x.weight", "of eyes": "vision_tower.blocks.0.weight",
        "twice by prefix": "language_model.model.norm.weight", "of weights in 8 bits": f"{QUERY}_scale_inv",
    }  # fmt: skip
    for name, tensor in extra.items():
        found[f"tensor more: {name}"] = Hostile(_more(tensor), says=tensor)
    found["tensor more: another output"] = Hostile(
        with_tensors(lambda t: t.update({"lm_head.weight": drawn(300, WIDTH, seed=9)})), says="lm_head.weight"
    )
    return found


def _weights() -> dict[str, Hostile]:
    def spoilt(name: str, value: float, kind: Callable[[Weights], Weights]) -> Change:
        def edit(tensors: dict[str, Weights]) -> None:
            weights = tensors[name].copy()
            weights.flat[weights.size - 1] = value
            tensors[name] = kind(weights)

        return with_tensors(edit)

    kinds: Mapping[str, Callable[[Weights], Weights]] = {
        "F32": lambda weights: weights, "F16": lambda weights: weights.astype(np.float16), "BF16": bf16,
        "F64": lambda weights: weights.astype(np.float64),
    }  # fmt: skip
    found = {}
    for kind, convert in kinds.items():
        for value in (float("nan"), float("inf"), -float("inf")):
            for name in (NORM, QUERY, "model.embed_tokens.weight"):
                found[f"weights: {value} in {kind} {name}"] = Hostile(spoilt(name, value, convert), says=name)
    for target in ("F16", "Q8_0", "Q4_0", "Q4_K_M", "Q2_K"):
        change = spoilt(QUERY, 3e38, kinds["F32"])
        found[f"weights: too large for {target}"] = Hostile(change, says=QUERY, target=target)
    found["weights: a bit too large for F16"] = Hostile(spoilt(QUERY, 70_000.0, kinds["F32"]), says=QUERY, target="F16")
    found["weights: beyond 32 bits"] = Hostile(_beyond, says=NORM)
    return found


def _beyond(place: Path) -> None:
    weights = llama_tensors()[NORM].astype(np.float64)
    weights[0] = 1e300
    (place / FILE).write_bytes(safetensors({**llama_tensors(), NORM: weights}))


def _no_files() -> dict[str, Hostile]:
    def other(make: Callable[[Path], object]) -> Change:
        def change(place: Path) -> None:
            (place / FILE).unlink()
            make(place / FILE)

        return change

    return {
        "no file: a pipe": Hostile(other(os.mkfifo), says=FILE),
        "no file: a link out": Hostile(other(lambda path: path.symlink_to("/etc/passwd")), says=FILE),
        "no file: a link to zeros": Hostile(other(lambda path: path.symlink_to("/dev/zero")), says=FILE),
        "no file: a link to itself": Hostile(other(lambda path: path.symlink_to(path)), says=FILE),
        "no file: a link to nothing": Hostile(other(lambda path: path.symlink_to("/nowhere/at/all")), says=FILE),
        "no file: nothing may read it": Hostile(lambda place: (place / FILE).unlink(), says="safetensors"),
    }
