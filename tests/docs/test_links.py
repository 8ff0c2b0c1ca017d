"""Every link inside the documentation leads somewhere, and every page can be reached from the README."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.pages import ROOT, anchors, links, named, pages


def resolved(page: Path, link: str) -> Path:
    """The file that a relative link on this page means."""
    target = link.partition("#")[0]
    return (page.parent / target).resolve() if target else page


def inside(page: Path) -> list[str]:
    """The links of a page that stay in the repository."""
    return [link for link in links(page) if "://" not in link and not link.startswith("mailto:")]


@pytest.mark.parametrize("page", pages(), ids=named)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for link in inside(page):
        target, anchor = resolved(page, link), link.partition("#")[2]
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in seen and page.exists():
            seen.add(page)
            waiting += [target for link in inside(page) if (target := resolved(page, link)).suffix == ".md"]
    assert [named(page) for page in pages() if page not in seen] == []
