"""Paths never leave the store, two names never share one, and no link is followed (threats V-01, V-02, V-04)."""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.store.ollama_store import OllamaStore

from localmodels.core.catalog import Digest, ModelName
from localmodels.core.errors import ModelDamaged
from localmodels.store.layout import STRAY, Layout

ROOT = Path("/store")
NAME = ModelName.parse("hf.co/me/tiny:q4")
PLACE = "hf.co/me/tiny/q4"
PART = st.text("abAB01_", min_size=1, max_size=4)
# Few characters and few lengths, so that twins which differ in case alone come up often.
NAMES = st.builds(ModelName, PART, PART, PART, PART)
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64).map(Digest)


@given(NAMES, DIGESTS)
def test_every_path_is_in_its_own_corner_of_the_store(name: ModelName, digest: Digest) -> None:
    layout = Layout(ROOT)
    assert Path(os.path.normpath(layout.manifest(name))).parents[3] == ROOT / "manifests"
    assert Path(os.path.normpath(layout.blob(digest))).parent == ROOT / "blobs"


def lowered(name: ModelName) -> ModelName:
    return ModelName(name.host.lower(), name.namespace.lower(), name.name.lower(), name.tag.lower())


@given(NAMES, NAMES)
def test_two_names_share_a_path_only_if_they_differ_in_case_and_the_file_system_ignores_it(
    one: ModelName, other: ModelName
) -> None:
    layout = Layout(ROOT)
    paths = str(layout.manifest(one)), str(layout.manifest(other))
    assert (paths[0] == paths[1]) == (one == other)
    assert (paths[0].casefold() == paths[1].casefold()) == (lowered(one) == lowered(other))


def test_a_name_that_is_spelled_otherwise_is_not_there_whatever_the_file_system_thinks(store: OllamaStore) -> None:
    store.write(PLACE, b"{}")
    layout = Layout(store.root)
    assert layout.has(NAME)
    # On a file system that ignores case `open` would succeed here; the listing is what counts.
    for part in ("HF.co/me/tiny:q4", "hf.co/Me/tiny:q4", "hf.co/me/Tiny:q4", "hf.co/me/tiny:Q4"):
        assert not layout.has(ModelName.parse(part))


def test_names_are_listed_in_order_and_the_desktops_files_are_passed_over(store: OllamaStore) -> None:
    for place in ("hf.co/me/b/q4", "hf.co/me/a/q8", "localhost:5000/x/y/z", ".DS_Store", "hf.co/.DS_Store"):
        store.write(place, b"{}")
    found = [str(name) for name in Layout(store.root).names() if isinstance(name, ModelName)]
    assert found == ["hf.co/me/a:q8", "hf.co/me/b:q4", "localhost:5000/x/y:z"]
    assert len(list(Layout(store.root).names())) == 3


def test_no_store_is_an_empty_store(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "none")
    assert list(layout.names()) == []
    assert not layout.has(NAME)


def test_the_root_itself_may_be_a_link(store: OllamaStore, tmp_path: Path) -> None:
    store.write(PLACE, b"{}")
    (tmp_path / "link").symlink_to(store.root)
    layout = Layout(tmp_path / "link")
    assert list(layout.names()) == [NAME]
    assert layout.read_manifest(NAME, 10)[0] == b"{}"


@pytest.mark.parametrize("at", ["hf.co", "hf.co/me", "hf.co/me/tiny", "hf.co/me/tiny/q4"])
def test_a_link_at_any_depth_is_reported_and_not_followed(store: OllamaStore, tmp_path: Path, at: str) -> None:
    store.write("good.example/a/b/c", b"{}")
    store.write(PLACE, b"{}")
    outside = tmp_path / "outside"
    (store.manifests / at).rename(outside)
    (store.manifests / at).symlink_to(outside)
    layout = Layout(store.root)
    listed = list(layout.names())
    assert ModelName.parse("good.example/a/b:c") in listed
    if at == PLACE:
        assert NAME in listed  # whether it is a plain file shows when it is opened
    else:
        assert (at, STRAY) in listed
    with pytest.raises(ModelDamaged):
        layout.read_manifest(NAME, 10)


