"""Seed 001 on the started program: what a training run left is uploaded, becomes a model, answers, and is deleted."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import ollama
import pytest
from tests.acceptance.deploying import (
    CONTEXT,
    CREATE,
    DELETE,
    DEPLOY,
    UPLOAD,
    Line,
    asked,
    digest,
    drafts,
    follows,
    form,
    halted,
    packed,
    refused,
    sound,
    succeeded,
    told,
    tree,
    write_broad,
    write_model,
)
from tests.acceptance.serving import PATIENCE, Served, eventually, serve
from tests.hostile_folders.bases import ADAPTER, adapter_tensors
from tests.weight_folders import WIDTH, llama_tensors, safetensors, write_folder
from tools.random_model import write_random_model

MADE: dict[str, str] = {"model": "tuned", "model_name_on_ollama": "mine"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[Served]:
    servers = '[[servers]]\nname = "far"\nurl = "http://127.0.0.1:9"\nkind = "openai"\nmodels = ["m"]\n'
    (home / "localmodels.toml").write_text(servers)
    with serve(home=home) as served:
        yield served


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder, packed."""
    return packed(write_model(tmp_path_factory.mktemp("folders") / "tuned"), ".zip")


@pytest.fixture(scope="module")
def uploaded(served: Served, tuned: Path) -> str:
    """The name of an artifact that is there."""
    assert succeeded(told(served, "POST", "/models/upload/", **form(tuned, "kept.zip")))
    return "kept"


@pytest.fixture(scope="module")
def broad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(write_broad(tmp_path_factory.mktemp("folders") / "broad"), ".zip")


def answers(served: Served, model: str) -> bool:
    """Does it, to Ollama's own client?"""
    with ollama.Client(host=served.url) as client:
        answer = client.chat(model, [{"role": "user", "content": "Hello"}], options={"num_predict": 5})
        return 1 <= (answer.eval_count or 0) <= 5


def artifacts(served: Served) -> dict[str, Line]:
    """What is listed, by name."""
    with asked(served, "GET", "/models/") as story:
        lines = list(story.lines)
    return {str(line.details["model"]): line for line in lines}


# The stories


def test_upload_list_create_and_delete_are_told_in_the_seed_s_words(served: Served, tuned: Path) -> None:
    story = told(served, "POST", "/models/upload/", **form(tuned))
    assert follows(story, UPLOAD)
    assert {line.details["model"] for line in story} == {"tuned.zip"}
    listed = artifacts(served)
    assert [line.ratio for line in listed.values()] == [(place + 1) / len(listed) for place in range(len(listed))]
    assert {(line.status, line.action) for line in listed.values()} == {(200, "Get model.")}
    assert (listed["tuned"].details["kind"], listed["tuned"].details["source"]) == ("model", "tuned.zip")
    story = told(served, "POST", "/models/create/", json={**MADE, "quantize": "Q8_0", "system": "Be brief."})
    assert follows(story, CREATE)
    assert {line.details["model"] for line in story} == {"tuned"}
    assert story[-1].details["model_name_on_ollama"] == "mine"
    actions = [line.action for line in story]
    assert actions.index("Start structure template") < actions.index("Verify model.") < actions.index("Publish model.")
    assert answers(served, "mine")
    shown = served.post("/api/show", model="mine").json()
    assert (shown["details"]["quantization_level"], "SYSTEM Be brief." in shown["modelfile"]) == ("Q8_0", True)
    story = told(served, "DELETE", "/models/", json={"model": "tuned"})
    assert [(line.action, line.ratio) for line in story] == list(DELETE)
    assert {line.details["model_name"] for line in story} == {"tuned"}
    assert "tuned" not in artifacts(served)
    assert answers(served, "mine")
    assert served.get("/api/tasks").json()["tasks"][0]["state"] == "succeeded"


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.zst", ".gguf"])
def test_a_folder_is_deployed_however_it_is_packed(served: Served, tmp_path: Path, suffix: str) -> None:
    place = tmp_path / "folder"
    pack = write_random_model(tmp_path / "folder.gguf") if suffix == ".gguf" else packed(write_model(place), suffix)
    name = suffix.removeprefix(".").replace(".", "-")
    story = told(served, "POST", "/models/deploy/", **form(pack, f"{name}{suffix}", model_name_on_ollama=name))
    assert follows(story, DEPLOY)
    halves = [line for line in story if line.ratio <= 0.5]
    assert {line.details["model"] for line in halves} == {f"{name}{suffix}"}
    assert {line.details["model"] for line in story[len(halves) :]} == {name}
    assert story[-1].details["model_name_on_ollama"] == name
    assert answers(served, name)


