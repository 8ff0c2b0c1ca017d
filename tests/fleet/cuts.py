"""Hundreds of streams that servers of every kind cut in the middle, at any byte, in every way that there is (F10).

Each kind of server stands there twice, so that somebody else could be asked, and nobody may be once a byte has come.
Which byte it is, and how the answer breaks off there, follows from the seed and the number of the request alone.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import httpx2
from msgspec import Struct
from msgspec.structs import replace
from tests.fleet.fronts import front, register
from tests.fleet.streams import SPOKEN, Spoken, Told
from tests.proofs.claims import Claim

from localmodels.backends.fake import FakeServer, Script, Wire
from localmodels.backends.fake.script import Request
from localmodels.backends.fake.server import body_of
from localmodels.backends.kinds import KINDS
from localmodels.core.chat import ChatRequest, Chunk, GenerateRequest, Text
from localmodels.core.servers import AnyKind
from localmodels.dialects.table import CHATS

Way = Literal["fin", "rst", "stall", "garbage", "half a character", "half a line"]
WAYS: tuple[Way, ...] = get_args(Way)
# Seconds of silence that these servers are allowed.
FIRST_BYTE, IDLE = 2.0, 0.4
TEXTS = ("Ein", " Größtes", ": 日本", "語で", " 😀", " et", " voilà", ", naïve", " fin", ".")
SAID = "".join(TEXTS)
GOOD = Script(chunks=tuple(map(Chunk, TEXTS)), between=0.001)
# By these an answer says that it has ended; it is cut before the first of them is whole.
ENDS = re.compile(rb'"done":true|"finish_reason":"stop"|"stop_reason":"end_turn"')
GARBAGE = (b"\xff\xfe{]\x00<html>\n\n", b"0123456789\n", b"data: {\n\n", b"\x00" * 64, b"event: ping\n\n")
FRAMINGS: tuple[Literal["chunked", "close", "length"], ...] = ("chunked", "close", "length")
_NUMBER = re.compile(r"number (\d+)")


class Cut(Struct):
    """One stream, and what became of it.

    Attributes:
        wrong: what should not have been, in words; empty where all is as it should be.
        server: whose answer had begun to come, before it was cut; empty where none had.
        asked: servers that began to generate it, in this order.
    """

    number: int
    kind: AnyKind
    spoken: Spoken
    way: Way
    wrong: str = ""
    server: str = ""
    asked: tuple[str, ...] = ()

    @property
    def once(self) -> bool:
        """Was nobody asked once something had come, and at most one more where nothing had?"""
        return len(self.asked) in {1, 2} and (not self.server or self.asked[-1] == self.server)


Book = dict[int, tuple[str, ...]]


class Cutter:
    """A server of one kind, which cuts what has a number, and answers everything else well.

    Args:
        name: under which it is registered.
        kind: of servers.
        seed: of the cuts.
        book: is told which requests it begins to answer.
    """

    def __init__(self, name: str, kind: AnyKind, seed: int, book: Book) -> None:
        self.name = name
        self._seed = seed
        self._book = book
        self._dialect = CHATS[KINDS[kind].native]
        self.server = FakeServer(self._chosen, names=(model_of(kind),))

    def _chosen(self, request: Request) -> Script:
        number = number_of(request)
        if number is None or not isinstance(request, (ChatRequest, GenerateRequest)):
            return GOOD
        self._book[number] = (*self._book.get(number, ()), self.name)
        body = body_of(self._dialect, request, GOOD)
        return replace(GOOD, wire=wire_of(number, body, self._seed))


def model_of(kind: str) -> str:
    """The model of a kind's servers."""
    return f"{kind}-cut:latest" if kind == "ollama" else f"{kind}-cut"


def number_of(request: Request) -> int | None:
    """Which of the requests this is, as its text says."""
    text = ""
    if isinstance(request, ChatRequest):
        text = "".join(part.text for part in request.messages[-1].parts if isinstance(part, Text))
    elif isinstance(request, GenerateRequest):
        text = str(request.prompt)
    found = _NUMBER.search(text)
    return int(found[1]) if found else None


def way_of(number: int) -> Way:
    """How the stream of this number is cut."""
    return WAYS[number % len(WAYS)]


def wire_of(number: int, body: bytes, seed: int) -> Wire:
    """At which byte it is cut, and what then."""
    draw, way = Random(f"{seed}/{number}"), way_of(number)
    end = ENDS.search(body)
    assert end is not None, body
    at = draw.randrange(1, end.end())
    if way == "half a character":
        at = draw.choice([index for index in range(1, end.end()) if body[index] & 0xC0 == 0x80])
    whole = Wire(at=at, write_size=draw.choice((0, 0, 1, 7)), framing=draw.choice(FRAMINGS))
    match way:
        case "fin" | "rst" | "stall":
            return replace(whole, then=way)
        case "garbage":
            return replace(whole, then="garbage", garbage=draw.choice(GARBAGE))
        case _:  # HTTP itself sees nothing wrong
            return replace(whole, then="garbage", garbage=b"", framing="chunked")