@pytest.mark.parametrize("directory", ["blobs", "manifests"])
def test_linked_inner_directories_are_not_followed(store: OllamaStore, tmp_path: Path, directory: str) -> None:
    store.write(PLACE, b"{}")
    digest = Digest.parse(store.blob(b"x"))
    (store.root / directory).rename(tmp_path / "outside")
    (store.root / directory).symlink_to(tmp_path / "outside")
    layout = Layout(store.root)
    if directory == "blobs":
        with pytest.raises(ModelDamaged):
            layout.blob_status([digest])
        with pytest.raises(ModelDamaged):
            layout.read_blob(digest, 10)
    else:
        assert list(layout.names()) == [("manifests", f"manifests: {STRAY}")]
        with pytest.raises(ModelDamaged):
            layout.read_manifest(NAME, 10)


def test_a_linked_blob_is_not_followed(store: OllamaStore, tmp_path: Path) -> None:
    digest = store.blob(b"secret")
    store.blob_path(digest).rename(tmp_path / "secret")
    store.blob_path(digest).symlink_to(tmp_path / "secret")
    layout = Layout(store.root)
    with pytest.raises(ModelDamaged, match="plain file"):
        layout.blob_status([Digest.parse(digest)])
    with pytest.raises(ModelDamaged, match="link"):
        layout.read_blob(Digest.parse(digest), 10)


def test_what_is_no_file_is_refused_without_waiting(store: OllamaStore) -> None:
    digest = Digest.parse(store.blob(b"x"))
    path = store.blob_path(str(digest))
    for make in (os.mkfifo, os.mkdir):
        path.rmdir() if path.is_dir() else path.unlink()
        make(path)
        with pytest.raises(ModelDamaged, match=r"not a plain file|link"):
            Layout(store.root).read_blob(digest, 10)
        with pytest.raises(ModelDamaged, match="not a plain file"):
            Layout(store.root).blob_status([digest])


def test_reading_is_bounded_to_the_byte(store: OllamaStore) -> None:
    digest = Digest.parse(store.blob(b"12345"))
    assert Layout(store.root).read_blob(digest, 5) == b"12345"
    with pytest.raises(ModelDamaged, match="longer than 4 bytes"):
        Layout(store.root).read_blob(digest, 4)


def test_a_missing_blob_is_told_by_its_name_and_not_by_its_directory(store: OllamaStore) -> None:
    digest = Digest("0" * 64)
    with pytest.raises(ModelDamaged) as refused:
        Layout(store.root).blob_status([digest])
    assert refused.value.message == f"sha256-{'0' * 64}: missing"


@pytest.mark.parametrize("odd", ["-x", "a b", "a\\b", "é", "a" * 81, "a:b", "n..m", "a\nb", string.punctuation[0]])
@pytest.mark.parametrize("depth", range(4))
def test_odd_file_names_are_reported_and_hide_nothing(store: OllamaStore, odd: str, depth: int) -> None:
    store.write(PLACE, b"{}")
    parts = ["h", "n", "m", "t"]
    parts[depth] = odd
    if depth == 0 and len(odd) == 81:
        return  # a host may be that long
    store.write("/".join(parts), b"{}")
    listed = list(Layout(store.root).names())
    assert NAME in listed
    assert ("/".join(parts), "not a model name") in listed


def test_a_file_name_that_is_not_utf8_is_told_in_utf8(store: OllamaStore) -> None:
    try:
        os.mkdir(os.fsencode(store.manifests) + b"/h\xff")  # noqa: PTH102 - a name that no Path has
        os.mkdir(os.fsencode(store.manifests) + b"/h\xff/n")  # noqa: PTH102
        (store.manifests / os.fsdecode(b"h\xff/n/m")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (found,) = Layout(store.root).names()
    assert found == ("h?/n/m", STRAY)


def open_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_no_descriptor_is_left_open(store: OllamaStore, tmp_path: Path) -> None:
    store.write(PLACE, b"{}")
    (store.manifests / "hf.co/me/link").symlink_to(tmp_path)
    before = open_descriptors()
    layout = Layout(store.root)
    for _ in range(5):
        list(layout.names())
        next(iter(layout.names()))
        layout.has(NAME)
        layout.read_manifest(NAME, 10)
        with pytest.raises(ModelDamaged):
            layout.read_blob(Digest("0" * 64), 1)
    assert open_descriptors() == before
