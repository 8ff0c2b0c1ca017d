"""``create`` of folders of safetensors: what Ollama's clients send becomes a model that answers, or is refused."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import ollama
import psutil
import pytest
from tests.acceptance.serving import PATIENCE, Served, environment, eventually, serve
from tests.hostile_folders.bases import adapter_tensors, write_adapted, write_bert
from tests.weight_folders import LLAMA, llama_tensors, safetensors, write_folder
from tools.random_model import write_random_model

from localmodels.artifacts.gguf import read_header

CONTEXT = 4096


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[Served]:
    with serve(home=home) as served:
        yield served


@pytest.fixture
def client(served: Served) -> Iterator[ollama.Client]:
    with ollama.Client(host=served.url) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a training run left, with an adapter for it in ``adapter/``."""
    place = tmp_path / "folder"
    write_adapted(place)
    return write_folder(place, max_position_embeddings=CONTEXT)


def uploaded(client: ollama.Client, place: Path) -> dict[str, str]:
    """The files of a folder, by their names in it, as Ollama's command line sends them."""
    return {
        path.relative_to(place).as_posix(): str(client.create_blob(path))
        for path in sorted(place.rglob("*"))
        if path.is_file() and "adapter" not in path.relative_to(place).parts
    }


def computed(client: ollama.Client, model: str) -> Sequence[float]:
    """What a model computes of a text; its words would be bytes that are no text, mostly."""
    [vector] = client.embed(model, "in the thin").embeddings
    assert math.isclose(math.hypot(*vector), 1.0, rel_tol=1e-3)
    return vector


