"""The verbs of the fleet as their user meets them: a gateway, servers behind it, and the program in a subprocess."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.serving import PATIENCE, Served, environment, eventually, serve
from tests.postgres import Postgres

from localmodels.client import AsyncClient, ChatRequest, Client, ServerChange, Wish, user
from localmodels.core.errors import NotFound

PROGRAM = [sys.executable, "-m", "localmodels"]
KEY = "sk-sesame-nobody-may-see"


@dataclass(frozen=True)
class Gateway:
    """Runs verbs against a gateway."""

    served: Served
    log: Path

    def __call__(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *words],
            env={**environment(), "LOCALMODELS_HOST": self.served.url, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def json(self, *words: str, **environ: str) -> Any:
        done = self(*words, "--json", **environ)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    def rows(self, *words: str) -> list[Any]:
        """Objects, one a line."""
        return [json.loads(line) for line in self(*words, "--json").stdout.splitlines()]

    @contextmanager
    def fleet(self, **servers: str) -> Iterator[None]:
        """These servers are registered meanwhile."""
        for name, url in servers.items():
            assert self("servers", "add", name, url).returncode == 0
        try:
            yield
        finally:
            self("servers", "rm", *servers)
            assert [row["name"] for row in self.json("servers")] == ["local"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = tmp_path_factory.mktemp("gateway")
    with serve(home=home / "home", log=home / "log") as served:
        yield Gateway(served, home / "log")


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(home=tmp_path_factory.mktemp("behind")) as served:
        yield served


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One that wants a key of everybody."""
    with serve("--require-key", home=tmp_path_factory.mktemp("locked")) as served:
        yield served


def test_a_server_is_registered_used_changed_and_forgotten(gateway: Gateway, behind: Served) -> None:
    done = gateway("servers", "add", "Big Box", behind.url, "--priority", "5", "--capability", "code", "--default")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("registered 'Big Box'; it answers by Ollama's API, version ")
    try:
        local, box = gateway.json("servers", "list")
        assert (local["kind"], local["source"]) == ("local", "local")
        assert (box["name"], box["prefix"], box["state"], box["has_key"]) == ("Big Box", "big-box", "up", False)
        assert (box["priority"], box["capabilities"], box["is_default"]) == (5, ["code"], True)
        assert [row["model"] for row in gateway.json("models", "list", "--server", "big-box")] == ["localmodels:latest"]
        route = gateway.json("route", "localmodels")
        assert [target["server"] for target in route["targets"]] == ["big-box", "local"]
        assert [one["server"] for one in gateway.json("route", "auto:code")["left_out"]] == ["local"]
        answer = gateway.json("run", "localmodels", "Hi")
        assert answer["done"]["usage"]["completion_tokens"] > 0
        assert "localmodels" in behind.running()
        assert gateway("servers", "set", box["id"], "--inactive", "--rename", "box").returncode == 0
        left_out = gateway.json("route", "localmodels")["left_out"]
        assert left_out == [{"server": "box", "reason": "is switched off"}]
        checked = gateway("servers", "check", "box")
        assert (checked.returncode, "switched off" in checked.stdout) == (0, True)
        assert gateway("servers", "set", "box", "--active").returncode == 0
        assert gateway("servers", "check").stdout.splitlines()[1].startswith("'box' answers by Ollama's API, version ")
    finally:
        for name in ("Big Box", "box"):
            gateway("servers", "rm", name)
    assert [row["name"] for row in gateway.json("servers")] == ["local"]


def test_a_key_comes_from_the_environment_and_is_shown_to_nobody(gateway: Gateway, locked: Served) -> None:
    key = locked.admin_key
    told = [gateway("servers", "add", "locked", locked.url, "--key-env", "THE_KEY", THE_KEY=KEY)]
    try:
        told.append(gateway("servers", "check", "locked"))
        assert (told[-1].returncode, "does not answer" in told[-1].stdout) == (1, True)
        told.append(gateway("servers", "set", "locked", "--key-env", "THE_KEY", THE_KEY=key))
        assert "it answers by Ollama's API" in told[-1].stderr
        told.append(gateway("servers", "--json"))
        assert json.loads(told[-1].stdout)[1]["has_key"] is True
        assert gateway.json("run", "locked/localmodels", "Hi")["done"]
        elsewhere = gateway("servers", "set", "locked", "--url", "http://127.0.0.1:9")
        assert (elsewhere.returncode, "say --key-env, --key-file or --no-key too" in elsewhere.stderr) == (1, True)
    finally:
        assert gateway("servers", "rm", "locked").returncode == 0
    written = "".join(done.stdout + done.stderr for done in told) + gateway.log.read_text()
    assert key not in written
    assert KEY not in written


