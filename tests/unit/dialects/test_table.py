"""What a dialect is like is said by itself, and what it says is true."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from localmodels.core.access import Level
from localmodels.core.errors import RunnerDied
from localmodels.dialects.protocol import Spoken
from localmodels.dialects.table import CHATS, SPOKEN, WAYS

ALL = pytest.mark.parametrize("spoken", SPOKEN.values(), ids=SPOKEN)


@ALL
def test_an_error_looks_as_the_dialect_says(spoken: Spoken) -> None:
    error = RunnerDied("the runner ended")
    told = msgspec.json.decode(spoken.write_error(error), type=spoken.failure)
    assert "the runner ended" in str(told)


@ALL
def test_a_limit_is_told_in_three_headers(spoken: Spoken) -> None:
    head = dict(spoken.write_level("requests", Level(60, 59, 1.0), 10**18))
    assert {b"60", b"59"} < set(head.values())
    assert len(head) == 3
    assert all(b"ratelimit" in name and b"requests" in name for name in head)


def test_anthropic_says_when_and_rounds_up() -> None:
    head = dict(SPOKEN["anthropic"].write_level("tokens", Level(1, 0, 0.25), 10**18))
    assert head[b"anthropic-ratelimit-tokens-reset"] == b"2001-09-09T01:46:41Z"


def test_names_titles_and_roots_are_nobody_elses() -> None:
    assert [name for name, spoken in SPOKEN.items() if spoken.name != name] == []
    assert max(Counter(spoken.title for spoken in SPOKEN.values()).values()) == 1
    assert max(Counter(root for spoken in SPOKEN.values() for root in spoken.roots).values()) == 1


def test_a_way_is_of_its_dialect() -> None:
    assert {name: (way.name, way.content_type) for name, way in WAYS.items()} == {
        name: (name, CHATS[name].stream_type) for name in ("ollama", "openai", "anthropic")
    }
