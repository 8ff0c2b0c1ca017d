from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.artifacts.archive.job import Head, Outline, Seen, Whole
from localmodels.artifacts.archive.transcript import Transcript
from localmodels.core.errors import EngineError, InvalidRequest

FILES = {"config.json": b"{}\n", "model.safetensors": b"\n" * 50 + b'{"type":"whole"}\n', "LICENSE": b""}
SIZE = sum(map(len, FILES.values()))
OUTLINE = Outline("zip", len(FILES), SIZE)


def line(said: Outline | Head | Seen | Whole) -> bytes:
    return msgspec.json.encode(said) + b"\n"


def told(files: Sequence[tuple[str, bytes]] = tuple(FILES.items())) -> bytes:
    return b"".join(line(Head(name, len(data))) + data for name, data in files)


GOOD = line(OUTLINE) + told() + line(Whole(len(FILES)))


def transcript(pieces: Iterable[bytes], most: int = SIZE, seen: list[int] | None = None) -> Transcript:
    given_pieces = iter(pieces)
    return Transcript(lambda: next(given_pieces, b""), most, (seen if seen is not None else []).append)


def read(*pieces: bytes, most: int = SIZE) -> dict[str, bytes]:
    return {entry.name: b"".join(entry.pieces) for entry in transcript(pieces, most).entries()}


@given(st.lists(st.integers(1, len(GOOD) - 1), max_size=20))
def test_what_was_said_is_heard_however_it_is_cut(cuts: list[int]) -> None:
    places = [0, *sorted(set(cuts)), len(GOOD)]
    assert read(*(GOOD[start:stop] for start, stop in pairwise(places))) == FILES


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_every_end_before_its_time_is_noticed(length: int) -> None:
    with pytest.raises(EngineError, match="before its time"):
        read(*([GOOD[:length]] if length else []))


def test_what_nobody_takes_is_passed_over() -> None:
    assert [entry.name for entry in transcript([GOOD]).entries()] == list(FILES)


def test_the_outline_can_be_asked_for_twice() -> None:
    words = transcript([GOOD])
    assert words.outline() is words.outline()
    assert len(list(words.entries())) == len(FILES)


def test_signs_of_life_are_passed_on() -> None:
    seen: list[int] = []
    pieces = [line(Seen(1)), line(Seen(5)), line(OUTLINE), line(Seen(9)), told(), line(Seen(10)), line(Whole(3))]
    assert len(list(transcript([b"".join(pieces)], seen=seen).entries())) == len(FILES)
    assert seen == [1, 5, 9, 10]


def one(name: str, data: bytes = b"{}") -> bytes:
    return line(Outline("zip", 1, len(data))) + told([(name, data)]) + line(Whole(1))


LIES = {
    "no outline": told(),
    "an end at once": line(Whole(0)),
    "two outlines": line(OUTLINE) * 2,
    "an outline of nothing": line(Outline("zip", 0, 0)) + line(Whole(0)),
    "an outline of too many": line(Outline("zip", 10_001, 5)),
    "an outline of too much": line(Outline("zip", 3, SIZE + 1)),
    "an outline below nothing": line(Outline("zip", 3, -1)),
    "fewer files than outlined": line(OUTLINE) + told([("config.json", b"{}\n")]) + line(Whole(1)),
    "more files than outlined": line(Outline("zip", 1, SIZE)) + told(),
    "more bytes than outlined": line(Outline("zip", 3, SIZE - 1)) + told(),
    "fewer bytes than outlined": line(Outline("zip", 3, SIZE - 1)) + told([("a.json", b"{}")] * 3),
    "a size below nothing": line(OUTLINE) + line(Head("config.json", -1)),
    "a size of 2^63": line(OUTLINE) + line(Head("config.json", 2**63)),
    "words behind the end": GOOD + b"x",
    "another file behind the end": GOOD + told(),
    "garbage": b"garbage\n",
    "no text": b"\xff\xfe\n",
    "no JSON": line(OUTLINE) + b"{\n",
    "another kind of word": b'{"type": "run"}\n',
    "a name of the wrong type": line(OUTLINE) + b'{"type":"file","name":5,"size":1}\n',
    "a line without end": b" " * 300_000,
    "life without progress": line(Seen(5)) * 2,
    "life that goes back": line(Seen(5)) + line(Seen(4)),
    "a name that climbs": one("../evil.json"),
    "an absolute name": one("/etc/evil.json"),
    "a name with a back-slash": one("a\\b.json"),
    "a name that is no plain one": one("./config.json"),
    "an empty name": one(""),
    "a deep name": one("a/b/c/d/e.json"),
    "a pickle": one("pytorch_model.bin"),
    "code": one("modeling_x.py"),
    "something of no use": one("photo.jpg"),
    "what a trainer leaves": one("optimizer.pt"),
    "a name twice": line(OUTLINE) + told([("a.json", b"{}")] * 2),
    "a name in another case": line(OUTLINE) + told([("a.json", b"{}"), ("A.json", b"{}")]),
    "a file in a file": line(OUTLINE) + told([("a.json", b"{}"), ("a.json/b.json", b"{}")]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_child_that_was_taken_over_is_not_believed(lie: str) -> None:
    with pytest.raises(EngineError, match="the process that unpacks"):
        read(LIES[lie])


def test_what_the_reader_raises_passes_through() -> None:
    def fails() -> bytes:
        raise InvalidRequest("the archive is bad")

    with pytest.raises(InvalidRequest, match="the archive is bad"):
        Transcript(fails, 1, list[int]().append).outline()
