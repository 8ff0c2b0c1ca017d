"""The client is light: it brings none of the server's dependencies, and its synchronous form is the generated one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = ("aiohttp", "starlette", "uvicorn", "xllamacpp", "psutil", "rich", "localmodels.server", "localmodels.engine")


def test_importing_the_client_brings_nothing_of_the_server() -> None:
    program = f"import sys, localmodels.client; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_synchronous_client_is_generated() -> None:
    tool = Path(__file__).parents[3] / "tools" / "unasync.py"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
