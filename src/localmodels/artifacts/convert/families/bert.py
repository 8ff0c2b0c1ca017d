"""Encoders: BERT, MiniLM, DistilBERT, BGE, E5, RoBERTa and XLM-R (``bert``), and nomic-embed (``nomic-bert``).

They embed texts, or (with one output) say how well two go together. RoBERTa's positions begin after the number of its
padding token, llama.cpp's at 0; so the first rows of its table go.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from localmodels.artifacts.convert.config import FILE, MOST_LAYERS, Config
from localmodels.artifacts.convert.decoder import GELU_TANH, LONGEST_CONTEXT, SILU, finished
from localmodels.artifacts.convert.drawing import Change, Drawing, Model
from localmodels.artifacts.convert.folder import Folder, Tensor
from localmodels.artifacts.convert.job import IGNORED
from localmodels.artifacts.convert.pooling import RANK, read_pooling
from localmodels.artifacts.convert.rope import read_rope
from localmodels.artifacts.gguf_write import Plain
from localmodels.core.errors import ModelDamaged, Unsupported

PREFIXES = ("bert.", "roberta.", "distilbert.", "model.")
GELU = ("gelu", *GELU_TANH)  # ggml has one of them, which differs from the other by 1e-3 at most

# Made of what is there while the model runs, or heads for what it was trained with.
UNUSED = r"(embeddings\.position_ids|pooler\..*|cls\..*|lm_head\..*|vocab_(transform|layer_norm|projector)\..*)"


class Names(Struct, frozen=True):
    """What a family calls the tensors of a layer: those of matrices, then those of normalisations."""

    layer: str
    matrices: Mapping[str, str]
    norms: Mapping[str, str]


BERT = Names(
    "encoder.layer",
    {
        "attn_q": "attention.self.query",
        "attn_k": "attention.self.key",
        "attn_v": "attention.self.value",
        "attn_output": "attention.output.dense",
        "ffn_up": "intermediate.dense",
        "ffn_down": "output.dense",
    },
    {"attn_output_norm": "attention.output.LayerNorm", "layer_output_norm": "output.LayerNorm"},
)
DISTILBERT = Names(
    "transformer.layer",
    {
        "attn_q": "attention.q_lin",
        "attn_k": "attention.k_lin",
        "attn_v": "attention.v_lin",
        "attn_output": "attention.out_lin",
        "ffn_up": "ffn.lin1",
        "ffn_down": "ffn.lin2",
    },
    {"attn_output_norm": "sa_layer_norm", "layer_output_norm": "output_layer_norm"},
)
NOMIC = Names(
    "encoder.layers",
    {
        "attn_qkv": "attn.Wqkv",
        "attn_output": "attn.out_proj",
        "ffn_up": "mlp.fc11",
        "ffn_gate": "mlp.fc12",
        "ffn_down": "mlp.fc2",
    },
    {"attn_output_norm": "norm1", "layer_output_norm": "norm2"},
)


class Sizes(Struct, frozen=True):
    """Sizes of an encoder; ``types`` is the rows of the table of token types, 0 without one."""

    layers: int
    width: int
    heads: int
    feed: int
    vocab: int
    context: int
    types: int
    epsilon: float


def read_bert(config: Config, folder: Folder) -> Model:
    """A BERT, or one of the many that have its form.

    Raises:
        ModelDamaged: something is missing or has the wrong shape.
        Unsupported: the engine computes such a model otherwise.
    """
    sizes = _bert_sizes(config, offset=0)
    drawing, pairs, notes = _begun("bert", config, folder, sizes)
    _bert_embeddings(drawing, sizes, offset=0)
    _layers(drawing, sizes, BERT)
    return finished("bert", config, drawing, pairs, notes)


def read_bert_ranker(config: Config, folder: Folder) -> Model:
    """A BERT with one output, which says how well two texts go together.

    Raises:
        ModelDamaged: as :func:`read_bert`.
        Unsupported: as :func:`read_bert`.
    """
    sizes = _bert_sizes(config, offset=0)
    drawing, pairs, notes = _begun("bert", config, folder, sizes, ranks=True)
    _bert_embeddings(drawing, sizes, offset=0)
    _expect_one_type(drawing, sizes, config, folder)
    _layers(drawing, sizes, BERT)
    _head(drawing, sizes, "pooler.dense", "classifier")
    return finished("bert", config, drawing, pairs, notes)


def read_roberta(config: Config, folder: Folder) -> Model:
    """A RoBERTa or XLM-R.

    Raises:
        ModelDamaged: as :func:`read_bert`.
        Unsupported: as :func:`read_bert`.
    """
    offset = config.count("pad_token_id", low=0) + 1
    sizes = _bert_sizes(config, offset=offset)
    drawing, pairs, notes = _begun("bert", config, folder, sizes)
    _bert_embeddings(drawing, sizes, offset=offset)
    _layers(drawing, sizes, BERT)
    return finished("bert", config, drawing, pairs, notes)


def read_roberta_ranker(config: Config, folder: Folder) -> Model:
    """A RoBERTa or XLM-R with one output, as BGE's rerankers are.

    Raises:
        ModelDamaged: as :func:`read_bert`.
        Unsupported: as :func:`read_bert`.
    """
    offset = config.count("pad_token_id", low=0) + 1
    sizes = _bert_sizes(config, offset=offset)
    drawing, pairs, notes = _begun("bert", config, folder, sizes, ranks=True)
    _bert_embeddings(drawing, sizes, offset=offset)
    _expect_one_type(drawing, sizes, config, folder)
    _layers(drawing, sizes, BERT)
    _head(drawing, sizes, "classifier.dense", "classifier.out_proj")
    return finished("bert", config, drawing, pairs, notes)


def read_distilbert(config: Config, folder: Folder) -> Model:
    """A DistilBERT, which has no token types.

    Raises:
        ModelDamaged: as :func:`read_bert`.
        Unsupported: as :func:`read_bert`.
    """
    config.must(activation=GELU)
    config.pass_over("sinusoidal_pos_embds", "qa_dropout", "seq_classif_dropout")  # the table is stored in any case
    sizes = Sizes(
        layers=config.count("n_layers", high=MOST_LAYERS),
        width=config.count("dim"),
        heads=config.count("n_heads"),
        feed=config.count("hidden_dim"),
        vocab=config.count("vocab_size", high=2**24),
        context=config.count("max_position_embeddings", high=LONGEST_CONTEXT),
        types=0,
        epsilon=1e-12,
    )
    drawing, pairs, notes = _begun("bert", config, folder, sizes)
    _bert_embeddings(drawing, sizes, offset=0)
    _layers(drawing, sizes, DISTILBERT)
    return finished("bert", config, drawing, pairs, notes)


def read_nomic(config: Config, folder: Folder) -> Model:
    """A nomic-embed-text, by its authors' fields or by transformers'.

    Raises:
        ModelDamaged: as :func:`read_bert`.
        Unsupported: as :func:`read_bert`.
    """
    theirs = config.get("n_embd") is not None
    sizes = _nomic_sizes(config) if theirs else _bert_sizes(config, offset=0, activation=SILU)
    drawing, pairs, notes = _begun("nomic-bert", config, folder, sizes)
    if theirs:
        base = config.number("rotary_emb_base", 10_000.0)
    else:
        rope = read_rope(config, width=sizes.width // sizes.heads, default=1000.0)
        base = rope.base
        pairs |= {f"nomic-bert.{name}": value for name, value in rope.pairs}
    pairs["nomic-bert.rope.freq_base"] = base
    drawing.add("token_embd.weight", "embeddings.word_embeddings.weight", sizes.vocab, sizes.width)
    drawing.add("token_types.weight", "embeddings.token_type_embeddings.weight", sizes.types, sizes.width)
    _norm(drawing, "token_embd_norm", "emb_ln", sizes.width)
    _layers(drawing, sizes, NOMIC)
    return finished("nomic-bert", config, drawing, pairs, notes)


# Sizes


def _bert_sizes(config: Config, *, offset: int, activation: tuple[str, ...] = GELU) -> Sizes:
    config.must(hidden_act=activation, position_embedding_type="absolute", is_decoder=False)
    width, heads = config.count("hidden_size"), config.count("num_attention_heads")
    if width % heads:
        raise ModelDamaged(f"{FILE}: num_attention_heads: {heads} heads cannot share a hidden_size of {width}")
    config.must(head_dim=width // heads, embedding_size=width)
    return Sizes(
        layers=config.count("num_hidden_layers", high=MOST_LAYERS),
        width=width,
        heads=heads,
        feed=config.count("intermediate_size"),
        vocab=config.count("vocab_size", high=2**24),
        context=config.count("max_position_embeddings", low=offset + 1, high=LONGEST_CONTEXT) - offset,
        types=config.count("type_vocab_size", 2, high=64),
        epsilon=config.number("layer_norm_eps", 1e-12),
    )


def _nomic_sizes(config: Config) -> Sizes:
    config.must(
        activation_function="swiglu", causal=False, qkv_proj_bias=False, mlp_fc1_bias=False, mlp_fc2_bias=False,
        prenorm=False, rotary_emb_fraction=1.0, rotary_emb_interleaved=False, parallel_block=False,
        rotary_scaling_factor=(), rotary_emb_scale_base=(), moe_every_n_layers=0, num_experts=0, use_rms_norm=False,
        scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False,
    )  # fmt: skip
    config.pass_over(
        "dense_seq_output", "fused_bias_fc", "fused_dropout_add_ln", "last_layer_subset", "pad_vocab_size_multiple",
        "parallel_block_tied_norm", "reorder_and_upcast_attn", "use_flash_attn", "use_xentropy", "mlm_eps",
        "max_trained_positions", "tie_word_embeddings", "expert_choice_router", "moe_impl",
        "moe_normalize_expert_weights", "moe_resid_pdrop", "moe_top_k", "num_shared_experts", "router_aux_loss_coef",
        "ffn_div", "shared_input_layernorm",
    )  # fmt: skip
    positions = config.count("n_positions", high=LONGEST_CONTEXT)
    return Sizes(
        layers=config.count("n_layer", high=MOST_LAYERS),
        width=config.count("n_embd"),
        heads=config.count("n_head"),
        feed=config.count("n_inner"),
        vocab=config.count("vocab_size", high=2**24),
        context=min(positions, config.count("max_trained_positions", 2048, high=LONGEST_CONTEXT)),
        types=config.count("type_vocab_size", 2, high=64),
        epsilon=config.number("layer_norm_epsilon", 1e-12),
    )


# Metadata and tensors


def _begun(
    architecture: str, config: Config, folder: Folder, sizes: Sizes, *, ranks: bool = False
) -> tuple[Drawing, dict[str, Plain], tuple[str, ...]]:
    """The tensors that may be drawn of, and the metadata, both to be filled in."""
    config.pass_over("tie_word_embeddings")
    pooling = RANK if ranks else None
    notes: tuple[str, ...] = ()
    if pooling is None:
        read = read_pooling(folder)
        pooling, notes = read.type, read.notes
    pairs: dict[str, Plain] = {
        "block_count": sizes.layers,
        "context_length": sizes.context,
        "embedding_length": sizes.width,
        "feed_forward_length": sizes.feed,
        "attention.head_count": sizes.heads,
        "attention.layer_norm_epsilon": sizes.epsilon,
        "attention.causal": False,
        "pooling_type": pooling,
    }
    named = {f"{architecture}.{name}": value for name, value in pairs.items()}
    named["tokenizer.ggml.token_type_count"] = max(sizes.types, 1)
    drawing = Drawing(folder.tensors(), PREFIXES)
    if not ranks:
        drawing.drop(UNUSED)
    return drawing, named, notes


def _bert_embeddings(drawing: Drawing, sizes: Sizes, *, offset: int) -> None:
    drawing.drop(r"embeddings\.position_ids")
    drawing.add("token_embd.weight", "embeddings.word_embeddings.weight", sizes.vocab, sizes.width)
    drawing.add(
        "position_embd.weight",
        "embeddings.position_embeddings.weight",
        sizes.context,
        sizes.width,
        change=_from(offset) if offset else None,
        stored=(sizes.context + offset, sizes.width),
    )
    if sizes.types:
        drawing.add("token_types.weight", "embeddings.token_type_embeddings.weight", sizes.types, sizes.width)
    _norm(drawing, "token_embd_norm", "embeddings.LayerNorm", sizes.width)


def _expect_one_type(drawing: Drawing, sizes: Sizes, config: Config, folder: Folder) -> None:
    """The engine gives every token the first type; a ranker that tells a text from its question by them needs both."""
    if sizes.types < 2 or config.ignores("type_vocab_size"):
        return
    rows = folder.tensor(drawing.take("embeddings.token_type_embeddings.weight", sizes.types, sizes.width))
    if (rows != rows[:1]).any():
        raise Unsupported(
            f"{FILE}: type_vocab_size is {sizes.types}: the model tells a text from its question by token types, which "
            "the engine has not",
            param=IGNORED,
        )


def _from(row: int) -> Change:
    def change(weights: Tensor) -> Tensor:
        rows: Tensor = weights[row:]
        return rows

    return change


def _layers(drawing: Drawing, sizes: Sizes, names: Names) -> None:
    shapes = {
        "attn_qkv": (3 * sizes.width, sizes.width),
        "ffn_up": (sizes.feed, sizes.width),
        "ffn_gate": (sizes.feed, sizes.width),
        "ffn_down": (sizes.width, sizes.feed),
    }
    for layer in range(sizes.layers):
        block, source = f"blk.{layer}", f"{names.layer}.{layer}"
        for name, matrix in names.matrices.items():
            rows, columns = shapes.get(name, (sizes.width, sizes.width))
            drawing.add(f"{block}.{name}.weight", f"{source}.{matrix}.weight", rows, columns)
            drawing.add(f"{block}.{name}.bias", f"{source}.{matrix}.bias", rows, optional=True)
        for name, norm in names.norms.items():
            _norm(drawing, f"{block}.{name}", f"{source}.{norm}", sizes.width)


def _norm(drawing: Drawing, name: str, source: str, width: int) -> None:
    """Weight and bias, which the oldest models call gamma and beta."""
    for new, old in (("weight", "gamma"), ("bias", "beta")):
        named = old if drawing.has(f"{source}.{old}") else new
        drawing.add(f"{name}.{new}", f"{source}.{named}", width)


def _head(drawing: Drawing, sizes: Sizes, dense: str, output: str) -> None:
    """What makes one number of the first token's vector."""
    rows = drawing.shape(f"{output}.weight")[0]
    if rows != 1:
        raise Unsupported(
            f"{FILE}: the model sorts texts into {rows} classes; only one output, a score, can be asked for"
        )
    drawing.add("cls.weight", f"{dense}.weight", sizes.width, sizes.width)
    drawing.add("cls.bias", f"{dense}.bias", sizes.width)
    drawing.add("cls.output.weight", f"{output}.weight", 1, sizes.width)
    drawing.add("cls.output.bias", f"{output}.bias", 1)
