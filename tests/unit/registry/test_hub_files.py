"""Which file a tag means: repositories as their makers lay them out, and what is said where nothing fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.core.errors import InvalidRequest, LocalModelsError, NotFound
from localmodels.registry.hub_files import Choice, File, candidates, choose, label_of


def chosen(tag: str, *paths: str) -> Choice:
    return choose([File(path) for path in paths], tag, "hf.co/me/repo")


def model(tag: str, *paths: str) -> list[str]:
    return [file.path for file in chosen(tag, *paths).model]


def refusal(tag: str, *paths: str) -> LocalModelsError:
    with pytest.raises(LocalModelsError) as refused:
        chosen(tag, *paths)
    return refused.value


@pytest.mark.parametrize(
    ("stem", "label"),
    [
        ("Llama-3.2-1B-Instruct-Q4_K_M", "Q4_K_M"),
        ("llama-2-7b-chat.q4_k_m", "Q4_K_M"),
        ("phi-4-UD-Q4_K_XL", "UD-Q4_K_XL"),
        ("UD-Q4_K_XL/Model-UD-Q4_K_XL", "UD-Q4_K_XL"),
        ("Q8_0/model", "Q8_0"),
        ("qwen3-0.6b-iq2_xxs", "IQ2_XXS"),
        ("gpt-oss-20b-mxfp4", "MXFP4"),
        ("gpt-oss-20b-MXFP4_MOE", "MXFP4_MOE"),
        ("m-fp16", "F16"),
        ("m.bf16", "BF16"),
        ("m-TQ1_0", "TQ1_0"),
        ("m-Q4_0_4_8", "Q4_0_4_8"),
        ("Qwen2-Q8_0-distilled-Q4_K_S", "Q4_K_S"),
        ("Qwen3-8B", ""),
        ("FAQ4_Kmodel", ""),
        ("model", ""),
    ],
)
def test_the_quantisation_is_read_from_the_name(stem: str, label: str) -> None:
    assert label_of(stem) == label


REPO = ("README.md", "config.json", "M-Q2_K.gguf", "M-Q4_K_M.gguf", "M-Q8_0.gguf", "M-f16.gguf", "M.imatrix.gguf")


@pytest.mark.parametrize(
    ("tag", "path"),
    [
        ("latest", "M-Q4_K_M.gguf"),
        ("Q8_0", "M-Q8_0.gguf"),
        ("q8_0", "M-Q8_0.gguf"),
        ("F16", "M-f16.gguf"),
        ("M-Q2_K.gguf", "M-Q2_K.gguf"),
        ("m-q2_k", "M-Q2_K.gguf"),
    ],
)
def test_a_tag_is_a_quantisation_or_a_file_in_any_case(tag: str, path: str) -> None:
    assert model(tag, *REPO) == [path]


@pytest.mark.parametrize(
    ("paths", "path"),
    [
        (("a-Q8_0.gguf", "a-Q5_K_M.gguf", "a-Q2_K.gguf"), "a-Q5_K_M.gguf"),
        (("a-Q2_K.gguf", "a-F16.gguf"), "a-Q2_K.gguf"),
        (("only.gguf", "README.md"), "only.gguf"),
        (("a-XYZ.gguf",), "a-XYZ.gguf"),
        (("a-Q4_K_S.gguf", "a-IQ4_XS.gguf"), "a-Q4_K_S.gguf"),
        (("a-TQ1_0.gguf", "a-Q4_0_4_8.gguf"), "a-Q4_0_4_8.gguf"),
    ],
)
def test_without_a_tag_something_sensible_is_taken(paths: tuple[str, ...], path: str) -> None:
    assert model("latest", *paths) == [path]


def shards(stem: str, count: int) -> tuple[str, ...]:
    return tuple(f"{stem}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1))


def test_parts_come_in_order_whatever_the_order_of_the_listing() -> None:
    paths = shards("UD-Q4_K_XL/Big-UD-Q4_K_XL", 12)
    assert model("ud-q4_k_xl", *reversed(paths), "Big-Q2_K.gguf") == list(paths)
    assert model("Big-UD-Q4_K_XL", *paths) == list(paths)
    assert model(paths[0].partition("/")[2], *paths) == list(paths)


def test_one_file_is_taken_before_the_parts_of_the_same() -> None:
    assert model("Q8_0", *shards("Q8_0/M-Q8_0", 3), "M-Q8_0.gguf") == ["M-Q8_0.gguf"]


def test_a_model_of_which_a_part_is_missing_is_not_taken() -> None:
    error = refusal("Q8_0", *shards("M-Q8_0", 3)[:2])
    assert isinstance(error, InvalidRequest)
    assert error.message == "hf.co/me/repo: of the 3 parts of M-Q8_0 only 2 are there"


def test_what_there_is_is_listed() -> None:
    error = refusal("Q3_K_M", *REPO)
    assert isinstance(error, NotFound)
    assert error.message == "hf.co/me/repo has no 'Q3_K_M'; there are: Q2_K, Q4_K_M, Q8_0, F16"
    assert isinstance(refusal("latest", "model.safetensors"), NotFound)
    assert isinstance(refusal("latest", "mmproj-F16.gguf"), NotFound)


def test_two_models_of_one_quantisation_have_to_be_told_apart() -> None:
    zoo = ("cat-Q4_K_M.gguf", "dog-Q4_K_M.gguf")
    for tag in ("latest", "Q4_K_M"):
        error = refusal(tag, *zoo)
        assert isinstance(error, InvalidRequest)
        assert error.message.endswith("name one of them: cat-Q4_K_M.gguf, dog-Q4_K_M.gguf")
    assert model("dog-Q4_K_M.gguf", *zoo) == ["dog-Q4_K_M.gguf"]


def test_an_own_word_at_the_end_of_a_name_is_a_tag() -> None:
    assert model("int4", "gemma-int4.gguf", "gemma-int8.gguf") == ["gemma-int4.gguf"]
    assert isinstance(refusal("t4", "gemma-int4.gguf"), NotFound)


@pytest.mark.parametrize(
    ("projectors", "expected"),
    [
        (("mmproj-F32.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf"), "mmproj-F16.gguf"),
        (("mmproj-model-f32.gguf",), "mmproj-model-f32.gguf"),
        (("sub/mmproj-F16.gguf", "M-mmproj-Q8_0.gguf"), "M-mmproj-Q8_0.gguf"),
        (("sub/mmproj-F16.gguf",), None),
        ((), None),
    ],
)
def test_a_projector_comes_along(projectors: tuple[str, ...], expected: str | None) -> None:
    found = chosen("Q8_0", "M-Q8_0.gguf", *projectors).projector
    assert (found.path if found else None) == expected


def test_a_projector_beside_the_parts_goes_before_the_one_at_the_top() -> None:
    paths = (*shards("Q8_0/M-Q8_0", 2), "Q8_0/mmproj-BF16.gguf", "mmproj-F16.gguf")
    projector = chosen("Q8_0", *paths).projector
    assert projector is not None
    assert projector.path == "Q8_0/mmproj-BF16.gguf"


def test_small_files_at_the_top_come_along() -> None:
    besides = chosen("latest", "m.gguf", "template", "sub/system", "params", "README.md").besides
    assert [(kind, file.path) for kind, file in besides] == [("template", "template"), ("params", "params")]


PIECES = st.sampled_from(
    [
        "M",
        "Q4_K_M",
        "Q8_0",
        "mmproj",
        "-",
        "_",
        ".",
        "/",
        "00001-of-00002",
        "00000-of-00001",
        "00001-of-00000",
        "imatrix",
        "UD-",
        "F16",
    ]
)
PATHS = st.lists(PIECES, min_size=1, max_size=6).map(lambda pieces: "".join(pieces) + ".gguf")


@given(st.lists(PATHS, max_size=8, unique=True), st.sampled_from(["latest", "Q4_K_M", "M", "F16"]))
def test_whatever_a_repository_has_the_choice_is_of_it_or_an_error(paths: list[str], tag: str) -> None:
    try:
        found = chosen(tag, *paths)
    except (NotFound, InvalidRequest):
        return
    assert found.model
    assert {file.path for file in found.model} <= set(paths)
    assert not any("mmproj" in file.name.lower() for file in found.model)


@pytest.mark.parametrize("name", ["m-00000-of-00001.gguf", "m-00001-of-00000.gguf", "m-00002-of-00001.gguf"])
def test_a_part_of_an_odd_number_is_a_file_like_others(name: str) -> None:
    [one] = candidates([File(name)])
    assert (one.is_whole, one.files) == (True, (File(name),))
    with pytest.raises(NotFound, match=name):
        choose([File(name)], "Q4_0", "hf.co/me/repo")


def test_many_files_are_looked_through_once_each() -> None:
    """A hub may list as many as it likes: a look at every pair of them would take hours."""
    files = [File(f"{number}/{name}") for number in range(20_000) for name in ("mmproj-F16.gguf", "m-Q8_0.gguf")]
    for tag in ("latest", "m-Q8_0.gguf", "Q8_0"):
        assert choose(files, tag, "hf.co/me/repo").model == (File("0/m-Q8_0.gguf"),)
