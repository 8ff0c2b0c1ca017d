"""``create``: what a Modelfile means here, what is uploaded, and what is said before a byte is sent."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Shell
from tests.unit.store.ollama_store import write_gguf, write_projector

from localmodels.core.library import CreateRequest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is given."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def gguf(path: Path, more: bytes = b"weights") -> str:
    """A file that looks like one from outside; its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = b"GGUF" + path.name.encode() + more
    path.write_bytes(content)
    return f"sha256:{sha256(content).hexdigest()}"


def asked(shell: Shell) -> CreateRequest:
    """The last thing that was asked of the library."""
    request = shell.server.library[-1]
    assert isinstance(request, CreateRequest)
    return request


def test_a_model_of_another_one(shell: Shell, folder: Path) -> None:
    (folder / "Modelfile").write_text(
        "FROM llama3.2:1b\nSYSTEM Be brief.\nPARAMETER temperature 0.2\nPARAMETER num_keep 24\nMESSAGE user hi\n"
        'TEMPLATE "{{ .Prompt }}"\nLICENSE MIT\nRENDERER r\nPARSER p\nREQUIRES 0.14.0\n'
    )
    done = shell("create", "mine")
    assert (done.code, done.out) == (0, "")
    assert asked(shell) == CreateRequest(
        "mine",
        base="llama3.2:1b",
        system="Be brief.",
        template="{{ .Prompt }}",
        parameters=(("temperature", 0.2), ("num_keep", 24)),
        messages=(("user", "hi"),),
        license=("MIT",),
        renderer="r",
        parser="p",
        requires="0.14.0",
    )
    assert "POST" not in [request.method for request in shell.server.asked if "blobs" in request.url.path]


def test_files_are_uploaded_once_and_named(shell: Shell, folder: Path) -> None:
    weights, adapter = gguf(folder / "deep" / "tiny.gguf"), gguf(folder / "deep" / "style.gguf")
    (folder / "deep" / "My.model").write_text("FROM ./tiny.gguf\nADAPTER style.gguf\n")
    for time in range(2):
        done = shell("create", "mine", "-f", "deep/My.model", "--quantize", "Q4_K_M")
        assert done.code == 0
        assert ("uploading tiny.gguf 100% of 20 B" in done.err) is (time == 0)
        assert ("tiny.gguf is there already" in done.err) is (time == 1)
        assert done.err.endswith("success\n")
        assert asked(shell) == CreateRequest(
            "mine", files=(("tiny.gguf", weights),), adapters=(("style.gguf", adapter),), quantize="Q4_K_M"
        )
    assert set(shell.server.blobs) == {weights, adapter}


def test_a_terminal_gets_a_bar_for_each_file(shell: Shell, folder: Path) -> None:
    gguf(folder / "tiny.gguf", bytes(3_000_000))
    done = shell("create", "mine", "-f", "-", piped="FROM ./tiny.gguf", terminal=True)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.err)
    assert done.code == 0
    for doing in ("reading", "uploading"):
        assert re.search(rf"{doing} tiny\.gguf +━+ 3\.0/3\.0 MB", shown), shown


def test_a_folder_is_all_its_gguf_files(shell: Shell, folder: Path) -> None:
    digests = {name: gguf(folder / "model" / name) for name in ("eyes.gguf", "weights.GGUF")}
    (folder / "model" / "README.md").write_text("read me")
    shell("create", "mine", "-f", "-", piped="FROM model")
    assert dict(asked(shell).files) == digests


def test_a_folder_of_several_models_is_refused_before_anything_is_sent(shell: Shell, folder: Path) -> None:
    (folder / "model").mkdir()
    for name in ("a.gguf", "b.gguf"):
        write_gguf(folder / "model" / name)
    write_projector(folder / "model" / "eyes.gguf")
    (folder / "Modelfile").write_text("FROM ./model\n")
    done = shell("create", "mine")
    assert done.err == "Error: Modelfile, line 1: the folder './model' has 2 models: a.gguf, b.gguf; name one of them\n"
    assert shell.server.asked == []
    (folder / "model" / "b.gguf").unlink()
    assert shell("create", "mine").code == 0


def test_a_split_model_is_all_its_files(shell: Shell, folder: Path) -> None:
    digests = {f"m-0000{number}-of-00003.gguf": gguf(folder / f"m-0000{number}-of-00003.gguf") for number in (1, 2, 3)}
    shell("create", "mine", "-f", "-", piped="FROM ./m-00001-of-00003.gguf")
    assert dict(asked(shell).files) == digests
    (folder / "m-00003-of-00003.gguf").unlink()
    done = shell("create", "mine", "-f", "-", piped="FROM ./m-00001-of-00003.gguf")
    assert (done.code, "line 1" in done.err, "m-00003-of-00003.gguf" in done.err) == (1, True, True)


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(path.name)


SENT = (
    "1_Pooling/config.json", "2_Dense/model.safetensors", "chat_template.jinja", "config.json",
    "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
    "tokenizer.json", "tokenizer.model",
)  # fmt: skip
KEPT = (
    "LICENSE", "README.md", "checkpoint-500/model.safetensors", "checkpoint-500/trainer_state.json",
    "consolidated.safetensors", "weights.gguf", ".cache/x.json",
)  # fmt: skip
PROGRAMS = ("modeling_x.py", "optimizer.pt", "pytorch_model.bin")


