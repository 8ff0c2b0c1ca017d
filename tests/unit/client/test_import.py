"""The client is light: nothing is imported that is not needed; and its synchronous form is the generated one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import localmodels.client

SERVER = ("aiohttp", "starlette", "uvicorn", "xllamacpp", "psutil", "rich", "localmodels.server", "localmodels.engine",
          "localmodels.flows", "localmodels.store", "localmodels.registry", "localmodels.backends")  # fmt: skip
EVERYTHING = "import localmodels.client as client; [getattr(client, name) for name in client.__all__]"


@pytest.mark.parametrize(
    ("program", "absent"),
    [
        (EVERYTHING, SERVER),
        ("import localmodels; localmodels.Client, localmodels.AsyncClient", SERVER),
        ("import localmodels", (*SERVER, "httpx2", "msgspec", "typing", "localmodels.client")),
        (
            "import localmodels.client.parcels",
            (
                *SERVER,
                "httpx2",
                "asyncio",
                "subprocess",
                "numpy",
                "localmodels.artifacts.archive",
                "localmodels.artifacts.convert",
            ),
        ),
        (
            "import localmodels.cli.servers, localmodels.cli.models, localmodels.cli.route, localmodels.cli.plain",
            (
                *SERVER,
                "httpx2",
                "asyncio",
                "subprocess",
                "localmodels.client.parcels",
                "localmodels.dialects.tasks",
                "localmodels.artifacts",
                "localmodels.fleet",
                "localmodels.state",
            ),
        ),
        (
            "import localmodels.cli.list, localmodels.cli.plain",
            (
                *SERVER,
                "httpx2",
                "asyncio",
                "subprocess",
                "localmodels.client.parcels",
                "localmodels.dialects.tasks",
                "localmodels.artifacts",
            ),
        ),
    ],
)
def test_nothing_is_imported_that_is_not_needed(program: str, absent: tuple[str, ...]) -> None:
    program = f"import sys; {program}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_a_package_does_not_have_is_an_attribute_error() -> None:
    assert not hasattr(localmodels.client, "Nothing")
    assert not hasattr(localmodels, "Nothing")


def test_the_clients_are_to_be_had_from_the_root() -> None:
    assert localmodels.Client is localmodels.client.Client
    assert localmodels.AsyncClient is localmodels.client.AsyncClient


def test_the_synchronous_client_is_generated() -> None:
    tool = Path(__file__).parents[3] / "tools" / "unasync.py"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
