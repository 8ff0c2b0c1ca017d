"""What a well-formed GGUF file must not say, because llama.cpp aborts or crashes on it instead of refusing.

Each rule stands for an assertion or a fault in llama.cpp b11549 (src/llama-model.cpp, llama-vocab.cpp, the ggml
operators), most of them found by handing it mutants of a sound file. What llama.cpp refuses properly (a missing tensor,
a wrong shape) is left to llama.cpp. Pure: a header in, a sentence or nothing out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from math import isfinite

from msgspec import Struct

from localmodels.artifacts.gguf_header import RECURRENT_ARCHITECTURES, Array, Header

LONGEST_ARCHITECTURE = 64
MOST_LAYERS = 512  # LLAMA_MAX_LAYERS
MOST_EXPERTS = 1024  # LLAMA_MAX_EXPERTS
WIDEST = 2**20
INT32_MAX = 2**31 - 1


class Range(Struct, frozen=True):
    """Whole numbers that a key of the architecture may have; ``required``: or it must be there at all."""

    low: int
    high: int
    required: bool = False


RANGES: Mapping[str, Range] = {
    "block_count": Range(1, MOST_LAYERS, required=True),
    "context_length": Range(1, INT32_MAX, required=True),
    "embedding_length": Range(1, WIDEST, required=True),
    "embedding_length_out": Range(0, WIDEST),
    "feed_forward_length": Range(0, 2**24),
    "attention.head_count": Range(0, 2**16),
    "attention.head_count_kv": Range(0, 2**16),
    "attention.key_length": Range(1, 2**16),
    "attention.value_length": Range(1, 2**16),
    "attention.sliding_window": Range(0, 2**32 - 1),
    "rope.dimension_count": Range(0, 2**16),
    "expert_count": Range(0, MOST_EXPERTS),
    "expert_used_count": Range(0, MOST_EXPERTS),
    "expert_group_count": Range(0, MOST_EXPERTS),
    "expert_group_used_count": Range(0, MOST_EXPERTS),
    "nextn_predict_layers": Range(0, MOST_LAYERS),
    "pooling_type": Range(0, 4),
    "vocab_size": Range(0, INT32_MAX),
}

CHOICES: Mapping[str, frozenset[str]] = {
    "rope.scaling.type": frozenset({"none", "linear", "yarn", "longrope"}),
    "classifier.activation": frozenset({"gelu", "silu", "tanh"}),
}

# The normalisations assert that what keeps them from dividing by zero is not negative.
EPSILONS = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", "attention.group_norm_epsilon")

# clip.cpp divides by the first two.
PROJECTOR_RANGES: Mapping[str, Range] = {
    "vision.patch_size": Range(1, 4096, required=True),
    "vision.image_size": Range(1, 2**16, required=True),
    "vision.embedding_length": Range(1, WIDEST, required=True),
    "vision.attention.head_count": Range(1, 2**16),
    "vision.block_count": Range(0, MOST_LAYERS),
}

# Tokenizers in which nothing stands for the beginning unless the file names it; to add it then is an abort.
WITHOUT_BEGINNING = frozenset({"t5", "rwkv", "gemma4"})

NO_TOKENIZER = frozenset({"none", "no_vocab"})

# A template is run when the model is loaded, by a recursive reader: brackets 100,000 deep end its stack, 15 MiB of
# text take it 7 s. Known ones have at most 60 KiB. What loops or calls itself for ever cannot be told by looking.
LONGEST_TEMPLATE = 2**20
DEEPEST_TEMPLATE = 500

# The one tensor of whole numbers that llama.cpp knows: DeepSeek 4's table from token to experts.
TABLE = "ffn_gate_tid2eid.weight"


def complaint(header: Header) -> str:
    """What is wrong with this model, as the end of a sentence that began with the file's name; empty if nothing is."""
    return next((wrong for rule in _rules(header) for wrong in rule(header)), "")


def _rules(header: Header) -> tuple[Callable[[Header], Iterator[str]], ...]:
    if header.is_adapter:
        return (_tensors,)
    if header.is_projector:
        return (_projector, _tensors)
    return (_architecture, _ranges, _choices, _heads, _experts, _tokenizer, _vocabulary, _templates, _tensors)


def _architecture(header: Header) -> Iterator[str]:
    if not header.architecture or len(header.architecture) > LONGEST_ARCHITECTURE:
        yield f"key 'general.architecture' must be a short name, not {header.architecture!r:.40}"


def _ranges(header: Header) -> Iterator[str]:
    for name, allowed in RANGES.items():
        yield from _out_of_range(header, name, allowed)
    if header.number("nextn_predict_layers") > header.block_count:
        yield f"key '{header.key('nextn_predict_layers')}' must not exceed the number of layers"


def _out_of_range(header: Header, name: str, allowed: Range) -> Iterator[str]:
    key = header.key(name)
    value = header.metadata.get(key)
    if value is None:
        if allowed.required:
            yield f"key '{key}' is missing"
        return
    numbers = value if isinstance(value, tuple) else (value,)
    for number in numbers:
        # A flag is an int to Python; not to us.
        if isinstance(number, bool) or not isinstance(number, int) or not allowed.low <= number <= allowed.high:
            yield f"key '{key}' must be from {allowed.low} to {allowed.high}, not {number!r:.40}"
    if isinstance(value, tuple) and (allowed.required or len(value) != header.block_count):
        yield f"key '{key}' has {len(value)} values where one, or one a layer, is due"


