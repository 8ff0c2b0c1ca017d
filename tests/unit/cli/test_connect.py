"""Which server a command speaks to."""

from __future__ import annotations

import httpx2
import pytest
from tests.unit.cli.conftest import Shell

from localmodels.core.errors import Unauthenticated, Unreachable
from localmodels.server.app import UNAUTHENTICATED


def test_the_first_of_our_addresses_where_one_of_ours_answers(shell: Shell) -> None:
    shell.server.there = lambda url: url.port == 11434
    assert shell("list").code == 0
    assert {request.url.port for request in shell.server.asked} == {11434}


def test_a_stranger_on_our_port_is_passed_by(shell: Shell) -> None:
    def there(url: httpx2.URL) -> bool:
        shell.server.status = 404 if url.port == 8000 else 200
        return True

    shell.server.there = there
    assert shell("list").code == 0
    assert [request.url.port for request in shell.server.asked if request.url.path == "/api/tags"] == [11434]


def test_a_stranger_is_told_no_key(shell: Shell) -> None:
    shell.environ = {"LOCALMODELS_API_KEY": "secret"}
    shell.server.there = lambda url: url.port == 11434
    assert shell("list").code == 0
    said = {request.url.path: request.headers.get("authorization") for request in shell.server.asked}
    assert said == {"/health": None, "/api/tags": "Bearer secret"}


def test_addresses_from_the_settings_are_tried(shell: Shell) -> None:
    shell.environ = {"LOCALMODELS_LISTEN": "0.0.0.0:5,[::1]:6"}
    shell.server.there = lambda url: url.port == 6
    assert shell("list").code == 0
    assert str(shell.server.asked[-1].url) == "http://[::1]:6/api/tags"


@pytest.mark.parametrize(
    ("words", "environ"),
    [(("--host", "gpu:1"), {}), ((), {"LOCALMODELS_HOST": "gpu:1"}), ((), {"OLLAMA_HOST": "gpu:1"})],
)
def test_an_address_that_was_named_is_taken_unseen(
    shell: Shell, words: tuple[str, ...], environ: dict[str, str]
) -> None:
    shell.environ = environ
    assert shell("list", *words).code == 0
    assert [str(request.url) for request in shell.server.asked] == ["http://gpu:1/api/tags"]


def test_nobody_there(shell: Shell) -> None:
    shell.server.there = lambda url: False
    done = shell("list")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "Error: no LocalModels server answers at http://127.0.0.1:8000 or http://127.0.0.1:11434; "
        "start one with `localmodels serve`\n"
    )
    assert shell("list", "--host", "gpu:1").err == (
        "Error: no server answers at http://gpu:1; start one there with `localmodels serve`, or leave --host out\n"
    )


@pytest.mark.parametrize("name", ["LOCALMODELS_HOST", "OLLAMA_HOST"])
def test_nobody_where_the_environment_says(shell: Shell, name: str) -> None:
    shell.server.there = lambda url: False
    shell.environ = {name: "localhost:8000"}
    assert shell("list").err == (
        f"Error: no server answers at http://localhost:8000; start one with `localmodels serve`, or unset {name}\n"
    )


def test_what_a_gateway_cannot_reach_is_not_taken_for_itself(shell: Shell) -> None:
    shell.server.fails_with = Unreachable("no server answers at http://gpu:1")
    assert shell("list", "--host", "gpu:1").err == "Error: no server answers at http://gpu:1\n"


def test_who_asks_for_a_key_is_told_where_it_goes(shell: Shell) -> None:
    shell.server.fails_with = Unauthenticated(UNAUTHENTICATED)
    assert shell("list").err == "Error: this server asks for a key: set LOCALMODELS_API_KEY\n"


def test_an_address_that_is_none(shell: Shell) -> None:
    assert shell("list", "--host", "a b").err.startswith("Error: 'a b' is not HOST:PORT")


@pytest.mark.parametrize("address", ["http://localhost:8000/v1", "localhost:8000/v1/", "https://box/llm/v1"])
def test_an_address_of_openais_clients(shell: Shell, address: str) -> None:
    for words, environ in ((("--host", address), {}), ((), {"LOCALMODELS_HOST": address})):
        shell.environ = environ
        assert shell("list", *words).err == f"Error: '{address}' is an address for clients of OpenAI; drop /v1\n"
    assert shell.server.asked == []
