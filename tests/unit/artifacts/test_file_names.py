from __future__ import annotations

import ntpath
import posixpath
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.contract.hostile_archives.names import BAD_NAMES, LONG_NAMES, TWINS

from localmodels.artifacts.file_names import Names, checked_name, checked_parts, folded, shown, top_folder
from localmodels.core.errors import InvalidRequest

PIECES = st.sampled_from(
    ["..", ".", "/", "\\", "a", "Ab", ".json", "~", "C:", "\0", "\n", "．", "／", "‥", "…", "é", "e\u0301", " ", "nul",
     "COM1", "\u202e", "\ud800", "ß", "ﬁ", "💾", "*", "-", "\u200d"]
)  # fmt: skip
NAMES = st.one_of(st.lists(PIECES, max_size=9).map("".join), st.text(st.characters(codec=None), max_size=60))


def good(name: str) -> bool:
    try:
        return checked_name(name) == name
    except InvalidRequest:
        return False


@pytest.mark.parametrize(
    "name", ["config.json", "1_Pooling/config.json", "a/b/c/d.json", "模型.json", "café.txt", "a b.json", "..a", "💾"]
)
def test_names_that_are_good(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", [*BAD_NAMES.values(), *LONG_NAMES.values(), "", "/", "./a", "a/", ".", "./", "\ud800"])
def test_names_that_are_not(name: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        checked_name(name)
    assert raised.value.message.isprintable()


@given(NAMES)
@example("a/../b")
@example("‥/x")
def test_what_passes_is_one_file_below_the_folder_under_every_join(name: str) -> None:
    if not good(name):
        return
    for spelling in {name, unicodedata.normalize("NFKC", name), unicodedata.normalize("NFD", name)}:
        for paths, root in ((posixpath, "/root/files"), (ntpath, "C:\\root\\files")):
            joined = paths.normpath(paths.join(root, spelling))
            assert joined.startswith(root + paths.sep)
            assert joined[len(root) + 1 :].split(paths.sep) == spelling.split("/")
            assert paths.expanduser(spelling) == spelling
            assert not paths.isabs(spelling)
            assert not paths.splitdrive(spelling)[0]
    assert name.isprintable()
    assert len(name.encode()) <= 512


@given(st.lists(NAMES, max_size=6))
def test_what_passes_together_is_as_many_files_wherever_case_does_not_count(names: list[str]) -> None:
    seen = Names()
    passed = []
    for name in names:
        try:
            seen.add(tuple(checked_name(name).split("/")), folder=False)
        except InvalidRequest:
            continue
        passed.append(name)
    keys = {folded(name) for name in passed}
    assert len(keys) == len(passed)
    assert not {key for key in keys for other in keys if other.startswith(f"{key}/")}


@pytest.mark.parametrize("twins", TWINS.values(), ids=TWINS)
def test_twins_cannot_be_together(twins: tuple[str, str]) -> None:
    names = Names()
    one, two = map(checked_parts, twins)
    names.add(one, folder=False)
    with pytest.raises(InvalidRequest):
        names.add(two, folder=False)


def test_folders_may_come_twice_and_late() -> None:
    names = Names()
    for name, folder in (("a/b.json", False), ("a/", True), ("a/", True), ("a/c.json", False), ("./", True)):
        names.add(checked_parts(name), folder=folder)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("./a/b.json", ("a", "b.json")),
        ("a/", ("a",)),
        ("././a", ("a",)),
        ("./", ()),
        (".", ()),
        ("..a/b", ("..a", "b")),
    ],
)
def test_what_packers_write_around_a_name(name: str, parts: tuple[str, ...]) -> None:
    assert checked_parts(name) == parts


@pytest.mark.parametrize(
    ("files", "top"),
    [
        (["m/config.json", "m/a/b.json"], "m"),
        (["m/config.json", "config.json"], ""),
        (["a/x", "b/x"], ""),
        (["config.json"], ""),
        ([], ""),
    ],
)
def test_the_folder_that_was_packed(files: list[str], top: str) -> None:
    assert top_folder([name.split("/") for name in files]) == top


@given(st.text(st.characters(codec=None)))
def test_a_name_is_shown_without_what_a_terminal_obeys(name: str) -> None:
    assert shown(name).isprintable()
    assert len(shown(name)) <= 80
