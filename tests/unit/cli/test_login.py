"""``login`` and ``logout``, as far as no registry is asked; ``tests/contract/test_login.py`` asks some."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Shell

from localmodels.cli.registries import place_of
from localmodels.config import load
from localmodels.registry.addresses import Origin
from localmodels.registry.credentials import FileCredentials, Login

HERE = Origin.parse("https://registry.example")
PLAIN = Origin.parse("http://registry.example:5000")


@pytest.mark.parametrize(
    ("words", "more", "said"),
    [
        (("registry.example",), {"piped": "x"}, "there is no terminal to ask at"),
        (("registry.example", "--password-stdin"), {"piped": "x"}, "--password-stdin needs --username"),
        (("registry.example", "-u", "a:b", "--password-stdin"), {"piped": "x"}, "no colon"),
        (("registry.example", "-u", "a", "--password-stdin"), {"piped": ""}, "at least one character"),
        (("registry.example", "-u", "a", "--password-stdin"), {"piped": "one\ntwo"}, "none of control"),
        (("registry.example",), {"typed": ["a"], "secrets": [EOFError]}, "nothing was typed"),
        (("a b",), {}, "is not the address of a registry"),
        (("ftp://registry.example",), {}, "is not the address of a registry"),
    ],
)
def test_what_cannot_be_a_login_asks_nobody(
    shell: Shell, words: tuple[str, ...], more: dict[str, object], said: str
) -> None:
    done = shell("login", *words, **more)  # type: ignore[arg-type]
    assert (done.code, done.out) == (2 if said.startswith("--") else 1, "")
    assert said in done.err
    assert not shell.home.exists()


@pytest.mark.parametrize(
    ("registry", "speaks", "trusted"),
    [
        ("https://huggingface.co", "hub", ()),
        ("https://hf.co", "hub", ()),
        ("https://registry.example", "oci", (Origin.parse("https://tokens.example"),)),
        ("http://registry.example", "oci", ()),
        ("https://registry.example:5000", "oci", ()),
    ],
)
def test_a_url_is_what_is_configured_for_its_host(
    registry: str, speaks: str, trusted: tuple[Origin, ...], tmp_path: Path
) -> None:
    config = load({"home": str(tmp_path), "trusted_origins": ["registry.example=https://tokens.example"]}, {}).config
    place = place_of(registry, config, insecure=False)
    assert (str(place.origin), place.speaks) == (registry.replace("//hf.co", "//huggingface.co"), speaks)
    assert place.trusted >= set(trusted)


def test_ctrl_c_at_the_password_keeps_nothing(shell: Shell) -> None:
    done = shell("login", "registry.example", typed=["ollie"], secrets=[KeyboardInterrupt])
    assert (done.code, done.prompts) == (130, ["Username: ", "Password: "])
    assert not shell.home.exists()


def test_logout_forgets_one_registry(shell: Shell) -> None:
    kept = FileCredentials(shell.home)
    for origin in (HERE, PLAIN):
        kept.put(origin, Login.parse("ollie", "sesame"))
    assert shell("logout", "registry.example").err == "logged out of https://registry.example\n"
    assert shell("logout", "registry.example").err == "there was no login of https://registry.example\n"
    assert (kept.get(HERE), kept.get(PLAIN) is not None) == (None, True)
    done = shell("logout", "registry.example:5000", "--insecure", "--json")
    assert json.loads(done.out) == {"registry": "http://registry.example:5000", "status": "logged out"}
    assert kept.get(PLAIN) is None
