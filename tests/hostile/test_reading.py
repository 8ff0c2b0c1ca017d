"""GET, HEAD and OPTIONS change nothing (threat V-30): the home is the same afterwards, to the byte, rows and files."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.acceptance.serving import PATIENCE, Served
from tests.hostile.arena import arena, described

READING = ("GET", "HEAD", "OPTIONS")
# Of what stands in the place of a parameter: something that is there, or nothing of ours.
FILLINGS = ("made", "golden", "..", "%00", "sha256:" + "0" * 64, "*")
QUERIES = (
    "",
    "verbose=1",
    "name=made",
    "model=made&delete=1",
    "stream=true",
    "limit=1&after=x",
    "_method=DELETE",
    "key=made",
)
BODIES = (None, b'{"model": "made", "name": "made", "source": "made", "destination": "x"}')
HEADERS: tuple[dict[str, str], ...] = (
    {},
    {"x-http-method-override": "DELETE"},
    {"x-method-override": "POST"},
    {"content-type": "application/json"},
)


def state(home: Path) -> dict[str, Any]:
    """All that is kept: the files of the store by their hashes, and the rows of the databases."""
    kept: dict[str, Any] = {
        str(file.relative_to(home)): sha256(file.read_bytes()).hexdigest()
        for file in sorted(home.rglob("*"))
        if file.is_file() and ".db" not in file.name
    }
    for name in ("state.db", "responses.db"):
        with closing(sqlite3.connect(f"file:{home / name}?mode=ro", uri=True)) as connection:
            tables = connection.execute("select name from sqlite_master where type = 'table' order by name").fetchall()
            for (table,) in tables:
                rows = connection.execute(f'select * from "{table}"')  # noqa: S608 - its own name for it
                kept[f"{name} {table}"] = sorted(map(repr, rows))
    return kept


def filled(served: Served) -> None:
    """Puts something of every kind into the home: models, a response, a key, use of them."""
    made = {"model": "made", "from": "brief", "system": "x", "stream": False}
    for path, body in (
        ("/api/create", made),
        ("/api/copy", {"source": "made", "destination": "copied"}),
        ("/api/keys", {"name": "made"}),
        ("/v1/responses", {"model": "brief", "input": "Hi"}),
        ("/api/chat", {"model": "made", "messages": [], "stream": False}),
    ):
        served.post(path, **body).raise_for_status()


def spelled(pattern: str, filling: str) -> str:
    """A path that the pattern matches."""
    before, brace, rest = pattern.partition("{")
    return before + quote(filling, safe="%") + rest.partition("}")[2] if brace else pattern


def test_who_only_reads_changes_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with arena(tmp_path) as served:
        filled(served)
    with arena(tmp_path) as served:  # what a start and an end change, they have changed
        paths = sorted(described(served)["paths"])
    before = state(home)
    with arena(tmp_path) as served:
        read(served.url, paths)
    assert state(home) == before
    assert any("manifests" in name for name in before)
    assert all(before[f"{name}.db {table}"] for name, table in (("state", "key"), ("responses", "response")))


def read(url: str, paths: list[str]) -> None:
    """Asks for everything, in many ways."""

    @settings(max_examples=300)
    @given(
        st.sampled_from(READING),
        st.sampled_from(paths),
        st.sampled_from(FILLINGS),
        st.sampled_from(QUERIES),
        st.sampled_from(HEADERS),
        st.sampled_from(BODIES),
    )
    def reads(
        method: str, pattern: str, filling: str, query: str, headers: dict[str, str], content: bytes | None
    ) -> None:
        address = f"{url}{spelled(pattern, filling)}?{query}"
        answer = httpx2.request(method, address, content=content, headers=headers, timeout=PATIENCE)
        assert answer.status_code < 500

    reads()
