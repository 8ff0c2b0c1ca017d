"""Reads ``tokenizer.model``, the file of SentencePiece: a protocol buffer, of which six fields matter.

The layout, by ``sentencepiece_model.proto``: a message is a row of fields, each a varint ``number << 3 | kind`` and its
value; kind 0 is a varint, 1 eight bytes, 2 a length and so many bytes, 5 four bytes. The rule is the one of all readers
here: a length is compared with what is left before anything is done with it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

from msgspec import Struct

from localmodels.artifacts.convert.vocab.files import Files
from localmodels.artifacts.convert.vocab.vocabulary import MOST_TOKENS, TokenType
from localmodels.core.errors import ModelDamaged

NAME = "tokenizer.model"
UNIGRAM, BPE = 1, 2  # TrainerSpec.ModelType

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_LONGEST_VARINT = 10
_F32 = struct.Struct("<f")


class Piece(Struct, frozen=True):
    """A token."""

    text: str
    score: float
    kind: TokenType


class Pieces(Struct, frozen=True):
    """The whole file.

    Attributes:
        pieces: by number.
        model_type: ``UNIGRAM`` or ``BPE``.
        charsmap: table of replacements, applied before everything else.
        adds_prefix: a space is put before the text.
        merges_spaces: runs of spaces become one, and those at the ends go.
    """

    pieces: tuple[Piece, ...]
    model_type: int = UNIGRAM
    charsmap: bytes = b""
    adds_prefix: bool = True
    merges_spaces: bool = True


Field = tuple[int, int | bytes]


def read_pieces(files: Files) -> Pieces:
    """The file of this folder.

    Raises:
        ModelDamaged: it is missing or not sound.
    """
    found: list[bytes] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in _fields(files.read_bytes(NAME)):
        if number == 1:
            if len(found) == MOST_TOKENS:
                raise ModelDamaged(f"{NAME}: more than {MOST_TOKENS} tokens")
            found.append(_inner(value))
        elif number == 2:
            trainer = dict(_fields(_inner(value)))
        elif number == 3:
            normalizer = dict(_fields(_inner(value)))
    if not found:
        raise ModelDamaged(f"{NAME}: there are no tokens in it")
    charsmap = normalizer.get(2, b"")
    return Pieces(
        pieces=tuple(_piece(message, index) for index, message in enumerate(found)),
        model_type=_number(trainer.get(3, UNIGRAM)),
        charsmap=_inner(charsmap),
        adds_prefix=bool(_number(normalizer.get(3, 1))),
        merges_spaces=bool(_number(normalizer.get(4, 1))),
    )


def _piece(message: bytes, index: int) -> Piece:
    fields = dict(_fields(message))
    try:
        text = _inner(fields.get(1, b"")).decode()
        kind = TokenType(_number(fields.get(3, TokenType.NORMAL)))
    except ValueError as error:
        raise ModelDamaged(f"{NAME}: token {index}: {error}") from error
    score = fields.get(2, bytes(_F32.size))
    if not isinstance(score, bytes) or len(score) != _F32.size or not math.isfinite(_F32.unpack(score)[0]):
        raise ModelDamaged(f"{NAME}: token {index}: its score is no number")
    return Piece(text, float(_F32.unpack(score)[0]), kind)


def _fields(message: bytes) -> Iterator[Field]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in {_EIGHT, _FOUR}:
            size = 8 if kind == _EIGHT else 4
        else:
            raise ModelDamaged(f"{NAME}: not a SentencePiece model (a field of kind {kind} at byte {at})")
        if size > len(message) - at:
            raise ModelDamaged(f"{NAME}: not a SentencePiece model, or cut (a field of {size} bytes at byte {at})")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(message[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise ModelDamaged(f"{NAME}: not a SentencePiece model, or cut (a number at byte {at})")


def _inner(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ModelDamaged(f"{NAME}: not a SentencePiece model (a number where a message should be)")
    return value


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ModelDamaged(f"{NAME}: not a SentencePiece model (bytes where a number should be)")
    return value
