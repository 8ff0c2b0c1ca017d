"""A real vLLM as a process: started from a Python that has it, killed with all its children, asked without us.

Its model is a tiny random Llama that is written here, without any library for it; what it says means nothing, but at
temperature 0 it says the same to everybody.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
from tests.acceptance.serving import environment
from tests.fleet.fronts import until
from tests.weight_folders import write_folder

CONTEXT = 1024
NAMES = ("tiny", "acme/tiny-chat")
STARTING = 300.0  # seconds: on two cores it takes one or two minutes
_TEMPLATE = (
    "{% for message in messages %}<|begin|>{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
# vLLM's attention for processors knows no heads smaller than 32.
_SHAPE: Mapping[str, Any] = {
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": CONTEXT,
}
# No network, no telling home, one core, 1 GiB for what was read: it is not alone here.
_ENVIRONMENT: Mapping[str, str] = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_HOST_IP": "127.0.0.1",
    "OMP_NUM_THREADS": "1",
}
# PR_SET_PDEATHSIG is 1 in prctl(2): it does not outlive the proof.
_LEASHED = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.execv(sys.argv[1], sys.argv[1:])
"""
_FIGURE = r"^vllm:{name}(?:\{{[^}}]*\}})? (\S+)$"


class Vllm:
    """One: its address stays the same when it is killed and comes back.

    Args:
        name: of the server, for people.
        python: a program that has the package ``vllm``.
        folder: for its model, its caches and its log.
        key: it asks for; empty for none.
    """

    def __init__(self, name: str, python: str, folder: Path, key: str = "") -> None:
        self.name = name
        self.key = key
        self.url = f"http://127.0.0.1:{_free_port()}"
        self._python = python
        self._folder = folder / name
        self._process: asyncio.subprocess.Process | None = None
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.client = httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=60.0, trust_env=False)

    async def start(self) -> None:
        """Begins, or begins again; returns when it says that it is well."""
        model = self._folder / "model"
        if not model.exists():
            write_folder(model, **_SHAPE)
            (model / "chat_template.jinja").write_text(_TEMPLATE)
        arguments: dict[str, object] = {
            "model": model, "host": "127.0.0.1", "port": self.url.rpartition(":")[2], "max-model-len": CONTEXT,
            "dtype": "float32", "max-num-seqs": 8, **({"api-key": self.key} if self.key else {}),
        }  # fmt: skip
        flags = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
        places = {"VLLM_CACHE_ROOT": "cache", "HF_HOME": "hub", "XDG_CONFIG_HOME": "config"}
        homes = {name: str(self._folder / place) for name, place in places.items()}
        command = ["-m", "vllm.entrypoints.openai.api_server", "--enforce-eager", "--served-model-name", *NAMES, *flags]
        with (self._folder / "log").open("a") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _LEASHED, self._python, *command,
                env={**environment(), **_ENVIRONMENT, **homes}, stdin=asyncio.subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        await until(self._is_well, f"{self.name} answers", within=STARTING, pause=0.2)

    async def kill(self) -> None:
        """Ends it in the middle of whatever it does, with its engine."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def close(self) -> None:
        """Ends it, if it lives."""
        await self.client.aclose()
        if self._process is not None and self._process.returncode is None:
            await self.kill()

    async def figure(self, name: str) -> float:
        """One of its own metrics, over all models."""
        page = (await self.client.get("/metrics")).text
        return sum(map(float, re.findall(_FIGURE.format(name=name), page, re.MULTILINE)))

    async def busy(self) -> bool:
        """Does it generate?"""
        return await self.figure("num_requests_running") > 0

    async def idle(self) -> bool:
        """Does it not?"""
        return not await self.busy()

    async def said(self, path: str, **body: Any) -> httpx2.Response:
        """What it says to who asks it and not us."""
        return await self.client.post(path, json=body)

    async def _is_well(self) -> bool:
        assert self._process is not None
        log = self._folder / "log"
        assert self._process.returncode is None, f"{self.name} ended by itself: {log.read_text()[-2_000:]}"
        try:
            return (await self.client.get("/health")).status_code == 200
        except httpx2.TransportError:
            return False


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port: int = door.getsockname()[1]
        return port
