"""``keys``: a new key alone on standard output, all of them in a list without their texts, and their end."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import pytest
from tests.unit.cli.conftest import NOW, Shell

from localmodels.core.access import Allowance
from localmodels.core.secrets import Secret
from localmodels.flows.access.keys import fingerprint
from localmodels.state.starting import known_keys
from localmodels.state.whereabouts import WHEREABOUTS, Whereabouts, place_of, written


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


def test_what_is_done_to_keys_says_where_they_are_kept(shell: Shell) -> None:
    """Another home has other keys, and its server would not heed these."""
    kept = shell.home / "state.db"
    added = shell("keys", "add", "bob", "--json").out
    assert shell("keys", "add", "eve").err.endswith(f", in {kept}; it is shown this once\n")
    assert shell("keys", "list").err == f"the keys in {kept}\n"
    assert (
        shell("keys", "rm", "bob").err
        == f"the key of bob ({json.loads(added)['id']}) in {kept} opens nothing any more\n"
    )
    shell.environ["LOCALMODELS_HOST"] = "gpu"
    note, listed = shell("keys", "list").err.splitlines()
    assert note.startswith("Note: LOCALMODELS_HOST does not count here, no server is asked; ")
    assert listed == f"the keys in {kept}"
    other = shell.home / "other"
    assert shell("keys", "list", "--home", str(other)).err == f"the keys in {other / 'state.db'}\n"


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
    assert shell("keys").out == listed.out
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
        (("add", "bob", "--requests-per-minute", "0"), "--requests-per-minute must be"),
        (("add", "bob", "--expires", "soon"), "not a duration"),
        (("add", "bob", "--expires", "0"), "in the future"),
        (("add", "bob", "--expires=-1"), "in the future"),
        (("rm", "nobody"), "no key 'nobody'"),
        (("rm",), "no key ''"),
    ],
)
def test_what_cannot_be_is_named_and_changes_nothing(shell: Shell, words: tuple[str, ...], said: str) -> None:
    done = shell("keys", *words)
    not_understood = said in {"for whom", "--quota", "not a duration", "in the future"}
    assert (done.code, done.out) == (2 if not_understood else 1, "")
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


DATABASE = "postgresql://gateway:hush@db.example/models"


def test_a_database_of_the_server_is_not_passed_over(shell: Shell) -> None:
    """The server has its database from an environment that this shell does not have."""
    shell.home.mkdir()
    said = Whereabouts(place_of(Secret(DATABASE)), "environment LOCALMODELS_DATABASE_URL")
    theirs = "postgresql://db.example:5432/models (its environment LOCALMODELS_DATABASE_URL)"
    for runs in (True, False):
        with written(shell.home, said) if runs else nullcontext():
            for words in (("add", "bob"), ("list",), ("rm", "bob")):
                done = shell("keys", *words)
                assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
                assert theirs in done.err
                assert f"not in {shell.home / 'state.db'}: name that database here too" in done.err
                assert ("the server that runs on" in done.err, "delete" in done.err) == (runs, not runs)
    assert not (shell.home / "state.db").exists()
    (shell.home / WHEREABOUTS).unlink()
    assert shell("keys", "add", "bob").code == 0


def test_a_running_server_goes_before_a_database_that_was_named_and_one_that_ran_does_not(shell: Shell) -> None:
    shell.home.mkdir()
    shell.environ["LOCALMODELS_DATABASE_URL"] = DATABASE
    with written(shell.home, Whereabouts()):
        done = shell("keys", "add", "bob")
    assert (done.code, done.out) == (1, "")
    assert f"keeps its keys in {shell.home / 'state.db'}, and not in postgresql://db.example:5432/models" in done.err
    assert "take the setting away here (environment LOCALMODELS_DATABASE_URL)" in done.err
    assert "hush" not in done.err
    # Nobody runs: that a database was named counts. Here there is none, which is told after what was noted.
    shell.environ["LOCALMODELS_DATABASE_URL"] = "postgresql:///models?host=/not/there"
    done = shell("keys", "list")
    assert done.err.startswith(f"Note: the server of {shell.home}, when it ran last, kept its keys in {shell.home}")
    assert "this is about those in postgresql:///not/there/models" in done.err


def test_the_same_place_is_the_same_in_any_spelling(shell: Shell) -> None:
    shell.home.mkdir()
    assert shell("keys", "add", "bob").code == 0
    with written(shell.home, Whereabouts()):
        assert shell("keys", "list").err == f"the keys in {shell.home / 'state.db'}\n"
    (shell.home / WHEREABOUTS).write_text("no JSON")
    done = shell("keys", "list")
    assert (done.code, "a server that is started writes it anew" in done.err) == (1, True)


def test_the_settings_may_be_in_any_file(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "here.toml").write_text('database_url = "postgresql:///models?host=/not/there"')
    done = shell("keys", "list", "--config", str(tmp_path / "here.toml"))
    assert (done.code, done.err.startswith("Error: database_url: ")) == (1, True)


def test_how_long_a_key_is_good_is_said_in_days_too(shell: Shell) -> None:
    done = shell("keys", "add", "bob", "--expires", "30days")
    assert (done.code, done.err) == (2, "Error: --expires: '30days' is not a duration, such as 12h or 30d\n")
