"""What can go wrong on the wire alone, and comes out of a remote back end as the error it is, in every dialect."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from tempfile import TemporaryDirectory

import pytest
from tests.awaited import awaited
from tests.contract.backends import PATIENT, SHORT, chat

from localmodels.backends.fake import FakeServer, Script, Wire
from localmodels.backends.fake.server import body_of
from localmodels.backends.http import Carrier, Http
from localmodels.backends.internet import Internet
from localmodels.backends.remote import Remote
from localmodels.backends.round_trip import Patience, Unanswered
from localmodels.backends.tcp import Tcp
from localmodels.backends.unix import UnixSocket
from localmodels.core.chat import Chunk, Done, EmbedRequest, Event, fold
from localmodels.core.errors import BackendError, BackendTimeout, Garbled, LocalModelsError, StreamCut, Unreachable
from localmodels.dialects.protocol import Dialect
from localmodels.dialects.table import DIALECTS

# "ï" is two bytes, "日" three, the smiley four: a body with places where a character can be halved.
SAID = (Chunk("na"), Chunk("ïve 日本"), Chunk(" \U0001f600 end"))
TEXT = "".join(chunk.text for chunk in SAID)


UNIX, TCP = "-over-unix", "-over-tcp"
OVER_TCP = tuple(f"{name}{TCP}" for name in DIALECTS)


@pytest.fixture(params=(*DIALECTS, *OVER_TCP, f"openai{UNIX}"))
def dialect(request: pytest.FixtureRequest) -> str:
    """A dialect; with ``UNIX`` behind it, spoken over a unix socket, with ``TCP`` over our own connections."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=(*DIALECTS, *OVER_TCP))
def internet(request: pytest.FixtureRequest) -> str:
    """A dialect, for what is of other servers only: their silence has an end, and their connections serve again."""
    return request.param  # type: ignore[no-any-return]


def codec_of(dialect: str) -> Dialect:
    return DIALECTS[dialect.removesuffix(UNIX).removesuffix(TCP)]


def carrier_of(dialect: str, server: FakeServer, socket: str, patience: Patience) -> Carrier:
    if socket:
        return UnixSocket(socket)
    return (Tcp if dialect.endswith(TCP) else Internet)(server.url, patience=patience)


@asynccontextmanager
async def served(dialect: str, wire: Wire, patience: Patience = PATIENT) -> AsyncIterator[tuple[Remote, FakeServer]]:
    codec = codec_of(dialect)
    with TemporaryDirectory() as directory:
        socket = f"{directory}/fake.sock" if dialect.endswith(UNIX) else ""
        async with FakeServer(Script(SAID, wire=wire), socket=socket) as server:
            backend = Remote(Http(carrier_of(dialect, server, socket, patience), codec.read_error), codec)
            yield backend, server
            await backend.close()


async def outcome(dialect: str, wire: Wire, patience: Patience = PATIENT) -> tuple[str, LocalModelsError | None]:
    """The text that came, and the error that ended it; ``Done`` and an error together are a failure of the test."""
    events: list[Event] = []
    error = None
    async with served(dialect, wire, patience) as (backend, _):
        try:
            async with aclosing(backend.chat(chat())) as stream:
                async for some in stream:
                    events += some
        except LocalModelsError as caught:
            error = caught
    done = [event for event in events if isinstance(event, Done)]
    assert len(done) == (error is None)
    return "".join(event.text for event in events if isinstance(event, Chunk)), error


def body(dialect: str) -> bytes:
    return body_of(codec_of(dialect), chat(), Script(SAID))


@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
@pytest.mark.parametrize("write_size", [0, 1, 2, 3, 7])
@awaited
async def test_every_framing_and_every_split_gives_the_same_text(dialect: str, framing: str, write_size: int) -> None:
    wire = Wire(framing=framing, write_size=write_size)  # type: ignore[arg-type]
    assert await outcome(dialect, wire) == (TEXT, None)


@pytest.mark.parametrize("then", ["fin", "rst"])
@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
@awaited
async def test_a_connection_that_breaks_at_any_byte_is_a_cut(dialect: str, framing: str, then: str) -> None:
    size = len(body(dialect))
    for at in {*range(0, size, 17), size - 1}:
        text, error = await outcome(dialect, Wire(framing=framing, at=at, then=then))  # type: ignore[arg-type]
        assert type(error) is StreamCut, at
        assert TEXT.startswith(text)


@pytest.mark.parametrize("whole", ["ï", "日", "\U0001f600"])
@awaited
async def test_half_a_character_is_never_handed_over(dialect: str, whole: str) -> None:
    encoded = body(dialect)
    assert whole.encode() in encoded, "the place that this test cuts at"
    text, error = await outcome(dialect, Wire(framing="close", at=encoded.index(whole.encode()) + 1))
    assert type(error) is StreamCut
    assert TEXT.startswith(text)
    assert whole not in text


@awaited
async def test_half_a_message_is_never_handed_over(dialect: str) -> None:
    encoded = body(dialect)
    ends = encoded.index(b"\n") + 1
    for at in (ends + 9, encoded.index(b"ve \xe6") + 3):
        text, error = await outcome(dialect, Wire(framing="close", at=at))
        assert (text, type(error)) == ("na", StreamCut)


