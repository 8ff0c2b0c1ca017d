"""Sizes, times and places in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace
from tests.unit.client.fake_server import RUNNING

from localmodels.cli.words import (
    ago,
    digest,
    known_size,
    one_line,
    printable,
    processor,
    size,
    span,
    state,
    step,
    until,
)
from localmodels.core.library import Progress

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (4_661_224_676, "4.7 GB"),
        (12_345_678, "12 MB"),
        (2 * 10**12, "2.0 TB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "less than a second"),
        (1, "1 second"),
        (119, "1 minute"),
        (7200, "2 hours"),
        (86_400 * 6, "6 days"),
        (86_400 * 20, "2 weeks"),
        (86_400 * 100, "3 months"),
        (86_400 * 800, "2 years"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_moments() -> None:
    assert ago("2026-01-01T11:00:00+00:00", NOW) == "1 hour ago"
    assert ago("2026-01-01T13:00:00.123456789+02:00", NOW) == "59 minutes ago"
    assert until((NOW + timedelta(minutes=5)).isoformat(), NOW) == "5 minutes from now"
    assert until((NOW - timedelta(minutes=5)).isoformat(), NOW) == "now"
    assert until("2318-01-01T00:00:00Z", NOW) == "forever"
    assert ago("", NOW) == until("", NOW) == ""


@pytest.mark.parametrize("text", ["\x1b[31mRED", "soon", "0000-01-01T00:00:00Z", "2026-01-01T12:00:00", "7", "9" * 400])
def test_what_is_no_moment_is_not_shown(text: str) -> None:
    assert ago(text, NOW) == until(text, NOW) == ""


def test_a_step_is_one_line_whatever_a_server_says() -> None:
    forged = Progress("done\nb: success\u202e\u2028x\x1b[2J", server="a", failure="no\tway\r")
    text = step(forged)
    assert text == "a: done b: success\ufffd x\ufffd[2J: no way\ufffd"
    assert one_line("¿Qué? Привет שלום 😀") == "¿Qué? Привет שלום 😀"


@pytest.mark.parametrize(
    ("total", "gpu", "text"),
    [
        (100, 0, "100% CPU"),
        (100, 100, "100% GPU"),
        (100, 60, "40%/60% CPU/GPU"),
        (100, 120, "100% GPU"),
    ],
)
def test_processor(total: int, gpu: int, text: str) -> None:
    assert processor(replace(RUNNING, size=total, size_vram=gpu)) == text


def test_what_nobody_has_told_is_empty() -> None:
    assert (known_size(0), known_size(2_000_000)) == ("", "2.0 MB")
    assert (digest("0" * 12 + "ab" * 26), digest("12" * 32)) == ("", "12" * 6)
    assert (ago("1970-01-01T00:00:00+00:00", NOW), ago("", NOW)) == ("", "")
    assert processor(replace(RUNNING, size=0, size_vram=0)) == ""


def test_state() -> None:
    assert state(RUNNING, NOW) == "5 minutes from now"
    assert state(replace(RUNNING, status="loading"), NOW) == "loading"


def test_nothing_that_a_terminal_obeys_is_printable() -> None:
    text = "".join(map(chr, range(256)))
    shown = printable(text)
    assert len(shown) == 256
    assert [char for char in shown if not char.isprintable() and char not in "\n\t\xa0\xad"] == []
    assert printable("¿Qué?\n\tПривет 😀") == "¿Qué?\n\tПривет 😀"
