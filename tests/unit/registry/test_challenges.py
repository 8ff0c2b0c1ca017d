from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.registry.challenges import Challenge, read_challenges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="r"', [Challenge("basic", "r")]),
        ("Basic", [Challenge("basic")]),
        ("BASIC realm=r", [Challenge("basic", "r")]),
        (
            'Bearer realm="https://a/token",service="s",scope="repository:a/b:pull,push registry:catalog:*"',
            [Challenge("bearer", "https://a/token", "s", ("repository:a/b:pull,push", "registry:catalog:*"))],
        ),
        ('Bearer  realm = "a" , service = b', [Challenge("bearer", "a", "b")]),
        ('Basic realm="x", Bearer realm="y"', [Challenge("basic", "x"), Challenge("bearer", "y")]),
        ('Negotiate, Basic realm="x"', [Challenge("negotiate"), Challenge("basic", "x")]),
        ('Bearer realm="a \\"b\\", scope=c"', [Challenge("bearer", 'a "b", scope=c')]),
        ('Bearer realm="a",realm="b"', [Challenge("bearer", "a")]),
        ('Bearer realm="open', [Challenge("bearer")]),
        ("", []),
        (",,, ,", []),
        ('="x"', []),
    ],
)
def test_a_header_is_its_challenges(header: str, expected: list[Challenge]) -> None:
    assert list(read_challenges([header])) == expected


def test_each_header_is_read_by_itself() -> None:
    assert read_challenges(['Basic realm="open', 'Bearer realm="x"']) == (
        Challenge("basic"),
        Challenge("bearer", "x"),
    )


@given(st.text(alphabet='Bearer realm="\\,=\r\n', max_size=200))
def test_any_header_is_read_in_no_time(header: str) -> None:
    read_challenges([header])


def test_a_long_header_is_read_in_no_time() -> None:
    assert len(read_challenges(["Bearer " + 'a="b",' * 100_000])) == 1
    assert read_challenges(['Bearer realm="' + '\\"' * 100_000]) == (Challenge("bearer"),)
