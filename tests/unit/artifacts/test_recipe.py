"""Modelfiles become requests: what they say, what the request says besides, and what a server's may not name."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from localmodels.artifacts.modelfile import Command
from localmodels.artifacts.recipe import Material, create_request, expanded, looks_like_path, read_recipe
from localmodels.core.errors import CallerError, InvalidRequest
from localmodels.core.library import CreateRequest

DIGEST = f"sha256:{'0f' * 32}"
WHOLE = f"""FROM @{DIGEST}
ADAPTER {DIGEST.replace("0", "1")}
TEMPLATE "{{{{ .Prompt }}}}"
SYSTEM Be brief.
PARAMETER temperature 0.5
PARAMETER top_k 7
PARAMETER stop a
PARAMETER stop b
PARAMETER numa true
PARAMETER num_keep 4
PARAMETER tfs_z 0.5
LICENSE MIT
MESSAGE user hi
"""


def asked(text: str, **fields: object) -> CreateRequest:
    return expanded(replace(CreateRequest("mine", modelfile=text), **fields))


def test_a_modelfile_that_was_sent_is_read_into_the_fields() -> None:
    assert asked(WHOLE) == CreateRequest(
        "mine",
        files=(("0f0f0f0f0f0f.gguf", DIGEST),),
        adapters=(("1f1f1f1f1f1f.gguf", DIGEST.replace("0", "1")),),
        template="{{ .Prompt }}",
        system="Be brief.",
        parameters=(
            ("temperature", 0.5),
            ("top_k", 7),
            ("stop", ("a", "b")),
            ("numa", True),
            ("num_keep", 4),
            ("tfs_z", 0.5),
        ),
        messages=(("user", "hi"),),
        license=("MIT",),
    )


def test_what_is_left_out_is_left_to_the_base() -> None:
    assert asked("FROM base") == CreateRequest("mine", base="base")


def test_what_the_request_says_itself_counts_more() -> None:
    own = {
        "base": "other",
        "adapters": (("a", DIGEST),),
        "template": "",
        "system": "Be kind.",
        "parameters": (("top_k", 9), ("seed", 1)),
        "messages": (),
        "license": ("BSD",),
        "quantize": "Q4_0",
        "renderer": "r",
        "requires": "1.0.0",
        "stream": False,
    }
    made = asked(WHOLE, **own)
    expected = (("temperature", 0.5), ("top_k", 9), ("stop", ("a", "b")), ("numa", True), ("num_keep", 4))
    assert made == replace(CreateRequest("mine"), **{**own, "parameters": (*expected, ("tfs_z", 0.5), ("seed", 1))})


def test_a_base_of_the_requests_own_leaves_none_of_the_modelfiles_to_be_found() -> None:
    assert asked(f"FROM a\nFROM @{DIGEST}", base="b").base == "b"


def test_a_request_without_a_modelfile_stays_as_it_is() -> None:
    request = CreateRequest("mine", base="base")
    assert expanded(request) is request


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM /etc/passwd", "line 1: FROM '/etc/passwd' is no uploaded file"),
        ("FROM ~/weights", "write FROM @sha256:"),
        ("\nFROM ../weights.gguf", "line 2"),
        ("FROM weights.gguf", "is no uploaded file"),
        ("FROM m\nADAPTER style", "line 2: ADAPTER 'style' is no uploaded file"),
        ("FROM sha256:", "invalid model name"),
        (f"FROM a\nFROM @{DIGEST}", "line 1: FROM names a model beside others"),
        ("FROM a\nFROM b", "line 2: FROM names a model beside others"),
        (f"FROM @{DIGEST}\nFROM @{DIGEST}", "2 files are called"),
        ("FROM m\nPARAMETER nonsense 1", "line 2: unknown parameter 'nonsense'"),
        ("FROM m\nDRAFT d", "line 2: DRAFT"),
        ("SYSTEM x", "no FROM"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(CallerError) as raised:
        asked(text)
    assert said in raised.value.message


def test_an_adapter_is_a_file() -> None:
    def model(line: Command) -> Material:
        return Material(base=line.value)

    with pytest.raises(InvalidRequest, match="line 2: ADAPTER 'b' is no file"):
        create_request("mine", read_recipe("FROM a\nADAPTER b"), model)


@pytest.mark.parametrize("text", ["./m", "../m", "/m", "~/m", "m.gguf", "a/b.safetensors", r"C:\m", "."])
def test_paths_are_told_from_names(text: str) -> None:
    assert looks_like_path(text)


@pytest.mark.parametrize("text", ["m", "llama3.2:1b", "hf.co/a/b:Q4_K_M", "localhost:5000/a/b:c", "gguf"])
def test_names_are_told_from_paths(text: str) -> None:
    assert not looks_like_path(text)


def test_what_the_request_names_itself_is_not_looked_for_in_its_modelfile() -> None:
    files = (("a.gguf", f"sha256:{'a' * 64}"),)
    made = asked("FROM ./a.gguf\nADAPTER ./style.gguf\nSYSTEM hi", files=files, adapters=files)
    assert (made.files, made.adapters, made.base, made.system) == (files, files, "", "hi")
