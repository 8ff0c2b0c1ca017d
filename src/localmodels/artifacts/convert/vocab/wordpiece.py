"""WordPiece, the tokenizer of BERT and of the small embedding models made of it."""

from __future__ import annotations

from localmodels.artifacts.convert.vocab.document import NAME, Document, steps
from localmodels.artifacts.convert.vocab.files import flag_of
from localmodels.artifacts.convert.vocab.sentencepiece import SPACE
from localmodels.artifacts.convert.vocab.special import kind_of_added
from localmodels.artifacts.convert.vocab.vocabulary import Board, TokenType, Vocabulary
from localmodels.core.errors import ModelDamaged, Unsupported

CONTINUES = "##"
_LONGEST_WORD = 100


def read_wordpiece(document: Document, board: Board) -> Vocabulary:
    """The vocabulary of a WordPiece tokenizer, each token marked where it begins a word instead of where it does not.

    Raises:
        ModelDamaged: it is not sound.
        Unsupported: the engine cannot tokenize so.
    """
    vocab = document.model.vocab
    if not isinstance(vocab, dict):
        raise ModelDamaged(f"{NAME}: model.vocab of WordPiece must be an object of numbers by token")
    if document.model.continuing_subword_prefix not in {None, CONTINUES}:
        raise Unsupported(f"{NAME}: model.continuing_subword_prefix must be {CONTINUES!r} for the engine")
    cuts = [step["type"] for step in steps(document.pre_tokenizer, "pretokenizers", "pre_tokenizer")]
    if cuts != ["BertPreTokenizer"]:
        raise Unsupported(f"{NAME}: pre_tokenizer must be BertPreTokenizer for WordPiece, not {cuts!r:.200}")
    flags, notes = _normalizing(document)
    special = {added.id: kind_of_added(added) for added in document.added_tokens}
    for text, number in vocab.items():
        if board.text(number) is not None:
            raise ModelDamaged(f"{NAME}: model.vocab gives the number {number} to {text!r:.60} and another token")
        if special.get(number) is TokenType.CONTROL:
            board.put(number, text, TokenType.CONTROL)
        else:
            board.put(number, text[len(CONTINUES) :] if text.startswith(CONTINUES) else SPACE + text, TokenType.NORMAL)
    for added in document.added_tokens:
        kind = special[added.id]
        board.put(added.id, added.content, kind)
    notes = (
        *notes,
        f"a word of more than {_LONGEST_WORD} characters is unknown to the tokenizer, but not to the engine",
    )
    return board.filled(Vocabulary("bert", "bert-bge", (), board.types, flags=flags, notes=notes))


def _normalizing(document: Document) -> tuple[dict[str, bool], tuple[str, ...]]:
    """Flags for the engine, and what it does otherwise."""
    lowers = strips = False
    notes: list[str] = []
    for step in steps(document.normalizer, "normalizers", "normalizer"):
        kind, where = step["type"], f"{NAME}: normalizer"
        if kind == "BertNormalizer":
            lowers = flag_of(step, "lowercase", where, default=True)
            strips = flag_of(step, "strip_accents", where, default=lowers)
            if not flag_of(step, "handle_chinese_chars", where, default=True):
                notes.append("the engine takes each Chinese character for a word, which the tokenizer did not")
        elif kind == "Lowercase":
            lowers = True
        elif kind == "StripAccents":
            strips = True
        elif kind not in {"NFD", "NFC", "NFKC", "NFKD"}:
            raise Unsupported(f"{where}: the step '{kind:.60}' is none that the engine has for WordPiece")
    if strips:
        notes.append("where accents are stripped, the engine cuts Korean and Indic words otherwise than the tokenizer")
    return {"normalizer.lowercase": lowers, "normalizer.strip_accents": strips}, tuple(notes)
