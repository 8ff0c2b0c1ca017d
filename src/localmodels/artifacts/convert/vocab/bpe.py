"""BPE of bytes, as GPT-2 began it: Llama 3, Qwen, gpt-oss, Phi-4, Mistral's Tekken, DeepSeek and their like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from localmodels.artifacts.convert.vocab.document import NAME, Document, Model, steps
from localmodels.artifacts.convert.vocab.pretokenizers import name_of
from localmodels.artifacts.convert.vocab.special import kind_of_added
from localmodels.artifacts.convert.vocab.vocabulary import Board, TokenType, Vocabulary
from localmodels.core.errors import ModelDamaged, Unsupported

# Normalizers that change only texts which are rarely written so: the engine has none, and a note says it.
UNICODE_FORMS = frozenset({"NFC", "NFD", "NFKC", "NFKD"})


def read_bpe(document: Document, board: Board, pre: str) -> Vocabulary:
    """The vocabulary of a byte-level BPE.

    Args:
        document: ``tokenizer.json``, with a vocabulary by text.
        board: as many places as the embedding has rows.
        pre: llama.cpp's name for the pre-tokenizer, if not by the table.

    Raises:
        ModelDamaged: it is not sound.
        Unsupported: the engine cannot tokenize so.
    """
    check_plain(document.model)
    name, note = name_of(document.pre_tokenizer, takes_whole=bool(document.model.ignore_merges), override=pre)
    notes = (*_normalizations(document), *((note,) if note else ()))
    place(document, board)
    merges = tuple(" ".join(pair) for pair in pairs_of(document.model))
    return board.filled(Vocabulary("gpt2", name, (), board.types, merges=merges, notes=notes))


def place(document: Document, board: Board) -> None:
    """Lays out the vocabulary and then what was added to it."""
    vocab = document.model.vocab
    if not isinstance(vocab, dict):
        raise ModelDamaged(f"{NAME}: model.vocab of BPE must be an object of numbers by token")
    for text, number in vocab.items():
        if board.text(number) is not None:
            raise ModelDamaged(f"{NAME}: model.vocab gives the number {number} to {text!r:.60} and another token")
        board.put(number, text, TokenType.NORMAL)
    for added in document.added_tokens:
        board.add(added.id, added.content, kind_of_added(added))


def pairs_of(model: Model) -> Iterator[tuple[str, str]]:
    """The merges, each as its two halves.

    Raises:
        ModelDamaged: one is no pair.
        Unsupported: a half holds a space, which a GGUF file cannot say.
    """
    for index, merge in enumerate(model.merges):
        pair = tuple(merge.split(" ")) if isinstance(merge, str) else merge
        if len(pair) != 2 or not all(pair):
            raise ModelDamaged(f"{NAME}: model.merges[{index}] is no pair of tokens: {merge!r:.60}")
        left, right = pair
        if " " in left or " " in right:
            raise Unsupported(f"{NAME}: model.merges[{index}] has a space within a token: {merge!r:.60}")
        yield left, right


def check_plain(model: Model) -> None:
    """Is there nothing in it that no engine has?

    Raises:
        Unsupported: there is.
    """
    if model.continuing_subword_prefix or model.end_of_word_suffix:
        raise Unsupported(
            f"{NAME}: model has a 'continuing_subword_prefix' or 'end_of_word_suffix'; the engine has neither in BPE"
        )


def _normalizations(document: Document) -> Iterable[str]:
    for step in steps(document.normalizer, "normalizers", "normalizer"):
        if step["type"] not in UNICODE_FORMS:
            raise Unsupported(
                f"{NAME}: normalizer: the step '{step['type']:.60}' changes the text before it is cut, which the "
                "engine cannot do in BPE of bytes"
            )
        yield f"the engine does not bring texts into Unicode form {step['type']}; nearly all are in it already"