def _choices(header: Header) -> Iterator[str]:
    for name, allowed in CHOICES.items():
        value = header.metadata.get(header.key(name))
        if value is not None and value not in allowed:
            yield f"key '{header.key(name)}' must be one of {', '.join(sorted(allowed))}, not {value!r:.40}"
    for name in EPSILONS:
        value = header.metadata.get(header.key(name), 0.0)
        if not isinstance(value, float) or not isfinite(value) or value < 0:
            yield f"key '{header.key(name)}' must be a number not below 0, not {value!r:.40}"


def _heads(header: Header) -> Iterator[str]:
    if header.architecture in RECURRENT_ARCHITECTURES:
        return
    if not any(header.heads):
        yield f"key '{header.key('attention.head_count')}' must be above 0"
        return
    for query, kv in zip(header.heads, header.kv_heads, strict=True):
        if kv and query % kv:
            yield f"{query} query heads cannot share {kv} key and value heads"
    if header.key("attention.key_length") not in header.metadata and header.number("embedding_length") % max(
        header.heads
    ):
        yield f"{max(header.heads)} heads cannot share an embedding of {header.number('embedding_length')}"
    rotated = header.number("rope.dimension_count")
    if rotated % 2 or rotated > max(header.key_length, header.number("attention.key_length_swa")):
        yield f"key '{header.key('rope.dimension_count')}' must be even and no wider than a head, not {rotated}"


def _experts(header: Header) -> Iterator[str]:
    count, used = header.experts
    if used > count or (count > 1 and not used):
        yield f"{used} of {count} experts cannot be used"
    groups, used_groups = header.number("expert_group_count"), header.number("expert_group_used_count")
    if groups and groups >= max(count, 1):
        yield f"{count} experts cannot form {groups} groups"
    elif groups > 1 and (count % groups or not 0 < used_groups < groups):
        yield f"{used_groups} of {groups} groups of {count} experts cannot be used"


def _tokenizer(header: Header) -> Iterator[str]:
    if header.text("tokenizer.ggml.model") in NO_TOKENIZER:
        yield "there is no tokenizer in it"
    adds_beginning = header.metadata.get("tokenizer.ggml.add_bos_token") is True
    beginning = header.metadata.get("tokenizer.ggml.bos_token_id", -1)
    has_beginning = isinstance(beginning, int) and 0 <= beginning < header.vocab_size
    if adds_beginning and not has_beginning and header.text("tokenizer.ggml.model") in WITHOUT_BEGINNING:
        yield "key 'tokenizer.ggml.add_bos_token' asks for a token that 'tokenizer.ggml.bos_token_id' does not name"


def _vocabulary(header: Header) -> Iterator[str]:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if tokens is None:
        return
    if not isinstance(tokens, Array) or tokens.type != "string" or not tokens.length:
        yield "key 'tokenizer.ggml.tokens' must be a list of strings"
        return
    if header.repeated_token >= 0:
        yield f"token {header.repeated_token} has the text of an earlier one"
    for name in ("scores", "token_type"):
        listed = header.metadata.get(f"tokenizer.ggml.{name}")
        if listed is not None and not (isinstance(listed, Array) and listed.length >= tokens.length):
            yield f"key 'tokenizer.ggml.{name}' must have one item for each of the {tokens.length} tokens"
    for tensor in header.tensors:
        if tensor.name == "token_embd.weight" and tensor.shape[-1:] != (tokens.length,):
            yield f"tensor 'token_embd.weight' of shape {list(tensor.shape)} is not for {tokens.length} tokens"


def _templates(header: Header) -> Iterator[str]:
    for key, value in header.metadata.items():
        if not key.startswith("tokenizer.chat_template") or not isinstance(value, str):
            continue
        if len(value) > LONGEST_TEMPLATE:
            yield f"key '{key}' is longer than {LONGEST_TEMPLATE >> 20} MiB"
        elif _depth(value) > DEEPEST_TEMPLATE:
            yield f"key '{key}' is nested more than {DEEPEST_TEMPLATE} deep"


def _depth(text: str) -> int:
    steps = (1 if char in "([{" else -1 for char in text if char in "()[]{}")
    return max(accumulate(steps), default=0)


def _tensors(header: Header) -> Iterator[str]:
    if not header.tensors:
        yield "there are no weights in it"
    for tensor in header.tensors:
        if not tensor.type.runs and tensor.name.endswith(".weight") and not tensor.name.endswith(TABLE):
            yield f"tensor {tensor.name!r} is of type {tensor.type.name}, with which nothing can be computed"
        if tensor.name.endswith("_norm.weight") and tensor.type.name != "F32":
            yield f"tensor {tensor.name!r} must be of type F32, not {tensor.type.name}"


def _projector(header: Header) -> Iterator[str]:
    if header.has_vision:
        for name, allowed in PROJECTOR_RANGES.items():
            yield from _out_of_range(header, name, allowed)