def test_a_newcomers_slips_are_told_and_nothing_is_pulled_for_them(gateway: Gateway, behind: Served) -> None:
    with gateway.fleet(box=behind.url):
        taken = gateway("servers", "add", "box", behind.url)
        assert taken.stderr.endswith(f"change it with `localmodels servers set box --url {behind.url}`\n")
        slips = {
            "bx/localmodels": "there is no server 'bx'; 'box' and 'local' have it: ask for 'localmodels'",
            "localmodel": "did you mean 'localmodels'?",
            "auto:nonsense": "model 'auto:nonsense' not found",
        }
        for name, words in slips.items():
            done = gateway("run", name, "Hi")
            assert (done.returncode, done.stdout, "pulling" in done.stderr) == (1, "", False)
            assert words in done.stderr
        assert gateway("servers", "set", "box", "--inactive").returncode == 0
        off = gateway("run", "box/localmodels", "Hi").stderr
        assert off.startswith("Error: model 'box/localmodels' not found: the server 'box' is switched off")
    wrong = gateway("servers", "add", "box", f"{behind.url}/v1").stderr
    assert wrong.endswith("drop /v1, or say --kind openai\n")
    nobody = gateway("list", "--host", "127.0.0.1:9").stderr
    assert nobody.endswith("; start one with `localmodels serve`, or leave --host out\n")


def test_what_a_gateways_key_may_there_is_told_apart_from_a_key_that_is_none(gateway: Gateway, locked: Served) -> None:
    assert gateway("list", "--host", locked.url).stderr == (
        "Error: this server asks for a key: set LOCALMODELS_API_KEY\n"
    )
    with gateway.fleet(locked=locked.url):
        asks = "asks for a key; `localmodels servers set locked --key-file FILE` gives it one"
        assert asks in gateway("servers", "check", "locked").stdout
        with Client(locked.url, api_key=locked.admin_key) as owner:
            _, small = owner.add_key(Wish("gateway", frozenset({"infer", "list"})))
        told = gateway("servers", "set", "locked", "--key-env", "SMALL", SMALL=small.reveal())
        assert "it answers by Ollama's API" in told.stderr
        assert gateway.json("run", "locked/localmodels", "Hi")["done"]
        (there,) = gateway.json("ps", "--server", "locked")
        assert there["server"] == "locked"
        assert gateway("stop", "localmodels", "--server", "locked").returncode == 0
        refused = gateway("cp", "localmodels", "twin", "--server", "locked")
        assert refused.returncode == 1
        assert "does not allow us this: our key lacks the scope 'manage': on its machine" in refused.stderr
        assert small.reveal() not in refused.stderr
        assert "it refuses our key" in gateway("servers", "set", "locked", "--key-env", "BAD", BAD=KEY).stderr


def test_what_is_stopped_here_is_told_to_be_in_memory_elsewhere(gateway: Gateway, behind: Served) -> None:
    with gateway.fleet(box=behind.url):
        for name in ("local/localmodels", "box/localmodels"):
            assert gateway.json("run", name, "Hi")["done"]
        assert gateway("stop", "localmodels").stderr == (
            "unloaded here; still in memory on box: `localmodels stop localmodels --server box` unloads it there\n"
        )
        assert "localmodels" in behind.running()
        assert (
            gateway("stop", "localmodels").stderr == "unloaded 'localmodels' on 'box'\n"
        )  # nobody else has it in memory
        assert behind.running() == {}
        assert gateway("stop", "localmodels").stderr.startswith("'localmodels' was not in memory; ")


