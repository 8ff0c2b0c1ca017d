"""``usage``: the server's rows of an hour, added up in every way in which somebody may look at them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from msgspec.structs import replace
from tests.unit.cli.conftest import NOW, Shell
from tests.unit.client.fake_server import KEY

from localmodels.core.access import Key, Use

HOUR = round(NOW.timestamp()) // 3600
EVE = replace(KEY, id="key_2", name="eve")
USED = (
    Use("key_1", "large", "local", HOUR, 2, 1, 100, 40, 10, 6),
    Use("key_1", "small", "box", HOUR - 1, 3, 0, 30, 0, 3, 0),
    Use("key_2", "small", "local", HOUR - 24, 5, 2, 200, 8, 50, 0),
    Use("local", "small", "local", HOUR - 24 * 20, 1, 0, 7, 0, 1, 0),
)


@pytest.fixture(autouse=True)
def used(shell: Shell) -> None:
    shell.server.keys, shell.server.used = (KEY, EVE), USED


def table(shell: Shell, *words: str) -> list[list[str]]:
    return [re.split(r" {2,}", line.strip()) for line in shell("usage", *words).out.splitlines()]


def rows(shell: Shell, *words: str) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(shell("usage", *words, "--json").out)
    return told


def test_it_is_told_by_model_the_most_tokens_first(shell: Shell) -> None:
    assert table(shell) == [
        ["MODEL", "REQUESTS", "FAILED", "PROMPT", "CACHED", "ANSWER", "TOKENS", "ESTIMATED"],
        ["small", "9", "2", "237", "8", "54", "291", "0"],
        ["large", "2", "1", "100", "40", "10", "110", "6"],
    ]
    assert rows(shell)[1] == {
        "model": "large",
        "requests": 2,
        "failed": 1,
        "prompt_tokens": 100,
        "cached_tokens": 40,
        "completion_tokens": 10,
        "tokens": 110,
        "estimated": 6,
    }


@pytest.mark.parametrize(
    ("by", "tokens"),
    [
        ("model", {"small": 291, "large": 110}),
        ("key", {"eve": 250, "bob": 143, "local": 8}),
        ("server", {"local": 368, "box": 33}),
        ("day", {"2026-01-01": 143, "2025-12-31": 250, "2025-12-12": 8}),
        (
            "hour",
            {"2026-01-01T12:00Z": 110, "2026-01-01T11:00Z": 33, "2025-12-31T12:00Z": 250, "2025-12-12T12:00Z": 8},
        ),
    ],
)
def test_every_way_to_look_at_it_has_the_same_sum(shell: Shell, by: str, tokens: dict[str, int]) -> None:
    header, *told = table(shell, "--by", by)
    assert header[0] == by.upper()
    assert [(row[0], int(row[6])) for row in told] == list(tokens.items()), "in this order"
    assert sum(row["tokens"] for row in rows(shell, "--by", by)) == sum(use.tokens for use in USED)


def test_a_key_has_its_name_where_one_may_know_it(shell: Shell) -> None:
    assert [(row["key"], row["name"]) for row in rows(shell, "--by", "key")] == [
        ("key_2", "eve"), ("key_1", "bob"), ("local", "local"),
    ]  # fmt: skip
    shell.server.keys = (KEY, replace(KEY, id="key_2", revoked_at=1))
    assert [row[0] for row in table(shell, "--by", "key")[1:]] == ["bob (key_2)", "bob (key_1)", "local"]
    shell.server.keys = None
    assert [row[0] for row in table(shell, "--by", "key")[1:]] == ["key_2", "key_1", "local"]
    assert [row["name"] for row in rows(shell, "--by", "key")] == ["key_2", "key_1", "local"]


@pytest.mark.parametrize(("key", "tokens"), [("bob", 143), ("key_1", 143), ("eve", 250), ("local", 8)])
def test_one_key_is_named_or_said_by_its_id(shell: Shell, key: str, tokens: int) -> None:
    assert sum(row["tokens"] for row in rows(shell, key)) == tokens
    assert "since" not in shell.server.asked[-1].url.params


def test_of_several_keys_that_have_had_a_name_the_active_one_is_meant(shell: Shell) -> None:
    gone = replace(EVE, name="bob", revoked_at=1)
    for keys in ((KEY, gone), (gone, KEY)):
        shell.server.keys = keys
        rows(shell, "bob")
        assert shell.server.asked[-1].url.params["key"] == "key_1"


def test_a_key_that_there_is_not_is_no_key_without_usage(shell: Shell) -> None:
    done = shell("usage", "mallory")
    assert (done.code, done.out) == (1, "")
    assert done.err == "Error: there is no key 'mallory'; `localmodels keys list` lists them\n"
    assert "/api/usage" not in shell.server.paths


@pytest.mark.parametrize(("keys", "said"), [(None, "only who may list keys knows which is 'bob'; say its id"),
                                            ((), "there is no key 'bob'")])  # fmt: skip
def test_who_may_not_know_a_name_is_not_told_that_nothing_was_used(
    shell: Shell, keys: tuple[Key, ...] | None, said: str
) -> None:
    shell.server.keys = keys
    done = shell("usage", "bob")
    assert (done.code, done.out, "/api/usage" in shell.server.paths) == (1, "", False)
    assert said in done.err
    assert sum(row["tokens"] for row in rows(shell, "local")) == 8
    if keys is None:
        assert sum(row["tokens"] for row in rows(shell, "key_1")) == 143


def test_a_key_may_be_called_like_who_has_none(shell: Shell) -> None:
    shell.server.keys = (replace(EVE, name="local"),)
    assert sum(row["tokens"] for row in rows(shell, "local")) == 250


@pytest.mark.parametrize(("since", "tokens"), [("30m", 143), ("24h", 393), ("30d", 401)])
def test_it_is_told_as_far_back_as_is_asked_for(shell: Shell, since: str, tokens: int) -> None:
    """In whole hours, of which the first is the one that the moment is in."""
    assert sum(row["tokens"] for row in rows(shell, "--since", since)) == tokens


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--since", "yesterday"), "--since: 'yesterday' is not a duration, such as 12h or 30d"),
        (("--since", "0s"), "--since: it must be a moment of the last hundred years"),
        (("--since", "-1h"), "--since: "),
        (("--since", "99999d"), "--since: it must be a moment of the last hundred years"),
        (("--by", "colour"), "--by"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anybody_is_asked(shell: Shell, words: tuple[str, ...], said: str) -> None:
    done = shell("usage", *words)
    assert (done.code, done.out, shell.server.asked) == (2, "", [])
    assert said in done.err


def test_where_nothing_was_used_there_is_a_table_without_rows(shell: Shell) -> None:
    shell.server.used = ()
    assert len(table(shell)) == 1
    assert rows(shell) == []
