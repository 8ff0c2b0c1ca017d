"""Hostile GGUF files, made from a sound one: named kinds, and a stream of random mutants.

A file is taken apart into a :class:`Draft` by a reader of its own (the one under test has no say here), changed in one
place, and put together again. Every kind is either refused by our parser or listed in ``PASSES``: those the engine must
load, or refuse without harm to anybody else.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

Mutation = Callable[[bytes], bytes]

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


def string(text: bytes | str) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return u64(len(raw)) + raw


def scalar(kind: int, value: float) -> bytes:
    return struct.pack("<" + _FORMATS[kind], value)


def strings(texts: list[str]) -> bytes:
    return u32(STRING) + u64(len(texts)) + b"".join(map(string, texts))


def numbers(kind: int, values: list[int]) -> bytes:
    return u32(kind) + u64(len(values)) + b"".join(scalar(kind, value) for value in values)


@dataclass(frozen=True)
class Pair:
    """A key and its value, as bytes; ``key`` has its length before it."""

    key: bytes
    kind: int
    value: bytes


@dataclass(frozen=True)
class Tensor:
    name: bytes
    shape: tuple[int, ...]
    kind: int
    offset: int
    dimensions: int | None = None


@dataclass(frozen=True)
class Draft:
    """A GGUF file in pieces. ``counts`` are written instead of the true numbers of tensors and pairs."""

    pairs: list[Pair]
    tensors: list[Tensor]
    weights: bytes
    magic: bytes = b"GGUF"
    version: bytes = u32(3)
    counts: tuple[int, int] | None = None

    def get(self, key: str) -> Pair:
        return next(pair for pair in self.pairs if pair.key == string(key))

    def put(self, key: str, kind: int, value: bytes) -> Draft:
        """With this value in the place of the old one, or at the end."""
        pair = Pair(string(key), kind, value)
        if any(old.key == pair.key for old in self.pairs):
            return replace(self, pairs=[pair if old.key == pair.key else old for old in self.pairs])
        return replace(self, pairs=[*self.pairs, pair])

    def drop(self, key: str) -> Draft:
        return replace(self, pairs=[pair for pair in self.pairs if pair.key != string(key)])

    def tensor(self, index: int, **changes: object) -> Draft:
        tensors = list(self.tensors)
        tensors[index] = replace(tensors[index], **changes)  # type: ignore[arg-type]
        return replace(self, tensors=tensors)

    def bytes(self) -> bytes:
        counts = self.counts or (len(self.tensors), len(self.pairs))
        head = [self.magic, self.version, u64(counts[0]), u64(counts[1])]
        head += [pair.key + u32(pair.kind) + pair.value for pair in self.pairs]
        for t in self.tensors:
            dimensions = len(t.shape) if t.dimensions is None else t.dimensions
            head += [string(t.name), u32(dimensions), *map(u64, t.shape), u32(t.kind), u64(t.offset)]
        raw = b"".join(head)
        return raw + bytes(-len(raw) % 32) + self.weights


def draft(data: bytes) -> Draft:
    """Takes a sound file apart."""
    at = 24
    tensor_count, pair_count = struct.unpack_from("<QQ", data, 8)

    def take(form: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return int(value)

    def skip_value(kind: int) -> None:
        nonlocal at
        if kind == STRING:
            size = take("Q")
            at += size
        elif kind == ARRAY:
            item, length = take("I"), take("Q")
            for _ in range(length):
                skip_value(item)
        else:
            at += struct.calcsize("<" + _FORMATS[kind])

    pairs = []
    for _ in range(pair_count):
        start = at
        skip_value(STRING)
        key = data[start:at]
        kind = take("I")
        start = at
        skip_value(kind)
        pairs.append(Pair(key, kind, data[start:at]))
    tensors = []
    for _ in range(tensor_count):
        size = take("Q")
        name = data[at : at + size]
        at += size
        shape = tuple(take("Q") for _ in range(take("I")))
        tensors.append(Tensor(name, shape, take("I"), take("Q")))
    return Draft(pairs, tensors, data[at + -at % 32 :])


# Kinds


def _changed(change: Callable[[Draft], Draft]) -> Mutation:
    return lambda data: change(draft(data)).bytes()


def _set(key: str, kind: int, value: float) -> Mutation:
    return _changed(lambda d: d.put(key, kind, scalar(kind, value)))


def _text(key: str, text: bytes | str) -> Mutation:
    return _changed(lambda d: d.put(key, STRING, string(text)))


def _array(key: str, value: bytes) -> Mutation:
    return _changed(lambda d: d.put(key, ARRAY, value))


def _raw(key: str, kind: int, value: bytes) -> Mutation:
    return _changed(lambda d: d.put(key, kind, value))


def _drop(key: str) -> Mutation:
    return _changed(lambda d: d.drop(key))


def _tensor(index: int, **changes: object) -> Mutation:
    return _changed(lambda d: d.tensor(index, **changes))


def _at(position: int, new: bytes) -> Mutation:
    return lambda data: data[:position] + new + data[position + len(new) :]


def _tokens(change: Callable[[list[str]], list[str]]) -> Mutation:
    def mutate(data: bytes) -> bytes:
        d = draft(data)
        return d.put("tokenizer.ggml.tokens", ARRAY, strings(change(tokens_of(d)))).bytes()

    return mutate


def tokens_of(d: Draft) -> list[str]:
    """The vocabulary of a draft."""
    raw = d.get("tokenizer.ggml.tokens").value
    at, texts = 12, []
    for _ in range(struct.unpack_from("<Q", raw, 4)[0]):
        (size,) = struct.unpack_from("<Q", raw, at)
        texts.append(raw[at + 8 : at + 8 + size].decode())
        at += 8 + size
    return texts


def _named(name: bytes) -> Callable[[Draft], int]:
    return lambda d: next(i for i, tensor in enumerate(d.tensors) if tensor.name == name)


def _retyped(name: bytes, kind: int) -> Mutation:
    """Another type of the same size, so that everything else still fits."""
    return _changed(lambda d: d.tensor(_named(name)(d), kind=kind))


def _nested(depth: int) -> bytes:
    return (u32(ARRAY) + u64(1)) * depth + u32(U8) + u64(1) + b"\0"


_SPM = "tokenizer.ggml.model"

_FRAME: dict[str, Mutation] = {
    "empty file": lambda _: b"",
    "magic only": lambda data: data[:4],
    "not a gguf": lambda data: b"PK\x03\x04" + data[4:],
    "old ggml": lambda data: b"lmgg" + data[4:],
    "version 0": _at(4, u32(0)),
    "version 1": _at(4, u32(1)),
    "version 4": _at(4, u32(4)),
    "version 2^32-1": _at(4, u32(2**32 - 1)),
    "big-endian": _at(4, struct.pack(">I", 3)),
    "cut after the counts": lambda data: data[:24],
    "cut in the keys": lambda data: data[:300],
    "cut in the weights": lambda data: data[: -len(data) // 4],
    "cut by one byte": lambda data: data[:-1],
    "head of zeros": lambda data: bytes(len(data)),
    "tensors 2^63": _at(8, u64(2**63)),
    "tensors 2^64-1": _at(8, u64(2**64 - 1)),
    "tensors one more": _changed(lambda d: replace(d, counts=(len(d.tensors) + 1, len(d.pairs)))),
    "tensors one less": _changed(lambda d: replace(d, counts=(len(d.tensors) - 1, len(d.pairs)))),
    "tensors none": _changed(lambda d: replace(d, tensors=[], weights=b"")),
    "pairs 2^63": _at(16, u64(2**63)),
    "pairs 2^64-1": _at(16, u64(2**64 - 1)),
    "pairs 2^32": _at(16, u64(2**32)),
    "pairs one more": _changed(lambda d: replace(d, counts=(len(d.tensors), len(d.pairs) + 1))),
    "pairs none": _changed(lambda d: replace(d, pairs=[])),
    "key of 2^64-1 bytes": _at(24, u64(2**64 - 1)),
    "key of 2^31 bytes": _at(24, u64(2**31)),
    "key empty": _changed(lambda d: replace(d, pairs=[*d.pairs, Pair(string(""), U8, b"\0")])),
    "key not utf-8": _changed(lambda d: replace(d, pairs=[*d.pairs, Pair(string(b"\xff\xfe"), U8, b"\0")])),
    "key twice": _changed(lambda d: replace(d, pairs=[*d.pairs, d.pairs[0]])),
    "string of 2^64-1 bytes": _raw("x.y", STRING, u64(2**64 - 1)),
    "string of 17 MiB": _text("x.y", bytes(17 << 20)),
    "string beyond the end": _raw("x.y", STRING, u64(2**20)),
    "value type 13": _raw("x.y", 13, b"\0" * 8),
    "value type 2^32-1": _raw("x.y", 2**32 - 1, b"\0" * 8),
    "array of arrays": _array("x.y", _nested(1)),
    "arrays 10,000 deep": _array("x.y", _nested(10_000)),
    "array of unknown type": _array("x.y", u32(99) + u64(4) + bytes(16)),
    "array of 2^64-1 numbers": _array("x.y", u32(U8) + u64(2**64 - 1)),
    "array of 2^61 numbers": _array("x.y", u32(U64) + u64(2**61)),
    "array of 2^27 bytes": _array("x.y", u32(U8) + u64(2**27)),
    "array of 2^64-1 strings": _array("x.y", u32(STRING) + u64(2**64 - 1)),
    "array of 2^60 strings": _array("tokenizer.ggml.merges", u32(STRING) + u64(2**60)),
    "alignment 0": _set("general.alignment", U32, 0),
    "alignment 3": _set("general.alignment", U32, 3),
    "alignment -32": _set("general.alignment", I32, -32),
    "alignment 2^31": _set("general.alignment", U32, 2**31),
    "alignment text": _text("general.alignment", "32"),
    "alignment true": _set("general.alignment", BOOL, 1),
    "split of many": _set("split.count", U16, 5),
}

_TENSORS: dict[str, Mutation] = {
    "tensor of 5 dimensions": _tensor(0, shape=(1, 1, 1, 1, 1)),
    "tensor of 2^32-1 dimensions": _tensor(0, dimensions=2**32 - 1),
    "tensor dimension 0": _tensor(0, shape=(0, 259)),
    "tensor dimension 2^63": _tensor(0, shape=(2**63, 1)),
    "tensor dimension 2^64-1": _tensor(0, shape=(2**64 - 1, 1)),
    "tensor product overflows to small": _tensor(0, shape=(2**32, 2**32)),
    "tensor product overflows to 0": _tensor(0, shape=(2**62, 4)),
    "tensor larger than the file": _tensor(0, shape=(2**20, 2**10)),
    "tensor type withdrawn": _tensor(0, kind=4),
    "tensor type repacked": _tensor(0, kind=31),
    "tensor type 43": _tensor(0, kind=43),
    "tensor type 2^31": _tensor(0, kind=2**31),
    "tensor type of other size": _tensor(0, kind=2),
    "tensor type Q8_K": _tensor(0, kind=15),
    "tensor rows no whole blocks": _tensor(0, kind=12),
    "tensor name empty": _tensor(0, name=b""),
    "tensor name of 64 bytes": _tensor(0, name=b"x" * 64),
    "tensor name not utf-8": _tensor(0, name=b"\xc3\x28"),
    "tensor name twice": _changed(lambda d: d.tensor(1, name=d.tensors[0].name)),
    "tensor unknown": _tensor(0, name=b"nobody.weight"),
    "tensor offset 2^64-1": _tensor(-1, offset=2**64 - 1),
    "tensor offset 2^63": _tensor(-1, offset=2**63),
    "tensor offset wraps": _tensor(1, offset=2**64 - 32),
    "tensor offset misaligned": _changed(lambda d: d.tensor(1, offset=d.tensors[1].offset + 1)),
    "tensor offset beyond the end": _tensor(-1, offset=2**40),
    "tensors overlap": _tensor(1, offset=0),
    "weights of whole numbers": _retyped(b"blk.0.attn_q.weight", 25),
    "norm of whole numbers": _retyped(b"output_norm.weight", 26),
    "norm in half precision": _changed(
        lambda d: d.tensor(_named(b"output_norm.weight")(d), kind=1, shape=(2 * d.tensors[0].shape[0],))
    ),
    "shape transposed": _changed(lambda d: d.tensor(0, shape=d.tensors[0].shape[::-1])),
    "shape flat": _changed(lambda d: d.tensor(0, shape=(d.tensors[0].shape[0] * d.tensors[0].shape[1],))),
    "weights not a number": _changed(lambda d: replace(d, weights=b"\xff" * len(d.weights))),
    "weights random": _changed(lambda d: replace(d, weights=random.Random(0).randbytes(len(d.weights)))),
}

_SIZES: dict[str, Mutation] = {
    "no architecture": _drop("general.architecture"),
    "architecture unknown": _text("general.architecture", "nonsense"),
    "architecture a number": _set("general.architecture", U32, 1),
    "architecture of 1 MiB": _text("general.architecture", "x" * 2**20),
    "architecture another": _changed(
        lambda d: replace(
            d.put("general.architecture", STRING, string("qwen2")),
            pairs=[
                replace(p, key=string(p.key[8:].replace(b"llama.", b"qwen2.")))
                for p in d.put("general.architecture", STRING, string("qwen2")).pairs
            ],
        )
    ),
    "no layers given": _drop("llama.block_count"),
    "layers 0": _set("llama.block_count", U32, 0),
    "layers too few": _set("llama.block_count", U32, 1),
    "layers too many": _set("llama.block_count", U32, 3),
    "layers 100,000": _set("llama.block_count", U32, 100_000),
    "layers 2^32-1": _set("llama.block_count", U32, 2**32 - 1),
    "layers negative": _set("llama.block_count", I32, -1),
    "layers a text": _text("llama.block_count", "2"),
    "layers a fraction": _set("llama.block_count", F32, 2.0),
    "layers a flag": _set("llama.block_count", BOOL, 1),
    "layers a long number": _set("llama.block_count", U64, 2),
    "context 0": _set("llama.context_length", U32, 0),
    "context 2^32-1": _set("llama.context_length", U32, 2**32 - 1),
    "no context": _drop("llama.context_length"),
    "width 0": _set("llama.embedding_length", U32, 0),
    "width 63": _set("llama.embedding_length", U32, 63),
    "width 2^31": _set("llama.embedding_length", U32, 2**31),
    "no width": _drop("llama.embedding_length"),
    "feed-forward 0": _set("llama.feed_forward_length", U32, 0),
    "feed-forward 2^32-1": _set("llama.feed_forward_length", U32, 2**32 - 1),
    "heads 0": _set("llama.attention.head_count", U32, 0),
    "heads 3": _set("llama.attention.head_count", U32, 3),
    "heads 2^31": _set("llama.attention.head_count", U32, 2**31),
    "heads for too many layers": _array("llama.attention.head_count", numbers(U32, [2] * 600)),
    "heads 0 in one layer": _array("llama.attention.head_count", numbers(U32, [2, 0])),
    "kv heads 0": _set("llama.attention.head_count_kv", U32, 0),
    "kv heads 3": _set("llama.attention.head_count_kv", U32, 3),
    "kv heads more than heads": _set("llama.attention.head_count_kv", U32, 4),
    "kv heads negative": _array("llama.attention.head_count_kv", numbers(I32, [-1, -1])),
    "key 0 wide": _set("llama.attention.key_length", U32, 0),
    "key 2^31 wide": _set("llama.attention.key_length", U32, 2**31),
    "rotation odd": _set("llama.rope.dimension_count", U32, 31),
    "rotation wider than a head": _set("llama.rope.dimension_count", U32, 64),
    "rotation scaled by magic": _text("llama.rope.scaling.type", "magic"),
    "rotation base not a number": _set("llama.rope.freq_base", F32, float("nan")),
    "rotation base 0": _set("llama.rope.freq_base", F32, 0.0),
    "epsilon negative": _set("llama.attention.layer_norm_rms_epsilon", F32, -1.0),
    "epsilon not a number": _set("llama.attention.layer_norm_rms_epsilon", F32, float("nan")),
    "no epsilon": _drop("llama.attention.layer_norm_rms_epsilon"),
    "experts 2,000": _set("llama.expert_count", U32, 2000),
    "experts that are not there": _changed(
        lambda d: d.put("llama.expert_count", U32, u32(8)).put("llama.expert_used_count", U32, u32(2))
    ),
    "experts used of none": _set("llama.expert_used_count", U32, 2),
    "experts none used": _set("llama.expert_count", U32, 8),
    "expert groups of none": _set("llama.expert_group_count", U32, 4),
    "activation unknown": _text("llama.classifier.activation", "boom"),
    "pooling 77": _set("llama.pooling_type", U32, 77),
    "pooling by rank": _set("llama.pooling_type", U32, 4),
    "draft layers beyond the layers": _set("llama.nextn_predict_layers", U32, 5),
    "an adapter without a model": _text("general.type", "adapter"),
    "a projector without eyes": _text("general.architecture", "clip"),
}

_ENDLESS = "{% for i in range(999999999) %}{% for j in range(999999999) %}x{% endfor %}{% endfor %}"
_RECURSIVE = "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"

_VOCABULARY: dict[str, Mutation] = {
    "first token 2^31": _set("tokenizer.ggml.bos_token_id", U32, 2**31),
    "first token negative": _set("tokenizer.ggml.bos_token_id", I32, -1),
    "last token 2^32-1": _set("tokenizer.ggml.eos_token_id", U32, 2**32 - 1),
    "last token just beyond": _changed(
        lambda d: d.put("tokenizer.ggml.eos_token_id", U32, u32(len(tokens_of(d)))),
    ),
    "last token a text": _text("tokenizer.ggml.eos_token_id", "</s>"),
    "pad token 2^32-1": _set("tokenizer.ggml.padding_token_id", U32, 2**32 - 1),
    "tokens missing": _drop("tokenizer.ggml.tokens"),
    "tokens none": _tokens(lambda _: []),
    "tokens too few": _tokens(lambda tokens: tokens[:-1]),
    "tokens too many": _tokens(lambda tokens: [*tokens, "more"]),
    "tokens are numbers": _array("tokenizer.ggml.tokens", numbers(U32, [1] * 300)),
    "tokens a text": _text("tokenizer.ggml.tokens", "abc"),
    "token twice": _tokens(lambda tokens: [tokens[1], *tokens[1:]]),
    "tokens all empty": _tokens(lambda tokens: [""] * len(tokens)),
    "token of 1 MiB": _tokens(lambda tokens: ["x" * 2**20, *tokens[1:]]),
    "tokens out of their alphabet": _tokens(lambda tokens: [f"\U0001f600{i}" for i, _ in enumerate(tokens)]),
    "tokens with zeros inside": _tokens(lambda tokens: [f"a\0{i}" for i, _ in enumerate(tokens)]),
    "types too few": _array("tokenizer.ggml.token_type", numbers(I32, [1])),
    "types senseless": _changed(
        lambda d: d.put("tokenizer.ggml.token_type", ARRAY, numbers(I32, [2**31 - 1] * len(tokens_of(d))))
    ),
    "types all control": _changed(
        lambda d: d.put("tokenizer.ggml.token_type", ARRAY, numbers(I32, [3] * len(tokens_of(d))))
    ),
    "types all bytes": _changed(
        lambda d: d.put("tokenizer.ggml.token_type", ARRAY, numbers(I32, [6] * len(tokens_of(d))))
    ),
    "types are texts": _array("tokenizer.ggml.token_type", strings(["1"] * 400)),
    "scores too few": _array("tokenizer.ggml.scores", u32(F32) + u64(1) + bytes(4)),
    "merges missing": _drop("tokenizer.ggml.merges"),
    "merges empty texts": _array("tokenizer.ggml.merges", strings([""] * 100)),
    "merges without a space": _array("tokenizer.ggml.merges", strings(["ab", "cd"])),
    "merges of many spaces": _array("tokenizer.ggml.merges", strings([" " * 1000, "a  b c"])),
    "merges of unknown tokens": _array("tokenizer.ggml.merges", strings(["\U0001f600 \U0001f600"])),
    "merges are numbers": _array("tokenizer.ggml.merges", numbers(U32, [1, 2])),
    "merges not utf-8": _array("tokenizer.ggml.merges", u32(STRING) + u64(1) + string(b"\xff \xfe")),
    "tokenizer unknown": _text(_SPM, "telepathy"),
    "tokenizer none": _text(_SPM, "none"),
    "tokenizer sentencepiece without bytes": _text(_SPM, "llama"),
    "tokenizer wordpiece": _text(_SPM, "bert"),
    "tokenizer unigram": _text(_SPM, "t5"),
    "tokenizer unigram with a beginning": _changed(
        lambda d: (
            d.put(_SPM, STRING, string("t5"))
            .put("tokenizer.ggml.add_bos_token", BOOL, b"\1")
            .drop("tokenizer.ggml.bos_token_id")
        )
    ),
    "tokenizer unigram with a false map": _changed(
        lambda d: d.put(_SPM, STRING, string("t5")).put(
            "tokenizer.ggml.precompiled_charsmap", ARRAY, numbers(U8, [8, 0, 0, 0, *[255] * 60])
        )
    ),
    "tokenizer rwkv": _text(_SPM, "rwkv"),
    "tokenizer plamo with a byte before the first": _changed(
        lambda d: d.put(_SPM, STRING, string("plamo2")).put(
            "tokenizer.ggml.tokens", ARRAY, strings(["<0x-1>", *tokens_of(d)[1:]])
        )
    ),
    "pre-tokenizer unknown": _text("tokenizer.ggml.pre", "magic"),
    "template of 15 MiB": _text("tokenizer.chat_template", "x" * (15 << 20)),
    "template endless": _text("tokenizer.chat_template", _ENDLESS),
    "template recursive": _text("tokenizer.chat_template", _RECURSIVE),
    "template unclosed": _text("tokenizer.chat_template", "{% for m in messages %}{{ m."),
    "template deep": _text("tokenizer.chat_template", "{{ " + "(" * 100_000 + "1" + ")" * 100_000 + " }}"),
    "template raises": _text("tokenizer.chat_template", "{{ raise_exception('no') }}"),
    "template not utf-8": _text("tokenizer.chat_template", b"\xff\xfe{{ messages }}"),
    "template a number": _set("tokenizer.chat_template", U32, 7),
    "template empty": _text("tokenizer.chat_template", ""),
}

HOSTILE: Mapping[str, Mutation] = {**_FRAME, **_TENSORS, **_SIZES, **_VOCABULARY}

Fate = Literal["runs", "refused", "dies"]

# Those that our parser lets through, and what becomes of them in llama.cpp b11549: it loads them and answers something,
# refuses them properly, or its process ends (a template is run while the model is loaded: one never comes to an end,
# the other exhausts the stack), which nobody can tell by looking.
PASSES: Mapping[str, Fate] = {
    "tensors one less": "runs",
    "tensor unknown": "refused",
    "weights not a number": "runs",
    "weights random": "runs",
    "architecture another": "refused",
    "layers too few": "refused",
    "layers too many": "refused",
    "layers a long number": "refused",
    "width 63": "refused",
    "feed-forward 0": "refused",
    "heads 3": "refused",
    "heads 0 in one layer": "runs",
    "kv heads 0": "refused",
    "rotation base not a number": "runs",
    "rotation base 0": "runs",
    "no epsilon": "refused",
    "experts that are not there": "refused",
    "pooling by rank": "runs",
    "an adapter without a model": "runs",
    "first token 2^31": "runs",
    "first token negative": "refused",
    "last token 2^32-1": "runs",
    "last token just beyond": "runs",
    "last token a text": "refused",
    "pad token 2^32-1": "runs",
    "tokens missing": "refused",
    "tokens all empty": "runs",
    "token of 1 MiB": "runs",
    "tokens out of their alphabet": "runs",
    "types senseless": "runs",
    "types all control": "runs",
    "types all bytes": "refused",
    "types are texts": "refused",
    "merges missing": "refused",
    "merges empty texts": "runs",
    "merges without a space": "runs",
    "merges of many spaces": "runs",
    "merges of unknown tokens": "runs",
    "merges are numbers": "refused",
    "merges not utf-8": "runs",
    "tokenizer unknown": "refused",
    "tokenizer sentencepiece without bytes": "runs",
    "tokenizer wordpiece": "runs",
    "tokenizer unigram": "runs",
    "tokenizer unigram with a false map": "refused",
    "tokenizer rwkv": "runs",
    "tokenizer plamo with a byte before the first": "refused",
    "pre-tokenizer unknown": "refused",
    "template endless": "dies",
    "template recursive": "dies",
    "template unclosed": "refused",
    "template raises": "refused",
    "template not utf-8": "runs",
    "template a number": "runs",
    "template empty": "runs",
}

MADE_FOR_MUTANTS = (0, 1, 2, 3, 7, 31, 63, 64, 65, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1)


def mutants(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Random mutants of a sound file: always the same for one seed."""
    rng = random.Random(seed)
    sound = draft(data)
    head = len(data) - len(sound.weights)
    for _ in range(count):
        yield rng.choice(_MUTATORS)(rng, data, sound, head)