def test_what_stands_still_is_told_in_words(gateway: Gateway, tmp_path: Path) -> None:
    with serve(home=tmp_path / "short") as short:
        assert gateway("servers", "add", "short", short.url).returncode == 0
    try:
        done = gateway("servers", "check", "short")
        assert (done.returncode, done.stdout) == (1, "'short' does not answer: the server cannot be reached\n")
        assert gateway.json("run", "localmodels", "Hi")["done"]  # here
        done = gateway("rm", "nobody", "--server", "short", "--server", "local")
        assert (done.returncode, "short     failed" in done.stderr) == (1, True)
        done = gateway("servers", "discover", "short")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        done = gateway("ps", "--server", "*")
        assert (done.returncode, done.stderr.count("'short'")) == (1, 1)
    finally:
        assert gateway("servers", "rm", "short").returncode == 0


def test_who_did_it_is_told_where_another_failed_and_it_can_be_repeated(
    gateway: Gateway, behind: Served, tmp_path: Path
) -> None:
    (tmp_path / "Modelfile").write_text("FROM localmodels\nSYSTEM Be brief.")
    made = ("create", "made", "-f", str(tmp_path / "Modelfile"))
    with serve(home=tmp_path / "late") as late:
        port = late.url.rpartition(":")[2]
        assert gateway("servers", "add", "late", late.url).returncode == 0
    with gateway.fleet(box=behind.url):
        for words, did in ((made, "made 'made'"), (("cp", "made", "twin"), "copied 'made' to 'twin'")):
            done = gateway(*words, "--server", "*")
            *_, one, other, last, error = done.stderr.splitlines()
            cells = [re.split(r" {4,}", line) for line in (one, other, last)]
            table = {name: rest for name, *rest in cells}
            assert (done.returncode, done.stdout) == (1, "")
            assert (table["local"], table["box"]) == ([did], [did])
            assert table["late"][0] == "failed"
            assert (
                done.stderr.count("cannot be reached") == 1
            )  # while a model is made, when it fails; else in the table
            assert cells[0][0] == "local"
            assert error.startswith("Error: 1 of 3 servers failed; repeat it as it is")
            assert error.endswith("or with --server late alone")
        with serve(home=tmp_path / "late", listen=f"127.0.0.1:{port}"):
            assert gateway(*made, "--server", "late").returncode == 0
            rows = gateway.rows("cp", "made", "twin", "--server", "*")  # as it was
            assert sorted((row["server"], row["status"]) for row in rows) == [
                ("box", "success"), ("late", "success"), ("local", "success")
            ]  # fmt: skip
        for name in ("twin", "made"):
            done = gateway("rm", name, "--server", "*", "--json")
            rows = [json.loads(line) for line in done.stdout.splitlines()]
            assert done.returncode == 1
            assert {row["server"]: row["status"] for row in rows} == {
                "local": "success", "box": "success", "late": "error"
            }  # fmt: skip
        assert gateway("servers", "rm", "late").returncode == 0


def test_without_a_server_a_change_is_of_the_gateway_alone_and_says_who_has_the_model(
    gateway: Gateway, behind: Served
) -> None:
    with gateway.fleet(box=behind.url):
        assert gateway("cp", "localmodels", "there", "--server", "box").returncode == 0
        for words in (("rm", "there"), ("cp", "there", "elsewhere")):
            done = gateway(*words)
            command = f"`localmodels {' '.join(words)} --server box`"
            said = f"Error: there is on the server 'box': {command} does it there\n"
            assert (done.returncode, done.stderr) == (1, said)
        assert gateway("rm", "box/there").stderr == "deleted 'there' on 'box'\n"
        assert gateway("rm", "box/there").returncode == 1
        assert "localmodels" in gateway("list", "localmodels", "--host", behind.url).stdout


def test_what_a_server_has_no_more_can_be_forgotten(gateway: Gateway, behind: Served) -> None:
    with gateway.fleet(box=behind.url):
        assert gateway("cp", "localmodels", "lost", "--server", "box").returncode == 0
        assert gateway("servers", "discover", "box").returncode == 0
        done = gateway("models", "forget", "lost")
        assert (done.returncode, "only what is gone" in done.stderr) == (1, True)
        with Client(behind.url, environ={}) as client:
            client.delete("lost")
        assert gateway("servers", "discover", "box").returncode == 0
        assert re.split(r" {4,}", gateway("models", "list", "lost").stdout.splitlines()[1])[2] == "gone"
        assert gateway("models", "forget", "lost").stderr == "forgot 'lost:latest' of 'box'\n"
        assert gateway.json("models", "list", "lost") == []


