from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from localmodels.artifacts.archive.limits import MOST_ENTRIES
from localmodels.artifacts.archive.reading import Body, Member
from localmodels.artifacts.archive.survey import Survey, survey
from localmodels.core.errors import InvalidRequest, LocalModelsError, TooLarge, Unsupported

PLENTY = 2**40


class Given:
    """Bytes that are there; it knows how many were asked for."""

    def __init__(self, data: bytes) -> None:
        self.data, self.asked = data, 0

    def read(self, most: int) -> bytes:
        piece = self.data[self.asked : self.asked + min(most, 100)]
        self.asked += len(piece)
        return piece


def walk(files: Mapping[str, bytes]) -> Iterator[tuple[Member, Body]]:
    for name, data in files.items():
        yield Member(name, len(data), folder=name.endswith("/")), Given(data)


def found(files: Mapping[str, bytes], most: int = PLENTY) -> Survey:
    return survey(walk(files), most)


def test_files_come_out_and_the_rest_is_named() -> None:
    result = found({"config.json": b"{}", "a/": b"", "logo.png": b"\x89", "a/b.txt": b"abc", "optimizer.pt": b"PK"})
    assert result.names == ("config.json", "", "", "a/b.txt", "")
    assert (result.files, result.size) == (2, 5)
    assert result.notes == (
        "passed over as nothing of a model: logo.png",
        "passed over as what a trainer leaves, which answers need nothing of: optimizer.pt",
    )


def test_the_folder_that_was_packed_is_taken_off_once() -> None:
    files = {"m/": b"", "m/config.json": b"{}", "m/a/x.json": b"{}", "__MACOSX/m/._x": b"", ".DS_Store": b""}
    assert found(files).names == ("", "config.json", "a/x.json", "", "")
    assert found({"m/n/config.json": b"{}"}).names == ("n/config.json",)


def test_it_stays_where_something_lies_beside_it() -> None:
    assert found({"1_Pooling/config.json": b"{}", "config.json": b"{}"}).names == (
        "1_Pooling/config.json",
        "config.json",
    )


def test_checkpoints_are_passed_over_beside_the_model_and_taken_alone() -> None:
    assert found({"m/config.json": b"{}", "m/checkpoint-1/config.json": b"{}"}).names == ("config.json", "")
    assert found({"checkpoint-1/config.json": b"{}"}).names == ("config.json",)


def test_no_more_than_the_beginning_is_read() -> None:
    body = Given(b"{" + b" " * 5000)
    survey([(Member("a.json", 5001), body)], PLENTY)
    assert body.asked == 512


def test_what_is_passed_over_unread_is_not_read() -> None:
    body = Given(b"\x80\x02")
    survey([(Member("a.json", 2), Given(b"{}")), (Member("optimizer.pt", 2), body)], PLENTY)
    assert body.asked == 0


def test_many_names_of_one_reason_are_counted() -> None:
    (note,) = found({"a.json": b"{}", **{f"{n}.png": b"" for n in range(8)}}).notes
    assert note.endswith("0.png, 1.png, 2.png, 3.png, 4.png and 3 more")


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"../config.json": b"{}"}, InvalidRequest),
        ({"config.json": b"{}", "Config.json": b"{}"}, InvalidRequest),
        ({"config.json": b"{}", "x.py": b""}, Unsupported),
        ({"config.json": b"{}", "x": b"#!/bin/sh"}, Unsupported),
        ({"config.json": b"{}", "a/b/c/d/e.json": b"{}"}, InvalidRequest),
        ({"a/b/c/d/e/../e.json": b"{}"}, InvalidRequest),
        ({"logo.png": b"", "optimizer.pt": b""}, InvalidRequest),
        ({}, InvalidRequest),
        ({"a.json": b"{}", "b.txt": b"a" * 99}, TooLarge),
        ({f"{n}/": b"" for n in range(MOST_ENTRIES + 1)}, TooLarge),
    ],
)
def test_one_bad_entry_refuses_all(files: Mapping[str, bytes], error: type[LocalModelsError]) -> None:
    with pytest.raises(error) as raised:
        found(files, 100)
    assert type(raised.value) is error


def test_a_folder_more_is_allowed_where_one_is_taken_off() -> None:
    assert found({"m/a/b/c/d.json": b"{}", "m/config.json": b"{}"}).names[0] == "a/b/c/d.json"


def test_ten_thousand_entries_are_allowed() -> None:
    assert found({f"{n}.json": b"{}" for n in range(MOST_ENTRIES)}).files == MOST_ENTRIES
