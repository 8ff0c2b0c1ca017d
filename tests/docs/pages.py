"""The documentation as the tests see it: pages, their headings, links and examples.

What a reader sees decides. A fenced block of shell or Python is an example, and it says what becomes of it in a comment
that he does not see: ``<!-- expect: FRAGMENT -->`` lines below it are texts that its output must hold, ``<!-- not run:
REASON -->`` above it leaves it alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LANGUAGES = frozenset({"sh", "bash", "python"})

_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]+) -->\n)?"
    r"^```(?P<language>\w+)\n(?P<code>.*?)^```\n"
    r"(?P<expects>(?:\n?<!-- expect: .+? -->\n)*)",
    re.MULTILINE | re.DOTALL,
)
_EXPECT = re.compile(r"<!-- expect: (.+?) -->")
_FENCED = re.compile(r"^(`{3,}).*?^\1\n", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")


@dataclass(frozen=True)
class Example:
    """A fenced block of shell or Python.

    Attributes:
        place: file and line, for people.
        reason: why it is not run; empty when it is.
        expects: texts that its output must hold.
    """

    place: str
    language: str
    code: str
    reason: str
    expects: tuple[str, ...]


def pages() -> list[Path]:
    """Every page that users read."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def named(page: Path) -> str:
    """The page's path from the repository's root."""
    return page.relative_to(ROOT).as_posix()


def guides() -> list[Path]:
    """The pages whose every example has to say what becomes of it."""
    return [ROOT / "README.md", DOCS / "quickstart.md", *sorted((DOCS / "how-to").glob("*.md"))]


def examples(page: Path) -> Iterator[Example]:
    """The examples of a page, from top to bottom."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        if found["language"] in LANGUAGES:
            line = text.count("\n", 0, found.start("code"))
            yield Example(
                f"{named(page)}:{line}",
                found["language"],
                found["code"],
                found["reason"] or "",
                tuple(_EXPECT.findall(found["expects"])),
            )


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCED.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """What a link to this page may have after its ``#``, by GitHub's rule; a repeated heading gets a number."""
    seen: dict[str, int] = {}
    found = set()
    for heading in _HEADING.findall(prose(page)):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if slug in seen else slug)
        seen[slug] = seen.get(slug, 0) + 1
    return found


def links(page: Path) -> Iterator[str]:
    """The targets of the page's links and pictures."""
    for markdown, html in _LINK.findall(prose(page)):
        yield markdown or html