def apart(first: Sequence[float], second: Sequence[float]) -> float:
    """The largest difference."""
    return max(abs(one - other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("asked", ["", "q8_0", "Q4_0", "bf16"])
def test_a_folder_becomes_a_model_that_answers(client: ollama.Client, folder: Path, asked: str) -> None:
    steps = list(client.create("mine", files=uploaded(client, folder), quantize=asked or None, stream=True))
    told = [step.status for step in steps]
    assert told[:2] == ["reading model metadata", "converting model"]
    assert told[-2:] == ["writing manifest", "success"]
    assert (f"quantizing F32 model to {asked.upper()}" in told) is bool(asked)
    details = client.show("mine").details
    assert details is not None
    assert (details.format, details.family, details.quantization_level) == ("gguf", "llama", asked.upper() or "F32")
    answer = client.chat("mine", [{"role": "user", "content": "Hello"}], options={"num_predict": 5})
    assert 1 <= (answer.eval_count or 0) <= 5


def test_what_the_folder_says_besides_weights_counts_and_the_request_more(client: ollama.Client, folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": True, "temperature": 0.6, "top_k": 7}))
    (folder / "LICENSE").write_text("Do what you want.\n")
    (folder / "chat_template.jinja").write_text("{% for m in messages %}<|begin|>{{ m.content }}{% endfor %}")
    files = uploaded(client, folder)
    client.create("mine", files=files)
    shown = client.show("mine")
    assert shown.template == "{% for m in messages %}<|begin|>{{ m.content }}{% endfor %}"
    assert shown.license == "Do what you want."
    assert dict(line.split() for line in (shown.parameters or "").splitlines()) == {"temperature": "0.6", "top_k": "7"}
    client.create("mine", files=files, parameters={"top_k": 3}, license="MIT", system="Be brief.")
    shown = client.show("mine")
    assert shown.license == "MIT"
    assert "SYSTEM Be brief." in (shown.modelfile or "")
    assert dict(line.split() for line in (shown.parameters or "").splitlines()) == {"temperature": "0.6", "top_k": "3"}


def test_an_embedding_model_embeds(client: ollama.Client, tmp_path: Path) -> None:
    write_bert(tmp_path / "bert")
    steps = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling")]
    modules = [
        {"name": name, "path": path, "type": f"sentence_transformers.models.{kind}"} for name, path, kind in steps
    ]
    (tmp_path / "bert" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "bert" / "1_Pooling").mkdir()
    (tmp_path / "bert" / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    files = uploaded(client, tmp_path / "bert")
    assert "1_Pooling/config.json" in files
    client.create("vectors", files=files, quantize="f16")
    [vector] = client.embed("vectors", "hello").embeddings
    assert math.isclose(math.hypot(*vector), 1.0, rel_tol=1e-3)
    assert (client.show("vectors").modelinfo or {})["bert.pooling_type"] == 2  # the first token's


def test_an_adapter_computes_the_same_on_a_model_on_its_folder_and_in_it(client: ollama.Client, folder: Path) -> None:
    files, adapters = uploaded(client, folder), uploaded(client, folder / "adapter")
    client.create("base", files=files)
    told = [step.status for step in client.create("onto", from_="base", adapters=adapters, stream=True)]
    assert "converting adapter" in told
    client.create("beside", files=files, adapters=adapters)
    bare, onto, beside = (computed(client, name) for name in ("base", "onto", "beside"))
    assert apart(bare, onto) > 1e-2
    assert apart(onto, beside) < 1e-5
    merged = merged_by_hand(folder)
    client.create("within", files=uploaded(client, merged))
    assert apart(onto, computed(client, "within")) < 1e-3  # keys and values are kept in 16 bits


def merged_by_hand(folder: Path) -> Path:
    """The folder with the adapter in its weights."""
    tensors, halves = llama_tensors(), adapter_tensors()
    a, b = (weights for _, weights in sorted(halves.items()))
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors[name] = (tensors[name] + 2.0 * (b @ a)).astype(np.float32)
    return write_folder(folder.parent / "merged", tensors=tensors, max_position_embeddings=CONTEXT)


def test_an_adapter_that_must_be_merged_is_where_its_folder_is_there(
    served: Served, client: ollama.Client, folder: Path
) -> None:
    rooted = {name: weights * 0.5 for name, weights in llama_tensors().items() if name == "model.norm.weight"}
    saved = {f"base_model.model.{name}": weights for name, weights in rooted.items()}
    weights = folder / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(safetensors(adapter_tensors() | saved))
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config | {"modules_to_save": ["norm"]}))
    files, adapters = uploaded(client, folder), uploaded(client, folder / "adapter")
    client.create("base", files=files)
    answer = served.post("/api/create", model="no", **{"from": "base"}, adapters=adapters, stream=False)
    assert answer.status_code == 400
    assert "must be merged into its base" in answer.json()["error"]
    assert "give the base as a folder of safetensors" in answer.json()["error"]
    client.create("merged", files=files, adapters=adapters, quantize="Q8_0")
    shown = client.show("merged")
    assert "adapters" not in shown.model_dump() or not shown.model_dump()["adapters"]
    assert apart(computed(client, "base"), computed(client, "merged")) > 1e-2


def test_the_command_line_brings_a_folder_and_its_adapter(served: Served, client: ollama.Client, folder: Path) -> None:
    (folder / "modeling_x.py").write_text("raise SystemExit")
    (folder / "optimizer.pt").write_bytes(b"\x80\x04")
    (folder / "Modelfile").write_text("FROM .\nADAPTER ./adapter\nSYSTEM Be brief.\n")
    done = subprocess.run(
        [sys.executable, "-m", "localmodels", "create", "cli", "-f", str(folder / "Modelfile"), "-q", "Q8_0"],
        env={**environment(), "LOCALMODELS_HOST": served.url},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "not sent, since they are programs or pickles: modeling_x.py, optimizer.pt" in done.stderr
    assert client.show("cli").model_dump()["details"]["quantization_level"] == "Q8_0"
    assert client.generate("cli", "a", options={"num_predict": 2}).eval_count == 2


def cut(place: Path) -> None:
    path = place / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def pickled(place: Path) -> None:
    (place / "model.safetensors").rename(place / "pytorch_model.bin")


def disguised(place: Path) -> None:
    (place / "model.safetensors").write_bytes(b"\x80\x04\x95" + bytes(200))


def unknown(place: Path) -> None:
    (place / "config.json").write_text(json.dumps({**LLAMA, "architectures": ["EvilForCausalLM"]}))


def infinite(place: Path) -> None:
    tensors = llama_tensors()
    tensors["model.norm.weight"][3] = np.inf
    (place / "model.safetensors").write_bytes(safetensors(tensors))


def without_config(place: Path) -> None:
    (place / "config.json").unlink()


def deep(place: Path) -> None:
    (place / "config.json").write_text("[" * 100_000)


HOSTILE: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "cut": (cut, "outside of the file's"),
    "pickled": (pickled, "pytorch_model.bin: pickles run a program"),
    "disguised": (disguised, "model.safetensors: this is a pickle"),
    "unknown": (unknown, "models of class 'EvilForCausalLM' cannot be converted; known are"),
    "infinite": (infinite, "tensor 'model.norm.weight' has weights that are infinite or not a number"),
    "without_config": (without_config, "config.json is missing"),
    "deep": (deep, "config.json: not JSON"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_folder_is_refused_and_nothing_is_left(
    served: Served, client: ollama.Client, folder: Path, home: Path, kind: str
) -> None:
    change, says = HOSTILE[kind]
    client.create("serving", files=uploaded(client, folder))
    serving = client.show("serving").modelinfo
    change(folder)
    files = uploaded(client, folder)
    before = models_in(home)
    answer = served.post("/api/create", model="serving", files=files, stream=False)
    assert (answer.status_code, says in answer.json()["error"]) == (400, True), answer.text
    assert client.show("serving").modelinfo == serving
    assert models_in(home) == before
    assert not unfinished(home)
    assert not converters(served)
    assert served.get("/health").status_code == 200


@pytest.mark.parametrize("name", ["/etc/passwd", "../config.json", "a/../../b.json", "", "a//b"])
def test_a_file_is_named_within_its_folder(served: Served, name: str) -> None:
    digest = f"sha256:{'0' * 64}"
    answer = served.post("/api/create", model="no", files={"model.safetensors": digest, name: digest}, stream=False)
    assert (answer.status_code, "file path must be relative" in answer.json()["error"]) == (400, True)


def test_what_does_not_go_together_is_refused(served: Served, client: ollama.Client, folder: Path) -> None:
    files, adapters = uploaded(client, folder), uploaded(client, folder / "adapter")
    for body, says in (
        ({"files": {**files, "x.gguf": files["config.json"]}}, "x.gguf is GGUF and others are safetensors"),
        ({"files": adapters}, "these are of an adapter"),
        ({"files": files, "quantize": "Q9"}, "unsupported quantization type Q9"),
        ({"files": {**files, "x.json": f"sha256:{'0' * 64}"}}, "is not here, or is damaged; upload it first"),
        ({"artifact": "nothing"}, "artifact 'nothing' not found"),
        ({"artifact": "nothing", "files": files}, "artifact and files"),
    ):
        answer = served.post("/api/create", model="no", **body, stream=False)
        assert answer.status_code in {400, 404}
        assert says in answer.json()["error"]


def test_a_client_that_leaves_ends_the_child(served: Served, home: Path, tmp_path: Path) -> None:
    place = write_folder(tmp_path / "big", tensors=llama_tensors(layers=60), num_hidden_layers=60)
    with ollama.Client(host=served.url) as client:
        files = uploaded(client, place)
        before = models_in(home)
        steps = client.create("left", files=files, quantize="IQ4_NL", stream=True)
        while next(steps).status != "converting model":
            pass
        assert len(converters(served)) == 1
    del steps
    eventually(lambda: not converters(served), "the child is gone")
    eventually(lambda: not unfinished(home), "what it wrote is gone")
    assert models_in(home) == before
    assert served.post("/api/show", model="left").status_code == 404


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_server_itself_never_loads_numpy(served: Served, client: ollama.Client, folder: Path) -> None:
    client.create("mine", files=uploaded(client, folder))
    loaded = Path(f"/proc/{served.pid}/maps").read_text()
    assert "msgspec" in loaded
    assert "numpy" not in loaded


def unfinished(home: Path) -> list[str]:
    """Files that somebody is writing; directories may go while they are looked at."""
    return [file for _, _, files in os.walk(home) for file in files if file.endswith(".tmp")]


def converters(served: Served) -> list[psutil.Process]:
    """Processes that convert."""
    return [child for child in served.runners() if any("converter" in word for word in words_of(child))]


def words_of(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


def models_in(home: Path) -> set[Path]:
    """The blobs that are models."""
    return {blob for blob in (home / "models" / "blobs").glob("sha256-*") if is_gguf(blob)}


def is_gguf(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(4) == b"GGUF" and bool(read_header(file).architecture)


def test_a_gguf_file_may_be_called_a_bin(client: ollama.Client, served: Served, tmp_path: Path) -> None:
    file = write_random_model(tmp_path / "ggml-model.bin")
    client.create("binned", files={file.name: client.create_blob(file)})
    assert client.generate("binned", "a", options={"num_predict": 1}).eval_count == 1
    file.write_bytes(b"\x80\x04")
    files = {file.name: client.create_blob(file)}
    answer = served.post("/api/create", model="no", files=files, stream=False)
    assert (answer.status_code, "pickles run a program" in answer.json()["error"]) == (400, True)
