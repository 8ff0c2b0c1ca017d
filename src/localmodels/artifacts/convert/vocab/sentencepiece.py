"""SentencePiece's BPE: Llama 2, Mistral, Gemma, Phi-3. From ``tokenizer.model``, or from ``tokenizer.json`` alone.

The everyday folder of a fine-tune has only ``tokenizer.json``, in which SentencePiece's scores have become an order of
merges. llama.cpp joins the two neighbours whose whole is the token with the highest score, so minus the place of a
token's first merge is as good a score as the original, if two things hold: every way to put a token together is among
the merges, and those of one token stand together. The rule: both are checked, and where they do not hold, the merges
themselves go into the file, for a tokenizer of llama.cpp that follows them; it adds no space before the text, so where
one is due there is a refusal. The same score for all, as others write it, gives a model that misreads its prompts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby, pairwise

from msgspec import Struct

from localmodels.artifacts.convert.vocab.bpe import UNICODE_FORMS, check_plain, pairs_of
from localmodels.artifacts.convert.vocab.document import NAME, Added, Document, Step, pattern_of, steps
from localmodels.artifacts.convert.vocab.files import flag_of
from localmodels.artifacts.convert.vocab.pieces import BPE, Pieces
from localmodels.artifacts.convert.vocab.pieces import NAME as MODEL
from localmodels.artifacts.convert.vocab.special import kind_of_added
from localmodels.artifacts.convert.vocab.vocabulary import Board, TokenType, Vocabulary
from localmodels.core.errors import ModelDamaged, Unsupported

SPACE = "\u2581"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
# llama.cpp's pre-tokenizer for BPE of characters with spaces rewritten, and bytes for those that are unknown.
BY_MERGES = "sarvam-moe"
# A token that nothing is merged to: it must come last, should its halves ever stand side by side.
_NEVER = -1e9

Pair = tuple[str, str]


class Spaces(Struct, frozen=True):
    """What a tokenizer does with spaces: is one put before the text, and are others merged with what follows?"""

    prefixed: bool
    notes: tuple[str, ...] = ()


def read_sentencepiece(
    document: Document | None, pieces: Pieces | None, added: Sequence[Added], board: Board, *, chats: bool
) -> Vocabulary:
    """The vocabulary of a SentencePiece BPE.

    Args:
        document: ``tokenizer.json``, if there is one.
        pieces: ``tokenizer.model``, if there is one; one of both there is.
        added: tokens beside the vocabulary.
        board: as many places as the embedding has rows.
        chats: it has a chat template; see :func:`_metaspace`.

    Raises:
        ModelDamaged: it is not sound.
        Unsupported: the engine cannot tokenize so.
    """
    spaces = _spaces_of(document, chats=chats) if document else Spaces(prefixed=pieces is None or pieces.adds_prefix)
    if pieces is not None and (document is None or _agree(document, pieces)):
        _place_pieces(pieces, board)
        by_score, merges = True, list[Pair]()
        notes = (*spaces.notes, *_notes_of(pieces))
    elif document is not None:
        by_score, merges = _place_document(document, board, prefixed=spaces.prefixed)
        notes = spaces.notes
    else:
        raise ModelDamaged(f"neither {NAME} nor {MODEL} is in the folder")
    for token in added:
        _add(board, token)
    _check_bytes(board)
    if by_score:
        flags = {"add_space_prefix": spaces.prefixed}
        return board.filled(
            Vocabulary("llama", "default", (), board.types, scores=board.scores, flags=flags, notes=notes)
        )
    texts = tuple(map(" ".join, merges))
    return board.filled(Vocabulary("gpt2", BY_MERGES, (), board.types, merges=texts, notes=notes))


# From tokenizer.model


def _agree(document: Document, pieces: Pieces) -> bool:
    """Does the old file still say the same as the new one, and in the same order?

    Who retrains a tokenizer may leave the old file there; and transformers 5 puts the merges of some in an order of its
    own, in which the model was then trained.
    """
    vocab = document.model.vocab
    added = {token.id: token.content for token in document.added_tokens}
    numbers = {piece.text: number for number, piece in enumerate(pieces.pieces)}
    if not isinstance(vocab, dict):
        return False
    return _same_order(document, pieces, numbers) and all(
        numbers[text] == number if text in numbers else number >= len(numbers) or added.get(number) == text
        for text, number in vocab.items()
    )


def _same_order(document: Document, pieces: Pieces, numbers: Mapping[str, int]) -> bool:
    """Do scores fall from each merged token to the next?"""
    merged = dict.fromkeys(left + right for left, right in pairs_of(document.model))
    scores = [pieces.pieces[numbers[text]].score for text in merged if text in numbers]
    return all(first >= second for first, second in pairwise(scores))


def _place_pieces(pieces: Pieces, board: Board) -> None:
    if pieces.model_type != BPE:
        raise Unsupported(
            f"{MODEL}: a model of type {pieces.model_type}; of SentencePiece's, BPE is converted from this file, and "
            f"Unigram from {NAME}"
        )
    for number, piece in enumerate(pieces.pieces):
        kind = piece.kind
        text = piece.text.replace(SPACE, " ") if kind is TokenType.USER_DEFINED else piece.text
        board.put(number, text, kind, piece.score)


def _notes_of(pieces: Pieces) -> Iterable[str]:
    if pieces.charsmap:
        yield f"{MODEL} replaces some characters before it cuts (a normalizer), which the engine does not do"
    if pieces.merges_spaces:
        yield f"{MODEL} makes one space of several, which the engine does not do"


# From tokenizer.json


def _place_document(document: Document, board: Board, *, prefixed: bool) -> tuple[bool, list[Pair]]:
    """Lays out the vocabulary; do scores say all, and if they do not, the merges."""
    vocab = document.model.vocab
    if not isinstance(vocab, dict):
        raise ModelDamaged(f"{NAME}: model.vocab of BPE must be an object of numbers by token")
    check_plain(document.model)
    pairs = list(pairs_of(document.model))
    added = {token.content for token in document.added_tokens}
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(pairs):
        ranks.setdefault(left + right, rank)
    by_score = _ordered_by_token(pairs) and _is_closed(vocab, pairs, added)
    if prefixed and not by_score:
        raise Unsupported(
            f"{NAME}: model.merges does not name every way to each token, so the engine cannot follow it in a "
            f"tokenizer that puts a space before the text; with {MODEL} beside it, it could"
        )
    for text, place in vocab.items():
        kind = _kind_of(text, document)
        alone = len(text) < 2 or kind is not TokenType.NORMAL
        board.put(place, text, kind, -float(ranks[text]) if text in ranks else 0.0 if alone else _NEVER)
    return by_score, [] if by_score else pairs


def _kind_of(text: str, document: Document) -> TokenType:
    if _BYTE.fullmatch(text):
        return TokenType.BYTE
    return TokenType.UNKNOWN if text == document.model.unk_token else TokenType.NORMAL


def _ordered_by_token(pairs: list[Pair]) -> bool:
    """Do all merges to one token stand together?"""
    runs = [whole for whole, _ in groupby(left + right for left, right in pairs)]
    return len(runs) == len(set(runs))


def _is_closed(vocab: Mapping[str, int], pairs: list[Pair], added: set[str]) -> bool:
    """Is every way to put a token together from two others among the merges?"""
    named = set(pairs)
    for text in vocab:
        if len(text) < 2 or text in added or _BYTE.fullmatch(text):
            continue
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            # Tokens that were added are cut out before, so that nothing is merged with them.
            if left in vocab and right in vocab and (left, right) not in named and not {left, right} & added:
                return False
    return True


def _add(board: Board, added: Added) -> None:
    kind = kind_of_added(added)
    before = board.text(added.id)
    if before is not None and board.types[added.id] in {TokenType.UNKNOWN, TokenType.BYTE}:
        return  # it keeps what it is for
    # Spaces in them are looked for as spaces: what was added is found before these are rewritten.
    text = added.content if kind is TokenType.CONTROL else added.content.replace(SPACE, " ")
    board.add(added.id, text, kind)


def _check_bytes(board: Board) -> None:
    there = {board.text(number) for number in range(board.rows)}
    missing = sorted(_BYTES - {text for text in there if text})
    if missing:
        raise Unsupported(
            f"the tokenizer has no token for {len(missing)} of the 256 bytes ({missing[0]}), so the engine cannot read "
            "characters that it does not know"
        )
    for number in range(board.rows):
        if board.text(number) in _BYTES:
            board.retype(number, TokenType.BYTE)


# Spaces


def _spaces_of(document: Document, *, chats: bool) -> Spaces:
    """What the normalizers and pre-tokenizers come to; together they do what SentencePiece does by itself.

    Raises:
        Unsupported: they do something else.
    """
    done = _Done(chats=chats)
    for field, all_steps, acts in (
        ("normalizer", steps(document.normalizer, "normalizers", "normalizer"), _NORMALIZERS),
        ("pre_tokenizer", steps(document.pre_tokenizer, "pretokenizers", "pre_tokenizer"), _PRE_TOKENIZERS),
    ):
        for step in all_steps:
            act = acts.get(step["type"])
            if act is None:
                raise _foreign(field, step)
            act(step, done)
    if not done.rewritten:
        raise Unsupported(f"{NAME}: spaces are not rewritten as {SPACE!r}, so this is not SentencePiece's BPE")
    if done.split and _spans_words(document):
        raise Unsupported(f"{NAME}: pre_tokenizer cuts at each space, and there are tokens that hold several words")
    return Spaces(prefixed=done.prefixed, notes=tuple(done.notes))


class _Done:
    """What the steps so far have come to."""

    def __init__(self, *, chats: bool) -> None:
        self.chats = chats
        self.prefixed = False
        self.rewritten = False
        self.split = False
        self.notes: list[str] = []


def _spans_words(document: Document) -> bool:
    added = {token.content for token in document.added_tokens}
    return any(SPACE in text[1:] and text not in added for text in document.model.vocab if isinstance(text, str))


def _prepend(step: Step, done: _Done) -> None:
    if step.get("prepend") != SPACE:
        raise _foreign("normalizer", step)
    done.prefixed = True


def _replace(step: Step, done: _Done) -> None:
    pattern, _ = pattern_of(step, "normalizer")
    if pattern != " " or step.get("content") != SPACE:
        raise _foreign("normalizer", step)
    done.rewritten = True


def _form(step: Step, done: _Done) -> None:
    done.notes.append(f"the engine does not bring texts into Unicode form {step['type']}; nearly all are in it already")


def _charsmap(_step: Step, done: _Done) -> None:
    done.notes.append(f"{NAME} replaces some characters before it cuts (a normalizer), which the engine does not do")


def _metaspace(step: Step, done: _Done) -> None:
    """Rewrites spaces and puts one before the text, unless there is one.

    Before the first word of all (``first``) or after special tokens too (``always``); the engine can do the latter. A
    prompt made by a chat template begins with a special token, so that ``first`` comes to none at all there.
    """
    where = f"{NAME}: pre_tokenizer"
    scheme = step.get("prepend_scheme")
    if scheme is None:
        scheme = "always" if flag_of(step, "add_prefix_space", where, default=True) else "never"
    if step.get("replacement") != SPACE or scheme not in {"always", "first", "never"}:
        raise _foreign("pre_tokenizer", step)
    done.rewritten = True
    done.prefixed = scheme == "always" or (scheme == "first" and not done.chats)
    done.split |= flag_of(step, "split", where, default=True)
    if done.prefixed:
        done.notes.append("before a text that begins with a space the engine puts another, and the tokenizer does not")
    if scheme == "first":
        done.notes.append(
            "the tokenizer adds a space before the first word of a text without template, which the engine does not"
            if done.chats
            else "after a special token within a text the engine adds a space, and the tokenizer does not"
        )


def _no_split(step: Step, done: _Done) -> None:
    pattern, _ = pattern_of(step, "pre_tokenizer")
    # Once spaces are rewritten there are none to cut at: Gemma's has this, and it does nothing.
    if pattern != " " or not done.rewritten:
        raise _foreign("pre_tokenizer", step)


_NORMALIZERS: Mapping[str, Callable[[Step, _Done], None]] = {
    "Prepend": _prepend,
    "Replace": _replace,
    "Precompiled": _charsmap,
    **dict.fromkeys(sorted(UNICODE_FORMS), _form),
}
_PRE_TOKENIZERS: Mapping[str, Callable[[Step, _Done], None]] = {"Metaspace": _metaspace, "Split": _no_split}


def _foreign(field: str, step: Step) -> Unsupported:
    return Unsupported(f"{NAME}: {field}: the step {step!r:.300} is none that the engine has for SentencePiece's BPE")
