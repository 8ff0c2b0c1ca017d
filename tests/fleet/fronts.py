"""Ours in front of other servers, as its owner starts it, and servers that are registered there through its API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import httpx2
from tests.acceptance.serving import serve

T = TypeVar("T")

PATIENCE = 60.0  # seconds; for machines that do much else


@asynccontextmanager
async def front(folder: Path, *flags: str, settings: str = "") -> AsyncIterator[httpx2.AsyncClient]:
    """A client of one that begins in this folder, in an empty home with these settings (TOML)."""
    home, most = folder / "home", httpx2.Limits(max_connections=None)
    home.mkdir(mode=0o700, parents=True)
    (home / "localmodels.toml").write_text(settings)
    with serve("--log-level", "warning", "--no-register-ollama", *flags, home=home, log=folder / "log") as ours:
        async with httpx2.AsyncClient(base_url=ours.url, timeout=PATIENCE, trust_env=False, limits=most) as client:
            yield client


async def register(client: httpx2.AsyncClient, name: str, url: str, **more: Any) -> dict[str, Any]:
    """Registers a server; gives its row."""
    made = await client.post("/api/servers/", json={"name": name, "url": url, **more})
    assert made.status_code == 201, made.text
    row: dict[str, Any] = made.json()
    return row


async def until(true: Callable[[], Awaitable[T]], what: str, *, within: float = PATIENCE, pause: float = 0.02) -> T:
    """Asks again and again until the answer is true, and returns it; fails when it is not in time."""
    deadline = monotonic() + within
    while not (answer := await true()):
        assert monotonic() < deadline, f"not within {within:g} s: {what}"
        await asyncio.sleep(pause)
    return answer
