"""Starts who is compared, each as its makers would have it for this purpose, with one worker and without logs.

A side that cannot be had here is an :class:`Absent` with the reason, never a figure.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import aiohttp

HERE = Path(__file__).parents[2]
LITELLM = HERE / ".venv-litellm-proxy" / "bin" / "litellm"
PATH = "/v1/chat/completions"
# LiteLLM's proxy imports for ten seconds and more on a slow machine.
PATIENCE = 120.0


class Absent(Exception):
    """This side cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Side:
    """One who answers. ``model`` is what the mock's model is called there, ``admin_key`` that of our own server."""

    name: str
    port: int
    process: asyncio.subprocess.Process
    model: str = "mock"
    path: str = PATH
    headers: tuple[tuple[str, str], ...] = ()
    admin_key: str = ""

    @property
    def pid(self) -> int:
        """Of the process that was started; there may be others below it."""
        return self.process.pid


@asynccontextmanager
async def child(
    cores: frozenset[int], *words: str, env: Mapping[str, str] | None = None, **more: object
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process on these cores, ended at the end."""
    process = await asyncio.create_subprocess_exec(*words, env={**os.environ, **(env or {})}, **more)  # type: ignore[arg-type]
    os.sched_setaffinity(process.pid, cores)  # before it has threads, which inherit it
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                process.kill()
                await process.wait()


@asynccontextmanager
async def mock(
    cores: frozenset[int], *, pieces: int = 100, pause: float = 0.0, uneven: float = 0.0
) -> AsyncIterator[Side]:
    """The back end."""
    figures = {"--pieces": pieces, "--pause": pause, "--uneven": uneven}
    told = (word for name, figure in figures.items() for word in (name, str(figure)))
    words = (sys.executable, "-m", "benchmarks.gateway.mock", *told)
    pipe = asyncio.subprocess.PIPE
    async with child(cores, *words, stdin=pipe, stdout=pipe) as process:
        yield Side("mock", await _told_port(process), process)


@asynccontextmanager
async def relay(cores: frozenset[int], upstream: Side) -> AsyncIterator[Side]:
    """uvicorn, Starlette and aiohttp."""
    words = (sys.executable, "-m", "benchmarks.gateway.relay", f"http://127.0.0.1:{upstream.port}")
    async with child(cores, *words, stdout=asyncio.subprocess.PIPE) as process:
        yield Side("relay", await _told_port(process), process)


@asynccontextmanager
async def nginx(cores: frozenset[int], upstream: Side) -> AsyncIterator[Side]:
    """The C program as a reverse proxy: one process, kept connections to the back end, nothing buffered.

    Raises:
        Absent: it is not installed.
    """
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        raise Absent("nginx is not here; on Debian: apt-get install nginx-light")
    port = free_port()
    with TemporaryDirectory() as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, port=port, upstream=upstream.port))
        async with child(cores, program, "-p", folder, "-c", str(config), "-e", "stderr") as process:
            await _answers(port, process)
            yield Side("nginx", port, process)


NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  upstream mock {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }}
  }}
}}
"""


# It asks nobody for a key either, and fetches no list of prices.
LITELLM_ENV = ("LITELLM_LOCAL_MODEL_COST_MAP", "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "NO_DOCS")


@asynccontextmanager
async def litellm(cores: frozenset[int], upstream: Side) -> AsyncIterator[Side]:
    """LiteLLM's proxy, one worker, without its database, logs and look-ups on the internet.

    Raises:
        Absent: it is not installed.
    """
    program = shutil.which(os.environ.get("LITELLM_PROXY", str(LITELLM)))
    if program is None:
        raise Absent(f"LiteLLM's proxy is not here; `make {LITELLM.parents[1].name}/.bench` installs it")
    port = free_port()
    with TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"  # JSON is YAML
        config.write_text(json.dumps(_litellm_config(upstream)))
        words = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        # It imports, and fails to import, modules with every request: it shall not have to compile them as well.
        env = dict.fromkeys(LITELLM_ENV, "True") | {"PYTHONDONTWRITEBYTECODE": ""}
        quiet = asyncio.subprocess.DEVNULL
        async with child(cores, program, *words, env=env, stdout=quiet, stderr=quiet) as process:
            await _answers(port, process, "/health/liveliness")
            yield Side("litellm", port, process)


def _litellm_config(upstream: Side) -> dict[str, object]:
    answered_by = {"model": "openai/mock", "api_base": f"http://127.0.0.1:{upstream.port}/v1", "api_key": "none"}
    return {
        "model_list": [{"model_name": "mock", "litellm_params": answered_by}],
        "litellm_settings": {"num_retries": 0, "request_timeout": 600, "telemetry": False},
        "general_settings": {"disable_spend_logs": True},
    }


@asynccontextmanager
async def ours(
    cores: frozenset[int], upstream: Side, settings: str = "", flags: Sequence[str] = ()
) -> AsyncIterator[Side]:
    """``localmodels serve`` with the back end as a remote server, and an empty home.

    Args:
        cores: it may use.
        upstream: the back end.
        settings: further ones of that server, lines of TOML.
        flags: further ones of our own server.
    """
    async with serving(cores, OURS.format(upstream=upstream.port) + settings, flags) as side:
        yield replace(side, model="mock/mock")


@asynccontextmanager
async def keyed(cores: frozenset[int], upstream: Side) -> AsyncIterator[Side]:
    """The same where nobody is answered without a key, and with one that has every limit there is: none is reached."""
    async with ours(cores, upstream, flags=("--require-key",)) as side, aiohttp.ClientSession() as session:
        where = f"http://127.0.0.1:{side.port}/api/keys"
        async with session.post(where, json=ALLOWED, headers=_bearer(side.admin_key), raise_for_status=True) as made:
            key = (await made.json())["key"]
        yield replace(side, headers=tuple(_bearer(key).items()))


# The limits are looked at and counted with each request all the same.
ALLOWED: Mapping[str, object] = {
    "name": "load",
    "models": ["mock/*"],
    "requests_per_minute": 10**9,
    "tokens_per_minute": 10**9,
    "token_quota": 10**12,
    "quota_period": "month",
}


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@asynccontextmanager
async def serving(cores: frozenset[int], settings: str, flags: Sequence[str] = ()) -> AsyncIterator[Side]:
    """``localmodels serve`` in an empty home with this configuration file; its model is the built-in one."""
    with TemporaryDirectory() as home:
        (Path(home) / "localmodels.toml").write_text(settings)
        words = ("serve", "--json", "--home", home, "--listen", "127.0.0.1:0", "--log-level", "warning", *flags)
        async with child(cores, sys.executable, "-m", "localmodels", *words, stdout=asyncio.subprocess.PIPE) as process:
            assert process.stdout is not None
            line = await process.stdout.readline()
            if not line:
                raise Absent("our own server did not start")
            told = json.loads(line)
            port = int(told["url"].rpartition(":")[2])
            yield Side("ours", port, process, "localmodels", admin_key=told.get("admin_key", ""))


OURS = """
[[servers]]
name = "mock"
url = "http://127.0.0.1:{upstream}"
kind = "openai"
"""


def free_port() -> int:
    """A port for a program that cannot choose one; nobody else on this machine takes it in the meantime."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def _told_port(process: asyncio.subprocess.Process) -> int:
    assert process.stdout is not None
    port: int = json.loads(await process.stdout.readline())["port"]
    return port


async def _answers(port: int, process: asyncio.subprocess.Process, path: str = "/") -> None:
    """Waits until it does; programs of others say so in no other way."""
    until = monotonic() + PATIENCE
    async with aiohttp.ClientSession() as session:
        while monotonic() < until and process.returncode is None:
            try:
                async with session.get(f"http://127.0.0.1:{port}{path}"):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
    raise Absent(
        f"nobody answered on port {port}, and its process {'lives' if process.returncode is None else 'has ended'}"
    )