def test_the_same_file_deployed_twice_is_loaded_once_and_leaves_memory_with_its_names(
    served: Served, tmp_path: Path
) -> None:
    file = write_random_model(tmp_path / "twice.gguf", seed=2311)  # of no other test
    others = {one.pid for one in served.runners()}

    def deploy(name: str) -> None:
        fields = {"model_name_on_ollama": name}
        assert succeeded(told(served, "POST", "/models/deploy/", **form(file, file.name, **fields)))
        served.post("/api/generate", model="first", keep_alive=600).raise_for_status()

    def loaded() -> set[int]:
        return {one.pid for one in served.runners()} - others

    deploy("first")
    before = loaded()
    deploy("second")
    assert len(before) == 1
    assert loaded() == before
    for name in ("first", "second"):
        httpx2.request("DELETE", f"{served.url}/api/delete", json={"model": name}).raise_for_status()
    eventually(lambda: not loaded(), "it has left memory")


@pytest.mark.parametrize("field", ["Model", "model", "file"])
def test_the_file_comes_under_any_of_its_names_and_after_or_before_the_fields(
    served: Served, tuned: Path, field: str
) -> None:
    name = f"as-{field.lower()}"
    data, kind = bodied(tuned.read_bytes(), f"{name}.zip", {"model_name_on_ollama": name}, field=field, first=True)
    headers = {"content-type": kind}
    with httpx2.stream("POST", served.url + "/models/deploy/", content=data, headers=headers, timeout=PATIENCE) as made:
        assert made.status_code == 200, made.read()
        lines = made.read().splitlines()
    assert json.loads(lines[-1])["message"]["action"] == "Success create model"


