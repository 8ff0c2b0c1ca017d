"""Requests for a bare name on a fleet: who answers, and what becomes of them when hosts fail, on real connections."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.awaited import awaited
from tests.contract.backends import chat
from tests.contract.routed_fleet import DONE, MODEL, Behind, Came, Own, fleet, says

from localmodels.backends.fake import Script, Wire
from localmodels.backends.fake.script import Break, Failure
from localmodels.core.chat import Chunk, EmbedRequest, Image, Message, Text
from localmodels.core.errors import (
    BackendError,
    BackendTimeout,
    ContextLengthExceeded,
    Garbled,
    InvalidRequest,
    LoadFailed,
    LocalModelsError,
    ModelDamaged,
    ModelNotFound,
    OutOfMemory,
    RunnerDied,
    Unavailable,
    Unreachable,
    Unsupported,
)
from localmodels.core.options import Options
from localmodels.core.servers import ServerSpec
from localmodels.flows.answering.chat import Defaults

GOOD = says("good")
TOO_LONG = "This model's maximum context length is 8 tokens, but the prompt has 9 tokens."
FIRST_BYTE = 0.15  # seconds, where somebody falls silent
REFUSING = Script(breaks=Break("refuse"))


def failing(status: int, code: str = "", message: str = "no", retry_after: float | None = None) -> Script:
    return Script(breaks=Break("fail", failure=Failure(message, status, code, retry_after)))


# What the first host does: certainly nothing; perhaps something; refuses what was asked.
UNTOUCHED = {
    "503": failing(503),
    "529": failing(529),
    "503 later": failing(503, retry_after=7),
    "queue full": failing(503, "queue_full"),
    "429": failing(429, retry_after=3),
    "quota": failing(429, "insufficient_quota"),
    "our key": failing(401),
    "not ours": failing(403),
    "no such model": failing(404, "model_not_found", f"model '{MODEL}' not found"),
    "no such page": failing(404),
    "no such method": failing(405),
    "conflict": failing(409),
}
PERHAPS: dict[str, tuple[Script, type[LocalModelsError]]] = {
    "500": (failing(500), BackendError),
    "502": (failing(502), BackendError),
    "504": (failing(504), BackendTimeout),
    "reset": (REFUSING, Unreachable),
    "closed": (Script(wire=Wire(head="none")), Unreachable),
    "garbage": (Script(wire=Wire(head="garbage")), Garbled),
    "silence": (Script(breaks=Break("stall")), BackendTimeout),
    "endless head": (Script(wire=Wire(head="endless")), LocalModelsError),
}
REFUSED: dict[str, tuple[Script, type[LocalModelsError]]] = {
    "400": (failing(400), InvalidRequest),
    "422": (failing(422), LocalModelsError),
    "413": (failing(413), LocalModelsError),
    "too long": (failing(400, "context_length_exceeded", TOO_LONG), ContextLengthExceeded),
}
ROADS = ("translated", "relay whole", "relay stream")


async def went(at: Behind, road: str, *, once: bool = False) -> Came:
    if road == "translated":
        return await at.ask(once=once)
    return await at.relay(stream=road == "relay stream", once=once)


def is_good(came: Came) -> bool:
    return came.error is None and (came.text == "good!" or b"good" in came.body)


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("script", UNTOUCHED.values(), ids=UNTOUCHED)
@awaited
async def test_who_has_not_taken_it_up_costs_nothing(script: Script, road: str, once: bool) -> None:
    async with fleet({"bad": script, "good": GOOD, "spare": GOOD}) as at:
        came = await went(at, road, once=once)
        assert is_good(came), came.error
        assert (came.server, at.generations()) == ("good", {"bad": 1, "good": 1, "spare": 0})
        assert at.book("bad").visits[0].sent == 0


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("once", [False, True])
@awaited
async def test_who_cannot_be_reached_costs_nothing(road: str, once: bool) -> None:
    async with fleet({"bad": GOOD, "worse": GOOD, "good": GOOD}) as at:
        at.fakes["bad"].refuse()
        at.fakes["worse"].refuse()
        came = await went(at, road, once=once)
        assert is_good(came), came.error
        assert at.generations() == {"bad": 0, "worse": 0, "good": 1}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("script", [script for script, _ in PERHAPS.values()], ids=PERHAPS)
@awaited
async def test_who_may_have_begun_is_followed_by_one_other(script: Script, road: str) -> None:
    async with fleet({"bad": script, "good": GOOD, "spare": GOOD}, first_byte=FIRST_BYTE) as at:
        came = await went(at, road)
        assert is_good(came), came.error
        assert (at.generations()["good"], at.generations()["spare"]) == (1, 0)
        await at.book("bad").empty()


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(("script", "error"), PERHAPS.values(), ids=PERHAPS)
@awaited
async def test_and_by_no_more_than_one(script: Script, error: type[LocalModelsError], road: str) -> None:
    async with fleet({"bad": script, "worse": script, "good": GOOD}, first_byte=FIRST_BYTE) as at:
        came = await went(at, road)
        assert isinstance(came.error, error)
        assert (came.server, at.generations()["good"]) == ("worse", 0)


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(("script", "error"), PERHAPS.values(), ids=PERHAPS)
@awaited
async def test_and_by_nobody_where_the_caller_says_so(script: Script, error: type[LocalModelsError], road: str) -> None:
    async with fleet({"bad": script, "good": GOOD}, first_byte=FIRST_BYTE) as at:
        came = await went(at, road, once=True)
        assert isinstance(came.error, error)
        assert (came.server, at.generations()["good"]) == ("bad", 0)


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("once", [False, True])
@awaited
async def test_nor_by_the_same_one_on_another_connection(once: bool, road: str) -> None:
    scripts = iter((GOOD, REFUSING, GOOD))
    async with fleet({"only": lambda request: next(scripts)}) as at:
        assert is_good(await went(at, road))
        came = await went(at, road, once=once)
        assert is_good(came) is not once, "a kept connection that closes at once is taken for an old one"
        assert at.generations() == {"only": 2 if once else 3}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(("script", "error"), REFUSED.values(), ids=REFUSED)
@awaited
async def test_what_is_wrong_with_a_request_is_wrong_everywhere(
    script: Script, error: type[LocalModelsError], road: str
) -> None:
    async with fleet({"bad": script, "good": GOOD}) as at:
        whole = replace(chat(model=MODEL), truncate=False)  # else it is the conversation that may be another
        came = await (at.ask(whole) if road == "translated" else went(at, road))
        assert isinstance(came.error, error)
        assert at.generations() == {"bad": 1, "good": 0}


@pytest.mark.parametrize("road", ["translated", "relay stream"])
@pytest.mark.parametrize("how", ["fin", "rst", "stall", "garbage", "cut", "fail"])
@awaited
async def test_after_the_first_of_an_answer_nobody_else_is_asked(how: str, road: str) -> None:
    words = (Chunk("one"), Chunk("two"), Chunk("three"))
    if how in {"cut", "fail"}:
        script = Script(words, DONE, breaks=Break(how, after=1, failure=Failure("no", 503)))  # type: ignore[arg-type]
    else:
        script = Script(words, DONE, wire=Wire(at=200, then=how))  # type: ignore[arg-type]
    async with fleet({"bad": script, "good": GOOD}, idle=FIRST_BYTE, first_byte=FIRST_BYTE) as at:
        came = await went(at, road)
        assert isinstance(came.error, BackendError)
        assert came.text.startswith("one") or b"one" in came.body
        assert b'"done":true' not in came.body
        assert at.generations() == {"bad": 1, "good": 0}


@pytest.mark.parametrize("road", ROADS)
@awaited
async def test_all_of_them_fail(road: str) -> None:
    async with fleet({"a": failing(503), "b": failing(503), "c": failing(503, retry_after=4)}) as at:
        came = await went(at, road)
        assert isinstance(came.error, Unavailable)
        assert at.generations() == {"a": 1, "b": 1, "c": 1}
        assert all(host.in_flight == 0 for host in at.remotes.fleet.hosts())


@awaited
async def test_a_model_that_nobody_has_any_more() -> None:
    gone = failing(404, "model_not_found", f"model '{MODEL}' not found")
    async with fleet({"a": gone, "b": gone}) as at:
        for road in ROADS:
            came = await went(at, road)
            assert isinstance(came.error, ModelNotFound)
            assert came.error.message == f"model '{MODEL}' not found"
        assert set(at.looked) == {"id-a", "id-b"}, "they are asked anew for what they have"


LOCAL_FAILURES: dict[str, tuple[LocalModelsError, bool]] = {
    "gone": (ModelNotFound(MODEL), True),
    "damaged": (ModelDamaged("its file ends too soon"), True),
    "does not load": (LoadFailed("no"), True),
    "no memory": (OutOfMemory(2, 1), True),
    "died": (RunnerDied("it did"), False),
}


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize(("error", "free"), LOCAL_FAILURES.values(), ids=LOCAL_FAILURES)
@awaited
async def test_this_machine_fails_before_its_model_is_there(error: LocalModelsError, free: bool, once: bool) -> None:
    async with fleet({"good": GOOD}, Own(GOOD, error=error), own_first=True) as at:
        came = await at.ask(once=once)
        if free or not once:
            assert is_good(came)
            assert at.generations() == {"good": 1, "local": 0}
        else:
            assert came.error is error
            assert at.generations() == {"good": 0, "local": 0}


@pytest.mark.parametrize(("how", "free"), [("refuse", True), ("cut", False), ("stall", False)])
@awaited
async def test_this_machine_fails_before_its_first_word(how: str, free: bool) -> None:
    bad = Script(breaks=Break(how))  # type: ignore[arg-type]
    for once in (False, True):
        async with fleet({"good": GOOD}, Own(bad), own_first=True) as at:
            came = await at.ask(once=once)
            assert is_good(came) is (free or not once)
            assert at.generations()["good"] == int(free or not once)


@pytest.mark.parametrize("script", [*UNTOUCHED.values(), *(script for script, _ in PERHAPS.values())])
@awaited
async def test_this_machine_stands_in_for_others(script: Script) -> None:
    async with fleet({"bad": script}, Own(GOOD), first_byte=FIRST_BYTE) as at:
        came = await at.ask()
        assert is_good(came)
        assert (came.server, at.generations()["local"]) == ("local", 1)


@awaited
async def test_its_defaults_and_abilities_count_only_where_it_answers() -> None:
    author = Defaults(system="Be kind.", options=Options(temperature=0.25))
    thought = replace(chat(model=MODEL), think=True, think_wish=True)
    async with fleet({"far": GOOD}, Own(GOOD, defaults=author)) as at:
        came = await at.ask(thought)
        (far,) = at.book("far").visits
        assert (came.server, came.visit.ignored) == ("far", ())
        assert [message.role for message in far.request.messages] == ["user"]  # type: ignore[union-attr]
        assert far.request.think is True  # type: ignore[union-attr]
        at.fakes["far"].refuse()
        for connection in tuple(at.fakes["far"].connections):
            connection.abort()
        came = await at.ask(thought)
        (own,) = at.book("local").visits
        assert (came.server, came.visit.ignored) == ("local", ("think",))
        assert [message.role for message in own.request.messages] == ["system", "user"]  # type: ignore[union-attr]
        assert own.request.options.temperature == 0.25


@awaited
async def test_a_copy_that_cannot_do_it_is_passed_over() -> None:
    picture = Message("user", (Text("What is this?"), Image(b"\x89PNG")))
    seeing = replace(chat(model=MODEL), messages=(picture,))
    async with fleet({"far": GOOD}, Own(GOOD), own_first=True) as at:
        came = await at.ask(seeing)
        assert (came.error, came.server) == (None, "far")
        assert at.own is not None
        assert at.own.taken == 0
        with pytest.raises(Unsupported, match="does not make embeddings"):
            async with fleet({}, Own(GOOD, capabilities=("rerank",)), more=[elsewhere()]) as alone:
                await alone.answers.embed(EmbedRequest(MODEL, ("a",)), came.visit)


def elsewhere() -> ServerSpec:
    """A registered server that has told nothing."""
    return ServerSpec(name="dumb", id="id-dumb", url="http://127.0.0.1:9", kind="anthropic", registered=True)
