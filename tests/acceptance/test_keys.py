"""Keys on the started program: the first one, the command line beside a running server, limits, and who is let in."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil
import pytest
from tests.acceptance.serving import PATIENCE, Served, environment, eventually, serve

import localmodels.client
from localmodels.client import Allowance, Wish
from localmodels.core.errors import Forbidden, RateLimited, Unauthenticated


def keys(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``localmodels keys …`` on a home."""
    command = [sys.executable, "-m", "localmodels", "keys", *words, "--home", str(home)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False)


def made(home: Path, name: str, *flags: str) -> str:
    done = keys(home, "add", name, *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return done.stdout.strip()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


class Asking:
    """A server of the tests, asked with a key."""

    def __init__(self, served: Served, key: str = "") -> None:
        self._served = served
        self._headers = bearer(key) if key else {}

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(self._served.url + path, headers=self._headers, timeout=PATIENCE)

    def chat(self, model: str = "tiny", tokens: int = 8) -> httpx2.Response:
        body = {
            "model": model, "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": tokens, "temperature": 0, "stream": False,
        }  # fmt: skip
        url = f"{self._served.url}/v1/chat/completions"
        return httpx2.post(url, json=body, headers=self._headers, timeout=PATIENCE)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keyed")


@pytest.fixture(scope="module")
def keyed(home: Path, models: dict[str, Path]) -> Iterator[Served]:
    """A server that asks everybody for a key."""
    flags = [word for name in ("tiny", "endless", "embedder") for word in ("--model", f"{name}={models[name]}")]
    with serve(*flags, "--default-model", "tiny", "--require-key", home=home) as served:
        yield served


@pytest.fixture(scope="module")
def admin(home: Path, keyed: Served) -> str:
    text = made(home, "root", "--admin")
    eventually(lambda: Asking(keyed, text).get("/api/keys").status_code == 200, "the key counts")
    return text


def test_the_first_key_is_told_once_and_never_again(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "localmodels", "serve", "--home", str(tmp_path), "--listen", "127.0.0.1:0"]
    found: list[str] = []
    for flags in (["--json", "--log-level", "debug", "--require-key"], [], ["--json"]):
        process = subprocess.Popen(
            [*command, *flags], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        if not found:
            told = json.loads(line)
            found.append(told["admin_key"])
            assert httpx2.get(told["url"] + "/api/keys", headers=bearer(found[0])).json()["keys"][0]["name"] == "admin"
            assert httpx2.get(told["url"] + "/api/keys").status_code == 401
        process.terminate()
        rest, log = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, log
        assert found[0] not in log
        if line and "admin_key" not in line:
            assert found[0] not in line + rest
            assert "shown this once" not in rest
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert found[0].encode() not in path.read_bytes()
    assert (tmp_path / "state.db").stat().st_mode & 0o777 == 0o600


def test_the_greeting_of_a_new_home_shows_the_key(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "localmodels", "serve", "--home", str(tmp_path), "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = []
    for line in iter(process.stdout.readline, ""):
        lines.append(line)
        if line.startswith("  lm-"):
            process.terminate()
    process.communicate(timeout=PATIENCE)
    assert "shown this once" in lines[-2]
    assert len(lines[-1].strip()) == 46


def test_a_server_that_requires_keys_asks_for_one(keyed: Served, admin: str) -> None:
    for path, status in (("/", 200), ("/health", 200), ("/api/tags", 401), ("/nothing", 401), ("/metrics", 401)):
        assert Asking(keyed).get(path).status_code == status, path
        assert Asking(keyed, "lm-" + "x" * 43).get(path).status_code == 401, path
        assert Asking(keyed, admin).get(path).status_code == (404 if path == "/nothing" else 200), path
    # What is open tells a stranger of no model.
    assert Asking(keyed).get("/").json()["available_models"] == {}
    assert Asking(keyed).get("/health").json()["available_models"] == []
    assert "tiny:latest" in Asking(keyed, admin).get("/").json()["available_models"]
    assert Asking(keyed).get("/health?verbose=1").status_code == 401


def test_a_key_made_beside_a_running_server_counts_and_is_revoked(keyed: Served, home: Path, admin: str) -> None:
    # That it is so within a second: tests/unit/flows/access/test_ledger.py, where rounds look twice in one.
    text = made(home, "bob")
    eventually(lambda: Asking(keyed, text).get("/api/tags").status_code == 200, "the key counts")
    listed = json.loads(keys(home, "list", "--json").stdout)
    (bob,) = (key for key in listed if key["name"] == "bob")
    assert bob["shown"] == f"{text[:7]}…{text[-4:]}"
    assert keys(home, "rm", "bob").returncode == 0
    eventually(lambda: Asking(keyed, text).get("/api/tags").status_code == 401, "the key is refused")
    assert "revoked" in Asking(keyed, text).get("/api/tags").text
    assert keys(home, "rm", "nobody").returncode == 1


def test_two_servers_of_one_home_agree(keyed: Served, home: Path, admin: str) -> None:
    with serve("--require-key", home=home) as other:
        answer = httpx2.post(f"{keyed.url}/api/keys", json={"name": "shared"}, headers=bearer(admin)).json()
        text = answer["key"]
        assert Asking(keyed, text).get("/api/version").status_code == 200
        eventually(lambda: Asking(other, text).get("/api/version").status_code == 200, "both know")
        httpx2.delete(f"{other.url}/api/keys/{answer['id']}", headers=bearer(admin)).raise_for_status()
        assert Asking(other, text).get("/api/version").status_code == 401
        eventually(lambda: Asking(keyed, text).get("/api/version").status_code == 401, "both refuse")


def test_a_key_sees_and_asks_its_own_models_alone(keyed: Served, home: Path, admin: str) -> None:
    text = made(home, "narrow", "--only", "tiny", "--only", "emb*")
    asking = Asking(keyed, text)
    eventually(lambda: asking.get("/api/tags").status_code == 200, "the key counts")
    assert asking.chat("tiny").status_code == 200
    assert asking.chat("TINY:latest").status_code == 200
    for name in ("endless", "endless:latest", "registry.ollama.ai/library/endless", "library/endless:latest"):
        answer = asking.chat(name)
        assert (answer.status_code, answer.json()["error"]["type"]) == (403, "permission_error"), name
    Asking(keyed, admin).chat("endless", tokens=1)
    seen: dict[str, Any] = {
        "/api/tags": lambda body: {row["name"] for row in body["models"]},
        "/v1/models": lambda body: {row["id"] for row in body["data"]},
        "/models": lambda body: {row["name"] for row in body["models"]},
        "/api/ps": lambda body: {row["name"] for row in body["models"]},
        "/": lambda body: set(body["available_models"]),
        "/health": lambda body: set(body["available_models"]),
    }
    for path, names in seen.items():
        mine, all_of_them = names(asking.get(path).json()), names(Asking(keyed, admin).get(path).json())
        assert mine <= {"tiny:latest", "embedder:latest"}, path
        assert "endless:latest" in all_of_them, path
    assert asking.get("/api/show?name=tiny").status_code == 200
    assert asking.get("/api/show?name=endless").status_code == 403
    assert asking.get("/v1/models/endless").status_code == 403


def test_requests_in_a_minute_are_limited_and_told(keyed: Served, home: Path, admin: str) -> None:
    text = made(home, "slow", "--requests-per-minute", "3", "--tokens-per-minute", "100000")
    client = openai.OpenAI(base_url=f"{keyed.url}/v1", api_key=text, max_retries=0)
    eventually(lambda: Asking(keyed, text).get("/api/version").status_code == 200, "the key counts")
    answer = Asking(keyed, text).chat()
    assert answer.headers["x-ratelimit-limit-requests"] == "3"
    assert answer.headers["x-ratelimit-remaining-requests"] == "1"
    assert answer.headers["x-ratelimit-limit-tokens"] == "100000"
    client.models.list()
    with pytest.raises(openai.RateLimitError) as caught:
        client.models.list()
    assert caught.value.code == "rate_limit_exceeded"
    told = caught.value.response.headers
    assert 1 <= int(told["retry-after"]) <= 20
    assert told["x-ratelimit-remaining-requests"] == "0"


def test_a_quota_that_is_used_up_stays_so_after_a_restart(models: dict[str, Path], tmp_path: Path) -> None:
    text = made(tmp_path, "meter", "--quota", "12/month")
    flags = ("--model", f"tiny={models['tiny']}", "--require-key")
    with serve(*flags, home=tmp_path) as served:
        assert Asking(served, text).chat(tokens=8).status_code == 200
        used = Asking(served, text).get("/api/usage").json()["usage"]
        assert [(row["model"], row["requests"]) for row in used] == [("tiny:latest", 1)]
        assert used[0]["prompt_tokens"] + used[0]["completion_tokens"] >= 12
    with serve(*flags, home=tmp_path) as served:
        client = openai.OpenAI(base_url=f"{served.url}/v1", api_key=text, max_retries=3)
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "Hi"}])
        assert (caught.value.code, caught.value.type) == ("insufficient_quota", "insufficient_quota")
        assert caught.value.response.headers["x-should-retry"] == "false"
        client.models.list()  # what asks no model costs no tokens
        with localmodels.client.Client(served.url, api_key=text) as own, pytest.raises(RateLimited):
            own.load("tiny")


