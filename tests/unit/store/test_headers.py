"""What is remembered of files, and what is not."""

from __future__ import annotations

import pytest

from localmodels.store.headers import Latest


def test_one_value_a_key_by_its_latest_stamp() -> None:
    made: list[str] = []

    def make(word: str) -> str:
        made.append(word)
        return word

    kept: Latest[str, str] = Latest(8)
    assert kept.of("a", 1, lambda: make("first")) == "first"
    assert kept.of("a", 1, lambda: make("again")) == "first"
    assert kept.of("a", 2, lambda: make("second")) == "second"
    assert kept.of("a", 1, lambda: make("third")) == "third"
    assert made == ["first", "second", "third"]
    assert len(kept) == 1


def test_who_was_not_asked_for_longest_goes_first() -> None:
    kept: Latest[str, str] = Latest(2)
    for key in ("a", "b", "a", "c"):
        kept.of(key, 0, lambda key=key: key)  # type: ignore[misc]
    assert [kept.of(key, 0, lambda: "made") for key in ("a", "c", "b")] == ["a", "c", "made"]


def test_what_is_there_no_more_is_forgotten() -> None:
    kept: Latest[str, str] = Latest(8)
    for key in "abc":
        kept.of(key, 0, lambda key=key: key)  # type: ignore[misc]
    kept.keep(["b", "c", "d"])
    assert len(kept) == 2
    kept.forget("b")
    kept.forget("b")
    assert kept.of("c", 0, lambda: "new") == "c"
    assert kept.of("b", 0, lambda: "new") == "new"


def test_what_cannot_be_made_is_not_remembered() -> None:
    kept: Latest[str, str] = Latest(8)

    def fail() -> str:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        kept.of("a", 0, fail)
    assert len(kept) == 0
    assert kept.of("a", 0, lambda: "whole") == "whole"
