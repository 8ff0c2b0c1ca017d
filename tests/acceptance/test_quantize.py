"""``create`` with ``quantize``: what a user asks for, and what a wrong wish, a broken file and a lost client leave."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import ollama
import psutil
import pytest
from tests.acceptance.serving import PATIENCE, Served, eventually, serve
from tests.split_gguf import split_gguf
from tools.random_model import TINY, write_random_model

from localmodels.artifacts.gguf import read_header

# Wide enough for blocks of 256.
SHAPE = replace(TINY, width=256, heads=4, kv_heads=2, head_width=64, feed_forward=512, layers=4)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("files") / "f16.gguf", shape=SHAPE, end_bias=-100)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def served(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    foreign = write_random_model(tmp_path_factory.mktemp("foreign") / "named.gguf", shape=SHAPE, seed=9)
    with serve("--model", f"named={foreign}", home=home) as served:
        yield served


@pytest.fixture
def client(served: Served) -> Iterator[ollama.Client]:
    with ollama.Client(host=served.url) as client:
        yield client


@pytest.fixture(scope="module")
def uploaded(served: Served, file: Path) -> str:
    with ollama.Client(host=served.url) as client:
        return str(client.create_blob(file))


def children(served: Served) -> list[psutil.Process]:
    """Processes that quantise."""
    return [child for child in served.runners() if any("quantizer" in word for word in words_of(child))]


def words_of(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


@pytest.mark.parametrize("asked", ["q4_K_M", "Q8_0", "Q4_0"])
def test_a_model_becomes_smaller_and_answers(client: ollama.Client, uploaded: str, file: Path, asked: str) -> None:
    steps = list(client.create("small", files={"f16.gguf": uploaded}, quantize=asked, system="Be brief.", stream=True))
    quantizing = [step for step in steps if step.status == f"quantizing F16 model to {asked.upper()}"]
    counted = [step.completed or 0 for step in quantizing]
    assert counted == sorted(counted)
    assert {step.total for step in quantizing} == {file.stat().st_size}
    assert (steps[-2].status, steps[-1].status) == ("writing manifest", "success")
    shown = client.show("small")
    assert shown.details is not None
    assert shown.details.quantization_level == asked.upper()
    model = next(model for model in client.list().models if model.model == "small:latest")
    assert (model.size or 0) < 0.6 * file.stat().st_size
    assert client.generate("small", "a", options={"num_predict": 3}).eval_count == 3


def test_a_model_of_the_library_is_quantized_without_touching_it(client: ollama.Client, uploaded: str) -> None:
    client.create("whole", files={"f16.gguf": uploaded}, parameters={"top_k": 7})
    client.create("part", from_="whole", quantize="Q5_K_M")
    assert level(client, "whole") == "F16"
    assert level(client, "part") == "Q5_K_M"
    assert "top_k" in (client.show("part").parameters or "")


def test_a_model_on_another_shelf_is_read_where_it_lies(client: ollama.Client, home: Path) -> None:
    before = models_in(home)
    client.create("near", from_="named", quantize="Q8_0")
    assert level(client, "near") == "Q8_0"
    brought = models_in(home)
    assert [read_header(blob).quantization_level for blob in brought - before] == ["Q8_0"]
    client.create("nearer", from_="named", quantize="F16")  # it is: there is nothing to compute
    assert [read_header(blob).quantization_level for blob in models_in(home) - brought] == ["F16"]


def models_in(home: Path) -> set[Path]:
    """The blobs that are models."""
    return {blob for blob in (home / "models" / "blobs").glob("sha256-*") if is_gguf(blob)}


def is_gguf(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(4) == b"GGUF"


def test_the_parts_of_a_split_model_are_merged_first(client: ollama.Client, file: Path, tmp_path: Path) -> None:
    parts = {part.name: client.create_blob(part) for part in split_gguf(file, tmp_path)}
    assert len(parts) > 1
    client.create("of-parts", files=parts, quantize="Q4_0")
    client.create("of-one", files={"f16.gguf": client.create_blob(file)}, quantize="Q4_0")
    one, other = (model for model in client.list().models if model.model in {"of-parts:latest", "of-one:latest"})
    assert one.digest == other.digest


def level(client: ollama.Client, name: str) -> str:
    details = client.show(name).details
    assert details is not None
    return details.quantization_level or ""


def test_to_ask_for_what_it_is_changes_nothing(client: ollama.Client, uploaded: str) -> None:
    client.create("once", files={"f16.gguf": uploaded}, quantize="Q8_0")
    steps = [step.status or "" for step in client.create("twice", from_="once", quantize="Q8_0", stream=True)]
    assert steps[-1] == "success"
    assert not [status for status in steps if status.startswith("quantizing")]
    first, second = (model.digest for model in client.list().models if model.model in {"once:latest", "twice:latest"})
    assert first == second


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("Q4_X", "unsupported quantization type Q4_X - supported types are F32"),
        ("IQ2_XS", "IQ2_XS needs an importance matrix"),
        ("COPY", "unsupported quantization type COPY"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(served: Served, uploaded: str, asked: str, said: str) -> None:
    answer = served.post("/api/create", model="no", files={"a.gguf": uploaded}, quantize=asked, stream=False)
    assert (answer.status_code, said in answer.json()["error"]) == (400, True), answer.text
    assert served.post("/api/show", model="no").status_code == 404


def test_what_is_quantized_is_not_quantized_again(served: Served, client: ollama.Client, uploaded: str) -> None:
    client.create("eight", files={"f16.gguf": uploaded}, quantize="Q8_0")
    answer = served.post("/api/create", model="no", **{"from": "eight"}, quantize="Q4_K_M", stream=False)
    assert answer.status_code == 400
    assert "quantization is only supported for F16, BF16 and F32 models" in answer.json()["error"]


def test_weights_that_are_no_numbers_are_named(
    served: Served, client: ollama.Client, file: Path, home: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    tensor = next(one for one in read_header(file).tensors if one.name == "blk.3.ffn_up.weight")
    content = bytearray(file.read_bytes())
    content[tensor.offset + 100 : tensor.offset + 102] = struct.pack("<e", float("nan"))
    broken.write_bytes(content)
    digest = client.create_blob(broken)
    answer = served.post("/api/create", model="no", files={"a.gguf": digest}, quantize="Q4_0", stream=False)
    assert answer.status_code == 400
    assert "'blk.3.ffn_up.weight' has weights that are infinite or not a number" in answer.json()["error"]
    eventually(lambda: not list(home.rglob("*.tmp")), "nothing unfinished is left")
    assert not children(served)


def test_a_client_that_leaves_ends_the_work(served: Served, home: Path, tmp_path: Path) -> None:
    big = write_random_model(tmp_path / "big.gguf", shape=replace(SHAPE, layers=24, feed_forward=2048), seed=5)
    with ollama.Client(host=served.url) as client:
        digest = client.create_blob(big)
    body = {"model": "left", "files": {"a.gguf": digest}, "quantize": "IQ4_NL"}
    with httpx2.stream("POST", f"{served.url}/api/create", json=body, timeout=PATIENCE) as answer:
        lines = answer.iter_lines()
        while not next(lines).startswith('{"status":"quantizing'):
            pass
        assert len(children(served)) == 1
    eventually(lambda: not children(served), "the child is gone")
    eventually(lambda: not list(home.rglob("*.tmp")), "what it wrote is gone")
    assert served.post("/api/show", model="left").status_code == 404
