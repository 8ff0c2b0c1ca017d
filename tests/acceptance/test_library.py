"""The library through Ollama's own client: upload, create, copy, delete; and what must not be touched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx2
import ollama
import pytest
from tests.acceptance.serving import Served, serve
from tests.registry.docker import ABSENT, PROGRAM, docker_registry
from tools.random_model import write_random_model


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("files") / "tiny.gguf", end_bias=-100)


@pytest.fixture(scope="module")
def served(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve("--model", f"named={file}", home=tmp_path_factory.mktemp("home")) as served:
        yield served


@pytest.fixture
def client(served: Served) -> Iterator[ollama.Client]:
    with ollama.Client(host=served.url) as client:
        yield client


def names(client: ollama.Client) -> set[str]:
    return {model.model or "" for model in client.list().models}


@pytest.fixture(scope="module")
def uploaded(served: Served, file: Path) -> str:
    """The digest of a file that was uploaded once."""
    with ollama.Client(host=served.url) as client:
        return str(client.create_blob(file))


def test_a_blob_is_taken_once_and_known_afterwards(served: Served, file: Path, uploaded: str) -> None:
    assert uploaded == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    assert httpx2.head(f"{served.url}/api/blobs/{uploaded}").status_code == 200
    assert httpx2.head(f"{served.url}/api/blobs/sha256:{'0' * 64}").status_code == 404
    assert httpx2.post(f"{served.url}/api/blobs/{uploaded}", content=file.read_bytes()).status_code == 201


@pytest.mark.parametrize(
    ("digest", "content", "status"),
    [(f"sha256:{'0' * 64}", b"other", 400), ("sha256:..%2F..%2Fx", b"x", 404), ("md5:aa", b"x", 422)],
)
def test_what_is_not_what_it_says_is_not_kept(served: Served, digest: str, content: bytes, status: int) -> None:
    answer = httpx2.post(f"{served.url}/api/blobs/{digest}", content=content)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert httpx2.head(f"{served.url}/api/blobs/sha256:{'0' * 64}").status_code == 404


def test_a_model_is_made_of_an_uploaded_file(client: ollama.Client, uploaded: str) -> None:
    steps = list(
        client.create(
            "mine",
            files={"tiny.gguf": uploaded},
            system="Be brief.",
            template="{{ .System }}{{ .Prompt }}",
            parameters={"temperature": 0.5, "stop": ["END"]},
            messages=[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}],
            license=["MIT"],
            stream=True,
        )
    )
    assert steps[-1].status == "success"
    assert [step.status for step in steps].count("success") == 1
    shown = client.show("mine")
    assert (shown.template, shown.license) == ("{{ .System }}{{ .Prompt }}", "MIT")
    assert 'stop                           "END"' in (shown.parameters or "")
    assert client.generate("mine", "a", raw=True, options={"num_predict": 3}).eval_count == 3
    assert "mine:latest" in names(client)


def test_a_model_is_made_of_another_and_takes_over_what_is_not_said(client: ollama.Client, uploaded: str) -> None:
    client.create("base", files={"a.gguf": uploaded}, system="Old.", parameters={"top_k": 7, "seed": 1})
    client.create("child", from_="base", system="New.", parameters={"seed": 2})
    shown = client.show("child")
    assert "New." in (shown.modelfile or "")
    parameters = dict(line.split() for line in (shown.parameters or "").splitlines())
    assert (parameters["top_k"], parameters["seed"]) == ("7", "2")


def test_a_model_on_another_shelf_can_be_a_base(client: ollama.Client) -> None:
    client.create("copied", from_="named", system="Hi.")
    client.create("tiny-helper", from_="localmodels", system="You are small.")
    assert {"copied:latest", "tiny-helper:latest"} <= names(client)
    assert client.chat("copied", [{"role": "user", "content": "a"}], options={"num_predict": 2}).eval_count == 2


def test_copies_and_deletions(client: ollama.Client, uploaded: str) -> None:
    client.create("one", files={"a.gguf": uploaded})
    assert client.copy("one", "team/two:v1").status == "success"
    assert client.copy("one", "team/two:v1").status == "success"  # again changes nothing
    assert client.delete("one").status == "success"
    assert "one:latest" not in names(client)
    assert client.generate("team/two:v1", "a", raw=True, options={"num_predict": 1}).done
    client.delete("team/two:v1")
    with pytest.raises(ollama.ResponseError) as gone:
        client.delete("team/two:v1")
    assert gone.value.status_code == 404
    with pytest.raises(ollama.ResponseError):
        client.generate("one", "a")


def test_the_last_name_takes_its_files_along(client: ollama.Client, served: Served, tmp_path: Path) -> None:
    lonely = client.create_blob(write_random_model(tmp_path / "lonely.gguf", seed=7))
    client.create("first", files={"a.gguf": lonely})
    client.copy("first", "second")
    client.delete("first")
    assert httpx2.head(f"{served.url}/api/blobs/{lonely}").status_code == 200
    client.delete("second")
    assert httpx2.head(f"{served.url}/api/blobs/{lonely}").status_code == 404


def test_a_deletion_that_is_repeated_deletes_nothing_else(client: ollama.Client, uploaded: str) -> None:
    for name in ("kept:latest", "kept:v1"):
        client.create(name, files={"a.gguf": uploaded})
    client.delete("kept")
    for name in ("kept", "ollama/kept:v1", "llama"):  # the only tag left, a prefix, the default model
        with pytest.raises(ollama.ResponseError) as refused:
            client.delete(name)
        assert refused.value.status_code == 404
    assert "kept:v1" in names(client)
    client.delete("KEPT:V1")
    assert "kept:v1" not in names(client)


def test_what_is_not_ours_is_not_deleted(client: ollama.Client, file: Path) -> None:
    for name in ("named", "localmodels"):
        with pytest.raises(ollama.ResponseError) as refused:
            client.delete(name)
        assert refused.value.status_code == 409
    assert file.exists()
    assert {"named:latest", "localmodels:latest"} <= names(client)


def test_what_is_wrong_is_said_before_anything_is_made(client: ollama.Client, uploaded: str, served: Served) -> None:
    before = names(client)
    wrong: list[tuple[dict[str, object], int, str]] = [
        ({"from": "nobody"}, 404, "nobody"),
        ({"from": "localmodels", "files": {"a.gguf": uploaded}}, 400, "from and files"),
        ({"files": {"a.gguf": f"sha256:{'0' * 64}"}}, 400, "not here"),
        ({"files": {"a.gguf": "sha256:zz"}}, 422, "digest"),
        ({"files": {"a.gguf": uploaded}, "template": "{{ if }}"}, 400, "line 1"),
        ({"files": {"a.gguf": uploaded}, "parameters": {"temperature": 99}}, 422, "temperature"),
        ({"files": {"a.gguf": uploaded}, "parameters": {"temprature": 1}}, 422, "temprature"),
        ({"files": {"a.gguf": uploaded}, "adapters": {"b.gguf": uploaded}}, 400, "not an adapter"),
        ({"files": {"a.gguf": uploaded}, "model": "../x"}, 422, "model name"),
        ({}, 400, "neither"),
    ]
    for fields, status, word in wrong:
        answer = served.post("/api/create", **{"model": "wrong", "stream": False, **fields})
        assert (answer.status_code, word in answer.json()["error"]) == (status, True), answer.text
    assert names(client) == before


def test_a_file_that_is_no_model_is_refused_by_name(client: ollama.Client, served: Served, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF but not really")
    digest = client.create_blob(bad)
    answer = served.post("/api/create", model="bad", files={"bad.gguf": digest}, stream=False)
    assert answer.status_code == 400
    assert "bad.gguf" in answer.json()["error"]
    assert "bad:latest" not in names(client)


# A registry: Debian's own, the same program that Docker's users run.


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of one that takes everything."""
    if PROGRAM is None:
        pytest.skip(ABSENT)
    with docker_registry(tmp_path_factory.mktemp("registry"), login=False) as url:
        yield url.removeprefix("http://")


