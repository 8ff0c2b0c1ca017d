"""SentencePiece's Unigram, as XLM-R and the embedding models made of it have it (bge-m3, multilingual-e5)."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Callable, Mapping

from localmodels.artifacts.convert.vocab.document import NAME, Document, Step, pattern_of, steps
from localmodels.artifacts.convert.vocab.files import flag_of, text_of
from localmodels.artifacts.convert.vocab.sentencepiece import SPACE
from localmodels.artifacts.convert.vocab.special import kind_of_added
from localmodels.artifacts.convert.vocab.vocabulary import Board, TokenType, Vocabulary
from localmodels.core.errors import ModelDamaged, Unsupported

LONGEST_CHARSMAP = 2**22  # that of nmt_nfkc, the usual one, has 240 KB
_SIZE = struct.Struct("<I")


class _Found:
    """What the steps come to."""

    def __init__(self) -> None:
        self.charsmap = b""
        self.prefixed = False
        self.merges_spaces = False
        self.notes: list[str] = []


def read_unigram(document: Document, board: Board) -> Vocabulary:
    """The vocabulary of a Unigram tokenizer.

    Raises:
        ModelDamaged: it is not sound.
        Unsupported: the engine cannot tokenize so.
    """
    vocab = document.model.vocab
    if isinstance(vocab, dict):
        raise ModelDamaged(f"{NAME}: model.vocab of Unigram must be a list of tokens and their scores")
    if document.model.byte_fallback:
        raise Unsupported(
            f"{NAME}: model.byte_fallback: the engine cannot write unknown characters as bytes in Unigram"
        )
    unknown = document.model.unk_id
    if unknown is None:
        raise ModelDamaged(f"{NAME}: model.unk_id must say which token stands for what is unknown")
    found = _found(document)
    for number, (text, score) in enumerate(vocab):
        if not math.isfinite(score) or abs(score) > 1e30:
            raise ModelDamaged(f"{NAME}: model.vocab[{number}] has a score that is no number of 32 bits")
        board.put(number, text, TokenType.UNKNOWN if number == unknown else TokenType.NORMAL, score)
    for added in document.added_tokens:
        if added.id != unknown:
            board.put(added.id, added.content, kind_of_added(added), 0.0)
    flags = {"add_space_prefix": found.prefixed, "remove_extra_whitespaces": found.merges_spaces}
    return board.filled(
        Vocabulary(
            "t5",
            "default",
            (),
            board.types,
            scores=board.scores,
            flags=flags,
            charsmap=found.charsmap,
            notes=tuple(found.notes),
        )
    )


def _found(document: Document) -> _Found:
    found = _Found()
    for field, inner, acts in (
        ("normalizer", "normalizers", _NORMALIZERS),
        ("pre_tokenizer", "pretokenizers", _PRE_TOKENIZERS),
    ):
        step_or_none = document.normalizer if field == "normalizer" else document.pre_tokenizer
        for step in steps(step_or_none, inner, field):
            act = acts.get(step["type"])
            if act is None:
                raise Unsupported(f"{NAME}: {field}: the step {step!r:.300} is none that the engine has for Unigram")
            act(step, found)
    return found


def _precompiled(step: Step, found: _Found) -> None:
    text = text_of(step, "precompiled_charsmap", f"{NAME}: normalizer")
    try:
        charsmap = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ModelDamaged(f"{NAME}: normalizer.precompiled_charsmap is not base64") from error
    found.notes.append("marks that are written after their letter are replaced one by one, not with it as in training")
    found.charsmap = checked_charsmap(charsmap, f"{NAME}: normalizer.precompiled_charsmap")


def checked_charsmap(charsmap: bytes, where: str) -> bytes:
    """A table of replacements that the engine can be given: it reads where the table says, without looking.

    Raises:
        ModelDamaged: it is not sound.
    """
    if not charsmap:
        return b""
    if len(charsmap) > LONGEST_CHARSMAP:
        raise ModelDamaged(f"{where}: larger than {LONGEST_CHARSMAP >> 20} MiB")
    size = _SIZE.unpack_from(charsmap)[0] if len(charsmap) >= _SIZE.size else -1
    if size < _SIZE.size or size % _SIZE.size or size + _SIZE.size >= len(charsmap) or charsmap[-1]:
        raise ModelDamaged(f"{where}: its parts do not fit into its {len(charsmap)} bytes")
    return charsmap


def _replace(step: Step, found: _Found) -> None:
    pattern, _ = pattern_of(step, "normalizer")
    content = text_of(step, "content", f"{NAME}: normalizer")
    if pattern != " {2,}" or content not in {" ", SPACE}:
        raise Unsupported(f"{NAME}: normalizer: the step {step!r:.300} is none that the engine has for Unigram")
    found.merges_spaces = True


def _strip(_step: Step, found: _Found) -> None:
    found.merges_spaces = True


def _whitespace(_step: Step, found: _Found) -> None:
    found.merges_spaces = True


def _metaspace(step: Step, found: _Found) -> None:
    where = f"{NAME}: pre_tokenizer"
    scheme = step.get("prepend_scheme")
    if scheme is None:
        scheme = "always" if flag_of(step, "add_prefix_space", where, default=True) else "never"
    if step.get("replacement") != SPACE or scheme not in {"always", "first", "never"}:
        raise Unsupported(f"{NAME}: pre_tokenizer: the step {step!r:.300} is none that the engine has for Unigram")
    found.prefixed = scheme != "never"


_NORMALIZERS: Mapping[str, Callable[[Step, _Found], None]] = {
    "Precompiled": _precompiled,
    "Replace": _replace,
    "Strip": _strip,
}
_PRE_TOKENIZERS: Mapping[str, Callable[[Step, _Found], None]] = {
    "WhitespaceSplit": _whitespace,
    "Metaspace": _metaspace,
}
