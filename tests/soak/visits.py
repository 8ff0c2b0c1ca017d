"""What clients do, each in one visit: a request of some kind, or some requests of which one follows from the other.

The table is at the end: how often each visit is made, of all. A visit knows of every request what may become of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from time import monotonic
from typing import Any

from tests.hostile.attacker import Heard
from tests.soak import questions
from tests.soak.client import Request, asking, connected
from tests.soak.faults import FAULTS, NEVER_REST, RESTS, SOUND
from tests.soak.guest import Guest
from tests.soak.outcomes import DONE

WELL = frozenset({"200"})
MISSING = frozenset({"404"})
BLOB = 2**20
# Bodies that are whole are always the same few, which the store keeps once.
BLOBS = tuple(bytes([number]) * BLOB for number in range(4))
PATHS = (
    "/api/tags", "/v1/models", "/models", "/api/ps", "/api/version", "/health", "/health?verbose=1", "/metrics",
    "/api/usage", "/",
)  # fmt: skip

Visit = Callable[[Guest], Awaitable[None]]


async def sound(guest: Guest) -> None:
    """A model behind that answers."""
    name = guest.draw.choice(tuple(SOUND))
    asked = questions.question(guest.draw, guest.worker, name)
    await guest.once("sound", asked.request, asked.wanted)


async def steady(guest: Guest) -> None:
    """Always the same question, whose times can be compared."""
    fields = {"model": "far-openai/good", "messages": questions.HI}
    start = monotonic()
    await guest.once("steady", asking("/v1/chat/completions", fields, guest.worker), WELL)
    guest.tally.took.append((start - guest.begun, monotonic() - start))


async def faulty(guest: Guest) -> None:
    """A model behind that fails in one of all ways."""
    name = guest.draw.choice(tuple(FAULTS))
    asked = questions.question(guest.draw, guest.worker, name)
    rests = frozenset[str]() if name in NEVER_REST else RESTS
    await guest.once(f"fault {name}", asked.request, asked.wanted | rests)


async def dead(guest: Guest) -> None:
    """A server that is not there."""
    asked = questions.question(guest.draw, guest.worker, "good", server="dead")
    await guest.once("dead server", asked.request, frozenset({"502"}))


async def narrow(guest: Guest) -> None:
    """Three at once for the only place of a server, whose line is one long."""
    asked = [questions.question(guest.draw, guest.worker, "slow", server="narrow") for _ in range(3)]
    await asyncio.gather(*(guest.once("narrow server", one.request, one.wanted | {"503", "529"}) for one in asked))


async def leaving(guest: Guest) -> None:
    """Clients that leave: before they asked, within the question, after it, and within the answer."""
    phase = guest.draw.choice(("connected", "head", "body", "asked", "waiting", "first", "middle"))
    if guest.draw.random() < 0.1:
        asked = questions.own(guest.draw, guest.worker)
    else:
        asked = questions.question(guest.draw, guest.worker, guest.draw.choice(("slow", "good", "long")), stream=True)
    sent = asked.request.sent
    head = sent.index(b"\r\n\r\n")
    upto = {"connected": 0, "head": head // 2, "body": head + 10}.get(phase, len(sent))
    async with connected(guest.port) as connection:
        connection.send(sent[:upto])
        if phase in {"first", "middle"}:
            await connection.answer(upto=1 if phase == "first" else guest.draw.randrange(1, 1500))
        else:
            await asyncio.sleep(0.1 if phase == "waiting" else 0)
        connection.leave(reset=guest.draw.random() < 0.5)
    guest.tally.left(f"leaving, {phase}")


async def slow(guest: Guest) -> None:
    """A client that reads little at a time, and a server behind that says much."""
    asked = questions.question(guest.draw, guest.worker, "long", stream=True)
    await guest.once("slow reader", asked.request, asked.wanted, slow=True)


async def own(guest: Guest) -> None:
    """The built-in model; now and then it is told to go when it has answered, and the next request loads it."""
    if guest.draw.random() < 0.04:
        await guest.once("own model leaves", asking("/api/generate", {"model": questions.OURS, "keep_alive": 0},
                                                    guest.worker), WELL | {DONE})  # fmt: skip
    if guest.draw.random() < 0.2:
        counted = asking("/v1/messages/count_tokens", {"model": questions.OURS, "messages": questions.HI}, guest.worker)
        await guest.once("own model counts", counted, WELL)
        return
    asked = questions.own(guest.draw, guest.worker)
    await guest.once("own model", asked.request, asked.wanted)


async def vectors(guest: Guest) -> None:
    """Embeddings and rankings."""
    await guest.once("vectors", questions.vectors(guest.draw, guest.worker), WELL)


async def looking(guest: Guest) -> None:
    """Lists and states, some of them one after the other on one connection."""
    async with connected(guest.port) as connection:
        for _ in range(guest.draw.randrange(1, 4)):
            path = guest.draw.choice(PATHS)
            await guest.then(connection, f"GET {path}", Request("GET", path, key=guest.admin), WELL)


async def showing(guest: Guest) -> None:
    """What a model is like; and what is not there."""
    await guest.once("show", asking("/api/show", {"model": questions.OURS}, guest.worker), WELL)
    number = guest.number()
    nobody = asking("/api/chat", {"model": f"nobody-{number}", "messages": questions.HI}, guest.worker)
    await guest.once("no such model", nobody, MISSING)
    await guest.once("no such path", Request("GET", f"/nobody/{number}", key=guest.worker), MISSING)


async def stranger(guest: Guest) -> None:
    """A wrong key, each time another, or none; and one that may not."""
    key = f"lm-{guest.draw.randbytes(32).hex()}" if guest.draw.random() < 0.8 else ""
    asked = questions.question(guest.draw, key, "good")
    await guest.once("wrong key", asked.request, frozenset({"401"}))
    await guest.once("key that may not", Request("GET", "/api/keys", key=guest.worker), frozenset({"403"}))


async def limited(guest: Guest) -> None:
    """A key that may ask thirty times a minute asks more often."""
    fields = {"model": "far-openai/good", "messages": questions.HI}
    await guest.once("limited key", asking("/v1/chat/completions", fields, guest.limited), frozenset({"200", "429"}))


async def wrong(guest: Guest) -> None:
    """Bodies that never come whole, that are too long, no JSON, too deep, or of the wrong kind."""
    path = guest.draw.choice(("/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/responses"))
    if guest.draw.random() < 0.01:
        too_long = Request("POST", path, b"{" + b" " * (32 * 2**20), guest.worker)
        await guest.once("body too long", too_long, frozenset({"413"}))
        return
    bad: tuple[tuple[str, Request, str], ...] = (
        ("that never comes", Request("POST", path, b"{" + b" " * 65_536, guest.worker, length=2**20), "408"),
        ("no JSON", Request("POST", path, b'{"model": }', guest.worker), "400"),
        ("too deep", Request("POST", path, b"[" * 5_000, guest.worker), "400"),
        ("wrong kind", asking(path, {"model": 7, "messages": {}, "input": 5}, guest.worker), unlike(path)),
    )
    name, request, status = guest.draw.choice(bad)
    await guest.once(f"body {name}", request, frozenset({status}))


def unlike(path: str) -> str:
    """The status of a value of the wrong kind, for which Anthropic has no other than that of a wrong request."""
    return "400" if path == "/v1/messages" else "422"


async def stored(guest: Guest) -> None:
    """Responses that are kept: gone on from, shown, taken away; some are left to expire."""
    fields = {"model": f"far-openai/{guest.draw.choice(('good', 'slow'))}", "input": "What is there to say?"}
    stream = guest.draw.random() < 0.5
    async with connected(guest.port) as connection:
        made = await guest.then(
            connection,
            "response",
            asking("/v1/responses", {**fields, "stream": stream}, guest.worker),
            frozenset({DONE if stream else "200"}),
        )
        name = response_id(made)
        again = asking("/v1/responses", {**fields, "previous_response_id": name}, guest.worker)
        after = response_id(await guest.then(connection, "response that goes on", again, WELL))
        await guest.then(connection, "response shown", Request("GET", f"/v1/responses/{name}", key=guest.worker), WELL)
        if guest.draw.random() < 0.5:
            return
        for one in (name, after):
            gone = Request("DELETE", f"/v1/responses/{one}", key=guest.worker)
            await guest.then(connection, "response taken away", gone, WELL)
        shown = Request("GET", f"/v1/responses/{name}", key=guest.worker)
        await guest.then(connection, "response that is gone", shown, MISSING)


async def background(guest: Guest) -> None:
    """One in the background, watched or broken off."""
    fields = {"model": "far-openai/slow", "input": "What is there to say?", "background": True}
    made = await guest.once("background", asking("/v1/responses", fields, guest.worker), WELL)
    name = response_id(made)
    if guest.draw.random() < 0.5:
        cancel = Request("POST", f"/v1/responses/{name}/cancel", key=guest.worker)
        await guest.once("background, broken off", cancel, WELL)
        return
    watch = Request("GET", f"/v1/responses/{name}?stream=true", key=guest.worker)
    await guest.once("background, watched", watch, frozenset({DONE}))


def response_id(heard: Heard) -> str:
    """Of a response, whole or as a stream; empty where there is none."""
    _, _, rest = heard.body.partition(b'"id":"resp_')
    return f"resp_{rest[:32].decode()}" if rest else ""


async def passing_key(guest: Guest) -> None:
    """A key is made, opens what it may, and opens nothing when it is taken away."""
    wish = {"name": f"passing {guest.number()}", "requests_per_minute": 60, "token_quota": 10_000}
    made = await guest.once("key made", asking("/api/keys", wish, guest.admin), WELL | {"201"})
    said: dict[str, Any] = json.loads(made.body or b"{}")
    text, name = said.get("key", ""), said.get("id", "")
    asked = questions.question(guest.draw, text, "good")
    await guest.once("new key", asked.request, asked.wanted)
    await guest.once("key revoked", Request("DELETE", f"/api/keys/{name}", key=guest.admin), WELL)
    await guest.once("revoked key", asked.request, frozenset({"401"}))


async def model(guest: Guest) -> None:
    """A model is made, shown, copied, and taken away under both names."""
    made, copy = (f"{what}-{guest.number()}" for what in ("made", "copied"))
    create = {"model": made, "from": questions.OURS, "system": f"You are number {guest.count}.", "stream": False}
    steps = (
        ("model made", asking("/api/create", create, guest.admin), WELL),
        ("model shown", asking("/api/show", {"model": made}, guest.admin), WELL),
        ("model copied", asking("/api/copy", {"source": made, "destination": copy}, guest.admin), WELL),
        ("model deleted", asking("/api/delete", {"model": made}, guest.admin, "DELETE"), WELL),
        ("copy deleted", asking("/api/delete", {"model": copy}, guest.admin, "DELETE"), WELL),
        ("model that is gone", asking("/api/show", {"model": made}, guest.admin), MISSING),
    )
    async with connected(guest.port) as connection:
        for kind, request, wanted in steps:
            await guest.then(connection, kind, request, wanted)


async def blob(guest: Guest) -> None:
    """Uploads: one that is whole, one that is not what it says, and one that breaks off."""
    body = guest.draw.choice(BLOBS)
    path = f"/api/blobs/sha256:{sha256(body).hexdigest()}"
    await guest.once("blob", Request("POST", path, body, guest.admin), frozenset({"200", "201"}))
    false = f"/api/blobs/sha256:{sha256(guest.draw.randbytes(8)).hexdigest()}"
    await guest.once("false blob", Request("POST", false, body[:1000], guest.admin), frozenset({"400"}))
    cut = Request("POST", false, guest.draw.randbytes(BLOB // 4), guest.admin, length=BLOB)
    async with connected(guest.port) as connection:
        connection.send(cut.sent)
        await asyncio.sleep(0.1)
        connection.leave(reset=guest.draw.random() < 0.5)
    guest.tally.left("blob that breaks off")


async def passing_server(guest: Guest) -> None:
    """The server that the configuration has now and then."""
    asked = questions.question(guest.draw, guest.worker, "good", server="passing")
    await guest.once("passing server", asked.request, asked.wanted | MISSING)


async def alias(guest: Guest) -> None:
    """Another name, which the configuration has now and then."""
    fields = {"model": "friend", "messages": questions.HI}
    await guest.once("passing alias", asking("/v1/chat/completions", fields, guest.worker), WELL | MISSING)


# How often each is made, of a thousand. The built-in model computes on the machine's cores: one visit in twenty.
SHARES: Mapping[Visit, int] = {
    sound: 220, steady: 150, faulty: 150, leaving: 120, own: 50, looking: 80, vectors: 45, stranger: 40, limited: 40,
    stored: 25, wrong: 20, showing: 15, dead: 10, narrow: 8, slow: 6, blob: 5, passing_server: 5, background: 4,
    model: 4, alias: 2, passing_key: 1,
}  # fmt: skip