def test_a_model_goes_to_a_registry_and_comes_back(client: ollama.Client, uploaded: str, registry: str) -> None:
    name = f"{registry}/team/tiny:v1"
    client.create(name, files={"a.gguf": uploaded}, system="Travels.", parameters={"top_k": 3})
    before = client.show(name)
    sent = [step.status for step in client.push(name, insecure=True, stream=True)]
    assert (sent[0], sent[-1]) == ("retrieving manifest", "success")
    digest = next(model.digest for model in client.list().models if model.model == name)
    client.delete(name)
    steps = list(client.pull(name, insecure=True, stream=True))
    said = [step.status or "" for step in steps]
    assert said[0] == "pulling manifest"
    assert said[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    weights = [step for step in steps if step.digest == uploaded]
    assert weights[-1].completed == weights[-1].total
    assert weights[0].status == f"pulling {uploaded[7:19]}"
    assert next(model.digest for model in client.list().models if model.model == name) == digest
    assert (client.show(name).modelfile, client.show(name).parameters) == (before.modelfile, before.parameters)
    assert client.generate(name, "a", raw=True, options={"num_predict": 2}).eval_count == 2
    assert client.pull(name, insecure=True).status == "success"  # again, with everything here


def test_another_server_pulls_what_this_one_pushed(
    client: ollama.Client, uploaded: str, registry: str, tmp_path: Path
) -> None:
    name = f"{registry}/team/shared"
    client.create(name, files={"a.gguf": uploaded})
    assert client.push(name, insecure=True).status == "success"
    with serve(home=tmp_path) as other, ollama.Client(host=other.url) as there:
        assert there.pull(name, insecure=True).status == "success"
        assert there.generate(name, "a", raw=True, options={"num_predict": 2}).eval_count == 2
        blob = tmp_path / "models" / "blobs" / uploaded.replace(":", "-")
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == uploaded[7:]


def test_what_a_registry_does_not_have_is_not_found(served: Served, registry: str) -> None:
    answer = served.post("/api/pull", model=f"{registry}/team/nothing", insecure=True, stream=False)
    assert answer.status_code == 404
    lines = served.post("/api/pull", model=f"{registry}/team/nothing", insecure=True).text.splitlines()
    assert "not found" in lines[-1]
    assert not any("success" in line for line in lines)


@pytest.mark.parametrize("host", ["169.254.169.254", "0.0.0.0:80", "[::1]", "metadata.google.internal"])
def test_places_that_nobody_means_are_not_asked(served: Served, host: str) -> None:
    answer = served.post("/api/pull", model=f"{host}/a/b:c", insecure=True, stream=False)
    assert answer.status_code in {403, 422}