def test_of_a_folder_of_safetensors_is_sent_what_ollama_sends(shell: Shell, folder: Path) -> None:
    for name in (*SENT, *KEPT, *PROGRAMS):
        touch(folder / "model" / name)
    done = shell("create", "mine", "-f", "-", "-q", "q8_0", piped="FROM ./model")
    assert done.code == 0
    assert tuple(sorted(name for name, _ in asked(shell).files)) == SENT
    assert "./model: not sent, since they are programs or pickles: " + ", ".join(PROGRAMS) in done.err


def test_an_adapter_of_peft_goes_with_its_configuration(shell: Shell, folder: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "training_args.bin"):
        touch(folder / "style" / name)
    done = shell("create", "mine", "-f", "-", piped="FROM llama3.2\nADAPTER ./style")
    assert (done.code, asked(shell).base) == (0, "llama3.2")
    assert sorted(name for name, _ in asked(shell).adapters) == [
        "adapter_config.json", "adapter_model.safetensors", "tokenizer.json",
    ]  # fmt: skip


def test_the_links_of_hugging_faces_cache_are_followed(shell: Shell, folder: Path) -> None:
    cached = folder / "models--x" / "snapshots" / "1234"
    for name in ("config.json", "model.safetensors"):
        touch(folder / "models--x" / "blobs" / name)
        cached.mkdir(parents=True, exist_ok=True)
        (cached / name).symlink_to(f"../../blobs/{name}")
    assert shell("create", "mine", "-f", "-", piped=f"FROM {cached}").code == 0
    assert len(asked(shell).files) == 2


def test_an_uploaded_blob_by_its_digest(shell: Shell, folder: Path) -> None:
    digest = f"sha256:{'ab' * 32}"
    assert shell("create", "mine", "-f", "-", piped=f"FROM @{digest}").code == 0
    assert asked(shell).files == (("abababababab.gguf", digest),)


def test_a_program_gets_every_step(shell: Shell, folder: Path) -> None:
    gguf(folder / "a.gguf")
    done = shell("create", "mine", "-f", "-", "--json", piped="FROM ./a.gguf")
    steps = [json.loads(line) for line in done.out.splitlines()]
    assert (done.err, steps[-1]["status"]) == ("", "success")
    assert {"reading a.gguf", "uploading a.gguf"} < {step["status"] for step in steps}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nFROM ./gone.gguf", "line 2: there is no file './gone.gguf'"),
        ("FROM gone.gguf", "line 1: there is no file 'gone.gguf'"),
        ("FROM /nowhere", "line 1: there is no file '/nowhere'"),
        ("FROM ~nobody-of-this-name/x.gguf", "line 1: there is no file '~nobody-of-this-name/x.gguf'"),
        ("FROM m\nADAPTER style", "line 2: there is no file 'style'"),
        ("FROM empty", "'empty' has no GGUF files and no safetensors; if a model is meant, write empty:latest"),
        ("FROM tensors/model.safetensors", "line 1: 'tensors/model.safetensors' are weights alone; name the folder"),
        ("FROM m\nADAPTER tensors", "line 2: 'tensors' has no adapter_config.json"),
        ("FROM adapter", "line 1: 'adapter' is an adapter: write ADAPTER adapter"),
        ("FROM pickled", "line 1: pytorch_model.bin: pickles run a program"),
        ("FROM ./pickled/pytorch_model.bin", "is not a GGUF file: pickles run a program"),
        ("FROM linked", "line 1: config.json is a link that leads out of the folder 'linked'"),
        ("FROM ./notes.txt", "line 1: './notes.txt' is not a GGUF file"),
        ("FROM @sha256:abc", "line 1: invalid model name"),
        ("FROM a b", "line 1: invalid model name 'a b'"),
        ("FROM m\nFROM ./a.gguf", "line 1: FROM names a model beside others"),
        ("FROM ./a.gguf\nFROM ./other/a.gguf", "2 files are called 'a.gguf'"),
        ("FROM m\nDRAFT ./a.gguf", "line 2: DRAFT"),
        ("FROM m\nPARAMETER temprature 1", "line 2: unknown parameter 'temprature'; did you mean 'temperature'?"),
        ("FROM m\nPARAMETER temperature hot", "line 2"),
        ("FORM m", "line 1: 'FORM' is not a command"),
        ("SYSTEM hi", "no FROM line"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(shell: Shell, folder: Path, text: str, said: str) -> None:
    for path in ("a.gguf", "other/a.gguf"):
        gguf(folder / path)
    (folder / "empty").mkdir()
    (folder / "tensors").mkdir()
    (folder / "tensors" / "model.safetensors").touch()
    (folder / "notes.txt").write_text("notes")
    for name in ("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "linked/model.safetensors"):
        touch(folder / name)
    (folder / "linked" / "config.json").symlink_to(folder / "notes.txt")
    touch(folder / "pickled" / "pytorch_model.bin")
    done = shell("create", "mine", "-f", "-", piped=text)
    assert (done.code, done.out, shell.server.asked) == (1, "", [])
    assert said in done.err
    assert done.err.count("\n") == 1


def test_a_name_that_is_none_and_a_file_that_is_not_there(shell: Shell, folder: Path) -> None:
    assert "invalid model name '../x'" in shell("create", "../x").err
    assert shell("create", "mine").err == "Error: Modelfile: No such file or directory; name a Modelfile with -f\n"
    assert shell("create", "mine", "-q", "Q4_K_X").err.startswith("Error: unsupported quantization type Q4_K_X")
    assert shell.server.asked == []
