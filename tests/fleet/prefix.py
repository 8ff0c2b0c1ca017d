"""Conversations over two real servers: how much of their prompts is computed anew, by policy.

Two of our own servers, each with a real runner and the built-in model, behind a gateway. Eight conversations with long
system prompts are held side by side, each turn in another order, so that no policy is right by accident. Every server
has as many slots as its half of the conversations, and little room for prompts beside them, as a graphics card has that
a model fills: who sends a conversation now here and now there has it read anew each time.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
from msgspec import Struct
from tests.acceptance.serving import Served, serve
from tests.fleet.fronts import front, register
from tests.proofs.claims import Claim

from localmodels.store.shelves import builtin_path

MODEL = "talker"
SERVERS = ("one", "two")
# For models; a tenth of it may hold prompts beside the slots, which is not enough for the other half.
MEMORY = "96MiB"
CONTEXT = 2_304
SYSTEM, QUESTION, ANSWER = 1_200, 30, 16  # words of a system prompt and of a question, tokens of an answer
TEXT = (
    "the a server model answers question of one that holds in memory when it has room and every request which goes "
    "where its prompt was read before so nothing is computed again while another waits for his turn at the door"
)
HALF = 0.5
_TOKENS = re.compile(r'^localmodels_tokens_total\{.*type="(prompt|cached)".*\} (\S+)$', re.MULTILINE)


class Spent(Struct, frozen=True):
    """Tokens of all prompts; those that were computed, as the answers say and as the servers count; and moves.

    Attributes:
        moved: turns that another server answered than the turn before.
    """

    prompts: int
    computed: int
    counted: int
    moved: int

    def __str__(self) -> str:
        return f"{self.computed:,} of {self.prompts:,} ({self.moved} moves)"


class Talk:
    """One conversation."""

    def __init__(self, number: int, seed: int) -> None:
        self.prompts = self.cached = self.moved = 0
        self._draw = Random(f"{seed}/{number}")
        self._server = ""
        self._messages = [{"role": "system", "content": self._words(SYSTEM)}]

    async def turn(self, client: httpx2.AsyncClient) -> None:
        """Asks once more, and keeps the answer."""
        self._messages.append({"role": "user", "content": self._words(QUESTION)})
        said, server = await asked(client, MODEL, self._messages)
        self._messages.append(said["message"])
        self.prompts += said["prompt_eval_count"]
        self.cached += said.get("prompt_eval_cached_count", 0)
        self.moved += self._server not in {"", server}
        self._server = server

    def _words(self, many: int) -> str:
        return " ".join(self._draw.choice(TEXT.split()) for _ in range(many))


async def proof(conversations: int = 8, turns: int = 6, seed: int = 1) -> list[Claim]:
    """The same conversations by both policies."""
    with TemporaryDirectory(prefix="prefix-") as name:
        policies = ("auto", "round_robin")
        auto, turn = [await spent(Path(name) / one, one, conversations, turns, seed) for one in policies]
    return claims(auto, turn)


async def spent(folder: Path, policy: str, conversations: int, turns: int, seed: int) -> Spent:
    """What all conversations together cost under a policy."""
    slots = (conversations + 1) // len(SERVERS)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(front(folder, "--routing-policy", policy))
        servers = [stack.enter_context(_server(folder / name, slots)) for name in SERVERS]
        for name, server in zip(SERVERS, servers, strict=True):
            await register(client, name, server.url, max_concurrent=slots)
            await asked(client, f"{name}/{MODEL}", [{"role": "user", "content": "Hello."}])  # loads it
        before = sum(map(_counted, servers))
        talks, draw = [Talk(number, seed) for number in range(conversations)], Random(seed)
        for _ in range(turns):
            draw.shuffle(talks)
            await asyncio.gather(*(talk.turn(client) for talk in talks))
        after = sum(map(_counted, servers))
    prompts, cached = sum(talk.prompts for talk in talks), sum(talk.cached for talk in talks)
    return Spent(prompts, prompts - cached, after - before, sum(talk.moved for talk in talks))


async def asked(client: httpx2.AsyncClient, model: str, messages: list[dict[str, str]]) -> tuple[dict[str, Any], str]:
    """A whole answer, and the server that gave it."""
    options = {"temperature": 0, "num_predict": ANSWER}
    fields = {"model": model, "messages": messages, "stream": False, "options": options}
    answer = await client.post("/api/chat", json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json(), answer.headers["X-LocalModels-Server"]


def _server(folder: Path, slots: int) -> AbstractContextManager[Served]:
    limits = ("--num-parallel", str(slots), "--context-length", str(CONTEXT), "--memory-limit", MEMORY)
    model = ("--model", f"{MODEL}={builtin_path()}", "--default-model", MODEL)
    quiet = ("--log-level", "warning", "--no-register-ollama")
    folder.mkdir(parents=True)
    return serve(*model, *limits, *quiet, home=folder / "home", log=folder / "log")


def _counted(server: Served) -> int:
    """Tokens of prompts that a server has computed, as it counts them itself."""
    sums = dict.fromkeys(("prompt", "cached"), 0.0)
    for kind, number in _TOKENS.findall(server.get("/metrics").text):
        sums[kind] += float(number)
    return round(sums["prompt"] - sums["cached"])


def claims(auto: Spent, turn: Spent) -> list[Claim]:
    """What the runs show."""
    share = auto.computed / turn.computed
    return [
        Claim(
            "`auto` computes at most half of what `round_robin` does", share <= HALF,
            f"{share:.2f}: {auto}, and {turn}",
        ),
        Claim(
            "the servers count what the answers say",
            (auto.counted, turn.counted) == (auto.computed, turn.computed),
            f"{auto.counted:,} and {turn.counted:,}",
        ),
    ]  # fmt: skip