def test_keys_are_those_that_the_server_of_the_home_goes_by(tmp_path: Path, postgres: Postgres) -> None:
    """A service has its database from an environment that the shell beside it does not have."""
    url, home = postgres.database().reveal(), tmp_path / "home"

    def keys(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        told = {**environment(), "LOCALMODELS_HOME": str(home), **environ}
        return subprocess.run([*PROGRAM, "keys", *words], env=told, capture_output=True, text=True, check=False)

    with serve(home=home, environ={"LOCALMODELS_DATABASE_URL": url}) as served:
        done = keys("add", "bob")
        assert (done.returncode, done.stdout) == (1, "")
        assert f"the server that runs on {home} keeps its keys in postgresql://" in done.stderr
        assert f"and not in {home / 'state.db'}" in done.stderr
        assert not (home / "state.db").exists()
        made = keys("add", "bob", LOCALMODELS_DATABASE_URL=url)
        assert (made.returncode, made.stderr.count("\n")) == (0, 1)
        assert served.get("/api/keys").json()["keys"][-1]["name"] == "bob"
    done = keys("list")
    assert (done.returncode, f"delete {home / 'state.at'}" in done.stderr) == (1, True)
    with serve(home=home):
        done = keys("list", LOCALMODELS_DATABASE_URL=url)
        assert (done.returncode, "take the setting away here" in done.stderr) == (1, True)
        assert keys("list").stderr == f"the keys in {home / 'state.db'}\n"
    done = keys("list", LOCALMODELS_DATABASE_URL=url)
    assert (done.returncode, "bob" in done.stdout, done.stderr.startswith("Note: ")) == (0, True, True)


@pytest.mark.parametrize("room", [80, 60])
def test_a_table_fits_the_terminal(gateway: Gateway, room: int) -> None:
    shown, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, room, 0, 0))
    for words in (("servers", "list"), ("models", "list")):
        environ = {**environment(), "LOCALMODELS_HOST": gateway.served.url, "TERM": "xterm"}
        assert (
            subprocess.run([*PROGRAM, *words], env=environ, stdout=end, timeout=PATIENCE, check=False).returncode == 0
        )
        lines = re.sub(r"\x1b\[\d*m", "", os.read(shown, 65_536).decode()).splitlines()
        assert max(len(line.rstrip()) for line in lines) <= room
        assert lines[0].startswith("NAME")
        assert "…" not in lines[1]  # nothing that is shown of the first had to be cut
        assert "local" in lines[1]
    os.close(end)
    os.close(shown)


def test_a_model_is_copied_found_unloaded_and_deleted_on_all_servers(gateway: Gateway, behind: Served) -> None:
    with gateway.fleet(box=behind.url):
        copied = gateway.rows("cp", "localmodels", "twin", "--server", "*")
        assert sorted((row["server"], row["status"]) for row in copied) == [("box", "success"), ("local", "success")]
        (twin,) = gateway.json("list", "twin")
        assert sorted(twin["servers"]) == ["box", "local"]
        shown = gateway.json("show", "twin", "--server", "*")["servers"]
        assert sorted(row["server"] for row in shown if row["digest"] == twin["digest"]) == ["box", "local"]
        assert gateway("servers", "discover", "box").returncode == 0  # its row is written now, and not in a moment
        assert gateway("models", "set", "box/twin", "--inactive").returncode == 0
        assert [one["server"] for one in gateway.json("route", "twin")["targets"]] == ["local"]
        assert gateway.json("run", "box/localmodels", "Hi")["done"]
        (there,) = gateway.json("ps", "--server", "box")
        assert (there["model"]["name"], there["server"]) == ("localmodels:latest", "box")
        assert gateway.json("models", "unload", "box/localmodels")["status"] == "unloaded"
        assert gateway.json("ps", "--server", "box") == []
        assert behind.running() == {}
        assert len(gateway.rows("rm", "twin", "--server", "box", "--server", "local")) == 2
        assert gateway.json("list", "twin") == []


