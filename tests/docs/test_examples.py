"""Every example in the README, the quickstart and the how-tos does what the page says, against a real server."""

from __future__ import annotations

import shutil

import pytest
from tests.docs.conftest import Reader
from tests.docs.pages import Example, examples, guides
from tests.postgres import Postgres

EVERY = [example for page in guides() for example in examples(page)]
RUNNABLE = [example for example in EVERY if not example.reason]


@pytest.mark.parametrize("example", RUNNABLE, ids=lambda example: example.place)
def test_an_example_prints_what_its_page_expects(
    example: Example, reader: Reader, request: pytest.FixtureRequest
) -> None:
    if "curl " in example.code and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    more = {"DATABASE_URL": database_of(request)} if "$DATABASE_URL" in example.code else {}
    printed = reader.follow(example, more)
    assert [text for text in example.expects if text not in printed] == [], printed


def database_of(request: pytest.FixtureRequest) -> str:
    """The URL of a database that the reader has; the test is skipped where there can be none."""
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.database().reveal()


def test_every_example_says_what_becomes_of_it() -> None:
    assert [example.place for example in EVERY if not example.reason and not example.expects] == []


def test_most_examples_are_run() -> None:
    assert len(RUNNABLE) >= 2 * (len(EVERY) - len(RUNNABLE))
