"""The model's own byte-level BPE tokenizer, learnt from the text it will be trained on.

The text is first cut by the regular expression that llama.cpp calls ``qwen2`` (words with their leading space, single
digits, runs of signs), because the GGUF names that rule and llama.cpp must cut alike. Bytes are the floor, so any text
round-trips. Single digits keep counting and sums learnable for a small model.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from .template import CONTROL_TOKENS, MARKUP_TOKENS

PRE_TOKENIZER = "qwen2"
_CUTS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train(texts: Iterable[str], size: int) -> Tokenizer:
    """Learns merges until the vocabulary, marks included, has ``size`` entries."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CUTS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    marks = [AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS]
    marks += [AddedToken(token, special=False, normalized=False) for token in MARKUP_TOKENS]
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(MARKUP_TOKENS),
        special_tokens=marks[: len(CONTROL_TOKENS)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=3,
        max_token_length=24,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(marks[len(CONTROL_TOKENS) :])
    return tokenizer


def load(path: Path) -> Tokenizer:
    """Reads a tokenizer saved before."""
    return Tokenizer.from_file(str(path))
