"""Token ids of the engine, from our GGUF, against those of transformers and of SentencePiece.

    python -m tests.fidelity.vocab [PART OF A NAME]

It needs transformers, tokenizers, sentencepiece, gguf and xllamacpp; nothing is downloaded.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece
from tests.fidelity.vocab_engine import Engine, write_vocabulary
from tests.fidelity.vocab_styles import ROWS, Style, load, styles
from tests.fidelity.vocab_texts import HARD, with_specials

from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.convert.vocab import read_vocabulary
from localmodels.artifacts.gguf import read_part

Wrong = list[tuple[str, list[int], list[int]]]


def differences(engine: Engine, theirs: Any, texts: Iterable[str]) -> Wrong:
    """Texts of which the engine has other ids, with theirs and its."""
    asked = ((text, list(theirs(text)), engine.ids(text)) for text in texts)
    return [(text, want, got) for text, want, got in asked if want != got]


def check(style: Style, place: Path) -> bool:
    """Makes a folder, converts its tokenizer, and prints what came of it."""
    folder = place / style.name
    style.make(folder)
    vocabulary = read_vocabulary(Folder.of(folder), {"vocab_size": ROWS})
    path = write_vocabulary(place / f"{style.name}.gguf", vocabulary)
    read_part(path)
    tokenizer = load(folder)
    special = list(with_specials(*style.specials))
    with Engine(path) as engine:
        plain = differences(engine, lambda text: tokenizer.encode(text).ids, HARD)
        parsed = differences(engine, lambda text: tokenizer.encode(text).ids, special)
        missed = _as_sentencepiece(engine, folder)
    due = (vocabulary.model, vocabulary.pre) == (style.model, style.pre)
    same, parsed_same = len(HARD) - len(plain), len(special) - len(parsed)
    wrong = [case for case in (*plain, *parsed) if not style.known(case[0])]
    print(
        f"{'ok  ' if due and not wrong else 'FAIL'} vocab: {style.name}: {vocabulary.model}/{vocabulary.pre}"
        f"{'' if due else ' (!)'}: {same}/{len(HARD)} texts, {parsed_same}/{len(special)} with specials{missed}",
        flush=True,
    )
    for text, want, got in wrong:
        print(f"    {text!r:.100}\n        theirs {want!r:.160}\n        engine {got!r:.160}")
    for note in vocabulary.notes if plain or parsed else ():
        print(f"    note: {note}")
    return due and not wrong


def _as_sentencepiece(engine: Engine, folder: Path) -> str:
    """How many texts come out as SentencePiece itself has them, where its file is there."""
    if not (folder / "tokenizer.model").exists():
        return ""
    pieces = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    bos = [pieces.bos_id()]
    missed = differences(engine, lambda text: bos + pieces.encode(text), HARD)
    return f", {len(HARD) - len(missed)}/{len(HARD)} as SentencePiece"


def main(wanted: str = "") -> int:
    """All tokenizers with this in their names."""
    with tempfile.TemporaryDirectory() as place:
        sound = [check(style, Path(place)) for style in styles() if wanted in style.name]
    print(f"{sum(sound)} of {len(sound)} tokenizers give the same ids, but for texts that are known")
    return 0 if all(sound) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
