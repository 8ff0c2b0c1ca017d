"""Models that are fetched when somebody asks for them: one pull, whatever becomes of the switch, none at the end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import psutil
from tests.acceptance.serving import Served, eventually, serve
from tests.acceptance.test_fleet_api import QUIET, Fleet
from tests.awaited import awaited

from localmodels.backends.fake import FakeServer, Page

PROMPT = 5.0  # seconds in which a server ends that has nothing to wait for; it would give answers 30


async def until(true: Callable[[], bool]) -> None:
    await asyncio.to_thread(eventually, true, "it is so")


def connected(served: Served) -> int:
    """Who has come in: the second one for a model that is being pulled is seen nowhere else."""
    port = urlsplit(served.url).port
    there = psutil.Process(served.pid).net_connections("tcp")
    return sum(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port for one in there)


@awaited
async def test_a_pull_outlives_the_switch_and_ends_with_the_server(tmp_path: Path) -> None:
    file, log = tmp_path / "localmodels.toml", tmp_path / "log"
    file.write_text("pull_missing = true\n")
    async with FakeServer(names=("other:1",)) as server:
        server.pages["/api/pull"] = Page(first=3600.0)
        with serve(*QUIET, home=tmp_path, log=log) as served:
            fleet = Fleet(served)

            def pulls() -> int:
                return [asked.path for asked in server.asked].count("/api/pull")

            async def reload(switch: str) -> None:
                before = log.read_text().count("was read again")
                file.write_text(f"pull_missing = {switch}\n")
                served.signal(signal.SIGHUP)
                await until(lambda: log.read_text().count("was read again") > before)

            await asyncio.to_thread(fleet.add, "first", server.url, priority=9)
            waiting = [asyncio.create_task(asyncio.to_thread(fleet.chat, "wanted"))]
            await until(lambda: pulls() == 1)
            await reload("false")
            assert (await asyncio.to_thread(fleet.chat, "wanted")).status_code == 404
            await reload("true")
            waiting.append(asyncio.create_task(asyncio.to_thread(fleet.chat, "wanted")))
            waiting.append(asyncio.create_task(asyncio.to_thread(fleet.chat, "another")))
            await until(lambda: pulls() == 2 and connected(served) == len(waiting))
            began = monotonic()
            served.signal(signal.SIGTERM)
            answers = await asyncio.gather(*waiting)
            assert await asyncio.to_thread(served.process.wait, PROMPT) == 0
            assert monotonic() - began < PROMPT
            assert [answer.status_code for answer in answers] == [503, 503, 503]
        assert pulls() == 2
