"""Models that are fetched when somebody asks for them.

From a missing name to its answers by one pull to the best host, for whoever may manage models; one pull, whatever
becomes of the switch, and none at the end.
"""

from __future__ import annotations

import asyncio
import json
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
from localmodels.backends.fake.server import listed
from localmodels.dialects.table import DIALECTS

PROMPT = 5.0  # seconds in which a server ends that has nothing to wait for; it would give answers 30


async def until(true: Callable[[], bool]) -> None:
    await asyncio.to_thread(eventually, true, "it is so")


def connected(served: Served) -> int:
    """Who has come in: the second one for a model that is being pulled is seen nowhere else."""
    port = urlsplit(served.url).port
    there = psutil.Process(served.pid).net_connections("tcp")
    return sum(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port for one in there)


def keyed(admin: Fleet, *more: str) -> Fleet:
    """Somebody with a key that may ask, and this."""
    wish = {"name": "-".join(("asks", *more)), "scopes": ["infer", "list", *more]}
    return Fleet(admin.served, admin.good("POST", "/api/keys", wish)["key"])


def pulled(server: FakeServer) -> list[str]:
    """The models that it was told to fetch."""
    return [json.loads(asked.body)["model"] for asked in server.asked if asked.path == "/api/pull"]


@awaited
async def test_a_model_that_nobody_has_is_fetched_once_to_the_best_host_and_answers(tmp_path: Path) -> None:
    come = asyncio.Event()

    async def fetch(seconds: float) -> None:
        await come.wait()
        best.pages["/api/tags"] = Page(listed(DIALECTS["ollama"], ("other:1", "wanted:latest")))

    flags = ("--require-key", "--pull-missing", *QUIET)
    async with FakeServer(names=("other:1",), sleep=fetch) as best, FakeServer(names=("other:1",)) as second:
        best.pages["/api/pull"] = Page(b'{"status": "pulling manifest"}\n{"status": "success"}\n', first=1.0)
        with serve(*flags, home=tmp_path) as served:
            admin = Fleet(served, served.admin_key)
            guest, manager = [await asyncio.to_thread(keyed, admin, *more) for more in ((), ("manage",))]
            await asyncio.to_thread(admin.add, "second", second.url, kind="ollama", priority=1)
            await asyncio.to_thread(admin.add, "best", best.url, kind="ollama", priority=9)
            refused = await asyncio.to_thread(guest.chat, "wanted")
            assert (refused.status_code, pulled(best)) == (404, [])
            assert "wanted" in refused.json()["error"]

            waiting = []
            for path in ("/api/chat", "/v1/chat/completions"):
                waiting.append(asyncio.create_task(asyncio.to_thread(manager.chat, "wanted", path=path)))
                await until(lambda: len(pulled(best)) > 0 and connected(served) == len(waiting))
            await asyncio.to_thread(admin.row, "best")  # whoever has come in before is heard before
            come.set()
            own, openai = await asyncio.gather(*waiting)
            assert [answer.status_code for answer in (own, openai)] == [200, 200]
            assert [answer.headers["x-localmodels-server"] for answer in (own, openai)] == ["best", "best"]
            assert own.json()["message"]["content"] == "Hello there."
            assert openai.json()["choices"][0]["message"]["content"] == "Hello there."
            assert (pulled(best), pulled(second)) == (["wanted"], [])
            for key in (manager, guest):  # now it is there, and for everybody
                assert (await asyncio.to_thread(key.chat, "wanted")).status_code == 200
            assert len(pulled(best)) == 1
            assert [visit.request.model for visit in best.book.visits] == ["wanted:latest"] * 4


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
