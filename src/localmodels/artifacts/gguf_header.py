"""What a GGUF file says about its model, as one frozen value and the questions that are asked of it.

The names of keys and their defaults are written here once; nobody else spells out ``llama.block_count``. Values are as
the file has them, so every question answers for whatever type stands there; :mod:`.gguf_rules` refuses the senseless
ones before a :class:`Header` gets out of :func:`.gguf.read_header`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from localmodels.core.catalog import Capability


class WeightType(Struct, frozen=True):
    """A number format: ``size`` bytes hold ``block`` weights. ``runs`` says whether llama.cpp multiplies by it."""

    name: str
    block: int
    size: int
    runs: bool = True


# By id in the file: ggml.h and ggml-common.h of llama.cpp b11549. The ids left out were withdrawn.
WEIGHT_TYPES: Mapping[int, WeightType] = {
    0: WeightType("F32", 1, 4),
    1: WeightType("F16", 1, 2),
    2: WeightType("Q4_0", 32, 18),
    3: WeightType("Q4_1", 32, 20),
    6: WeightType("Q5_0", 32, 22),
    7: WeightType("Q5_1", 32, 24),
    8: WeightType("Q8_0", 32, 34),
    9: WeightType("Q8_1", 32, 36, runs=False),
    10: WeightType("Q2_K", 256, 84),
    11: WeightType("Q3_K", 256, 110),
    12: WeightType("Q4_K", 256, 144),
    13: WeightType("Q5_K", 256, 176),
    14: WeightType("Q6_K", 256, 210),
    15: WeightType("Q8_K", 256, 292, runs=False),
    16: WeightType("IQ2_XXS", 256, 66),
    17: WeightType("IQ2_XS", 256, 74),
    18: WeightType("IQ3_XXS", 256, 98),
    19: WeightType("IQ1_S", 256, 50),
    20: WeightType("IQ4_NL", 32, 18),
    21: WeightType("IQ3_S", 256, 110),
    22: WeightType("IQ2_S", 256, 82),
    23: WeightType("IQ4_XS", 256, 136),
    24: WeightType("I8", 1, 1, runs=False),
    25: WeightType("I16", 1, 2, runs=False),
    26: WeightType("I32", 1, 4, runs=False),
    27: WeightType("I64", 1, 8, runs=False),
    28: WeightType("F64", 1, 8, runs=False),
    29: WeightType("IQ1_M", 256, 56),
    30: WeightType("BF16", 1, 2),
    34: WeightType("TQ1_0", 256, 54),
    35: WeightType("TQ2_0", 256, 66),
    39: WeightType("MXFP4", 32, 17),
    40: WeightType("NVFP4", 64, 36),
    41: WeightType("Q1_0", 128, 18),
    42: WeightType("Q2_0", 64, 18),
}

# general.file_type: llama_ftype in llama.h; the names are those that Ollama shows.
FILE_TYPES: Mapping[int, str] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}

# Encoders that embed and never generate, with or without a pooling type in the file.
EMBEDDING_ARCHITECTURES = frozenset(
    {
        "bert",
        "eurobert",
        "gemma-embedding",
        "gemma-embedding2",
        "jina-bert-v2",
        "jina-bert-v3",
        "llama-embed",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
    }
)

# LLAMA_POOLING_TYPE_RANK in llama.h, and what the layer is called that makes one number of a text.
RANKING = 4
_HEADS = frozenset(("cls.output.weight", "cls.weight"))

# No attention at all: llama_arch_is_recurrent in llama.cpp. Their files give 0 heads.
RECURRENT_ARCHITECTURES = frozenset({"arwkv7", "mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7"})

# Tokens that begin a text whose middle is to be filled in, by which llama.cpp too knows such models.
MIDDLE_FILLERS = ("<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>")

# Texts in a chat template that tell what it can do: any one of them is enough.
_TOOL_MARKS = ("tools", "tool_call")
_THINKING_MARKS = ("</think>", "enable_thinking", "reasoning_content", "reasoning_effort", "<|channel|>analysis")


class Array(Struct, frozen=True):
    """An array that was stepped over: ``length`` items of ``type`` from byte ``offset`` of its file on."""

    type: str
    length: int
    offset: int


Value = bool | int | float | str | tuple[Any, ...] | Array


class TensorInfo(Struct, frozen=True):
    """One tensor.

    Attributes:
        shape: sizes as the file has them, the fastest-moving first: a matrix is (columns, rows).
        offset: of its first byte, from the start of its file.
        size: bytes.
        part: which file of a split model it is in, from 0.
    """

    name: str
    type: WeightType
    shape: tuple[int, ...]
    offset: int
    size: int
    part: int = 0

    @property
    def count(self) -> int:
        """How many weights."""
        return self.size // self.type.size * self.type.block


class Header(Struct, frozen=True):
    """All that stands in a model file before the weights.

    Attributes:
        name: of the file, without its directory.
        metadata: values by key; long arrays and all of the tokenizer's stay in the file (:class:`Array`).
        alignment: bytes; ``data_offset``: where the weights begin. Of the first file, when the model is split.
        file_size: bytes, all files together.
        parts: how many files.
        known_tokens: those of ``MIDDLE_FILLERS`` that are in the vocabulary.
        repeated_token: index of a token whose text an earlier one has too, or -1.
    """

    name: str
    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data_offset: int
    file_size: int
    parts: int = 1
    known_tokens: tuple[str, ...] = ()
    repeated_token: int = -1

    # What kind of file

    @property
    def architecture(self) -> str:
        """``llama``, ``qwen3`` …; empty where the file does not say."""
        return self.text("general.architecture")

    @property
    def is_adapter(self) -> bool:
        """A LoRA adapter, to be loaded beside a model."""
        return self.text("general.type") == "adapter"

    @property
    def is_projector(self) -> bool:
        """The eyes (or ears) of a model, to be loaded beside it."""
        return self.architecture == "clip"

    @property
    def split(self) -> tuple[int, int] | None:
        """Which part of a split model the file says it is, from 0, and of how many; None for a file that is whole."""
        number, count = self.metadata.get("split.no"), self.metadata.get("split.count", 0)
        if count in {0, 1}:
            return None
        return (number if isinstance(number, int) else -1, count if isinstance(count, int) else -1)

    # Sizes

    @property
    def block_count(self) -> int:
        """Layers."""
        return self.number("block_count")

    @property
    def context_length(self) -> int:
        """Tokens it was trained for."""
        return self.number("context_length")

    @property
    def embedding_length(self) -> int:
        """Width of the hidden state, and of an embedding."""
        return self.number("embedding_length_out") or self.number("embedding_length")

    @property
    def heads(self) -> tuple[int, ...]:
        """Query heads of each layer."""
        return self.per_layer("attention.head_count", (0,) * self.block_count)

    @property
    def kv_heads(self) -> tuple[int, ...]:
        """Key and value heads of each layer; 0 in a layer without attention."""
        return self.per_layer("attention.head_count_kv", self.heads)

    @property
    def key_length(self) -> int:
        """Width of the key of one head."""
        return self.number("attention.key_length", self._head_width)

    @property
    def value_length(self) -> int:
        """Width of the value of one head."""
        return self.number("attention.value_length", self._head_width)

    @property
    def _head_width(self) -> int:
        heads = max(self.heads, default=0)
        return self.number("embedding_length") // heads if heads else 0

    @property
    def sliding_window(self) -> int:
        """Tokens that a layer with a window looks back; 0 where every layer looks at everything."""
        return self.number("attention.sliding_window")

    @property
    def experts(self) -> tuple[int, int]:
        """How many, and how many of them a token uses; (0, 0) in a dense model."""
        return self.number("expert_count"), max(self.per_layer("expert_used_count", (0,)), default=0)

    @property
    def vocab_size(self) -> int:
        """Tokens."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        return tokens.length if isinstance(tokens, Array) else self.number("vocab_size")

    @property
    def weights_size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def parameter_count(self) -> int:
        """Weights of all tensors."""
        return sum(tensor.count for tensor in self.tensors)

    @property
    def parameter_size(self) -> str:
        """The count as Ollama writes it: ``8.0B``, ``494.03M``, ``270K``."""
        return counted(self.parameter_count)

    @property
    def quantization_level(self) -> str:
        """``Q4_K_M`` …; where the file does not say, the type of most weights."""
        number = self.metadata.get("general.file_type")
        if isinstance(number, int) and number in FILE_TYPES:
            return FILE_TYPES[number]
        weights: Counter[str] = Counter()
        for tensor in self.tensors:
            weights[tensor.type.name] += tensor.count
        return weights.most_common(1)[0][0] if weights else "unknown"

    # What it can do

    @property
    def chat_template(self) -> str:
        """Jinja; empty where there is none."""
        return self.text("tokenizer.chat_template")

    @property
    def is_reranker(self) -> bool:
        """Made to score how well texts answer a question, and for nothing else."""
        if self.metadata.get(self.key("pooling_type")) == RANKING:
            return True
        # Encoders such as BGE's do not say so; theirs is a head with one output. One with several sorts into classes.
        return self.architecture in EMBEDDING_ARCHITECTURES and any(
            tensor.name in _HEADS and tensor.count == self.number("embedding_length") for tensor in self.tensors
        )

    @property
    def is_embedding(self) -> bool:
        """Made for embeddings and nothing else."""
        if self.is_reranker:
            return False
        return self.architecture in EMBEDDING_ARCHITECTURES or self.key("pooling_type") in self.metadata

    def capabilities(self, *, projector: Header | None = None) -> tuple[Capability, ...]:
        """In Ollama's words and by its rules; ``projector`` is the file that comes with the model, if one does."""
        if self.is_adapter or self.is_projector:
            return ()
        ranks, embeds = self.is_reranker, self.is_embedding
        talks = not (ranks or embeds)
        templates = [v for k, v in self.metadata.items() if k.startswith("tokenizer.chat_template") and _is_text(v)]
        found: dict[Capability, bool] = {
            "completion": talks,
            "tools": talks and _holds_any(templates, _TOOL_MARKS),
            "thinking": talks and _holds_any(templates, _THINKING_MARKS),
            "vision": bool(self.number("vision.block_count")) or (projector is not None and projector.has_vision),
            "embedding": embeds,
            "insert": not ranks and (bool(self.known_tokens) or "tokenizer.ggml.fim_pre_token_id" in self.metadata),
            "rerank": ranks,
        }
        return tuple(capability for capability, there in found.items() if there)

    @property
    def has_vision(self) -> bool:
        """A projector for pictures (there are some for sound alone)."""
        return self.is_projector and self.metadata.get("clip.has_vision_encoder", True) is True

    # Keys

    def key(self, name: str) -> str:
        """The key as this architecture has it."""
        return f"{self.architecture}.{name}"

    def number(self, name: str, default: int = 0) -> int:
        """A number of the architecture; of several, one a layer, the largest."""
        value = self.metadata.get(self.key(name), default)
        if isinstance(value, tuple):
            return max((item for item in value if isinstance(item, int)), default=default)
        return value if isinstance(value, int) else default

    def per_layer(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """A number of the architecture that a file may give once, or once a layer."""
        value = self.metadata.get(self.key(name))
        if isinstance(value, tuple):
            return value
        return (value,) * self.block_count if isinstance(value, int) else default

    def text(self, key: str) -> str:
        """The text under a whole key, or an empty one."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else ""


def counted(number: int) -> str:
    """A number of parameters in few characters, as Ollama's format.HumanNumber does."""
    for size, letter, decimals in ((10**9, "B", 1), (10**6, "M", 2)):
        if number >= size:
            return f"{number // size}{letter}" if number % size == 0 else f"{number / size:.{decimals}f}{letter}"
    return f"{number / 1000:.0f}K" if number >= 1000 else str(number)


def _is_text(value: Value) -> bool:
    return isinstance(value, str)


def _holds_any(texts: list[Any], marks: tuple[str, ...]) -> bool:
    return any(mark in text for text in texts for mark in marks)
