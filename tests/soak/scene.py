"""The server as somebody would run it, with keys, limits and metrics, and the server behind it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
from msgspec import Struct
from tests.acceptance.serving import PATIENCE, Served, environment, serve
from tests.hostile.arena import nothing
from tests.hostile.sound import NOBODY

# Silence that is long for the server behind, which computes nothing, and short enough for many of them.
HASTE = 'first_byte = "5s"\nidle = "5s"\n'
RETENTION = "60s"
# The first key has limits so that what counts and sets aside is at work for every request; they stop none.
WISHES: Mapping[str, Mapping[str, Any]] = {
    "worker": {
        "requests_per_minute": 10**6,
        "tokens_per_minute": 10**9,
        "token_quota": 10**12,
        "quota_period": "day",
    },
    "limited": {"requests_per_minute": 30},
}


class Behind:
    """The process of the server behind ours."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self.url = url

    def under_way(self) -> int:
        """Answers that have not ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline().split()[0])


class Scene(Struct, frozen=True):
    """Both, the keys by name, and where things are kept."""

    served: Served
    behind: Behind
    keys: Mapping[str, str]
    home: Path
    temporary: Path
    log: Path

    @property
    def port(self) -> int:
        """Of our server."""
        return int(self.served.url.rpartition(":")[2])

    def configure(self, turn: int) -> None:
        """Writes the next of some configurations, of which one cannot be used."""
        (self.home / "localmodels.toml").write_text(configurations(self.behind.url)[turn % 4])


def configurations(url: str) -> tuple[str, str, str, str]:
    """The first; with one server more; with an alias; and one that is broken."""
    first = "".join(
        f'[[servers]]\nname = "far-{kind}"\nurl = "{url}"\nkind = "{kind}"\n{HASTE}'
        for kind in ("openai", "ollama", "anthropic", "llamacpp")
    )
    first += f'[[servers]]\nname = "narrow"\nurl = "{url}"\nkind = "openai"\nmax_concurrent = 1\nmax_queue = 1\n'
    first += f'[[servers]]\nname = "dead"\nurl = "{NOBODY}"\nkind = "openai"\nmodels = ["good"]\n'
    passing = f'[[servers]]\nname = "passing"\nurl = "{url}"\nkind = "ollama"\n{HASTE}'
    return first, first + passing, '[alias]\nfriend = "far-openai/good"\n' + first, first + "[[servers]\n"


@contextmanager
def behind() -> Iterator[Behind]:
    """Starts the server behind, which ends with this block or this process."""
    command = [sys.executable, "-m", "tests.soak.behind"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment(), stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield Behind(process, process.stdout.readline().strip())
        finally:
            process.kill()


@contextmanager
def scene(directory: Path, environ: Mapping[str, str]) -> Iterator[Scene]:
    """Starts both in an empty directory; ``environ`` is added to our server's environment."""
    home, temporary, log = directory / "home", directory / "temporary", directory / "log"
    home.mkdir(mode=0o700)
    temporary.mkdir()
    with ExitStack() as stack:
        back, outside = stack.enter_context(behind()), stack.enter_context(nothing())
        (home / "localmodels.toml").write_text(configurations(back.url)[0])
        served = stack.enter_context(
            serve(
                *("--require-key", "--log-format", "json", "--response-retention", RETENTION),
                *("--mirror", f"registry.ollama.ai={outside}", "--hf-endpoint", outside),
                home=home,
                log=log,
                environ={"TMPDIR": str(temporary), **environ},
            )
        )
        keys = {"admin": served.admin_key}
        for name, wish in WISHES.items():
            answer = httpx2.post(
                f"{served.url}/api/keys",
                json={"name": name, **wish},
                headers={"authorization": f"Bearer {served.admin_key}"},
                timeout=PATIENCE,
            )
            keys[name] = answer.raise_for_status().json()["key"]
        yield Scene(served, back, keys, home, temporary, log)
