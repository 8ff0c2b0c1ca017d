"""Names and digests: every spelling that is taken, and the hostile ones that are not (threats V-01 and V-02)."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.core.catalog import Digest, ModelName
from localmodels.core.errors import InvalidValue

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"

_FIRST = string.ascii_letters + string.digits + "_"


def part(rest: str, longest: int) -> st.SearchStrategy[str]:
    more = st.text(_FIRST + rest, max_size=longest - 1)
    return st.builds(str.__add__, st.sampled_from(_FIRST), more).filter(lambda text: ".." not in text)


PORT = st.sampled_from(("", ":1", ":5000", ":65535"))
HOST = st.builds(str.__add__, part(".-", 40), PORT)
NAMES = st.builds(
    ModelName,
    HOST | st.just("registry.ollama.ai"),
    part("-", 80) | st.just("library"),
    part(".-", 80),
    part(".-", 80) | st.just("latest"),
)


@given(NAMES)
def test_a_name_is_read_back_from_how_it_is_written(name: ModelName) -> None:
    assert ModelName.parse(str(name)) == name


@given(NAMES)
def test_a_name_is_read_back_from_its_longest_form(name: ModelName) -> None:
    assert ModelName.parse(f"{name.host}/{name.namespace}/{name.name}:{name.tag}") == name


@given(st.text(max_size=200))
def test_any_text_is_a_name_or_is_refused(text: str) -> None:
    try:
        name = ModelName.parse(text)
    except InvalidValue as error:
        assert error.param == "model"  # noqa: PT017 - half of the property
    else:
        assert ModelName.parse(str(name)) == name
        assert not {"", ".", ".."} & {name.host, name.namespace, name.name, name.tag}
        assert not any(set("/\\\0") & set(one) for one in (name.host, name.namespace, name.name, name.tag))


@given(st.text("./:\\a_-\0\n Aé", max_size=30))
def test_texts_of_dangerous_characters_are_names_or_are_refused(text: str) -> None:
    test_any_text_is_a_name_or_is_refused.hypothesis.inner_test(text)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "host", "namespace", "name", "tag"),
    [
        ("gpt-oss", "registry.ollama.ai", "library", "gpt-oss", "latest"),
        ("gpt-oss:20b", "registry.ollama.ai", "library", "gpt-oss", "20b"),
        ("me/gpt-oss", "registry.ollama.ai", "me", "gpt-oss", "latest"),
        ("hf.co/me/Model-GGUF:Q4_K_M", "hf.co", "me", "Model-GGUF", "Q4_K_M"),
        ("localhost:5000/me/m", "localhost:5000", "me", "m", "latest"),
        ("localhost:5000/me/m:1.5b", "localhost:5000", "me", "m", "1.5b"),
        ("qwen2.5:0.5b-instruct-q4_K_M", "registry.ollama.ai", "library", "qwen2.5", "0.5b-instruct-q4_K_M"),
        ("_m", "registry.ollama.ai", "library", "_m", "latest"),
        ("a" * 80 + ":" + "b" * 80, "registry.ollama.ai", "library", "a" * 80, "b" * 80),
    ],
)
def test_forms(text: str, host: str, namespace: str, name: str, tag: str) -> None:
    assert ModelName.parse(text) == ModelName(host, namespace, name, tag)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("m", "m:latest"),
        ("registry.ollama.ai/library/m:latest", "m:latest"),
        ("registry.ollama.ai/me/m", "me/m:latest"),
        ("hf.co/library/m", "hf.co/library/m:latest"),
    ],
)
def test_the_short_form_leaves_out_the_default_host_and_namespace(text: str, short: str) -> None:
    assert str(ModelName.parse(text)) == short


HOSTILE_NAMES = (
    "", ".", "..", "/", "//", ":", "a:", ":a", "a/", "/a", "a//b", "a/b/c/d", "../a", "a/..", "../../etc/passwd",
    "a/../b", "..:a", "a:..", "a:.", ".a", "-a", "a:-b", "a..b", "a:b..c", "a b", " a", "a ", "a\n", "a\n:b", "a:b\n",
    "a\0", "a\0.gguf", "C:\\a", "C:/a/b/c", "a\\b", "..\\a", "\\\\host\\share", "%2e%2e%2fa", "a%00", "~/a", "$HOME",
    "a;b", "a|b", "`a`", "a@sha256:" + HEX, "ａ", "a\u202eb", "a\u200b", "．．／a", "a:b:c", "n.s/a", "h/n.s/a",
    "a" * 81, "a:" + "b" * 81, "n" * 81 + "/a", "h" * 351 + "/n/a", "a" * 255, "a" * 100_000, "host:/n/a",
    "host:123456/n/a", "host:x/n/a", "https://host/n/a", "é", "a:é", "\ud800",
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE_NAMES, ids=ascii)
def test_hostile_names_are_refused(text: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        ModelName.parse(text)
    assert len(refused.value.message) < 200
    refused.value.message.encode()


def hostile_digests() -> tuple[str, ...]:
    """At least 300 spellings that are near a digest and none (V-01)."""
    wrong_length = [f"sha256:{HEX[:length]}" for length in range(64)] + [f"sha256:{HEX}{'0' * n}" for n in range(1, 40)]
    wrong_character = [
        f"sha256:{HEX[:at]}{bad}{HEX[at + 1 :]}"
        for at in (0, 1, 31, 62, 63)
        for bad in "AFGgz./\\\0\n\r\t %:-~$'\"`*?é０ａ\u200b\u202e"
    ]
    algorithms = ("", "sha256", "sha256-", "sha256::", "sha256: ", "SHA256:", "Sha256:", "sha512:", "sha1:", "md5:")
    wrong_algorithm = [
        f"{algorithm}{HEX}" for algorithm in (*algorithms, "sha256/", "sha256%3a", "sha256：", "ѕha256:")
    ]
    around = ("\n", "\r", " ", "\0", "\t", "/", "\\", ".", "\u200b", "\ufeff", "'", '"', "../", "./", "?", "#", "%00")
    wrapped = [DIGEST + more for more in around] + [more + DIGEST for more in around]
    escapes = (
        "../../../etc/passwd", "..", ".", "/", "/etc/passwd", "sha256:../../../etc/passwd", "sha256:..", "sha256:/",
        "%2e%2e%2f" * 8, "..%2f" * 8, "....//" * 8, "..\\" * 8, "file:///etc/passwd", "C:\\x", "\\\\h\\s", "~", "-",
    )  # fmt: skip
    padded = [f"sha256:{escape:{fill}<64}" for escape in escapes if len(escape) <= 64 for fill in "0/."]
    return (*wrong_length, *wrong_character, *wrong_algorithm, *wrapped, *escapes, *padded)


def test_three_hundred_hostile_digests_are_refused() -> None:
    spellings = set(hostile_digests()) - {DIGEST}
    assert len(spellings) >= 300
    for spelling in spellings:
        with pytest.raises(InvalidValue):
            Digest.parse(spelling)


@given(st.text("0123456789abcdef", min_size=64, max_size=64))
def test_a_digest_is_read_back_from_how_it_is_written(digits: str) -> None:
    digest = Digest.parse(f"sha256:{digits}")
    assert digest.hex == digits
    assert str(digest) == f"sha256:{digits}"


@given(st.text(max_size=80))
def test_any_text_is_a_digest_or_is_refused(text: str) -> None:
    try:
        digest = Digest.parse(text)
    except InvalidValue:
        return
    assert len(digest.hex) == 64
    assert set(digest.hex) <= set("0123456789abcdef")