def test_a_stream_that_is_left_is_charged(keyed: Served, home: Path, admin: str) -> None:
    text = made(home, "leaver", "--only", "endless")
    eventually(lambda: Asking(keyed, text).get("/api/version").status_code == 200, "the key counts")
    body = {"model": "endless", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    with httpx2.stream("POST", f"{keyed.url}/api/chat", json=body, headers=bearer(text), timeout=PATIENCE) as answer:
        lines = answer.iter_lines()
        for _ in range(5):
            next(lines)
    (use,) = eventually(lambda: Asking(keyed, text).get("/api/usage").json()["usage"], "it is charged")
    assert use["completion_tokens"] >= 1
    assert use["estimated"] == use["prompt_tokens"] + use["completion_tokens"] > 0


def test_the_sdk_manages_keys(keyed: Served, admin: str) -> None:
    with localmodels.client.Client(keyed.url, api_key=admin) as client:
        key, text = client.add_key(Wish("sdk", models=("tiny",), allowance=Allowance(requests_per_minute=1000)))
        known = client.keys()
        assert key.id in [one.id for one in known]
        with localmodels.client.Client(keyed.url, api_key=text.reveal()) as own:
            assert [model.name for model in own.list()] == ["tiny:latest"]
            own.load("tiny")
            assert {use.key for use in own.usage()} <= {key.id}
            with pytest.raises(Forbidden):
                own.keys()
            with pytest.raises(Forbidden):
                own.usage("local")
            assert client.revoke_key(key.id).state == "revoked"
            with pytest.raises(Unauthenticated):
                own.list()
        assert len(client.usage(key.id)) <= 1


def test_a_key_for_one_s_own_machine_only_bars_and_never_opens(tmp_path: Path) -> None:
    text = made(tmp_path, "lister", "--scopes", "list")
    with serve(home=tmp_path) as served:
        # Examples send dummies, and programs here need no key; but who shows one is held to it.
        assert Asking(served, "dummy").get("/api/keys").status_code == 200
        assert Asking(served, text).get("/api/tags").status_code == 200
        assert Asking(served, text).get("/api/keys").status_code == 403
        assert httpx2.get(f"{served.url}/api/tags", headers={"x-forwarded-for": "203.0.113.9"}).status_code == 401
        assert keys(tmp_path, "rm", "lister").returncode == 0
        eventually(lambda: Asking(served, text).get("/api/tags").status_code == 401, "refused")


def own_address() -> str | None:
    """An address of this machine that is not loopback."""
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family == socket.AF_INET and not one.address.startswith("127."):
                return str(one.address)
    return None


@contextmanager
def refused(*flags: str, home: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "localmodels", "serve", "--home", str(home), *flags]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    yield done.stderr


@pytest.mark.parametrize("form", ["0.0.0.0:0", "[::]:0"])
def test_the_network_is_refused_without_a_key(form: str, tmp_path: Path) -> None:
    """All twelve forms are in the unit test of the settings; here the program itself, and that it leaves no key."""
    with refused("--listen", form, home=tmp_path) as said:
        assert "there is no key yet" in said
        assert "localmodels keys add NAME --admin" in said
    assert not (tmp_path / "state.db").exists()
    keys(tmp_path, "add", "gone")
    keys(tmp_path, "rm", "gone")
    with refused("--listen", form, home=tmp_path) as said:
        assert "there is no key yet" in said


def test_the_network_is_served_to_who_has_a_key(tmp_path: Path) -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    text = made(tmp_path, "far")
    with serve("--allowed-host", address, home=tmp_path, listen="0.0.0.0:0") as served:
        port = served.url.rpartition(":")[2]
        far = f"http://{address}:{port}"
        assert httpx2.get(f"{far}/api/tags").status_code == 401
        assert httpx2.get(f"{far}/api/tags", headers=bearer("dummy")).status_code == 401
        assert httpx2.get(f"{far}/api/tags", headers=bearer(text)).status_code == 200
        assert httpx2.get(f"{far}/api/tags", headers={"host": "localhost"}).status_code == 401
        assert httpx2.get(f"http://127.0.0.1:{port}/api/tags").status_code == 200
        with localmodels.client.Client(far, api_key=text) as client:
            client.list()


def test_everybody_may_where_the_owner_said_so_but_not_make_keys(tmp_path: Path) -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    with serve("--allowed-host", address, "--insecure-no-auth", home=tmp_path, listen="0.0.0.0:0") as served:
        far = f"http://{address}:{served.url.rpartition(':')[2]}"
        assert httpx2.get(f"{far}/api/tags").status_code == 200
        assert httpx2.post(f"{far}/api/keys", json={"name": "mine"}).status_code == 403


def test_a_limit_is_an_error_of_ours(keyed: Served, admin: str) -> None:
    with localmodels.client.Client(keyed.url, api_key=admin) as client:
        _, text = client.add_key(Wish("one", allowance=Allowance(requests_per_minute=1)))
    with localmodels.client.Client(keyed.url, api_key=text.reveal()) as own:
        own.list()
        with pytest.raises(RateLimited) as caught:
            own.list()
        assert caught.value.retry_after