@awaited
async def test_garbage_within_a_message_is_garbled(dialect: str) -> None:
    at = body(dialect).index("ïve".encode())
    text, error = await outcome(dialect, Wire(at=at, then="garbage"))
    assert (text, type(error)) == ("na", Garbled)


@awaited
async def test_garbage_anywhere_is_an_error(dialect: str) -> None:
    for at in range(0, len(body(dialect)), 23):
        text, error = await outcome(dialect, Wire(at=at, then="garbage"))
        assert type(error) in {Garbled, StreamCut}, at
        assert TEXT.startswith(text)


@awaited
async def test_silence_at_a_byte_runs_out_of_patience(internet: str) -> None:
    size = len(body(internet))
    for at in (0, 1, size // 2, size - 1):
        _, error = await outcome(internet, Wire(at=at, then="stall"), SHORT)
        assert type(error) is BackendTimeout, at


@pytest.mark.parametrize(
    ("wire", "patience"),
    [
        (Wire(at=0, then="stall"), Patience(connect=10.0, first_byte=0.1, idle=60.0)),
        (Wire(at=100, then="stall"), Patience(connect=10.0, first_byte=60.0, idle=0.1)),
        (Wire(at=100, then="stall", write_size=1), Patience(connect=10.0, first_byte=60.0, idle=0.1)),
    ],
)
@awaited
async def test_the_first_byte_and_the_others_have_their_own_patience(
    internet: str, wire: Wire, patience: Patience
) -> None:
    assert type((await outcome(internet, wire, patience))[1]) is BackendTimeout


@pytest.mark.parametrize("then", ["fin", "rst", "stall", "garbage"])
@awaited
async def test_what_goes_wrong_after_done_is_no_harm(dialect: str, then: str) -> None:
    assert await outcome(dialect, Wire(at=len(body(dialect)), then=then)) == (TEXT, None)  # type: ignore[arg-type]


@awaited
async def test_a_content_length_that_is_too_long(dialect: str) -> None:
    assert await outcome(dialect, Wire(framing="length", length_error=5)) == (TEXT, None)
    async with served(dialect, Wire(framing="length", length_error=5)) as (backend, _):
        with pytest.raises(StreamCut):
            await backend.embed(EmbedRequest("fake:latest", ("a",)))


@awaited
async def test_a_content_length_that_is_too_short(dialect: str) -> None:
    _, error = await outcome(dialect, Wire(framing="length", length_error=-5))
    assert isinstance(error, BackendError)


@pytest.mark.parametrize(("head", "kind"), [("garbage", Garbled), ("none", Unanswered)])
@awaited
async def test_a_head_that_is_none(dialect: str, head: str, kind: type[LocalModelsError]) -> None:
    assert type((await outcome(dialect, Wire(head=head)))[1]) is kind  # type: ignore[arg-type]


@awaited
async def test_a_head_that_never_ends(internet: str) -> None:
    assert type((await outcome(internet, Wire(head="endless"), SHORT))[1]) is BackendTimeout


@awaited
async def test_nobody_listens_any_more(dialect: str) -> None:
    async with served(dialect, Wire(framing="close")) as (backend, server):
        assert (await fold(backend.chat(chat()))).text == TEXT
        server.refuse()
        with pytest.raises(Unreachable):
            await fold(backend.chat(chat()))
        assert not (await backend.health()).ok


@awaited
async def test_a_connection_serves_again_after_a_whole_stream_and_after_nothing_less(internet: str) -> None:
    async with served(internet, Wire()) as (backend, server):
        for _ in range(5):
            assert (await fold(backend.chat(chat()))).text == TEXT
        assert server.accepted == 1
        stream = backend.chat(chat())
        await anext(stream)
        await stream.aclose()
        await fold(backend.chat(chat()))
        assert server.accepted == 2


@awaited
async def test_an_embedding_that_breaks_off_is_an_error(dialect: str) -> None:
    kinds = {"fin": StreamCut, "rst": StreamCut, "stall": BackendTimeout, "garbage": BackendError}
    for then, kind in kinds.items():
        if then == "stall" and dialect.endswith(UNIX):
            continue
        patience = SHORT if then == "stall" else PATIENT
        async with served(dialect, Wire(at=20, then=then), patience) as (backend, _):  # type: ignore[arg-type]
            with pytest.raises(kind):
                await backend.embed(EmbedRequest("fake:latest", ("a",)))


@awaited
async def test_many_that_break_do_not_disturb_one_that_does_not(dialect: str) -> None:
    codec = codec_of(dialect)
    async with FakeServer(
        lambda request: Script(SAID, wire=Wire(at=None if request.model == "good" else 200, then="rst"))
    ) as server:
        backend = Remote(Http(carrier_of(dialect, server, "", PATIENT), codec.read_error), codec)
        names = [name for _ in range(10) for name in ("bad", "good")]
        ends = await asyncio.gather(*(fold(backend.chat(chat(model=name))) for name in names), return_exceptions=True)
        await backend.close()
    assert [isinstance(end, StreamCut) for end in ends] == [name == "bad" for name in names]
