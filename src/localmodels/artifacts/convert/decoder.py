"""What families of decoders have in common: sizes, metadata, and the tensors of one layer.

Names on the left are llama.cpp's, on the right transformers'; shapes are (rows, columns) as the folder has them. The
rule: nothing here decides for a family; each says which of these parts it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from msgspec import Struct

from localmodels.artifacts.convert.config import FILE, MOST_LAYERS, Config
from localmodels.artifacts.convert.drawing import Change, Drawing, Made, Model
from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.convert.rope import Rope
from localmodels.artifacts.gguf_write import Plain
from localmodels.core.errors import ModelDamaged, Unsupported

PREFIXES = ("model.language_model.", "language_model.model.", "language_model.", "model.")
"""Before the names of a text model's tensors: its own class's, and those of the classes around it."""

SILU = ("silu", "swish")
GELU_TANH = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast")

LONGEST_CONTEXT = 2**31 - 1


class Sizes(Struct, frozen=True):
    """Sizes of a decoder.

    Attributes:
        head: width of one head; ``heads`` of queries share ``kv_heads`` of keys and values.
        feed: width inside the feed-forward network.
        vocab: rows of the embeddings.
        context: tokens for which the engine computes exactly what the model was trained to.
        epsilon: of the normalisations.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    feed: int
    vocab: int
    context: int
    epsilon: float


def read_sizes(config: Config, *, head: int = 0, epsilon: float = 1e-6) -> Sizes:
    """Sizes by the names that nearly all families use.

    Args:
        config: of the model.
        head: width of one head if the configuration does not say; 0: the heads share the width of the model.
        epsilon: if the configuration does not say.

    Raises:
        ModelDamaged: a field is missing, or the sizes do not fit one another.
    """
    width, heads = config.count("hidden_size"), config.count("num_attention_heads")
    kv_heads = config.count("num_key_value_heads", heads)
    if heads % kv_heads:
        raise ModelDamaged(f"{FILE}: {heads} query heads cannot share {kv_heads} key and value heads")
    if not head:
        head = width // heads
    return Sizes(
        layers=config.count("num_hidden_layers", high=MOST_LAYERS),
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head=config.count("head_dim", head),
        feed=config.count("intermediate_size"),
        vocab=config.count("vocab_size", high=2**24),
        context=config.count("max_position_embeddings", high=LONGEST_CONTEXT),
        epsilon=config.number("rms_norm_eps", epsilon),
    )


def common_pairs(architecture: str, sizes: Sizes, rope: Rope) -> dict[str, Plain]:
    """The metadata that every decoder has, by whole keys."""
    pairs: dict[str, Plain] = {
        "block_count": sizes.layers,
        "context_length": sizes.context,
        "embedding_length": sizes.width,
        "feed_forward_length": sizes.feed,
        "attention.head_count": sizes.heads,
        "attention.head_count_kv": sizes.kv_heads,
        "attention.key_length": sizes.head,
        "attention.value_length": sizes.head,
        "attention.layer_norm_rms_epsilon": sizes.epsilon,
        "rope.dimension_count": sizes.head,
        "rope.freq_base": rope.base,
        **dict(rope.pairs),
    }
    return {f"{architecture}.{name}": value for name, value in pairs.items()}


# Windows


def within_window(config: Config, sizes: Sizes, *, used: bool) -> tuple[int, tuple[str, ...]]:
    """The context of a model whose layers look back only so far, in an architecture for which the engine has no window.

    Up to the length of the window, a window and none are the same; beyond it, the engine would compute something else.

    Returns:
        The context, and notes on it.
    """
    window = config.get("sliding_window")
    if window is None or not used or config.count("sliding_window", high=2**40) >= sizes.context:
        return sizes.context, ()
    note = (
        f"its context is {window} tokens instead of {sizes.context}: beyond its sliding window the engine would not "
        "compute what the model was trained to"
    )
    return int(window), (note,)


def windowed_layers(config: Config, layers: int, *, every: int) -> tuple[bool, ...]:
    """Which layers look back only so far: those that ``layer_types`` names, else all but each ``every``-th.

    Raises:
        Unsupported: there are layers of other types.
        ModelDamaged: there are not as many types as layers.
    """
    types = config.texts("layer_types")
    if types is None:
        return tuple((index + 1) % every != 0 for index in range(layers))
    unknown = set(types) - {"full_attention", "sliding_attention"}
    if unknown:
        raise Unsupported(f"{FILE}: layers of type {min(unknown)!r:.40} are not known here")
    if len(types) != layers:
        raise ModelDamaged(f"{FILE}: {len(types)} layer_types for {layers} layers")
    return tuple(kind == "sliding_attention" for kind in types)


