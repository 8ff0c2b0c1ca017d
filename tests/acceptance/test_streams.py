"""Streams through the whole server: none is lost, none lies about its end, none outlives its client.

Every pair of dialects is tried: the one that the client speaks, and the one that the server behind ours speaks.
"""

import asyncio
import json
from functools import partial
from random import Random

import pytest
from tests.acceptance.gateway import PATHS, Heard, World, ask, question, world
from tests.awaited import awaited

from localmodels.backends.fake import Break, Script, Wire
from localmodels.backends.fake.http import hang_up
from localmodels.backends.fake.script import Request
from localmodels.backends.fake.server import body_of
from localmodels.core.chat import ChatRequest, Chunk, Message, Text, ToolCallDelta
from localmodels.dialects.table import DIALECTS

PAIRS = [(down, up) for down in PATHS for up in DIALECTS]
CUTS = 125  # a pair of dialects: 500 in all
AT_ONCE = 20
WORDS = ("Once ", "upon a tïme ", "日本", "の \U0001f600", '"quoted"\n', "\r\n\r\ndata: ", "done.")
TALE = Script(
    (
        Chunk(thinking="Hm. "),
        *map(Chunk, WORDS),
        Chunk(tool_calls=(ToolCallDelta(0, "call_1", "weather", '{"city": "Lima"}'),)),
    )
)
TOLD = "".join(WORDS)


def cuts(up: str, number: int, seed: int, size: int) -> dict[str, Script]:
    """Scripts by model name, each cut at a random byte of a body of this size in one of the ways there are."""
    random = Random(f"{up} {seed}")
    scripts = {}
    for i in range(number):
        wire = Wire(
            framing=random.choice(["chunked", "close"]),
            at=random.randrange(size),
            then=random.choice(["fin", "rst", "stall", "garbage"]),
            write_size=random.choice([0, 0, 7]),
        )
        word = "hasty" if wire.then == "stall" else "patient"
        scripts[f"{up}/{word}/{i}-{wire.then}-{wire.at}"] = Script(TALE.chunks, wire=wire)
    return scripts


def size_of(up: str, model: str) -> int:
    """Bytes of the tale in this dialect."""
    return len(body_of(DIALECTS[up], ChatRequest(model, (Message("user", (Text("Hello?"),)),)), TALE))


async def ask_all(here: World, down: str, models: list[str], *, stream: bool) -> dict[str, Heard]:
    """Asks for every model, some at once."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(model: str) -> Heard:
        async with gate:
            return await ask(here, down, model, stream=stream)

    return dict(zip(models, await asyncio.gather(*map(one, models)), strict=True))


def chosen(scripts: dict[str, Script], request: Request) -> Script:
    return scripts[request.model]


@pytest.mark.parametrize(("down", "up"), PAIRS)
@awaited
async def test_a_tale_that_is_not_cut_is_told_to_its_end(down: str, up: str) -> None:
    async with world(TALE) as here:
        for stream in (True, False):
            heard = await ask(here, down, f"{up}/patient/whole", stream=stream)
            assert heard == Heard(200, TOLD, success=True)


@pytest.mark.parametrize(("down", "up"), PAIRS)
@awaited
async def test_a_cut_at_any_byte_is_an_explicit_error_and_never_an_end(down: str, up: str) -> None:
    scripts = cuts(up, CUTS, seed=1, size=size_of(up, f"{up}/patient/1-fin-1"))
    async with world(partial(chosen, scripts)) as here:
        answers = await ask_all(here, down, list(scripts), stream=True)
        await here.server.book.empty()
    assert len(answers) == CUTS
    for model, heard in answers.items():
        assert not heard.success, model
        assert heard.error, model
        assert not heard.after, model
        assert TOLD.startswith(heard.text), model
        assert heard.status in ({200, 502, 504} if not heard.text else {200}), model
    assert {heard.status for heard in answers.values()} >= {200, 502}


@pytest.mark.parametrize(("down", "up"), PAIRS)
@awaited
async def test_a_cut_makes_a_whole_answer_an_error_and_never_a_short_one(down: str, up: str) -> None:
    scripts = cuts(up, 40, seed=2, size=size_of(up, f"{up}/patient/1-fin-1"))
    async with world(partial(chosen, scripts)) as here:
        answers = await ask_all(here, down, list(scripts), stream=False)
    for model, heard in answers.items():
        assert heard.status == (504 if "stall" in model else 502), model
        assert (heard.text, heard.success) == ("", False), model
        assert heard.error, model


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("down", "up"), PAIRS)
@awaited
async def test_what_the_server_behind_says_is_wrong_is_passed_on(down: str, up: str, *, stream: bool) -> None:
    async with world(Script(TALE.chunks, breaks=Break("fail", 4))) as here:
        heard = await ask(here, down, f"{up}/patient/x", stream=stream)
    assert "told to fail" in heard.error
    assert not heard.success
    assert not heard.after
    assert (heard.status, heard.text) == ((200, "".join(c.text for c in TALE.chunks[:4])) if stream else (502, ""))


@pytest.mark.parametrize(("down", "up"), PAIRS)
@awaited
async def test_200_streams_at_once_are_whole_and_not_mixed(down: str, up: str) -> None:
    everyone = asyncio.Barrier(200)

    async def together(_: float) -> None:
        await everyone.wait()

    def own(request: Request) -> Script:
        return Script(tuple(Chunk(f"{request.model} wörd {i}\n") for i in range(40)), first=1)

    models = [f"{up}/patient/{i}" for i in range(200)]
    async with world(own, sleep=together) as here:
        heard = await asyncio.gather(*(ask(here, down, model, stream=True) for model in models))
        assert here.server.book.most == 200
    told = ["".join(f"{model} wörd {i}\n" for i in range(40)) for model in models]
    assert heard == [Heard(200, text, success=True) for text in told]


PHASES = {
    "before the first event": (Break("stall"), True),
    "in the middle": (Break("stall", 2), True),
    "a whole answer": (Break("stall", 2), False),
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(("down", "up"), PAIRS)
@awaited
async def test_a_client_that_leaves_frees_the_server_behind_at_once(down: str, up: str, phase: str) -> None:
    broken, stream = PHASES[phase]
    async with world(Script(TALE.chunks, breaks=broken)) as here:
        for number, rude in enumerate((False, True, False, True)):
            reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
            writer.write(raw_request(PATHS[down], question(f"{up}/patient/x", stream=stream)))
            visit = await here.server.book.nth(number)
            if broken.after and stream:
                await reader.readuntil(b"Once")
            assert not visit.closed.is_set()
            hang_up(writer.transport, reset=rude)
            await asyncio.wait_for(visit.closed.wait(), 1.0)
            assert here.server.book.open == 0


def raw_request(path: str, body: dict[str, object]) -> bytes:
    """The bytes of a POST."""
    data = json.dumps(body).encode()
    return b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(data), data)
