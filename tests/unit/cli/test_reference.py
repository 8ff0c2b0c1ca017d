"""The reference says what the code does: generated parts are as the code makes them, and nothing is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from localmodels.cli import VERBS
from localmodels.cli.reference import PARTS, filled
from localmodels.config import SETTINGS

DOCS = Path(__file__).parents[3] / "docs"
PAGES = {"configuration.md": ("settings", "environment"), "cli.md": ("chat", "verbs")}


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_as_the_code_makes_them(name: str) -> None:
    page = (DOCS / name).read_text()
    assert all(f"<!-- {part} -->\n" in page for part in PAGES[name])
    assert page == filled(page), "run: make docs"


def test_every_part_is_in_a_page() -> None:
    assert {part for parts in PAGES.values() for part in parts} == set(PARTS)


def test_every_setting_and_verb_is_in_the_reference() -> None:
    settings, verbs = (DOCS / "configuration.md").read_text(), (DOCS / "cli.md").read_text()
    rows = {name: f"| `{name}` | {f'`{row.flag}' if row.flag else 'none'}" for name, row in SETTINGS.items()}
    assert [name for name, row in rows.items() if row not in settings] == []
    assert [name for name in VERBS if f"\n## {name}\n" not in verbs] == []


@pytest.mark.parametrize(
    ("verb", "argument"),
    [
        ("run", "MODEL"),
        ("run", "[PROMPT …]"),
        ("list", "[PREFIX]"),
        ("show", "--license"),
        ("serve", "--config FILE"),
        ("servers", "--max-queue N"),  # also a setting of `serve`
        ("keys", "--home DIRECTORY"),
        ("store", "--home DIRECTORY"),
    ],
)
def test_every_argument_is_in_its_section(verb: str, argument: str) -> None:
    section = (DOCS / "cli.md").read_text().partition(f"\n## {verb}\n")[2].partition("\n## ")[0]
    assert f"| `{argument}` |" in section


def test_settings_are_left_to_their_page_where_a_verb_has_them_all_and_what_is_hidden_stays_so() -> None:
    page = (DOCS / "cli.md").read_text()
    with_all = [section.partition("\n")[0] for section in page.split("\n## ") if "| … | a flag for every" in section]
    assert with_all == ["serve", "config"]
    assert "SUPPRESS" not in page
    assert "| `--key` |" not in page
