"""``keys``: a new key alone on standard output, all of them in a list without their texts, and their end."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from tests.unit.cli.conftest import NOW, Shell

from localmodels.core.access import Allowance
from localmodels.flows.access import fingerprint
from localmodels.state.starting import known_keys


def test_a_new_key_is_alone_on_standard_output(shell: Shell) -> None:
    flags = ["--requests-per-minute", "60", "--tokens-per-minute", "6000", "--quota", "50000/day", "--weight", "3"]
    done = shell("keys", "add", "bob", "--only", "qwen3", "--only", "openai/*", "--expires", "30d", *flags)
    assert done.code == 0
    text = done.out.removesuffix("\n")
    assert text.startswith("lm-")
    assert text not in done.err
    (key,) = known_keys(shell.home)
    assert key.hash == fingerprint(text)
    assert key.scopes == {"infer", "list"}
    assert (key.name, key.models, key.weight) == ("bob", ("qwen3", "openai/*"), 3)
    assert key.allowance == Allowance(60, 6000, 50_000, "day")
    assert key.expires_at == round((NOW + timedelta(days=30)).timestamp()) * 10**9
    assert (shell.home / "state.db").stat().st_mode & 0o777 == 0o600


def test_scopes_and_administrators(shell: Shell) -> None:
    assert shell("keys", "add", "root", "--admin").code == 0
    assert shell("keys", "add", "eye", "--scopes", "observe, list").code == 0
    assert [key.scopes for key in known_keys(shell.home)] in (
        [{"admin"}, {"observe", "list"}],
        [{"observe", "list"}, {"admin"}],
    )
    assert "exclude each other" in shell("keys", "add", "both", "--admin", "--scopes", "list").err


def test_the_list_shows_no_texts(shell: Shell) -> None:
    text = json.loads(shell("keys", "add", "bob", "--quota", "1000", "--json").out)["key"]
    listed = shell("keys", "list")
    assert " ".join(listed.out.splitlines()[0].split()) == "NAME ID KEY SCOPES MODELS LIMITS MADE STATE"
    assert "1000 tokens" in listed.out
    assert "active" in listed.out
    assert text not in listed.out + shell("keys", "list", "--json").out
    (row,) = json.loads(shell("keys", "list", "--json").out)
    assert (row["name"], row["state"], row["token_quota"]) == ("bob", "active", 1000)
    assert json.loads(Shell(shell.home / "none")("keys", "list", "--json").out) == []


def test_a_key_goes_by_its_name_or_its_id(shell: Shell) -> None:
    first = json.loads(shell("keys", "add", "bob", "--json").out)
    assert "already" in shell("keys", "add", "bob").err
    assert shell("keys", "rm", "bob").code == 0
    assert shell("keys", "rm", first["id"]).code == 0  # again is no failure
    again = json.loads(shell("keys", "add", "bob", "--json").out)
    assert json.loads(shell("keys", "rm", "bob", "--json").out) == {
        "id": again["id"],
        "name": "bob",
        "status": "revoked",
    }
    revoked = {key.id: key.revoked_at is not None for key in known_keys(shell.home)}
    assert revoked == {first["id"]: True, again["id"]: True}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add",), "for whom"),
        (("add", "b\tb"), "name must be"),
        (("add", "bob", "--scopes", "infer,lst"), "manage, observe, admin, not 'lst'"),
        (("add", "bob", "--scopes", ""), "scopes must be"),
        (("add", "bob", "--only", "a b"), "models must be"),
        (("add", "bob", "--quota", "5/week"), "--quota"),
        (("add", "bob", "--quota", "much"), "--quota"),
        (("add", "bob", "--requests-per-minute", "0"), "requests_per_minute must be"),
        (("add", "bob", "--expires", "soon"), "not a duration"),
        (("add", "bob", "--expires", "0"), "in the future"),
        (("add", "bob", "--expires=-1"), "in the future"),
        (("rm", "nobody"), "no key 'nobody'"),
        (("rm",), "no key ''"),
    ],
)
def test_what_cannot_be_is_named_and_changes_nothing(shell: Shell, words: tuple[str, ...], said: str) -> None:
    done = shell("keys", *words)
    assert (done.code, done.out) == (1, "")
    assert said in done.err
    assert not (shell.home / "state.db").exists()


def test_a_damaged_file_is_named(shell: Shell) -> None:
    shell.home.mkdir()
    (shell.home / "state.db").write_bytes(b"no database, but as long as the head of one" * 9)
    for words in (("list",), ("add", "bob"), ("rm", "bob")):
        done = shell("keys", *words)
        assert done.code == 1
        assert "state" in done.err
        assert "not a database" in done.err
