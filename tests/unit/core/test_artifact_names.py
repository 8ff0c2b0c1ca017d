from __future__ import annotations

import pytest

from localmodels.core.artifact_names import checked_name, name_of
from localmodels.core.errors import InvalidValue, UnsupportedMedia


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("innodisk_llama32_lora.zip", "innodisk_llama32_lora"),
        ("a.tar", "a"),
        ("a.tar.gz", "a"),
        ("a.tgz", "a"),
        ("a.tar.zst", "a"),
        ("Qwen2.5-0.5B-Instruct.TAR.GZ", "Qwen2.5-0.5B-Instruct"),
        ("model.Q4_K_M.gguf", "model.Q4_K_M"),
        ("a.zip.zip", "a.zip"),
        ("x" * 128 + ".zip", "x" * 128),
    ],
)
def test_a_file_gives_its_artifact_its_name(filename: str, name: str) -> None:
    assert name_of(filename) == name


@pytest.mark.parametrize("filename", ["", "a", "a.rar", "a.7z", "zip", "a.zip ", "a.tar.bz2", "a.safetensors"])
def test_what_cannot_be_unpacked_is_refused_with_what_can(filename: str) -> None:
    with pytest.raises(UnsupportedMedia, match=r"\.zip, .*\.tar\.zst or a single \.gguf") as caught:
        name_of(filename)
    assert caught.value.param == "Model"


@pytest.mark.parametrize(
    "filename",
    [
        ".zip", "..zip", ".drafts.zip", "../a.zip", "a/b.zip", "a\\b.zip", "/a.zip", "C:a.zip", "a b.zip", "a\n.zip",
        "a\0.zip", "ü.zip", "-a.zip", "_a.zip", "x" * 129 + ".zip", "％2e.zip", "a(1).zip",
    ],
)  # fmt: skip
def test_a_name_is_never_mended(filename: str) -> None:
    with pytest.raises(InvalidValue, match="letters, digits") as caught:
        name_of(filename)
    assert caught.value.status == 422
    assert len(caught.value.message) < 400


def test_a_name_alone_is_checked_likewise() -> None:
    assert checked_name("a.b-c_d") == "a.b-c_d"
    with pytest.raises(InvalidValue):
        checked_name("a\n")
