"""``create`` from Modelfiles, by the command line and in a request; and the adapters that it brings along."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest
from tests.acceptance.serving import PATIENCE, Served, environment, serve
from tests.adapters import write_adapter
from tools.random_model import write_random_model

from localmodels.client import ChatRequest, Client, user
from localmodels.client._sync import Httpx
from localmodels.client.plain import Plain
from localmodels.core.chat import Answer, Lora
from localmodels.core.errors import LocalModelsError
from localmodels.core.library import CreateRequest
from localmodels.core.options import Options

STYLES = ("style", "tone")
Logprobs = dict[str, float]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, two adapters and a Modelfile, as its author has them."""
    folder = tmp_path_factory.mktemp("files")
    write_random_model(folder / "tiny.gguf", end_bias=-100)
    for seed, name in enumerate(STYLES, 1):
        write_adapter(folder / f"{name}.gguf", seed=seed)
    (folder / "Modelfile").write_text(
        "FROM ./tiny.gguf\nADAPTER style.gguf\nADAPTER ./tone.gguf\n"
        'SYSTEM "Be brief."\nPARAMETER num_predict 4\nPARAMETER num_keep 3\nMESSAGE user hi\nRENDERER none\n'
    )
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(home=tmp_path_factory.mktemp("home")) as served:
        yield served


@pytest.fixture(scope="module")
def made(served: Served, folder: Path) -> str:
    """The name of the model that the Modelfile makes."""
    done = run(served, "create", "styled", "-f", str(folder / "Modelfile"))
    assert done.returncode == 0, done.stderr
    return "styled"


def run(served: Served, *words: str, piped: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "localmodels", *words],
        input=piped,
        env={**environment(), "LOCALMODELS_HOST": served.url},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_a_modelfile_makes_what_it_says(served: Served, made: str) -> None:
    shown = json.loads(run(served, "show", made, "--json").stdout)
    assert (shown["system"], shown["adapters"]) == ("Be brief.", list(STYLES))
    assert shown["messages"] == [{"role": "user", "content": "hi"}]
    for line in ("PARAMETER num_keep 3", "RENDERER none", "SYSTEM Be brief."):
        assert line in shown["modelfile"]
    assert served.post("/api/show", model=made).json()["adapters"] == [
        {"id": 0, "name": "style"},
        {"id": 1, "name": "tone"},
    ]


def test_what_a_model_says_of_itself_makes_it_again(served: Served, made: str) -> None:
    text = json.loads(run(served, "show", made, "--json").stdout)["modelfile"]
    done = run(served, "create", "again", "-f", "-", piped=text)
    assert done.returncode == 0, done.stderr
    assert "uploading" not in done.stderr
    again = json.loads(run(served, "show", "again", "--json").stdout)
    assert again["modelfile"].splitlines()[4:] == text.splitlines()[4:]  # but for the comment with the name


def test_a_base_hands_its_adapters_down_with_their_names(served: Served, made: str) -> None:
    assert run(served, "create", "child", "-f", "-", piped=f"FROM {made}\nSYSTEM Hi.").returncode == 0
    shown = json.loads(run(served, "show", "child", "--json").stdout)
    assert (shown["adapters"], shown["system"]) == (list(STYLES), "Hi.")
    assert "RENDERER none" in shown["modelfile"]


def test_the_modelfile_of_a_request(served: Served, folder: Path) -> None:
    with Client(served.url, environ={}) as client:
        weights = client.upload(folder / "tiny.gguf")
        text = f"FROM @{weights}\nSYSTEM From the file.\nPARAMETER top_k 7\n"
        client.finish(client.create(CreateRequest("seeded", modelfile=text, parameters=(("seed", 1),))))
        description, parameters = client.show("seeded")
        assert description.system == "From the file."
        assert dict(line.split() for line in parameters.splitlines()) == {"top_k": "7", "seed": "1"}
        client.finish(client.create(CreateRequest("other", modelfile=text, base="seeded", system="My own.")))
        assert client.show("other")[0].system == "My own."
    answer = served.post("/api/create", name="from-seed", modelfile="FROM seeded\nSYSTEM Hi.", stream=False)
    assert answer.json() == {"status": "success"}


@pytest.mark.parametrize("path", ["/etc/passwd", "./tiny.gguf", "~/x", "../x"])
def test_a_path_of_the_servers_disk_is_not_read(served: Served, path: str) -> None:
    for text in (f"FROM {path}", f"FROM localmodels\nADAPTER {path}"):
        answer = served.post("/api/create", model="thief", modelfile=text, stream=False)
        assert answer.status_code == 400
        assert "is no uploaded file" in answer.json()["error"]


