"""Deployments on another server: one of ours, which plays an Ollama."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import ollama
import pytest
from tests.acceptance.deploying import (
    DEPLOY,
    asked,
    digest,
    follows,
    form,
    packed,
    refused,
    sound,
    succeeded,
    told,
    tree,
    write_model,
)
from tests.acceptance.serving import Served, serve

KEY = "sk-sesame-front-to-back"


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(home=tmp_path_factory.mktemp("behind")) as served:
        yield served


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("front")


@pytest.fixture(scope="module")
def front(behind: Served, home: Path) -> Iterator[Served]:
    (home / "key").write_text(KEY)
    (home / "key").chmod(0o600)
    servers = {"far": (behind.url, "ollama"), "dead": ("http://127.0.0.1:9", "ollama"), "other": (behind.url, "openai")}
    (home / "localmodels.toml").write_text(
        "".join(
            f'[[servers]]\nname = "{name}"\nurl = "{url}"\nkind = "{kind}"\nkey_file = "key"\n'
            for name, (url, kind) in servers.items()
        )
    )
    with serve(home=home) as served:
        yield served


@pytest.fixture(scope="module")
def tuned(front: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder, packed, and an artifact in front."""
    pack = packed(write_model(tmp_path_factory.mktemp("folders") / "tuned"), ".zip")
    told(front, "POST", "/models/upload/", **form(pack))
    return pack


def names(served: Served) -> list[str]:
    return [str(model["name"]) for model in served.get("/api/tags").json()["models"] if "/" not in model["name"]]


def test_the_model_is_made_there_and_answers_there(front: Served, behind: Served, home: Path, tuned: Path) -> None:
    here, before = names(front), tree(home)
    fields = {"model_name_on_ollama": "made", "server": "far", "quantize": "Q8_0", "system": "Be brief."}
    story = told(front, "POST", "/models/deploy/", **form(tuned, "made.zip", **fields))
    assert follows(story, DEPLOY)
    actions = [line.action for line in story if line.ratio > 0.5]
    assert actions.index("Push model to server.") < actions.index("Verify model.") < actions.index("Publish model.")
    assert "made:latest" in names(behind)
    assert not [name for name in names(behind) if "trial" in name]
    shown = behind.post("/api/show", model="made").json()
    assert (shown["details"]["quantization_level"], "SYSTEM Be brief." in shown["modelfile"]) == ("Q8_0", True)
    for url, model in ((behind.url, "made"), (front.url, "far/made")):
        with ollama.Client(host=url) as client:
            assert client.generate(model, "a", options={"num_predict": 2}).eval_count == 2
    assert names(front) == here
    told(front, "DELETE", "/models/", json={"model": "made"})
    assert weights(tree(home)) == weights(before)


def test_what_is_ready_is_known_at_once(behind: Served, tuned: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """By its bare name too, and not only when its server is looked at the next time."""
    with serve(home=tmp_path_factory.mktemp("registered")) as front:
        box = {"name": "box", "url": behind.url, "kind": "ollama"}
        httpx2.post(f"{front.url}/api/servers/", json=box, timeout=60).raise_for_status()
        fields = {"model_name_on_ollama": "known", "server": "box"}
        assert succeeded(told(front, "POST", "/models/deploy/", **form(tuned, "known.zip", **fields)))
        answer = front.post("/api/chat", model="known", messages=[{"role": "user", "content": "a"}], stream=False)
        assert answer.status_code == 200, answer.text


def weights(found: dict[str, int]) -> dict[str, int]:
    """The blobs of a home, and its artifacts."""
    return {name: size for name, size in found.items() if "blobs" in name or name.startswith("artifacts")}


def test_a_model_that_fails_there_leaves_the_old_one(
    front: Served, behind: Served, tuned: Path, tmp_path: Path
) -> None:
    told(front, "POST", "/models/create/", json=wanted("tuned", "serving"))
    old = digest(behind, "serving")
    place = write_model(tmp_path / "rude", seed=7)
    (place / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.content == 'Hi' %}{{ raise_exception('no greetings') }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    fields = {"model_name_on_ollama": "serving", "server": "far"}
    story = told(front, "POST", "/models/deploy/", **form(packed(place, ".zip"), **fields))
    last = story[-1]
    assert not succeeded(story)
    assert "the server 'far'" in last.details["msg"]
    assert "no greetings" in last.details["msg"]
    assert KEY not in json.dumps([dict(line.details) for line in story])
    assert digest(behind, "serving") == old
    assert not [name for name in names(behind) if "trial" in name]
    with ollama.Client(host=behind.url) as client:
        assert client.generate("serving", "a", options={"num_predict": 2}).eval_count == 2


def wanted(artifact: str, name: str, server: str = "far") -> dict[str, Any]:
    return {"model": artifact, "model_name_on_ollama": name, "server": server}


def test_a_server_that_is_not_there_is_named(front: Served, tuned: Path, home: Path) -> None:
    before = weights(tree(home))
    story = told(front, "POST", "/models/create/", json=wanted("tuned", "nowhere", "dead"))
    assert (story[-1].status, "the server 'dead'" in story[-1].details["msg"]) == (502, True)
    assert weights(tree(home)) == before
    for server, says in (("there", "there is no server 'there'"), ("other", "of the kind openai")):
        status, detail = refused(front, "POST", "/models/create/", json=wanted("tuned", "nowhere", server))
        assert (status, says in detail) == (400, True)


def test_a_server_that_dies_in_the_middle_keeps_its_old_model(
    front: Served, tuned: Path, home: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    listen = ""
    with serve(home=there) as far:
        listen = far.url.removeprefix("http://")
        toml = (home / "localmodels.toml").read_text()
        added = f'[[servers]]\nname = "mortal"\nurl = "{far.url}"\nkind = "ollama"\n'
        (home / "localmodels.toml").write_text(toml + added)
        front.signal(signal.SIGHUP)
        while refused_server(front):
            pass
        told(front, "POST", "/models/create/", json=wanted("tuned", "kept", "mortal"))
        old = digest(far, "kept")
        with asked(
            front, "POST", "/models/create/", json={**wanted("tuned", "kept", "mortal"), "quantize": "Q8_0"}
        ) as story:
            lines = []
            for line in story.lines:
                lines.append(line)
                if line.action == "Push model to server.":
                    far.signal(signal.SIGKILL)
                    far.process.wait()
        sound(lines)
        assert lines[-1].status in {502, 504}
        assert "the server 'mortal'" in lines[-1].details["msg"]
    with serve(home=there, listen=listen) as far:
        assert digest(far, "kept") == old
        with ollama.Client(host=far.url) as client:
            assert client.generate("kept", "a", options={"num_predict": 2}).eval_count == 2
        assert succeeded(told(front, "POST", "/models/create/", json=wanted("tuned", "kept", "mortal")))


def refused_server(front: Served) -> bool:
    """Does it not know of the server yet?"""
    with asked(front, "POST", "/models/create/", json=wanted("nothing", "x", "mortal")) as story:
        return story.status == 400