async def proof(many: int = 500, seed: int = 1) -> list[Claim]:
    """So many streams, those of one kind one after the other."""
    with TemporaryDirectory(prefix="cuts-") as folder:
        return claims(await cut(Path(folder), many, seed))


async def cut(folder: Path, many: int, seed: int) -> list[Cut]:
    """What became of each."""
    book: Book = {}
    asked = drawn(many, seed)
    async with AsyncExitStack() as stack:
        behind = [(kind, Cutter(f"{kind}-{place}", kind, seed, book)) for kind in KINDS for place in range(2)]
        for _, cutter in behind:
            await stack.enter_async_context(cutter.server)
        client = await stack.enter_async_context(front(folder))
        for kind, cutter in behind:
            more = {"kind": kind, "first_byte": FIRST_BYTE, "idle": IDLE}
            row = await register(client, cutter.name, cutter.server.url, **more)
            assert row["state"] == "up", row
        await _well(client)
        await asyncio.gather(*(_lane(client, lane, book) for lane in asked.values()))
    return sorted((one for lane in asked.values() for one in lane), key=lambda one: one.number)


def drawn(many: int, seed: int) -> dict[AnyKind, list[Cut]]:
    """Which stream is asked of which kind in which dialect."""
    pairs = [(kind, spoken) for spoken in SPOKEN for kind in KINDS if kind in spoken.kinds]
    lanes: dict[AnyKind, list[Cut]] = {kind: [] for kind in KINDS}
    Random(seed).shuffle(pairs)
    for number in range(many):
        kind, spoken = pairs[(number // len(WAYS)) % len(pairs)]
        lanes[kind].append(Cut(number, kind, spoken, way_of(number)))
    return lanes


async def _well(client: httpx2.AsyncClient) -> None:
    """What nobody cuts is read as whole, so that the reading of what is cut means something."""
    for spoken in SPOKEN:
        for kind in spoken.kinds:
            answer = await client.post(spoken.path, json={"model": model_of(kind), **spoken.ask("Go on.")})
            told = spoken.read(answer.text)
            assert (told.text, bool(told.success), told.error) == (SAID, True, ""), f"{spoken.path} of {kind}: {told}"


async def _lane(client: httpx2.AsyncClient, asked: Sequence[Cut], book: Book) -> None:
    """One after the other; each server that cut one answers a good one next, so that none is given up."""
    well = [{"role": "user", "content": "And now well."}]
    for one in asked:
        try:
            await _ask(client, one)
        except (httpx2.HTTPError, ValueError, LookupError) as error:
            one.wrong = f"{type(error).__name__}: {error}"
        one.asked = book.get(one.number, ())
        for server in dict.fromkeys(one.asked):
            question = {"model": f"{server}/{model_of(one.kind)}", "stream": False, "messages": well}
            good = await client.post("/api/chat", json=question)
            assert good.status_code == 200, good.text
            assert good.json()["message"]["content"] == SAID


async def _ask(client: httpx2.AsyncClient, one: Cut) -> None:
    question = {"model": model_of(one.kind), **one.spoken.ask(f"This is number {one.number}.")}
    answer = await client.post(one.spoken.path, json=question)
    if answer.status_code != 200:
        refused = answer.json()
        if answer.status_code < 500 or not (refused.get("error") or refused.get("detail")):
            one.wrong = f"{answer.status_code}: {answer.text[:300]}"
        return
    one.server = answer.headers["X-LocalModels-Server"]
    one.wrong = wrong(one.spoken.read(answer.content.decode()), answer.text)


def wrong(told: Told, body: str) -> str:
    """What is wrong with a stream that was cut; empty where it says so."""
    if told.success:
        return f"it says that it ended well ({told.success}): {body[-300:]}"
    if not told.error:
        return f"it does not say that it was cut: {body[-300:]}"
    if not SAID.startswith(told.text):
        return f"it says what no server said: {told.text!r}"
    return ""


def claims(cuts: Sequence[Cut]) -> list[Claim]:
    """What the run shows."""
    missed = [one for one in cuts if one.wrong]
    told = "; ".join(f"{one.number} {one.spoken.path} of {one.kind}, {one.way}: {one.wrong}" for one in missed[:4])
    relayed = sum(one.kind in one.spoken.native for one in cuts)
    begun = sum(bool(one.server) for one in cuts)
    ways = ", ".join(f"{way} {count}" for way, count in Counter(one.way for one in cuts).items())
    twice = [one for one in cuts if not one.once]
    return [
        Claim(
            "every stream that is cut ends with an explicit error, and with no sign of success",
            not missed,
            f"{len(cuts) - len(missed)} of {len(cuts)}; {relayed} relayed, {len(cuts) - relayed} translated; "
            f"{ways}{'; ' + told if told else ''}",
        ),
        Claim("most of them had begun", begun > len(cuts) / 2, f"{begun}"),
        Claim(
            "nobody is asked for what has begun, and one more at most for what has not",
            not twice,
            f"{sum(len(one.asked) > 1 for one in cuts)} were asked again, all before anything had come"
            if not twice
            else "; ".join(f"{one.number} {one.way}: {one.asked}, begun at {one.server}" for one in twice[:4]),
        ),
    ]
