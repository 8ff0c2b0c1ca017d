"""Writes the synchronous client from the asynchronous one. ``--check`` only compares, and fails when they differ.

Usage: ``python tools/unasync.py [--check]``. The rule: tokens are replaced, nothing is understood; what cannot be said
in both forms by replacing a word does not belong into ``_async.py``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

CLIENT = Path(__file__).parents[1] / "src" / "localmodels" / "client"
SOURCE, TARGET = CLIENT / "_async.py", CLIENT / "_sync.py"

HEADER = '''"""The client in its synchronous form. Generated from ``_async.py`` by ``tools/unasync.py``: do not edit."""
# ruff: noqa: UP028 - `yield from` has no asynchronous form
'''

RULES: tuple[tuple[str, str], ...] = (
    (r'\A""".*?"""\n', HEADER),
    (r"AsyncGenerator\[(\w+), None\]", r"Generator[\1, None, None]"),
    (r"import AsyncGenerator, AsyncIterator, Iterable, Mapping", "import Generator, Iterable, Iterator, Mapping"),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"\bAsync(Client|Iterator|BaseTransport)\b", r"\1"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\ba(close|iter_bytes)\b", r"\1"),
)


def unasync(source: str) -> str:
    """The synchronous form of a module."""
    for pattern, replacement in RULES:
        source = re.sub(pattern, replacement, source, flags=re.DOTALL)
    return source


def main(arguments: list[str]) -> int:
    """Writes the file, or with ``--check`` says whether it is as it should be."""
    wanted = unasync(SOURCE.read_text())
    if "--check" not in arguments:
        TARGET.write_text(wanted)
        return 0
    if TARGET.is_file() and TARGET.read_text() == wanted:
        return 0
    print(f"{TARGET.name} is not what {SOURCE.name} makes; run: python tools/unasync.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