def _flipped(rng: random.Random, data: bytes, _sound: Draft, head: int) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(head)] = rng.randrange(256)
    return bytes(changed)


def _overwritten(rng: random.Random, data: bytes, _: Draft, head: int) -> bytes:
    form = rng.choice(["<I", "<Q", "<q"])
    most = 2**32 if form == "<I" else 2**63
    number = rng.choice((*MADE_FOR_MUTANTS, 2**62, most - 1, rng.randrange(most))) % most
    return _at(rng.randrange(head), struct.pack(form, number))(data)


def _moved(rng: random.Random, data: bytes, _: Draft, head: int) -> bytes:
    start, size, to = rng.randrange(head), rng.randrange(1, 64), rng.randrange(head)
    cut = data[:start] + data[start + size :]
    return cut if rng.random() < 0.5 else cut[:to] + data[start : start + size] + cut[to:]


def _truncated(rng: random.Random, data: bytes, _: Draft, head: int) -> bytes:
    return data[: rng.randrange(rng.choice((head, len(data))))]


def _number_changed(rng: random.Random, _: bytes, sound: Draft, __: int) -> bytes:
    pair = rng.choice([pair for pair in sound.pairs if pair.kind in {U32, F32, BOOL}])
    kind = rng.choice((pair.kind, pair.kind, pair.kind, U32, I32, F32, U64))
    value = rng.choice(MADE_FOR_MUTANTS)
    raw = u64(value)[: struct.calcsize(_FORMATS[kind])]
    return _with(sound, pair, Pair(pair.key, kind, raw)).bytes()


