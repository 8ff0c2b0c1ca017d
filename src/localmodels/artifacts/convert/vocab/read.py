"""From the files of a folder to a vocabulary: which kind of tokenizer is it, and what belongs to it.

The rule: what tokenizes otherwise than the model was trained with is refused by name, with the field that says so; what
differs only for texts that hardly anybody writes is noted. Nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct, structs

from localmodels.artifacts.convert.vocab.bpe import read_bpe
from localmodels.artifacts.convert.vocab.chat import read_templates
from localmodels.artifacts.convert.vocab.document import NAME, Added, Document, read_document
from localmodels.artifacts.convert.vocab.files import Files
from localmodels.artifacts.convert.vocab.pieces import NAME as MODEL
from localmodels.artifacts.convert.vocab.pieces import Pieces, read_pieces
from localmodels.artifacts.convert.vocab.pretokenizers import is_of_bytes
from localmodels.artifacts.convert.vocab.sentencepiece import read_sentencepiece
from localmodels.artifacts.convert.vocab.special import CONFIG, read_specials
from localmodels.artifacts.convert.vocab.unigram import read_unigram
from localmodels.artifacts.convert.vocab.vocabulary import MOST_TOKENS, Board, TokenType, Vocabulary
from localmodels.artifacts.convert.vocab.wordpiece import read_wordpiece
from localmodels.core.errors import ModelDamaged, Unsupported

_ADDED = "added_tokens.json"
_ENCODERS = frozenset({"bert", "t5"})
# An answer goes on until a token ends it; without a key llama.cpp takes tokens 11 and 2 for it, whatever they are.
_GENERATING = frozenset({"gpt2", "llama"})
_FOREIGN: Mapping[str, str] = {
    "tekken.json": "Mistral's own format",
    "tiktoken.model": "tiktoken's format",
    "vocab.json": "the format before tokenizer.json",
    "vocab.txt": "the format before tokenizer.json",
    "spiece.model": "SentencePiece's format for Unigram",
    "sentencepiece.bpe.model": "SentencePiece's format for Unigram",
}


class Source(Struct, frozen=True):
    """What the files say of the tokens.

    Attributes:
        document: ``tokenizer.json``, if there is one.
        pieces: ``tokenizer.model``, if there is one and it matters.
        added: tokens beside the vocabulary itself.
        chats: is there a chat template?
    """

    document: Document | None
    pieces: Pieces | None
    added: tuple[Added, ...]
    chats: bool = False

    @property
    def where(self) -> str:
        """The file that errors name."""
        return NAME if self.document else MODEL

    def texts(self) -> dict[int, str]:
        """Tokens by number, as the files write them."""
        vocab = self.document.model.vocab if self.document else {}
        found = (
            {number: text for text, number in vocab.items()}
            if isinstance(vocab, dict)
            else {number: text for number, (text, _) in enumerate(vocab)}
        )
        if not self.document and self.pieces:
            found = {number: piece.text for number, piece in enumerate(self.pieces.pieces)}
        return found | {added.id: added.content for added in self.added}


def read_vocabulary(files: Files, config: Mapping[str, Any], *, rows: int | None = None, pre: str = "") -> Vocabulary:
    """The tokenizer of a folder, ready for a GGUF file.

    Args:
        files: of the model.
        config: its ``config.json``.
        rows: of the embedding, which the vocabulary is filled up to; by default as the configuration says.
        pre: llama.cpp's name for the pre-tokenizer, where somebody knows better than the table.

    Raises:
        ModelDamaged: a file is missing or not sound.
        Unsupported: the engine cannot tokenize as this tokenizer does.
    """
    source = _source(files)
    texts = source.texts()
    wanted = rows if rows is not None else _rows(config) or max(texts, default=0) + 1
    beyond = [added.content for added in source.added if added.id >= wanted]
    templates = read_templates(files)
    kept = tuple(added for added in source.added if added.id < wanted)
    source = structs.replace(source, added=kept, chats=bool(templates))
    board = Board(wanted, source.where)
    vocabulary = _READERS[_kind(source)](source, board, pre)
    specials = read_specials(files, source.document, [texts.get(number, "") for number in range(wanted)], config)
    if vocabulary.model in _GENERATING and "eos_token_id" not in specials.ids:
        raise ModelDamaged(f"{CONFIG}: 'eos_token' is missing, and no other file says which token ends a text")
    unknown = [number for number in range(wanted) if vocabulary.types[number] == TokenType.UNKNOWN]
    notes = [f"the added token {text!r:.60} has no row in the embedding; it is left out" for text in beyond]
    return structs.replace(
        vocabulary,
        ids={**specials.ids, **({"unknown_token_id": unknown[0]} if unknown else {})},
        flags={**vocabulary.flags, **specials.flags},
        token_types=_token_types(config) if vocabulary.model in _ENCODERS else 0,
        templates=templates,
        notes=(*vocabulary.notes, *notes),
    )


# Sources


def _source(files: Files) -> Source:
    if files.has(NAME):
        document = read_document(files)
        wants_pieces = files.has(MODEL) and _kind(Source(document, None, ())) == "sentencepiece"
        return Source(document, read_pieces(files) if wants_pieces else None, tuple(document.added_tokens))
    if files.has(MODEL):
        return Source(None, read_pieces(files), _added_beside(files))
    found = next((f"{name}, {what}, is not read; " for name, what in _FOREIGN.items() if files.has(name)), "")
    raise Unsupported(
        f"there is no {NAME} in the folder: {found}save the tokenizer beside the model "
        "(AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER))"
    )


def _added_beside(files: Files) -> tuple[Added, ...]:
    """Tokens that were added, as the old files list them."""
    found: dict[int, Added] = {}
    try:
        for text, number in files.read_object(_ADDED).items():
            found[number] = msgspec.convert({"id": number, "content": text}, Added)
        listed = files.read_object(CONFIG).get("added_tokens_decoder") or {}
        for number, said in msgspec.convert(listed, dict[int, dict[str, Any]], strict=False).items():
            found[number] = msgspec.convert({**said, "id": number}, Added)
    except msgspec.ValidationError as error:
        raise ModelDamaged(f"{CONFIG} or {_ADDED}: an added token is not sound: {error}") from error
    return tuple(found[number] for number in sorted(found))


def _rows(config: Mapping[str, Any]) -> int | None:
    inner = config.get("text_config")
    value = config.get("vocab_size", inner.get("vocab_size") if isinstance(inner, Mapping) else None)
    if value is None:
        return None
    if type(value) is not int or not 0 < value <= MOST_TOKENS:
        raise ModelDamaged(f"config.json: 'vocab_size' must be from 1 to {MOST_TOKENS}, not {value!r:.60}")
    return value


def _token_types(config: Mapping[str, Any]) -> int:
    value = config.get("type_vocab_size", 1)
    if type(value) is not int or not 0 <= value <= MOST_TOKENS:
        raise ModelDamaged(f"config.json: 'type_vocab_size' must be a small number, not {value!r:.60}")
    return max(value, 1)


# Kinds


def _kind(source: Source) -> str:
    document = source.document
    if document is None:
        return "sentencepiece"
    kind = document.model.type
    if not kind:  # files of before 2021 leave it out
        kind = "Unigram" if isinstance(document.model.vocab, list) else "BPE" if document.model.merges else "WordPiece"
    if kind == "BPE":
        return "bpe" if is_of_bytes(document.pre_tokenizer) else "sentencepiece"
    if kind.lower() not in _READERS:
        raise Unsupported(f"{NAME}: model.type is {kind!r:.60}; BPE, Unigram and WordPiece are converted")
    return kind.lower()


def _bpe(source: Source, board: Board, pre: str) -> Vocabulary:
    return read_bpe(_document(source), board, pre)


def _sentencepiece(source: Source, board: Board, _pre: str) -> Vocabulary:
    return read_sentencepiece(source.document, source.pieces, source.added, board, chats=source.chats)


def _unigram(source: Source, board: Board, _pre: str) -> Vocabulary:
    return read_unigram(_document(source), board)


def _wordpiece(source: Source, board: Board, _pre: str) -> Vocabulary:
    return read_wordpiece(_document(source), board)


def _document(source: Source) -> Document:
    """The document with the tokens that are kept."""
    if source.document is None:
        raise ModelDamaged(f"{NAME}: missing in the folder")
    return structs.replace(source.document, added_tokens=list(source.added))


_READERS: Mapping[str, Callable[[Source, Board, str], Vocabulary]] = {
    "bpe": _bpe,
    "sentencepiece": _sentencepiece,
    "unigram": _unigram,
    "wordpiece": _wordpiece,
}