def window_pairs(architecture: str, window: int, windowed: Iterable[bool], *, every: int) -> dict[str, Plain]:
    """The metadata of a window; which layers have it is said only where it is not each but the ``every``-th."""
    listed = tuple(windowed)
    pairs: dict[str, Plain] = {f"{architecture}.attention.sliding_window": window}
    if listed != tuple((index + 1) % every != 0 for index in range(len(listed))):
        pairs[f"{architecture}.attention.sliding_window_pattern"] = [int(each) for each in listed]
    return pairs


# Tensors


def embeddings(
    drawing: Drawing, sizes: Sizes, config: Config, folder: Folder, *, tied: bool, shift: float = 0.0
) -> None:
    """The embeddings, the last normalisation, and the output matrix unless it is the embeddings again.

    Args:
        drawing: takes the tensors.
        sizes: of the model.
        config: of the model.
        folder: to compare the two where both are there.
        tied: whether they are the same if the configuration does not say.
        shift: is added to the normalisation.

    Raises:
        ModelDamaged: there are two that should be one, and they differ.
    """
    drawing.add("token_embd.weight", "embed_tokens.weight", sizes.vocab, sizes.width)
    drawing.add("output_norm.weight", "norm.weight", sizes.width, shift=shift)
    if not config.flag("tie_word_embeddings", default=tied):
        drawing.add("output.weight", "lm_head.weight", sizes.vocab, sizes.width)
    elif drawing.has("lm_head.weight"):
        first, second = (
            drawing.take(name, sizes.vocab, sizes.width) for name in ("embed_tokens.weight", "lm_head.weight")
        )
        if not np.array_equal(folder.tensor(first).view(np.uint8), folder.tensor(second).view(np.uint8)):
            raise ModelDamaged(
                f"{FILE}: by tie_word_embeddings the output matrix is the embeddings, but the folder has a "
                "'lm_head.weight' that is another; one of the two must go"
            )


def attention(
    drawing: Drawing, layer: int, sizes: Sizes, *, query: Change | None = None, key: Change | None = None
) -> None:
    """The four matrices of attention, with biases where there are any.

    Args:
        drawing: takes the tensors.
        layer: from 0.
        sizes: of the model.
        query: moves the rows of the queries' matrix, and of its bias.
        key: the same of the keys'.
    """
    queries, keys = sizes.heads * sizes.head, sizes.kv_heads * sizes.head
    for name, source, rows, change in (
        ("attn_q", "q_proj", queries, query),
        ("attn_k", "k_proj", keys, key),
        ("attn_v", "v_proj", keys, None),
    ):
        whole = f"layers.{layer}.self_attn.{source}"
        drawing.add(f"blk.{layer}.{name}.weight", f"{whole}.weight", rows, sizes.width, change=change)
        drawing.add(f"blk.{layer}.{name}.bias", f"{whole}.bias", rows, change=change, optional=True)
    whole = f"layers.{layer}.self_attn.o_proj"
    drawing.add(f"blk.{layer}.attn_output.weight", f"{whole}.weight", sizes.width, queries)
    drawing.add(f"blk.{layer}.attn_output.bias", f"{whole}.bias", sizes.width, optional=True)


def norms(drawing: Drawing, layer: int, width: int, names: Mapping[str, str], *, shift: float = 0.0) -> None:
    """Normalisations of one layer, by name in the file and name in the folder."""
    for name, source in names.items():
        drawing.add(f"blk.{layer}.{name}.weight", f"layers.{layer}.{source}.weight", width, shift=shift)


def feed_forward(drawing: Drawing, layer: int, sizes: Sizes) -> None:
    """The three matrices of a gated feed-forward network, with biases where there are any."""
    for name, source, rows, columns in (
        ("ffn_gate", "gate_proj", sizes.feed, sizes.width),
        ("ffn_up", "up_proj", sizes.feed, sizes.width),
        ("ffn_down", "down_proj", sizes.width, sizes.feed),
    ):
        whole = f"layers.{layer}.mlp.{source}"
        drawing.add(f"blk.{layer}.{name}.weight", f"{whole}.weight", rows, columns)
        drawing.add(f"blk.{layer}.{name}.bias", f"{whole}.bias", rows, optional=True)


def rope_tensors(drawing: Drawing, rope: Rope) -> None:
    """The factors of the frequencies, where a model has any."""
    half = len(rope.factors)
    if rope.short:
        drawing.put(Made("rope_factors_long.weight", (half,), values=rope.factors))
        drawing.put(Made("rope_factors_short.weight", (half,), values=rope.short))
    elif rope.factors:
        drawing.put(Made("rope_freqs.weight", (half,), values=rope.factors))


def finished(
    architecture: str, config: Config, drawing: Drawing, pairs: Mapping[str, Plain], notes: tuple[str, ...] = ()
) -> Model:
    """The model, once every field and every tensor has found its place.

    Raises:
        Unsupported: one has not; names it.
    """
    # Old checkpoints keep what is computed anyway.
    drawing.drop(r".*\.(rotary_emb\.inv_freq|attention\.(bias|masked_bias))")
    config.finish()
    return Model(architecture, tuple(pairs.items()), drawing.finish(), notes)