def _pair_changed(rng: random.Random, _: bytes, sound: Draft, __: int) -> bytes:
    pair, other = rng.sample(sound.pairs, 2)
    changed = rng.choice(
        (None, Pair(pair.key, other.kind, other.value), Pair(pair.key, rng.randrange(16), pair.value)),
    )
    return _with(sound, pair, changed).bytes()


def _with(sound: Draft, old: Pair, new: Pair | None) -> Draft:
    pairs = [new if pair is old else pair for pair in sound.pairs]
    return replace(sound, pairs=[pair for pair in pairs if pair is not None])


def _tensor_changed(rng: random.Random, _: bytes, sound: Draft, __: int) -> bytes:
    index = rng.randrange(len(sound.tensors))
    tensor = sound.tensors[index]
    shape = list(tensor.shape)
    shape[rng.randrange(len(shape))] = rng.choice(MADE_FOR_MUTANTS)
    changes: tuple[dict[str, object], ...] = (
        {"shape": tuple(shape)},
        {"shape": tensor.shape[::-1]},
        {"kind": rng.randrange(45)},
        {"offset": rng.choice((0, 32, 64, tensor.offset + 1, 2**63, 2**64 - 32))},
        {"name": rng.choice(sound.tensors).name},
        {"dimensions": rng.choice(MADE_FOR_MUTANTS)},
    )
    return sound.tensor(index, **rng.choice(changes)).bytes()


_MUTATORS = (_flipped, _overwritten, _moved, _truncated, _number_changed, _pair_changed, _tensor_changed)
