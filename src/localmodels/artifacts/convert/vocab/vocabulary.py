"""A vocabulary as llama.cpp wants it: one text a token, each only once, as many as the embedding has rows.

The rule: llama.cpp ends the whole process when two tokens have the same text, so nothing gets out of :class:`Board`
before that was looked at. It reads texts as C does: they end at a zero byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from msgspec import Struct, structs

from localmodels.core.errors import ModelDamaged

PREFIX = "tokenizer.ggml."
MOST_TOKENS = 2**19  # as many as artifacts.gguf reads; the largest known vocabularies have 262,208
LONGEST_TOKEN = 2**16 - 1  # bytes; the longest known are runs of some hundred spaces

_UNUSED_SCORE = -10_000.0
_ADDED_SCORE = -1000.0


class TokenType(IntEnum):
    """``llama_token_type`` in llama.h."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


PairValue = str | bool | np.uint32 | list[str] | npt.NDArray[np.float32] | npt.NDArray[np.int32] | npt.NDArray[np.uint8]


class Vocabulary(Struct, frozen=True, eq=False):
    """All that a GGUF file says of a tokenizer.

    Attributes:
        model: llama.cpp's word for the kind: ``gpt2`` (BPE of bytes), ``llama`` (SentencePiece), ``bert``, ``t5``.
        pre: its word for how text is cut before.
        tokens: texts, by id.
        types: :class:`TokenType`, by id.
        scores: by id, where the kind has them.
        merges: of BPE: pairs with a space between, the first to be merged first.
        ids: of special tokens, by the name of their key: ``bos_token_id``.
        flags: by the name of their key: ``add_bos_token``.
        token_types: rows of the embedding of token types, in encoders; else 0.
        charsmap: SentencePiece's table of replacements.
        templates: of chats, by name; the usual one is ``default``.
        notes: what the runtime will do otherwise than the tokenizer that the model was trained with.
    """

    model: str
    pre: str
    tokens: tuple[str, ...]
    types: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32] | None = None
    merges: tuple[str, ...] = ()
    ids: Mapping[str, int] = {}
    flags: Mapping[str, bool] = {}
    token_types: int = 0
    charsmap: bytes = b""
    templates: Mapping[str, str] = {}
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Tokens, the unused ones at the end included."""
        return len(self.tokens)

    def pairs(self) -> Iterator[tuple[str, PairValue]]:
        """Keys and values of the metadata, in order.

        Numbers and lists of them come in the NumPy type that the file has them in; texts are ``str``, flags ``bool``.
        """
        yield PREFIX + "model", self.model
        yield PREFIX + "pre", self.pre
        yield PREFIX + "tokens", list(self.tokens)
        if self.scores is not None:
            yield PREFIX + "scores", self.scores
        yield PREFIX + "token_type", self.types
        if self.model == "gpt2":  # llama.cpp wants the key even where there is nothing to merge
            yield PREFIX + "merges", list(self.merges) or ["\u0120 \u0120"]
        if self.token_types:
            yield PREFIX + "token_type_count", np.uint32(self.token_types)
        if self.charsmap:
            yield PREFIX + "precompiled_charsmap", np.frombuffer(self.charsmap, np.uint8)
        for name, number in self.ids.items():
            yield PREFIX + name, np.uint32(number)
        for name, flag in self.flags.items():
            yield PREFIX + name, flag
        yield from self._templates()

    def _templates(self) -> Iterator[tuple[str, PairValue]]:
        named = [name for name in self.templates if name != "default"]
        if named:
            yield "tokenizer.chat_templates", named
        for name, template in self.templates.items():
            yield "tokenizer.chat_template" if name == "default" else f"tokenizer.chat_template.{name}", template


class Board:
    """Where a vocabulary is laid out: a place for each row of the embedding, filled in any order.

    Args:
        rows: how many.
        where: the file that errors name.
    """

    def __init__(self, rows: int, where: str) -> None:
        if not 0 < rows <= MOST_TOKENS:
            raise ModelDamaged(f"{where}: {rows} tokens; from 1 to {MOST_TOKENS} are possible")
        self._where = where
        self._texts: list[str | None] = [None] * rows
        self.types = np.full(rows, TokenType.UNUSED, np.int32)
        self.scores = np.full(rows, _UNUSED_SCORE, np.float32)

    @property
    def rows(self) -> int:
        """How many places there are."""
        return len(self._texts)

    def put(self, number: int, text: str, kind: TokenType, score: float = 0.0) -> None:
        """Gives a token its text; what was there before is gone.

        Raises:
            ModelDamaged: there is no such place.
        """
        if not 0 <= number < len(self._texts):
            raise ModelDamaged(f"{self._where}: token {number} is beyond the {len(self._texts)} rows of the embedding")
        self._texts[number] = text
        self.types[number] = kind
        self.scores[number] = score

    def add(self, number: int, text: str, kind: TokenType) -> None:
        """The same for a token that was added to a finished vocabulary."""
        self.put(number, text, kind, _ADDED_SCORE)

    def text(self, number: int) -> str | None:
        """What is in a place; None if it is empty or not there."""
        return self._texts[number] if 0 <= number < len(self._texts) else None

    def retype(self, number: int, kind: TokenType) -> None:
        """Gives a token another type."""
        self.types[number] = kind

    def filled(self, vocabulary: Vocabulary) -> Vocabulary:
        """The vocabulary with what is laid out here; empty places get a name that nobody else has.

        Raises:
            ModelDamaged: two tokens have the same text, or one is too long.
        """
        texts = tuple(f"[PAD{i}]" if text is None else text for i, text in enumerate(self._texts))
        if len(set(texts)) < len(texts) or any("\0" in text or not text for text in texts):
            texts = self._distinct(texts)
        for number, text in enumerate(texts):
            if len(text) > LONGEST_TOKEN // 4 and len(text.encode(errors="replace")) > LONGEST_TOKEN:
                raise ModelDamaged(f"{self._where}: token {number} is longer than {LONGEST_TOKEN} bytes")
        return structs.replace(vocabulary, tokens=texts, types=self.types)

    def _distinct(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        """The slow way, for the few vocabularies in which something is to be looked at."""
        seen: dict[str, int] = {}
        found = list(texts)
        used = [i for i, written in enumerate(self._texts) if written is not None]
        for number in used:
            text = found[number].partition("\0")[0]
            if not text:  # llama.cpp calls it so itself
                text = found[number] = f"[EMPTY_{number}]"
            if text in seen:
                raise ModelDamaged(f"{self._where}: tokens {seen[text]} and {number} have the same text {text!r:.60}")
            seen[text] = number
        for number in set(range(len(found))) - set(used):
            while found[number] in seen:
                found[number] += "]"
        return tuple(found)
