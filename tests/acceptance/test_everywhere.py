"""A front and servers behind it, each a process of its own: what Ollama's routes and seed 001's do on all of them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import ollama
import pytest
from tests.acceptance.deploying import form, packed, sound, succeeded, told, write_model
from tests.acceptance.serving import Served, eventually, serve
from tools.random_model import write_random_model

from localmodels.client import Client
from localmodels.core.catalog import Model
from localmodels.core.errors import BackendError, InvalidRequest, ModelNotFound
from localmodels.core.library import CreateRequest, Outcome, Progress


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Served]]:
    with serve(home=tmp_path_factory.mktemp("a")) as a, serve(home=tmp_path_factory.mktemp("b")) as b:
        yield a, b


@pytest.fixture(scope="module")
def port() -> int:
    """Where the server `late` will be, and is not yet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def front(behind: tuple[Served, Served], port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("front")
    servers = {"a": behind[0].url, "b": behind[1].url, "late": f"http://127.0.0.1:{port}"}
    (home / "localmodels.toml").write_text(
        "".join(f'[[servers]]\nname = "{name}"\nurl = "{url}"\nkind = "ollama"\n' for name, url in servers.items())
    )
    with serve(home=home) as served:
        yield served


@pytest.fixture
def digest(front: Served, tmp_path: Path) -> str:
    """Weights that were uploaded to the front."""
    with Client(front.url, environ={}) as client:
        return client.upload(write_random_model(tmp_path / "tiny.gguf"))


def names(served: Served) -> list[str]:
    return [str(model["name"]) for model in served.get("/api/tags").json()["models"] if "/" not in model["name"]]


def made(front: Served, digest: str, name: str, *servers: str) -> list[Progress]:
    with Client(front.url, environ={}) as client:
        return list(client.create(CreateRequest(name, files=(("m.gguf", digest),), servers=servers)))


def test_the_sdk_makes_copies_unloads_and_takes_away_on_several(
    front: Served, behind: tuple[Served, Served], digest: str
) -> None:
    steps = made(front, digest, "mine", "a", "b", "local")
    assert steps[-1] == Progress("success")
    for server in ("a", "b", "local"):
        assert [step.status for step in steps if step.server == server][-1] == "success"
    everyone = (front, *behind)
    assert all("mine:latest" in names(served) for served in everyone)
    done = tuple(Outcome(server, "success") for server in ("a", "b"))
    with Client(front.url, environ={}) as client:
        assert client.copy("mine", "yours", server=("a", "b")) == done
        assert [("yours:latest" in names(served)) for served in everyone] == [False, True, True]
        shown, _ = client.show("yours", server="b")
        assert (shown.model.name, shown.model.digest) == ("yours:latest", digest_of(behind[1], "yours"))
        for served in behind:
            served.post("/api/generate", model="yours", keep_alive=60).raise_for_status()
        assert client.unload("yours", server=("a", "b")) == done
        for served in behind:
            eventually(lambda served=served: "yours" not in served.running(), "it is unloaded")  # type: ignore[misc]
        assert client.delete("yours", server=("a", "b")) == done
        assert client.delete("mine", server=("a", "local")) == (Outcome("a", "success"), Outcome("local", "success"))
        assert [("mine:latest" in names(served)) for served in everyone] == [False, False, True]
        with pytest.raises(ModelNotFound):
            client.delete("mine", server=("a", "local"))
        with pytest.raises(BackendError, match=r"1 of 4 servers failed: late: it cannot be reached"):
            client.delete("mine", server="*")
        assert "mine:latest" not in names(behind[1])
        with pytest.raises(InvalidRequest, match="there is no server 'nope'; there are: a, b, late"):
            client.delete("mine", server="nope")


def digest_of(served: Served, name: str) -> str:
    return str(served.post("/api/show", model=name).json()["digest"])


def test_what_is_in_memory_is_asked_of_those_that_are_named(
    front: Served, behind: tuple[Served, Served], digest: str
) -> None:
    made(front, digest, "busy", "b")
    behind[1].post("/api/generate", model="busy", keep_alive=60).raise_for_status()
    answer = front.get("/api/ps?server=*").json()
    assert [(row["name"], row["server"]) for row in answer["models"]] == [("busy:latest", "b")]
    assert [(row["name"], row["server"]) for row in answer["running"]] == [("busy:latest", "b")]
    assert [(row["server"], row["status"]) for row in answer["failures"]] == [("late", "error")]

    def shown() -> list[tuple[str, str]]:
        return [(row["name"], row["server"]) for row in front.get("/api/ps").json()["models"]]

    eventually(lambda: shown() == [("b/busy:latest", "b")], "servers of the file have their names before their models'")
    with ollama.Client(host=front.url) as client:
        assert client._request(ollama.ProcessResponse, "GET", "/api/ps?server=b").models[0].name == "busy:latest"


def test_ollamas_client_hears_all_and_raises_at_the_end(front: Served, digest: str) -> None:
    asked = {"model": "judged", "files": {"m.gguf": digest}, "server": ["late", "a", "b"]}
    heard: list[dict[str, Any]] = []
    with ollama.Client(host=front.url) as client:
        stream = client._request(ollama.ProgressResponse, "POST", "/api/create", json=asked, stream=True)
        with pytest.raises(ollama.ResponseError, match="1 of 3 servers failed: late"):
            heard.extend(line.model_dump() for line in stream)
        with pytest.raises(ollama.ResponseError, match="1 of 3 servers failed: late") as raised:
            client._request(ollama.ProgressResponse, "POST", "/api/create", json={**asked, "stream": False})
        assert raised.value.status_code == 502
        whole = client._request(
            ollama.StatusResponse, "POST", "/api/create", json={**asked, "server": "b", "stream": False}
        )
        assert whole.status == "success"
        assert [model.model for model in client.list().models]
    assert [line["status"] for line in heard].count("success") == 2
    assert [line["status"] for line in heard].count("error") == 1


def test_a_deployment_to_all_is_converted_once_and_a_retry_does_what_is_missing(
    front: Served, behind: tuple[Served, Served], port: int, tmp_path: Path
) -> None:
    pack = packed(write_model(tmp_path / "tuned"), ".zip")
    fields = {"model_name_on_ollama": "spread", "server": "*", "system": "Be brief."}
    story = told(front, "POST", "/models/deploy/", **form(pack, **fields))
    last = story[-1]
    assert not succeeded(story)
    assert "1 of 4 servers failed: late: it cannot be reached" in last.details["msg"]
    assert sum(line.action == "Convert model." for line in story if line.details.get("completed") == 0) <= 1
    rows = {row["server"]: row for row in story[-2].details["servers"]}
    assert {server: row["status"] for server, row in rows.items()} == {
        "local": "success", "a": "success", "b": "success", "late": "error",
    }  # fmt: skip
    assert "cannot be reached" in rows["late"]["failure"]
    before = [digest_of(served, "spread") for served in (front, *behind)]
    asked = [len(served.get("/api/tags").json()["models"]) for served in behind]
    with serve(home=tmp_path / "late", listen=f"127.0.0.1:{port}") as late:
        with httpx2.stream("POST", f"{front.url}/api/tasks/{last.task}/retry", timeout=60) as answer:
            lines = list(answer.iter_lines())
        assert '"Success create model"' in lines[-1]
        assert not any('"server":"a"' in line or '"server":"local"' in line for line in lines)
        assert "spread:latest" in names(late)
        with ollama.Client(host=late.url) as client:
            assert client.generate("spread", "a", options={"num_predict": 2}).eval_count == 2
    assert [digest_of(served, "spread") for served in (front, *behind)] == before
    assert [len(served.get("/api/tags").json()["models"]) for served in behind] == asked
    assert not [name for served in (front, *behind) for name in names(served) if "trial" in name]


def test_a_deployment_names_servers_as_a_list(front: Served, behind: tuple[Served, Served], tmp_path: Path) -> None:
    told(front, "POST", "/models/upload/", **form(packed(write_model(tmp_path / "listed"), ".zip")))
    asked = {"model": "listed", "model_name_on_ollama": "listed", "server": ["a", "local"]}
    assert succeeded(sound(told(front, "POST", "/models/create/", json=asked)))
    assert ["listed:latest" in names(served) for served in (front, *behind)] == [True, True, False]


def test_registered_servers_and_this_machine_are_one_list(
    behind: tuple[Served, Served], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with serve(home=tmp_path_factory.mktemp("registered")) as front:
        for name, served in zip(("Box A", "box-b"), behind, strict=True):
            asked = {"name": name, "url": served.url, "kind": "ollama"}
            answer = httpx2.post(f"{front.url}/api/servers/", json=asked, timeout=60)
            assert answer.status_code == 201, answer.text
        with Client(front.url, environ={}) as client:
            digest = client.upload(write_random_model(tmp_path / "tiny.gguf"))
            steps = client.create(CreateRequest("shared", files=(("m.gguf", digest),), servers=("*",)))
            assert list(steps)[-1] == Progress("success")
            list(client.create(CreateRequest("shared", base="shared", system="Sing.", servers=("box-b",))))

            def shared() -> Model | None:
                return next((model for model in client.list() if model.name == "shared:latest"), None)

            listed = eventually(lambda: (one := shared()) and len({*one.digests.values()}) == 2 and one, "it is listed")
            assert isinstance(listed, Model)
            assert listed.servers == ("local", "box-a", "box-b")
            assert listed.digests["local"] == listed.digests["box-a"] != listed.digests["box-b"]
            assert len([one for one in client.list() if one.name.endswith("shared:latest")]) == 1
            behind[0].post("/api/generate", model="shared", keep_alive=60).raise_for_status()
            eventually(lambda: [row.server for row in client.ps()] == ["box-a"], "it is seen in memory")
            openai = front.get("/v1/models").json()["data"]
            assert [(one["servers"], one["conflict"]) for one in openai if one["id"] == "shared:latest"] == [
                (["local", "box-a", "box-b"], True)
            ]
            assert client.delete("shared", server="Box A") == (Outcome("box-a", "success"),)
            left = {row.server: row.status for row in client.delete("shared", server="*")}
            assert left == {"local": "success", "box-a": "not found", "box-b": "success"}
            eventually(lambda: shared() is None, "nobody has it any more")