def test_a_table_is_drawn_anew_until_it_is_interrupted(gateway: Gateway) -> None:
    """On a terminal, and by the time that the program takes: two rounds."""
    shown, end = pty.openpty()
    command = [*PROGRAM, "servers", "list", "--watch"]
    environ = {**environment(), "LOCALMODELS_HOST": gateway.served.url, "TERM": "xterm"}
    with subprocess.Popen(command, env=environ, stdin=end, stdout=end, stderr=end, start_new_session=True) as verb:
        os.close(end)
        text = b""
        while text.count(b"\x1b[H\x1b[2J") < 2:
            assert select.select([shown], [], [], PATIENCE)[0], text
            text += os.read(shown, 65_536)
        verb.send_signal(signal.SIGINT)
        assert verb.wait(PATIENCE) == 0
    os.close(shown)
    assert text.count(b"local") >= 1
    assert b"Traceback" not in text


def test_a_pipe_that_is_closed_ends_the_watching(gateway: Gateway) -> None:
    environ = {**environment(), "LOCALMODELS_HOST": gateway.served.url}
    command = [*PROGRAM, "models", "list", "--watch", "--json"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as verb:
        assert verb.stdout
        assert verb.stderr
        assert isinstance(json.loads(verb.stdout.readline()), list)
        verb.stdout.close()
        assert verb.wait(PATIENCE) == 1
        assert verb.stderr.read() == b""


def test_the_sdk_does_the_same_in_both_forms(gateway: Gateway, behind: Served) -> None:
    with Client(gateway.served.url, environ={}) as client:
        made = client.add_server("sdk", behind.url, ServerChange(weight=2.0))
        try:
            assert made.available
            assert client.discover(made.id).models_found >= 1
            row = next(one for one in client.server_models(made.id) if one.model == "localmodels:latest")
            assert client.check_model(row.id).is_available
            assert client.look_at(behind.url).id == made.id
            assert {one.name for one in client.live_servers()} == {"local", "sdk"}
            client.chat(ChatRequest("sdk/localmodels", (user("Hi"),)))
            eventually(lambda: client.check_model(row.id).is_loaded, "it is in memory")
            assert client.unload_from_gpu(row.id).status == "unloaded"
            assert client.unload_model(row.id).status == "not_loaded"
            assert asyncio.run(_names(gateway.served.url)) == ["local", "sdk"]
        finally:
            assert client.remove_server(made.id).name == "sdk"
        with pytest.raises(NotFound, match="there are: local"):
            client.server("sdk")


async def _names(url: str) -> list[str]:
    async with AsyncClient(url, environ={}) as client:
        return [server.name for server in await client.servers()]


def test_a_model_that_is_removed_from_here_leaves_the_list_and_one_that_vanishes_is_gone(
    gateway: Gateway, behind: Served
) -> None:
    def states(name: str) -> dict[str, str]:
        rows = gateway.json("models", "list", name)
        return {row["server_name"]: "ready" if row["available"] else "gone" for row in rows}

    def known(name: str) -> bool:
        return states(name) == {"local": "ready", "box": "ready"}

    with gateway.fleet(box=behind.url):
        for name in ("passing", "resting", "spoken-of"):
            assert gateway("cp", "localmodels", name, "--server", "*").returncode == 0
            eventually(lambda name=name: known(name), "it is listed on both")  # type: ignore[misc]
        assert gateway("models", "set", "spoken-of", "--server", "*", "--priority", "3").returncode == 0
        assert gateway("rm", "passing", "spoken-of", "--server", "*").returncode == 0
        assert states("passing") == {}
        assert states("spoken-of") == {"local": "gone", "box": "gone"}
        with Client(behind.url) as client:
            client.delete("resting")
        assert gateway("servers", "discover", "box").returncode == 0
        assert states("resting") == {"local": "ready", "box": "gone"}
        assert gateway("rm", "resting").returncode == 0
        assert states("resting") == {"box": "gone"}


def test_a_dry_run_for_this_machine_alone_and_for_no_model(gateway: Gateway, behind: Served) -> None:
    with gateway.fleet(box=behind.url):
        told = gateway.json("route", "local/localmodels")
        assert [(one["server"], one["model"]) for one in told["targets"]] == [("local", "localmodels:latest")]
        assert {one["server"] for one in gateway.json("route")["targets"]} == {"local", "box"}
