"""What needs no connection of the HTTP client."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Mapping
from types import MappingProxyType

import pytest
from msgspec.structs import replace
from tests.awaited import awaited
from tests.virtual import clock, virtually

from localmodels.backends.far import Far
from localmodels.backends.http import MOST_REASON, REASON, Http, Reply, retry_after
from localmodels.core.errors import Garbled, LocalModelsError, StreamCut, Unavailable
from localmodels.core.secrets import Secret
from localmodels.core.servers import ServerSpec
from localmodels.dialects import failures
from localmodels.dialects.passage import Passage
from localmodels.dialects.table import DIALECTS, WAYS
from localmodels.fleet.fleet import Fleet

KEY = "sk-canary-0123456789"
REFUSED = json.dumps({"error": {"message": f"no such key: {KEY}", "param": KEY, "code": "invalid"}}).encode()
IN_BAND = json.dumps({"error": f"the key {KEY} has expired"}).encode() + b"\n"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("0", 0.0), ("", None), ("-1", None), ("1.5", None), ("Sat, 21 Nov 2026", None), ("9" * 7, None)],
)  # fmt: skip
def test_retry_after_in_seconds_and_nothing_else(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}) == seconds


def test_no_retry_after() -> None:
    assert retry_after({}) is None


class Said:
    """An answer that is there, and breaks off where it is told to."""

    headers: Mapping[str, str] = MappingProxyType({})
    pouring = None

    def __init__(self, status: int, body: bytes, content_type: str = "application/json", *, cut: bool = False) -> None:
        self.status = status
        self.content_type = content_type
        self._body = body
        self._cut = cut

    @property
    def ended(self) -> bool:
        return not self._body

    def streamed(self) -> None: ...

    def begun(self) -> None: ...

    async def piece(self) -> bytes:
        if not self._body and self._cut:
            raise StreamCut(f"the connection of {KEY} broke")
        body, self._body = self._body, b""
        return body

    def close(self) -> None: ...


class Way:
    """Answers so, whatever is asked."""

    def __init__(self, *answers: Said) -> None:
        self._answers = iter(answers)

    async def open(self, method: str, path: str, body: bytes | None) -> Reply:
        return next(self._answers)

    async def close(self) -> None: ...


async def streamed(http: Http) -> None:
    async for _ in http.stream("/", b"{}", DIALECTS["ollama"].chat_reader()):
        pass


async def relayed(http: Http) -> None:
    async for _ in http.relay("/", b"{}", Passage(WAYS["ollama"])):
        pass


@awaited
async def test_a_server_that_says_our_key_again_says_three_stars() -> None:
    lines = "application/x-ndjson"
    for ask, answer in (
        (lambda http: http.get("/"), Said(401, REFUSED)),
        (lambda http: http.post("/", b"{}"), Said(400, REFUSED)),
        (lambda http: http.post("/", b"{}"), Said(200, b"{", cut=True)),
        (streamed, Said(200, REFUSED)),
        (streamed, Said(200, IN_BAND, lines)),
        (streamed, Said(200, b"", lines, cut=True)),
        (relayed, Said(200, IN_BAND, lines)),
        (relayed, Said(200, b"", lines, cut=True)),
    ):
        with pytest.raises(LocalModelsError) as caught:
            await ask(Http(Way(answer), failures.read_error, Secret(KEY)))
        assert KEY not in "".join(traceback.format_exception(caught.value))
        assert KEY not in f"{caught.value.message} {caught.value.param}"
        assert "***" in caught.value.message


class Hanging(Said):
    """Says what it says, and then no more."""

    async def piece(self) -> bytes:
        if not self._body:
            await asyncio.Event().wait()
        return await super().piece()


@virtually
async def test_a_status_counts_alone_where_its_words_do_not_come() -> None:
    lines = "application/x-ndjson"
    for ask in (lambda http: http.get("/"), lambda http: http.post("/", b"{}"), streamed, relayed):
        for answer in (
            Hanging(503, b'{"error": "half of'),
            Hanging(503, b"", lines),
            Said(503, b'{"error": "half of', cut=True),
            Said(503, b"x" * (MOST_REASON + 1)),
        ):
            begun = clock()
            with pytest.raises(Unavailable, match=r"^the server answered 503$"):
                await ask(Http(Way(answer), failures.read_error))
            assert clock() - begun <= REASON
    with pytest.raises(Unavailable, match="out of places"):
        await Http(Way(Said(503, b'{"error": "out of places"}')), failures.read_error).get("/")


class Drops(Said):
    """A stream, in these pieces.

    Attributes:
        told: what it was told of itself, and where.
    """

    def __init__(self, *pieces: bytes) -> None:
        super().__init__(200, b"", "application/x-ndjson")
        self._pieces = list(pieces)
        self.told: list[tuple[str, int]] = []

    def streamed(self) -> None:
        self.told.append(("streamed", len(self._pieces)))

    def begun(self) -> None:
        self.told.append(("begun", len(self._pieces)))

    async def piece(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


HI = b'{"message": {"role": "assistant", "content": "hi"}, "done": false}\n'
END = b'{"message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "stop"}\n'


@awaited
async def test_blank_lines_promise_nothing_and_go_out_with_the_first_message() -> None:
    answer = Drops(b"\n", b"\n\n" + HI[:9], HI[9:], HI, END)
    said = Http(Way(answer), failures.read_error).relay("/", b"{}", Passage(WAYS["ollama"]))
    assert [piece async for piece in said] == [b"\n\n\n" + HI, HI, END]
    assert answer.told == [("streamed", 5), ("begun", 2)]
    answer = Drops(b"\n", HI, END)
    await streamed(Http(Way(answer), failures.read_error))
    assert answer.told == [("streamed", 3), ("begun", 1)]


@awaited
async def test_nothing_but_blank_lines_is_no_answer() -> None:
    with pytest.raises(Garbled, match="64 KiB that say nothing"):
        await relayed(Http(Way(Drops(*[b"\n" * 2**10] * 65)), failures.read_error))
    with pytest.raises(StreamCut):
        await relayed(Http(Way(Drops(b"\n", b"\n")), failures.read_error))


@awaited
async def test_who_is_sent_no_key_is_quoted_as_he_speaks() -> None:
    with pytest.raises(LocalModelsError, match=f"no such key: {KEY}"):
        await Http(Way(Said(400, REFUSED)), failures.read_error).get("/")


@awaited
async def test_a_key_that_was_changed_while_it_was_under_way_shows_in_no_failure() -> None:
    spec = ServerSpec(name="far", id="far", url="http://far", kind="openai", registered=True, key=Secret(KEY))
    fleet, far = Fleet(), Far(spec, Way(Said(500, REFUSED)))
    fleet.adopt([spec])
    (host,) = fleet.hosts()
    fleet.adopt([replace(spec, key=Secret("sk-of-now"))])
    with pytest.raises(LocalModelsError) as caught:
        await far.look()
    fleet.failed(host, caught.value, float("inf"))
    assert (host.state, host.failure) == ("down", "no such key: ***")