def bodied(
    file: bytes, filename: str, fields: Mapping[str, str], *, field: str = "Model", first: bool = False
) -> tuple[bytes, str]:
    """A form by hand, the file first or last, and its type."""
    head = f'--x-x\r\nContent-Disposition: form-data; name="{field}"; filename="{filename}"\r\n\r\n'.encode()
    said = [f'--x-x\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode() for n, v in fields.items()]
    parts = [head + file + b"\r\n", *said] if first else [*said, head + file + b"\r\n"]
    return b"".join(parts) + b"--x-x--\r\n", "multipart/form-data; boundary=x-x"


def test_two_watchers_and_who_asked_hear_the_same_story(served: Served, broad: Path) -> None:
    def watch(task: str, after: int) -> list[Line]:
        with asked(served, "GET", f"/api/tasks/{task}/events?after={after}") as story:
            heard = [next(story.lines)]
            watching.append(heard[0].number)
            return [*heard, *story.lines]

    watching: list[int] = []
    with (
        ThreadPoolExecutor(2) as pool,
        asked(served, "POST", "/models/deploy/", **form(broad, model_name_on_ollama="watched")) as story,
    ):
        mine = [next(story.lines), next(story.lines)]
        with halted(served, "extractor"):  # both come in the middle: what was is replayed, and then followed
            task = mine[0].task
            watchers = [pool.submit(watch, task, -1), pool.submit(watch, task, mine[0].number)]
            while len(watching) < 2:
                assert not any(watcher.done() for watcher in watchers)
        mine += story.lines
        theirs = [watcher.result(PATIENCE) for watcher in watchers]
    assert follows(sound(mine), DEPLOY)
    everything = kept(served, mine[0].task)
    for heard in (mine, *theirs):
        sound(heard)
        assert words(heard) == words(everything[heard[0].number > 0 :])
        assert heard[-1] == everything[-1]
    assert theirs[0][0] == mine[0]
    assert theirs[1][0].number == mine[0].number + 1
    assert kept(served, mine[0].task) == everything
    assert answers(served, "watched")


def kept(served: Served, task: str) -> list[Line]:
    return told(served, "GET", f"/api/tasks/{task}/events")


def words(lines: list[Line]) -> list[str]:
    """The actions, each run of one once: of ticks everybody gets those that he comes to see."""
    actions = [line.action for line in lines]
    return [now for before, now in zip([None, *actions], actions, strict=False) if now != before]


def test_an_adapter_is_deployed_onto_a_model_of_the_library(served: Served, tuned: Path, tmp_path: Path) -> None:
    told(served, "POST", "/models/deploy/", **form(tuned, "base.zip", model_name_on_ollama="base"))
    place = tmp_path / "style"
    place.mkdir()
    (place / "adapter_config.json").write_text(json.dumps(ADAPTER))
    (place / "adapter_model.safetensors").write_bytes(safetensors(adapter_tensors()))
    lines = told(
        served, "POST", "/models/deploy/", **form(packed(place, ".zip"), model_name_on_ollama="styled", base="base")
    )
    assert follows(lines, DEPLOY)
    assert artifacts(served)["style"].details["kind"] == "adapter"
    assert answers(served, "styled")
    wanted = {"model": "style", "model_name_on_ollama": "baseless"}
    status, detail = refused(served, "POST", "/models/create/", json=wanted)
    assert (status, "someone/tiny" in detail) == (400, True)


# What is wrong before the first byte


def zipped(tmp_path: Path, name: str = "a.zip", **files: bytes) -> Path:
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        for file, data in files.items():
            archive.writestr(file.replace("_json", ".json"), data)
    return tmp_path / name


FILE: dict[str, tuple[str, bytes]] = {"Model": ("a.zip", b"PK")}
WRONG: dict[str, tuple[str, str, dict[str, Any], int, str]] = {
    "no form": ("POST", "/models/upload/", {"json": {}}, 415, "must be a form"),
    "no file": ("POST", "/models/upload/", {"files": {"base": (None, "x")}}, 400, "has no file"),
    "another field": ("POST", "/models/upload/", {"files": {"weights": FILE["Model"]}}, 400, "must come as the field"),
    "two files": ("POST", "/models/upload/", {"files": {**FILE, "file": FILE["Model"]}}, 400, "more than one file"),
    "no archive by name": ("POST", "/models/upload/", {"files": {"Model": ("a.rar", b"R")}}, 415, "a.rar"),
    "no name": ("POST", "/models/upload/", {"files": {"Model": ("a b.zip", b"PK")}}, 422, "cannot be the name"),
    "an empty file": ("POST", "/models/upload/", {"files": {"Model": ("a.zip", b"")}}, 400, "is empty"),
    "no model's name": ("POST", "/models/deploy/", {"files": FILE}, 400, "model_name_on_ollama is required"),
    "no name that a model has": (
        "POST", "/models/deploy/", {"files": FILE, "data": {"model_name_on_ollama": "a b"}}, 422, "a b",
    ),
    "an unknown field": (
        "POST", "/models/deploy/", {"files": FILE, "data": {"model_name_on_ollama": "m", "quantise": "Q8_0"}}, 400,
        "unknown field 'quantise'",
    ),
    "no type": (
        "POST", "/models/deploy/", {"files": FILE, "data": {"model_name_on_ollama": "m", "quantize": "Q9"}}, 400, "Q9",
    ),
    "no server": (
        "POST", "/models/deploy/", {"files": FILE, "data": {"model_name_on_ollama": "m", "server": "there"}}, 400,
        "there is no server 'there'; there are: far",
    ),
    "a server of another kind": (
        "POST", "/models/deploy/", {"files": FILE, "data": {"model_name_on_ollama": "m", "server": "far"}}, 400,
        "of the kind openai",
    ),
    "parameters that are none": (
        "POST", "/models/deploy/", {"files": FILE, "data": {"model_name_on_ollama": "m", "parameters": "[1]"}}, 422,
        "parameters",
    ),
    "parameters that go on": (
        "POST", "/models/deploy/",
        {"files": FILE, "data": {"model_name_on_ollama": "m", "parameters": '{},"server":"far"'}}, 400,
        "parameters is not JSON",
    ),
    "parameters nobody knows": (
        "POST", "/models/deploy/", {"files": FILE, "data": {"model_name_on_ollama": "m", "parameters": '{"heat":1}'}},
        422, "heat",
    ),
    "create of nothing": ("POST", "/models/create/", {"json": {**MADE, "model": "nothing"}}, 404, "not found"),
    "create without a name": ("POST", "/models/create/", {"json": {"model": "a"}}, 400, "model_name_on_ollama"),
    "create with a bad template": ("POST", "/models/create/", {"json": {**MADE, "template": "{{ if }}"}}, 400, ""),
    "create of no JSON": ("POST", "/models/create/", {"content": b"{"}, 400, "not JSON"),
    "create of a number": ("POST", "/models/create/", {"json": {"model": 5}}, 422, "model must be a text"),
    "delete of nothing": ("DELETE", "/models/", {"json": {"model": "nothing"}}, 404, "'nothing' not found"),
    "delete without a name": ("DELETE", "/models/", {"json": {}}, 400, "model is required"),
    "delete of a path": ("DELETE", "/models/", {"json": {"model": "../kept"}}, 422, "cannot be the name"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_told_by_a_status_and_leaves_nothing(
    served: Served, home: Path, uploaded: str, kind: str
) -> None:
    method, path, request, status, says = WRONG[kind]
    before = tree(home)
    code, detail = refused(served, method, path, **request)
    assert (code, says in detail) == (status, True), detail
    assert (drafts(home), tree(home)) == (set(), before)


def test_what_is_in_use_is_neither_replaced_nor_taken_away(served: Served, broad: Path) -> None:
    told(served, "POST", "/models/upload/", **form(broad, "busy.zip"))
    wanted = {"model": "busy", "model_name_on_ollama": "busy"}
    with asked(served, "POST", "/models/create/", json=wanted) as story:
        first = next(story.lines)
        with halted(served, "converter"):
            assert "'busy' is in use" in is_conflict(refused(served, "DELETE", "/models/", json={"model": "busy"}))
            again = refused(served, "POST", "/models/upload/", files={"Model": ("busy.zip", b"PK")})
            assert "'busy' is in use" in is_conflict(again)
        assert succeeded([first, *story.lines])
    assert succeeded(told(served, "DELETE", "/models/", json={"model": "busy"}))


def is_conflict(answer: tuple[int, str]) -> str:
    status, detail = answer
    assert status == 409
    return detail


def test_two_names_do_not_differ_in_case_alone(served: Served, uploaded: str) -> None:
    answer = refused(served, "POST", "/models/upload/", files={"Model": (f"{uploaded.upper()}.zip", b"PK")})
    assert "case alone" in is_conflict(answer)


def test_a_quota_is_told_as_413(tmp_path: Path, tuned: Path) -> None:
    with serve("--artifact-quota", "100KB", home=tmp_path / "home") as small:
        status, detail = refused(small, "POST", "/models/upload/", **form(tuned))
        assert (status, "that artifacts may take" in detail) == (413, True)
        assert tree(tmp_path / "home") == {}


def test_with_and_without_the_slash_are_two_routes(served: Served, uploaded: str) -> None:
    listing = served.get("/models")
    assert listing.headers["content-type"].startswith("application/json")
    for path in ("/models/upload", "/models/create", "/models/deploy"):
        assert served.post(path).status_code in {404, 405}
    assert served.get("/models/upload/").status_code == 405


# What goes wrong after it


def overflowing(place: Path) -> None:
    """Weights that are numbers, and make none."""
    tensors = {**llama_tensors(), "model.norm.weight": np.full(WIDTH, 3e38, np.float32)}
    write_folder(place, tensors=tensors, max_position_embeddings=CONTEXT)


def impolite(place: Path) -> None:
    """A template that fails at the first word."""
    write_model(place, seed=7)
    (place / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.content == 'Hi' %}{{ raise_exception('no greetings') }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )


def pickled(place: Path) -> None:
    write_model(place, seed=7)
    (place / "model.safetensors").rename(place / "pytorch_model.bin")


def unknown(place: Path) -> None:
    write_folder(place, architectures=["EvilForCausalLM"])


FAILING: dict[str, tuple[Callable[[Path], None], str]] = {
    "numbers": (overflowing, "failed to answer"),
    "template": (impolite, "no greetings"),
    "pickle": (pickled, "pytorch_model.bin"),
    "architecture": (unknown, "EvilForCausalLM"),
}


@pytest.mark.parametrize("kind", FAILING)
def test_a_deployment_that_fails_leaves_the_old_model_serving(
    served: Served, home: Path, tuned: Path, tmp_path: Path, kind: str
) -> None:
    change, says = FAILING[kind]
    told(served, "POST", "/models/deploy/", **form(tuned, "old.zip", model_name_on_ollama="serving"))
    before, old = tree(home), digest(served, "serving")
    change(tmp_path / "new")
    pack = packed(tmp_path / "new", ".zip")
    story = told(served, "POST", "/models/deploy/", **form(pack, f"new-{kind}.zip", model_name_on_ollama="serving"))
    last = story[-1]
    assert last.status >= 400
    assert says in last.details["msg"]
    assert isinstance(last.details["type"], str)
    assert isinstance(last.details["loc"], list)
    assert "Success create model" not in [line.action for line in story]
    assert (digest(served, "serving"), answers(served, "serving")) == (old, True)
    shown = served.get(f"/api/tasks/{last.task}").json()
    assert (shown["state"], shown["error"]["msg"]) == ("failed", last.details["msg"])
    if f"new-{kind}" in artifacts(served):  # what came whole stays, for another try with other words
        told(served, "DELETE", "/models/", json={"model": f"new-{kind}"})
    assert drafts(home) == set()
    eventually(lambda: tree(home) == before, "what was made for it is gone, once its runner is")


# Keys


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve("--require-key", home=tmp_path_factory.mktemp("keyed")) as served:
        yield served


def key_of(keyed: Served, name: str, **fields: Any) -> str:
    headers = {"authorization": f"Bearer {keyed.admin_key}"}
    made = httpx2.post(keyed.url + "/api/keys", json={"name": name, **fields}, headers=headers, timeout=PATIENCE)
    made.raise_for_status()
    return str(made.json()["key"])


def test_a_key_sees_its_own_tasks_and_an_administrator_all(keyed: Served, tuned: Path) -> None:
    bob, eve = (key_of(keyed, name, scopes=["manage", "list"]) for name in ("bob", "eve"))
    [*_, last] = told(keyed, "POST", "/models/upload/", key=bob, **form(tuned, "bobs.zip"))
    seen = {
        name: [task["task_uuid"] for task in listed(keyed, key)]
        for name, key in (("bob", bob), ("eve", eve), ("admin", keyed.admin_key))
    }
    assert (seen["bob"], seen["eve"], last.task in seen["admin"]) == ([last.task], [], True)
    for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", ""), ("POST", "/retry")):
        status, detail = refused(keyed, method, f"/api/tasks/{last.task}{path}", key=eve)
        assert (status, "not found" in detail) == (404, True)
    assert kept_for(keyed, last.task, bob) == kept_for(keyed, last.task, keyed.admin_key)


def listed(keyed: Served, key: str) -> list[dict[str, Any]]:
    headers = {"authorization": f"Bearer {key}"}
    found: list[dict[str, Any]] = httpx2.get(keyed.url + "/api/tasks", headers=headers, timeout=PATIENCE).json()[
        "tasks"
    ]
    return found


def kept_for(keyed: Served, task: str, key: str) -> list[Line]:
    return told(keyed, "GET", f"/api/tasks/{task}/events", key=key)


def test_whoever_may_list_may_do_nothing_else(keyed: Served, tuned: Path) -> None:
    reader = key_of(keyed, "reader", scopes=["list"])
    with asked(keyed, "GET", "/models/", key=reader) as story:
        assert story.status == 200
    for method, path, request in (
        ("DELETE", "/models/", {"json": {"model": "x"}}),
        ("POST", "/models/upload/", {"files": FILE}),
        ("POST", "/models/create/", {"json": MADE}),
        ("POST", "/models/deploy/", {"files": FILE}),
        ("GET", "/api/tasks", {}),
    ):
        assert refused(keyed, method, path, key=reader, **request)[0] == 403
        assert refused(keyed, method, path, **request)[0] == 401
    assert refused(keyed, "GET", "/models/")[0] == 401


def test_a_key_for_some_models_makes_none_of_artifacts(keyed: Served, tuned: Path) -> None:
    limited = key_of(keyed, "limited", scopes=["manage"], models=["mine*"])
    told(keyed, "POST", "/models/upload/", key=keyed.admin_key, **form(tuned, "weights.zip"))
    for name in ("theirs", "mine"):
        wanted = {"model": "weights", "model_name_on_ollama": name}
        assert refused(keyed, "POST", "/models/create/", key=limited, json=wanted)[0] == 403
        deploys = form(tuned, "other.zip", model_name_on_ollama=name)
        assert refused(keyed, "POST", "/models/deploy/", key=limited, **deploys)[0] == 403