@pytest.mark.parametrize("carrier", [Plain, Httpx])
def test_a_file_for_which_there_is_no_room_is_refused_before_it_is_sent(
    served: Served, carrier: type[Plain | Httpx]
) -> None:
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        while True:
            yield bytes(2**20)
            sent += 1

    with carrier(served.url, {}).open("POST", f"/api/blobs/sha256:{'0' * 64}", pieces(), size=10**15) as reply:
        assert reply.status == 507
        assert b"disk full" in b"".join(reply.pieces())
    assert sent < 256  # what was on its way when the answer came


# Adapters by request.

STEADY = Options(num_predict=1, temperature=0.0)


def ollama_says(served: Served, lora: Any, model: str = "styled") -> Logprobs:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Hello"}],
        "options": {"num_predict": 1, "temperature": 0},
        "logprobs": True,
        "top_logprobs": 5,
        "stream": False,
    }
    (first,) = served.post("/api/chat", **body, **({} if lora is None else {"lora": lora})).json()["logprobs"]
    return {top["token"]: top["logprob"] for top in first["top_logprobs"]}


def openai_says(served: Served, lora: Any) -> Logprobs:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        answer = client.chat.completions.create(
            model="styled",
            messages=[{"role": "user", "content": "Hello"}],
            max_tokens=1,
            temperature=0,
            logprobs=True,
            top_logprobs=5,
            extra_body={} if lora is None else {"lora": lora},
        )
    assert answer.choices[0].logprobs
    assert answer.choices[0].logprobs.content
    return {top.token: top.logprob for top in answer.choices[0].logprobs.content[0].top_logprobs}


def sdk_says(served: Served, lora: Any) -> Logprobs:
    chosen = (
        None if lora is None else tuple(Lora(one.get("name", one.get("id")), one.get("scale", 1.0)) for one in lora)
    )
    with Client(served.url, environ={}) as client:
        answer: Answer = client.chat(
            ChatRequest("styled", (user("Hello"),), options=STEADY, logprobs=True, top_logprobs=5, lora=chosen)
        )
    return {top.token: top.logprob for top in answer.logprobs[0].top}


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("says", [ollama_says, openai_says, sdk_says])
def test_adapters_are_switched_by_request(served: Served, says: Any) -> None:
    full = says(served, None)
    none = says(served, [])
    style = says(served, [{"name": "style"}])
    assert says(served, [{"name": "style", "scale": 1}, {"id": 1}]) == pytest.approx(full, abs=0.1)
    assert says(served, [{"name": "style", "scale": 0}]) == pytest.approx(none, abs=0.1)
    for one, other in ((full, none), (full, style), (style, none)):
        assert one != pytest.approx(other, abs=0.1)
    assert says(served, None) == pytest.approx(full, abs=0.1)


@pytest.mark.usefixtures("made")
def test_adapters_are_switched_under_a_template_of_ollamas_kind(served: Served) -> None:
    run(served, "create", "laid-out", "-f", "-", piped='FROM styled\nTEMPLATE "{{ .System }} {{ .Prompt }}"')
    full, none, style = (ollama_says(served, lora, "laid-out") for lora in (None, [], [{"name": "style"}]))
    for one, other in ((full, none), (full, style), (style, none)):
        assert one != pytest.approx(other, abs=0.1)


@pytest.mark.usefixtures("made")
def test_an_adapter_that_is_not_there_is_a_clear_400(served: Served) -> None:
    for lora, word in (
        ([{"name": "stile"}], "style (id 0), tone (id 1)"),
        ([{"id": 2}], "'2'"),
        ([{}], "one of the two"),
    ):
        answer = served.post("/api/chat", model="styled", messages=[{"role": "user", "content": "x"}], lora=lora)
        assert answer.status_code == 400
        assert word in answer.json()["error"]
    with Client(served.url, environ={}) as client, pytest.raises(LocalModelsError, match="has no adapters"):
        client.chat(ChatRequest("localmodels", (user("x"),), lora=(Lora("style"),)))


@pytest.mark.usefixtures("made")
def test_ollamas_client_makes_adapters_too(served: Served, folder: Path) -> None:
    with ollama.Client(host=served.url) as client:
        digest = client.create_blob(folder / "tone.gguf")
        client.create("toned", from_="styled", adapters={"tone.gguf": digest})
        files = {name: client.create_blob(folder / name) for name in ("tiny.gguf", "style.gguf")}
        client.create("dressed", files=files)  # what a file is, is read from the file
    assert served.post("/api/show", model="toned").json()["adapters"] == [{"id": 0, "name": "tone"}]
    assert served.post("/api/show", model="dressed").json()["adapters"] == [{"id": 0, "name": "style"}]
