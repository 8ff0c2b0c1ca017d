"""Sends attacks, each on a connection of its own, and judges what comes back.

HTTP is read by httptools, as the server does not write it. An answer is looked at until it ends or has said enough.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterable
from time import monotonic
from typing import cast

import httptools
from msgspec import Struct, field
from tests.hostile.attack import DOCUMENTED, Attack, with_key
from tests.hostile.headers import INJECTED

HANG = 2.0  # seconds of silence
GIVEN_UP = 5 * HANG
ENOUGH = 256 * 1024  # bytes of an answer
AT_ONCE = 4
_EVENT = re.compile(rb"[a-z._]+")
KEPT = 40  # failures that are told in full


class Heard(Struct, frozen=True):
    """What came back.

    Attributes:
        status: 0 where nothing did.
        silence: the longest pause, in seconds, before the answer or within it.
        whole: did it come to its own end?
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    silence: float
    whole: bool


class Tally(Struct):
    """What became of all of them.

    Attributes:
        statuses: how many had it, by kind; 0 is none.
        wrong: the first answers that were not right, and why.
        slow: those that were silent for longer than anybody should wait, on a machine that nobody else uses.
        longest: silence, in seconds.
        times: when each began and ended, by this machine's monotonic clock.
    """

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    many_wrong: int = 0
    slow: list[str] = field(default_factory=list)
    longest: float = 0.0
    times: list[tuple[float, float, str]] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """How many were sent."""
        return self.statuses.total()

    def note(self, attack: Attack, heard: Heard, *, strict: bool) -> None:
        """Counts one, and judges it."""
        self.statuses[attack.kind, heard.status] += 1
        if not attack.waits_outside:
            self.longest = max(self.longest, heard.silence)
            if heard.silence > HANG:
                self.slow.append(f"{attack.kind}: {attack.name}: {heard.silence:.1f} s of silence")
        for why in judged(attack, heard, strict=strict):
            self.many_wrong += 1
            if len(self.wrong) < KEPT:
                self.wrong.append(f"{attack.kind}: {attack.name}: {why}\n    sent {attack.sent[:700]!r}")


async def attacked(
    port: int, attacks: Iterable[Attack], *, keys: tuple[str, ...] = ("",), strict: bool = True
) -> Tally:
    """Sends all of them, some at once.

    Args:
        port: on 127.0.0.1.
        attacks: what to send.
        keys: one after the other goes with the requests; an empty one is none.
        strict: must they have the status that they are wanted to? Not where a key is refused before.
    """
    tally, rest = Tally(), iter(enumerate(attacks))

    async def attacker() -> None:
        for number, attack in rest:
            start = monotonic()
            patience = HANG if attack.waits_outside else GIVEN_UP
            heard = await ask(port, with_key(attack.sent, keys[number % len(keys)]), patience)
            tally.times.append((start, monotonic(), f"{attack.kind}: {attack.name}"))
            tally.note(attack, heard, strict=strict)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(attacker())
    return tally


def judged(attack: Attack, heard: Heard, *, strict: bool) -> list[str]:
    """What is wrong with an answer."""
    wrong = []
    if attack.waits_outside and heard.silence > HANG and not heard.whole:
        return []  # it was left
    if not heard.status:
        wrong.append(f"no answer within {heard.silence:.1f} s")
    if heard.status >= 500 and heard.status not in DOCUMENTED:
        wrong.append(f"status {heard.status}: {heard.body[:300]!r}")
    if b"internal error" in heard.body:
        wrong.append(f"an error that nobody foresaw: {heard.body[-300:]!r}")
    if strict and attack.wanted and heard.status not in attack.wanted:
        wrong.append(f"status {heard.status}, not {' or '.join(map(str, attack.wanted))}: {heard.body[:200]!r}")
    if any(name.lower() == INJECTED.lower() for name, _ in heard.headers):
        wrong.append(f"a header of the caller's: {heard.headers}")
    if heard.status and heard.whole and (why := unreadable(heard)):
        wrong.append(why)
    return wrong


def unreadable(heard: Heard) -> str:
    """Why a whole answer is not what its content type says; empty if it is."""
    kind = dict(heard.headers).get("content-type", "").partition(";")[0]
    if not heard.body or len(heard.body) > ENOUGH:
        return ""
    try:
        if kind == "application/json":
            json.loads(heard.body)
        elif kind == "application/x-ndjson":
            for line in heard.body.split(b"\n")[:-1]:
                json.loads(line)
        elif kind == "text/event-stream":
            return _events(heard.body)
    except ValueError as error:
        return f"unreadable {kind}: {error}: {heard.body[:200]!r}"
    return ""


def _events(body: bytes) -> str:
    """Every frame is a name of ours and one line of JSON; CR and LF end lines alike (threat V-33)."""
    for line in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        name, _, value = line.partition(b": ")
        if name == b"data" and value != b"[DONE]":
            json.loads(value)
        elif name not in {b"data", b"event", b""} or (name == b"event" and not _EVENT.fullmatch(value)):
            return f"a line that is no event's: {line[:200]!r}"
    return ""


class _Asking(asyncio.Protocol):
    def __init__(self, sent: bytes) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.body = bytearray()
        self.whole = False
        self.silence = 0.0
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sent = sent
        self._bodiless = sent.startswith(b"HEAD ")
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # what TCP always gives
        self.last = monotonic()
        self._transport.write(self._sent)

    def data_received(self, data: bytes) -> None:
        self.silence, self.last = max(self.silence, monotonic() - self.last), monotonic()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._done()

    def connection_lost(self, exc: Exception | None) -> None:
        self._done()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.end.done():
            return
        self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if self.end.done():
            return
        self.status = self._parser.get_status_code()
        if self._bodiless:
            self._done()

    def on_body(self, body: bytes) -> None:
        if self.end.done():
            return  # of the next answer
        self.body += body
        if len(self.body) > ENOUGH:
            self._done()

    def on_message_complete(self) -> None:
        self.whole = self.status >= 200
        if self.whole:
            self._done()

    def _done(self) -> None:
        if not self.end.done():
            self.end.set_result(None)


async def ask(port: int, sent: bytes, patience: float) -> Heard:
    """Sends it and takes what comes, until the end, or until it has been silent for so many seconds."""
    loop = asyncio.get_running_loop()
    try:
        transport, asking = await loop.create_connection(lambda: _Asking(sent), "127.0.0.1", port)
    except OSError:
        return Heard(0, (), b"", 0.0, whole=False)
    try:
        while not asking.end.done():
            rest = asking.last + patience - monotonic()
            if rest <= 0:
                break
            await asyncio.wait([asking.end], timeout=rest)
        silence = max(asking.silence, 0.0 if asking.end.done() else monotonic() - asking.last)
        return Heard(asking.status, tuple(asking.headers), bytes(asking.body), silence, asking.whole)
    finally:
        transport.abort()
