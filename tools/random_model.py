"""Writes GGUF models with random weights: real in every respect but sense, so that nothing need be downloaded.

One rule: the same arguments give the same bytes. Blocks of quantised types are drawn directly, never computed from
floats, so half a billion weights are written in seconds. One trick: dimension 0 of the hidden state is a constant (each
embedding sets it, no layer writes to it), which turns column 0 of the output matrix into a bias by token. It keeps
every answer printable ASCII, and ``end_bias`` makes the end of a turn as likely as a test wants it.

    python tools/random_model.py tiny.gguf
    python tools/random_model.py bench.gguf --shape half-b --type q8_0
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, PoolingType, TokenType

Floats = npt.NDArray[np.float32]
Blocks = npt.NDArray[np.generic]

RERANK_TEMPLATE = "<|im_start|>Does it answer? {query}\n{document}<|im_end|>"
CHAT_TEMPLATE = Path(__file__).parent / "builtin_model" / "chat_template.jinja"


@dataclass(frozen=True)
class Shape:
    """Sizes of a llama-architecture model.

    Attributes:
        width: of the hidden state; a multiple of 32, for the quantised types.
        feed_forward: width inside the feed-forward network; a multiple of 32.
        context: tokens it claims to be trained for.
        vocab: tokens; at least ``SMALLEST_VOCAB``.
    """

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    feed_forward: int
    context: int
    vocab: int


SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
PAD, START, END = range(256, 259)
SMALLEST_VOCAB = 256 + len(SPECIAL)

TINY = Shape(
    width=64, layers=2, heads=2, kv_heads=1, head_width=32, feed_forward=128, context=4096, vocab=SMALLEST_VOCAB + 64
)
# Qwen2-0.5B's own sizes (config.json), but for its 151,936 tokens.
QWEN_HALF_B = Shape(
    width=896, layers=24, heads=14, kv_heads=2, head_width=64, feed_forward=4864, context=32_768, vocab=32_000
)
SHAPES: Mapping[str, Shape] = {"tiny": TINY, "half-b": QWEN_HALF_B}


@dataclass(frozen=True)
class Format:
    """How weights of one type are stored: ``draw`` gives random ones, ``store`` turns given floats into them."""

    type: GGMLQuantizationType
    file_type: LlamaFileType
    draw: Callable[[np.random.Generator, int, int], Blocks]
    store: Callable[[Floats], Blocks]


def write_random_model(
    path: Path | str,
    *,
    shape: Shape = TINY,
    type: str = "f16",  # noqa: A002 - the word that everybody uses for it
    seed: int = 0,
    vocab: int | None = None,
    template: str | None = None,
    embedding: bool = False,
    rerank: bool = False,
    end_bias: float = 0.0,
) -> Path:
    """Writes a model that loads in llama.cpp, chats and embeds.

    Args:
        path: the file to write.
        shape: its sizes.
        type: one of ``FORMATS``; norms are always f32.
        seed: of every random weight.
        vocab: another number of tokens than the shape's.
        template: another chat template (Jinja); an empty one leaves it out.
        embedding: mark the file as an embedding model (pooling: mean).
        rerank: make it a reranker as Qwen3's are: of that architecture, with a head that says yes or no.
        end_bias: added to the logit of the end of a turn; 0 makes it as likely as any token, -100 impossible.

    Returns:
        ``path``.
    """
    shape = shape if vocab is None else replace(shape, vocab=vocab)
    if shape.vocab < SMALLEST_VOCAB:
        raise ValueError(f"vocab must be at least {SMALLEST_VOCAB}")
    form = FORMATS[type]
    path = Path(path)
    writer = GGUFWriter(path, "qwen3" if rerank else "llama")
    _add_metadata(writer, shape, form)
    if rerank:
        writer.add_pooling_type(PoolingType.RANK)
        writer.add_classifier_output_labels(["yes", "no"])
    elif embedding:
        writer.add_pooling_type(PoolingType.MEAN)
    chats = CHAT_TEMPLATE.read_text() if template is None else template
    add_tokenizer(writer, shape, [{"name": "rerank", "template": RERANK_TEMPLATE}] if rerank else chats)
    # Two passes with the same order: what the tensors are, then one at a time what they hold.
    rng = np.random.default_rng(seed)
    tensors = list(_tensors(shape, form, end_bias, rerank=rerank))
    for name, rows, columns, kind, _ in tensors:
        size = _stored_size(kind, rows or 1, columns)
        writer.add_tensor_info(name, (rows, columns) if rows else (columns,), np.dtype(np.float32), size, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, _, _, _, make in tensors:
        writer.write_tensor_data(make(rng))
    writer.close()
    return path


Tensor = tuple[str, int, int, GGMLQuantizationType, Callable[[np.random.Generator], Blocks]]


def _tensors(shape: Shape, form: Format, end_bias: float, *, rerank: bool) -> Iterator[Tensor]:
    """Name, rows (0: a vector), columns, type and content of each tensor, in file order."""
    width, ff = shape.width, shape.feed_forward
    q, kv = shape.heads * shape.head_width, shape.kv_heads * shape.head_width

    def matrix(name: str, rows: int, columns: int) -> Tensor:
        return f"{name}.weight", rows, columns, form.type, lambda rng: form.draw(rng, rows, columns)

    def silent_at_0(name: str, rows: int, columns: int) -> Tensor:
        return f"{name}.weight", rows, columns, form.type, lambda rng: _without_row_0(form.draw(rng, rows, columns))

    def norm(name: str, size: int = width) -> Tensor:
        return f"{name}.weight", 0, size, GGMLQuantizationType.F32, lambda _: np.ones(size, np.float32)

    yield "token_embd.weight", shape.vocab, width, form.type, lambda rng: form.store(_embeddings(rng, shape))
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        yield norm(f"{block}.attn_norm")
        yield matrix(f"{block}.attn_q", q, width)
        yield matrix(f"{block}.attn_k", kv, width)
        yield matrix(f"{block}.attn_v", kv, width)
        if rerank:
            yield norm(f"{block}.attn_q_norm", shape.head_width)
            yield norm(f"{block}.attn_k_norm", shape.head_width)
        yield silent_at_0(f"{block}.attn_output", width, q)
        yield norm(f"{block}.ffn_norm")
        yield matrix(f"{block}.ffn_gate", ff, width)
        yield matrix(f"{block}.ffn_up", ff, width)
        yield silent_at_0(f"{block}.ffn_down", width, ff)
    yield norm("output_norm")
    yield "output.weight", shape.vocab, width, form.type, lambda rng: form.store(_output(rng, shape, end_bias))
    if rerank:
        yield matrix("cls.output", 2, width)


def _embeddings(rng: np.random.Generator, shape: Shape) -> Floats:
    weights = rng.standard_normal((shape.vocab, shape.width), np.float32)
    weights[:, 0] = 4.0
    return weights


def _output(rng: np.random.Generator, shape: Shape, end_bias: float) -> Floats:
    """Logits with a deviation of about 2, and a bias that silences special tokens and bytes outside printable ASCII."""
    weights = rng.standard_normal((shape.vocab, shape.width), np.float32) * np.float32(2 / shape.width**0.5)
    weights[:, 0] = 0.0
    weights[:0x20, 0] = weights[0x7F : START + 1, 0] = -100.0
    weights[END, 0] = end_bias
    return weights


def _without_row_0(blocks: Blocks) -> Blocks:
    blocks[0] = 0  # in every type here, all bits zero are weights of zero
    return blocks


# Formats


def _normal(rng: np.random.Generator, rows: int, columns: int) -> Floats:
    return rng.standard_normal((rows, columns), np.float32) * np.float32(columns**-0.5)


def _to_bf16(weights: Floats) -> Blocks:
    return (weights.view(np.uint32) >> 16).astype(np.uint16)


def _q8_0(rng: np.random.Generator, rows: int, columns: int) -> Blocks:
    """Blocks of 34 bytes for 32 weights: an f16 scale, then 32 signed bytes (uniform: deviation 74)."""
    return _random_blocks(rng, rows, columns, 34, scale=columns**-0.5 / 74)


def _q4_0(rng: np.random.Generator, rows: int, columns: int) -> Blocks:
    """Blocks of 18 bytes for 32 weights: an f16 scale, then 32 nibbles less 8 (uniform: deviation 4.6)."""
    return _random_blocks(rng, rows, columns, 18, scale=columns**-0.5 / 4.6)


def _random_blocks(rng: np.random.Generator, rows: int, columns: int, size: int, *, scale: float) -> Blocks:
    blocks = rng.integers(0, 256, (rows, columns // 32, size), np.uint8)
    blocks[:, :, :2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
    return blocks.reshape(rows, -1)


def _store_q8_0(weights: Floats) -> Blocks:
    blocks = weights.reshape(-1, 32)
    scales = (np.abs(blocks).max(axis=1, keepdims=True) / 127).astype(np.float16)
    numbers = np.rint(blocks / np.maximum(scales.astype(np.float32), 1e-8)).clip(-127, 127).astype(np.int8)
    return np.hstack([scales.view(np.uint8), numbers.view(np.uint8)]).reshape(weights.shape[0], -1)


def _store_q4_0(weights: Floats) -> Blocks:
    blocks = weights.reshape(-1, 32)
    peaks = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
    scales = (peaks / -8).astype(np.float16)
    divisors = np.where(scales == 0, 1, scales).astype(np.float32)
    numbers = (np.rint(blocks / divisors) + 8).clip(0, 15).astype(np.uint8)
    nibbles = numbers[:, :16] | (numbers[:, 16:] << 4)
    return np.hstack([scales.view(np.uint8), nibbles]).reshape(weights.shape[0], -1)


FORMATS: Mapping[str, Format] = {
    "f32": Format(GGMLQuantizationType.F32, LlamaFileType.ALL_F32, _normal, lambda weights: weights),
    "f16": Format(
        GGMLQuantizationType.F16,
        LlamaFileType.MOSTLY_F16,
        lambda rng, rows, columns: _normal(rng, rows, columns).astype(np.float16),
        lambda weights: weights.astype(np.float16),
    ),
    "bf16": Format(
        GGMLQuantizationType.BF16,
        LlamaFileType.MOSTLY_BF16,
        lambda rng, rows, columns: _to_bf16(_normal(rng, rows, columns)),
        _to_bf16,
    ),
    "q8_0": Format(GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0, _q8_0, _store_q8_0),
    "q4_0": Format(GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0, _q4_0, _store_q4_0),
}

_BLOCK_BYTES = {
    GGMLQuantizationType.F32: (1, 4),
    GGMLQuantizationType.F16: (1, 2),
    GGMLQuantizationType.BF16: (1, 2),
    GGMLQuantizationType.Q8_0: (32, 34),
    GGMLQuantizationType.Q4_0: (32, 18),
}


def _stored_size(kind: GGMLQuantizationType, rows: int, columns: int) -> int:
    weights, size = _BLOCK_BYTES[kind]
    return rows * columns // weights * size


# Metadata and tokens


def _add_metadata(writer: GGUFWriter, shape: Shape, form: Format) -> None:
    writer.add_name("random")
    writer.add_type("model")
    writer.add_file_type(form.file_type)
    writer.add_quantization_version(2)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(shape.vocab)


def add_tokenizer(writer: GGUFWriter, shape: Shape, template: str | Sequence[Mapping[str, str]]) -> None:
    """Gives a file a tokenizer of bytes and short words, and its chat template (or several, by name)."""
    special = range(256, SMALLEST_VOCAB)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(islice(_tokens(), shape.vocab)))
    writer.add_token_types([TokenType.CONTROL if i in special else TokenType.NORMAL for i in range(shape.vocab)])
    # llama.cpp wants the key even where there is nothing to merge.
    writer.add_token_merges([f"{a} {b}" for a, b in islice(_merges(), max(1, shape.vocab - SMALLEST_VOCAB))])
    writer.add_bos_token_id(START)
    writer.add_eos_token_id(END)
    writer.add_pad_token_id(PAD)
    writer.add_add_bos_token(value=False)
    if template:
        writer.add_chat_template(template)


def _tokens() -> Iterator[str]:
    return chain(_byte_characters(), SPECIAL, (a + b for a, b in _merges()))


def _byte_characters() -> list[str]:
    """The character for each byte in a byte-level vocabulary: itself if it can be seen, else one from U+0100 on."""
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    unseen = iter(range(0x100, 0x200))
    return [chr(byte if byte in seen else next(unseen)) for byte in range(256)]


def _merges() -> Iterator[tuple[str, str]]:
    """Endless pairs to merge, no two with the same result: letters, then what came of them and one letter more."""
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = [*letters]
    while True:
        longer = []
        for word in words:
            for letter in letters:
                yield word, letter
                longer.append(word + letter)
        words = longer


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write a GGUF model with random weights.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--type", choices=FORMATS, default="f16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vocab", type=int, help="number of tokens, if not the shape's own")
    parser.add_argument("--embedding", action="store_true", help="mark it as an embedding model")
    parser.add_argument("--rerank", action="store_true", help="make it a reranker")
    parser.add_argument("--end-bias", type=float, default=0.0, help="added to the logit of the end of a turn")
    args = parser.parse_args()
    path = write_random_model(
        args.path,
        shape=SHAPES[args.shape],
        type=args.type,
        seed=args.seed,
        vocab=args.vocab,
        embedding=args.embedding,
        rerank=args.rerank,
        end_bias=args.end_bias,
    )
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
