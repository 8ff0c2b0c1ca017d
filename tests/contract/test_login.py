"""A login is kept when a registry has taken it, and only then: on a registry of ours, and on Debian's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from tests.registry.docker import ABSENT, PROGRAM, docker_registry
from tests.registry.hub import STRANGER, TOKEN, Hub
from tests.registry.server import PASSWORD, USER, Registry
from tests.registry.server import Login as Kind
from tests.registry.threads import in_a_thread
from tests.unit.cli.conftest import Shell

from localmodels.registry.addresses import Origin
from localmodels.registry.credentials import FileCredentials


@contextmanager
def running(login: Kind) -> Iterator[str]:
    """A registry of ours; its URL."""
    with in_a_thread(Registry(login=login)) as registry:
        yield registry.url


@contextmanager
def debian(root: Path) -> Iterator[str]:
    if PROGRAM is None:
        pytest.skip(ABSENT)
    with docker_registry(root, login=True) as url:
        yield url


@pytest.fixture(params=["basic", "bearer", "debian"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of one that wants a login."""
    ways: dict[str, Callable[[], AbstractContextManager[str]]] = {
        "basic": lambda: running("basic"),
        "bearer": lambda: running("bearer"),
        "debian": lambda: debian(tmp_path),
    }
    with ways[request.param]() as url:
        yield url


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home")


def test_what_is_typed_is_tried_and_kept(shell: Shell, registry: str) -> None:
    done = shell("login", registry, typed=[USER], secrets=[PASSWORD])
    assert (done.code, done.out, done.err) == (0, "", f"logged in to {registry} as {USER}\n")
    assert done.prompts == ["Username: ", "Password: "]
    login = FileCredentials(shell.home).get(Origin.parse(registry))
    assert login is not None
    assert (login.username, login.password.reveal()) == (USER, PASSWORD)


def test_a_password_from_a_pipe(shell: Shell, registry: str) -> None:
    host = registry.removeprefix("http://")
    words = ("login", host, "--insecure", "-u", USER, "--password-stdin", "--json")
    done = shell(*words, piped=PASSWORD + "\n")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {"registry": registry, "username": USER, "status": "logged in", "proved": True}


def test_a_logout_means_the_login_by_plain_http_too(shell: Shell) -> None:
    with running("basic") as registry:
        shell("login", registry, typed=[USER], secrets=[PASSWORD])
        host = registry.removeprefix("http://")
        assert shell("logout", host).err == f"logged out of {registry}\n"
        assert shell("logout", host).err == f"there was no login of https://{host}\n"
        assert FileCredentials(shell.home).get(Origin.parse(registry)) is None


def test_a_wrong_password_is_not_kept_and_not_told(shell: Shell, registry: str) -> None:
    shell("login", registry, typed=[USER], secrets=[PASSWORD])
    done = shell("login", registry, typed=[USER], secrets=["swordfish"])
    assert done.code == 1
    assert f"does not take the login of '{USER}'" in done.err
    assert "swordfish" not in done.err
    login = FileCredentials(shell.home).get(Origin.parse(registry))
    assert login is not None
    assert login.password.reveal() == PASSWORD


def test_a_registry_that_asks_nobody_proves_nothing(shell: Shell) -> None:
    with running("none") as url:
        done = shell("login", url, typed=[USER], secrets=[PASSWORD])
    assert done.code == 0
    assert "without a proof" in done.err


def test_nobody_there(shell: Shell) -> None:
    with running("none") as url:
        pass
    done = shell("login", url, typed=[USER], secrets=[PASSWORD])
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert not shell.home.exists()


def test_a_hub_knows_people_by_their_tokens(shell: Shell) -> None:
    with in_a_thread(Hub()) as hub:
        shell.environ = {"LOCALMODELS_HF_ENDPOINT": hub.url}
        done = shell("login", "hf.co", secrets=[TOKEN])
        assert (done.code, done.err) == (0, f"logged in to {hub.url} as token\n")
        assert done.prompts == ["Token: "]
        login = FileCredentials(shell.home).get(Origin.parse(hub.url))
        assert login is not None
        assert login.password.reveal() == TOKEN
        for wrong in (f"{STRANGER}x", "hf_nobody"):
            refused = shell("login", "huggingface.co", "--password-stdin", piped=wrong)
            assert (refused.code, "does not take the token" in refused.err) == (1, True)
            assert wrong not in refused.err
        assert shell("logout", "hf.co").err == f"logged out of {hub.url}\n"


def test_a_token_service_elsewhere_is_asked_where_that_is_configured(shell: Shell) -> None:
    with (
        in_a_thread(Registry(login="bearer")) as service,
        in_a_thread(Registry(login="bearer", realm=f"{service.url}/token")) as registry,
    ):
        registry.tokens = service.tokens
        host = registry.url.removeprefix("http://")
        words = ("login", host, "--insecure", "-u", USER, "--password-stdin")
        refused = shell(*words, piped=PASSWORD)
        assert (refused.code, "not trusted" in refused.err) == (1, True)
        shell.environ = {
            "LOCALMODELS_TRUSTED_ORIGINS": f"{host}={service.url}",
            "LOCALMODELS_INSECURE_REGISTRIES": host,
        }
        assert shell(*words, piped=PASSWORD).err == f"logged in to {registry.url} as {USER}\n"
