"""The clients of the benchmarks: they read bytes and take times, and understand as little as possible.

Both sides of a ratio are asked by the same code, so that its own cost cancels out.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import aiohttp

_CONTENT = re.compile(rb'"content":"(?!")|"tokens":\[')


@dataclass(frozen=True)
class Answer:
    """One streamed answer.

    Attributes:
        first: seconds until the first text.
        whole: seconds until the end.
        tokens: as the server counts them; ``cached`` of the prompt's were not computed.
    """

    first: float
    whole: float
    tokens: int
    cached: int
    prompt: int


class Side:
    """One of the two that are compared: OpenAI's chat API at some address."""

    def __init__(self, name: str, base: str, socket: str | None = None) -> None:
        connector: aiohttp.BaseConnector = (
            aiohttp.UnixConnector(socket, limit=0, force_close=True)
            if socket
            else aiohttp.TCPConnector(limit=0, force_close=True)
        )
        self.name = name
        self._url = f"{base}/v1/chat/completions"
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(600))

    async def ask(self, text: str, tokens: int, **more: Any) -> Answer:
        """Asks once, streamed, without randomness."""
        body = {
            "model": "bench",
            "messages": [{"role": "user", "content": text}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **more,
        }
        start = perf_counter()
        first = 0.0
        data = bytearray()
        async with self._session.post(self._url, json=body) as response:
            if response.status != 200:
                raise RuntimeError(f"{self.name}: {response.status} {await response.text()}")
            async for piece in response.content.iter_any():
                data += piece
                if not first and _CONTENT.search(data):
                    first = perf_counter() - start
        whole = perf_counter() - start
        usage = last_usage(bytes(data))
        details = usage.get("prompt_tokens_details") or {}
        return Answer(
            first or whole, whole, usage["completion_tokens"], details.get("cached_tokens", 0), usage["prompt_tokens"]
        )

    async def rate(self, texts: list[str], tokens: int) -> float:
        """Tokens per second over all these requests at once."""
        start = perf_counter()
        answers = await asyncio.gather(*(self.ask(text, tokens) for text in texts))
        return sum(answer.tokens for answer in answers) / (perf_counter() - start)

    async def close(self) -> None:
        """Closes the connections."""
        await self._session.close()


def last_usage(stream: bytes) -> dict[str, Any]:
    """The usage of an SSE stream."""
    for line in reversed(stream.split(b"\n")):
        if line.startswith(b"data: {") and b'"usage":{' in line:
            usage: dict[str, Any] = json.loads(line[6:])["usage"]
            return usage
    raise RuntimeError(f"the stream has no usage: {stream[-300:]!r}")
