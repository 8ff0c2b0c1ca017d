"""The way to registries is made ready by the first who needs it, once, and closed at the end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from localmodels.core.library import Progress, PullRequest, PushRequest
from localmodels.server.outside import Moves, Opens, Outside, Steps


class Ways:
    """Stands for the way out: remembers what happened to it."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def load(self) -> Opens:
        self.events.append("load")
        return self.open

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Moves]:
        self.events.append("open")
        try:
            yield self
        finally:
            self.events.append("close")

    async def pull(self, request: PullRequest) -> Steps:
        try:
            yield Progress(f"pulling {request.model}")
        finally:
            self.events.append("pull ended")

    async def push(self, request: PushRequest) -> Steps:
        yield Progress(f"pushing {request.model}")


def test_nothing_is_loaded_where_nobody_pulls() -> None:
    ways = Ways()

    async def main() -> None:
        async with Outside(ways.load):
            pass

    asyncio.run(main())
    assert ways.events == []


def test_it_is_loaded_once_and_a_pull_that_is_left_ends_before_the_way_is_closed() -> None:
    ways = Ways()

    async def main() -> None:
        async with Outside(ways.load) as outside:
            pulls = [outside.pull(PullRequest(name)) for name in "ab"]
            first = await asyncio.gather(*(anext(pull) for pull in pulls))
            assert [step.status for step in first] == ["pulling a", "pulling b"]
            assert [step.status async for step in outside.push(PushRequest("c"))] == ["pushing c"]
            for pull in pulls:
                await pull.aclose()

    asyncio.run(main())
    assert ways.events == ["load", "open", "pull ended", "pull ended", "close"]


def test_a_start_does_not_load_the_http_client() -> None:
    program = "import sys, localmodels.server.system; print(sorted({'aiohttp', 'yarl'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_neither_the_server_nor_the_command_line_loads_numpy() -> None:
    """It is for the children that compute: 100 ms and 20 MiB that a server without conversions need not have."""
    modules = "localmodels.server.system, localmodels.cli.create, localmodels.flows.library.trial"
    program = f"import sys, {modules}; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
