"""Models of other servers, of every kind, as the flows ask them: translated, counted, and with honest errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn, get_args

import pytest
from msgspec import Struct
from msgspec.structs import replace
from tests.awaited import awaited
from tests.contract.backends import chat, generate

from localmodels.backends.fake import FakeServer, Script
from localmodels.backends.fake.script import Break, Choose, Failure, Request
from localmodels.core.access import LOCAL, USUAL, Caller
from localmodels.core.catalog import Model, Running
from localmodels.core.chat import ChatRequest, Chunk, Done, EmbedRequest, Usage, fold
from localmodels.core.errors import (
    BackendError,
    ContextLengthExceeded,
    Forbidden,
    InvalidRequest,
    LocalModelsError,
    ModelNotFound,
    RateLimited,
    Unsupported,
)
from localmodels.core.secrets import Secret
from localmodels.core.servers import ServerKind, ServerSpec
from localmodels.flows.answering.chat import Answers
from localmodels.flows.connections.remotes import MOST_CONFIRMED, Remotes
from localmodels.flows.routing.name_resolution import Finders
from localmodels.flows.visit import UNKNOWN, Visit

KINDS: tuple[ServerKind, ...] = get_args(ServerKind)
SCRIPT = Script((Chunk("na"), Chunk("ïve 日本")), Done("stop", Usage(5, 3)))
KEY = "sk-sesame-0123456789"


class Nowhere:
    """No model of this machine."""

    async def find(self, name: str) -> NoReturn:
        raise ModelNotFound(name)

    async def models(self) -> tuple[Model, ...]:
        return ()

    async def describe(self, name: str, *, verbose: bool) -> NoReturn:
        raise ModelNotFound(name)

    def running(self) -> tuple[Running, ...]:
        return ()


class World(Struct):
    """A server behind us, and the flows in front of it."""

    fake: FakeServer
    remotes: Remotes
    answers: Answers
    finders: Finders

    @property
    def busy(self) -> int:
        return self.remotes.servers()[0].host.in_flight

    async def look(self) -> None:
        (server,) = self.remotes.servers()
        self.remotes.fleet.saw(server.host, await server.far.look())


@asynccontextmanager
async def world(kind: ServerKind, script: Script | Choose = SCRIPT, **spec: Any) -> AsyncIterator[World]:
    async with FakeServer(script, names=("m:1", "org/other")) as fake:
        remotes = Remotes()
        await remotes.adopt([ServerSpec(name="far", url=fake.url, kind=kind, key=Secret(KEY), **spec)])
        finders = Finders(Nowhere(), remotes)
        yield World(fake, remotes, Answers(finders), finders)
        await remotes.close()


def failing(status: int, message: str = "no", code: str = "") -> Script:
    return Script(breaks=Break("fail", failure=Failure(message, status, code)))


@pytest.mark.parametrize("kind", KINDS)
@awaited
async def test_a_chat_is_translated_and_counted(kind: ServerKind) -> None:
    async with world(kind) as at:
        visit = Visit("req", LOCAL)
        answer = await fold(at.answers.chat(chat(model="far/org/m:1"), visit))
        assert (answer.text, answer.done.reason, answer.done.usage) == ("naïve 日本", "stop", Usage(5, 3))
        (asked,) = at.fake.book.visits
        assert asked.request.model == "org/m:1"
        assert (visit.model, visit.server, visit.usage) == ("far/org/m:1", "far", Usage(5, 3))
        assert at.busy == 0


@pytest.mark.parametrize("kind", KINDS)
@awaited
async def test_models_are_listed_under_their_servers_name(kind: ServerKind) -> None:
    async with world(kind) as at:
        await at.look()
        assert [model.name for model in await at.finders.models()] == ["far/m:1", "far/org/other"]
        assert {asked.path for asked in at.fake.asked} & {"/v1/models", "/api/tags", "/v1/models?limit=1000"}
        assert all(KEY in "".join(asked.headers.values()) for asked in at.fake.asked)
        assert at.remotes.servers()[0].state()["status"] == "up"


@pytest.mark.parametrize("kind", ["ollama", "openai"])
@awaited
async def test_texts_and_vectors(kind: ServerKind) -> None:
    async with world(kind) as at:
        raw = replace(generate(model="far/m"), raw=True)
        assert (await fold(at.answers.generate(raw, Visit("req", LOCAL)))).text == "naïve 日本"
        assert (await fold(at.answers.generate(generate(model="far/m"), Visit("req", LOCAL)))).text == "naïve 日本"
        vectors = await at.answers.embed(EmbedRequest("far/m", ("a",)), Visit("req", LOCAL))
        assert vectors.vectors == ((0.5, -0.25, 0.125),)
        assert at.busy == 0


@awaited
async def test_what_an_api_does_not_have_is_refused_by_name() -> None:
    async with world("anthropic") as at:
        with pytest.raises(Unsupported, match="only holds conversations"):
            await fold(at.answers.generate(replace(generate(model="far/m"), raw=True), Visit("req", LOCAL)))
        with pytest.raises(Unsupported, match="does not make vectors"):
            await at.answers.embed(EmbedRequest("far/m", ("a",)), Visit("req", LOCAL))
        assert at.fake.asked == []
        assert at.busy == 0


@pytest.mark.parametrize("kind", KINDS)
@awaited
async def test_a_conversation_that_is_too_long_is_told_as_it_is(kind: ServerKind) -> None:
    too_long = "This model's maximum context length is 8 tokens, but the prompt has 9 tokens."
    async with world(kind, failing(400, too_long, "context_length_exceeded")) as at:
        with pytest.raises(ContextLengthExceeded, match="9 tokens"):
            await fold(at.answers.chat(chat(model="far/m"), Visit("req", LOCAL)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("status", "error"), [(401, BackendError), (403, BackendError), (429, RateLimited)])
@awaited
async def test_whose_fault_it_is(kind: ServerKind, status: int, error: type[Exception]) -> None:
    async with world(kind, failing(status, f"your key {KEY} is not good")) as at:
        with pytest.raises(error) as caught:
            await fold(at.answers.chat(chat(model="far/m"), Visit("req", LOCAL)))
        assert KEY not in str(caught.value)
        told = {
            401: "the server 'far' refused our key; key_file or key_env in the file of settings gives it another",
            403: "the server 'far' does not allow us this: your key *** is not good",
        }
        assert status == 429 or str(caught.value) == told[status]


@pytest.mark.parametrize("kind", KINDS)
@awaited
async def test_an_error_in_the_middle_keeps_our_key(kind: ServerKind) -> None:
    breaks = Break("fail", after=1, failure=Failure(f"your key {KEY} has expired", 401, "invalid_api_key"))
    async with world(kind, replace(SCRIPT, breaks=breaks)) as at:
        with pytest.raises(BackendError) as caught:
            await fold(at.answers.chat(chat(model="far/m"), Visit("req", LOCAL)))
        assert KEY not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@awaited
async def test_thinking_that_was_only_wished_for_is_left_out_where_it_cannot_be_had(kind: ServerKind) -> None:
    def thoughtless(request: Request) -> Script:
        thinks = isinstance(request, ChatRequest) and bool(request.think)
        return failing(400, "this model does not support thinking") if thinks else SCRIPT

    async with world(kind, thoughtless) as at:
        wish = replace(chat(model="far/m"), think=True, think_wish=True)
        visit = Visit("req", LOCAL)
        assert (await fold(at.answers.chat(wish, visit))).text == "naïve 日本"
        heard = [visitor.request for visitor in at.fake.book.visits]
        if len(heard) > 1:  # an API without a word for it leaves it out by itself
            assert visit.ignored == ("think",)
            with pytest.raises(InvalidRequest, match="thinking"):
                await fold(at.answers.chat(replace(wish, think_wish=False), Visit("req", LOCAL)))


@awaited
async def test_a_key_for_other_models_opens_nothing() -> None:
    async with world("ollama") as at:
        with pytest.raises(Forbidden):
            await fold(at.answers.chat(chat(model="far/m"), Visit("req", Caller("k", "k", USUAL, models=("near/*",)))))
        assert at.fake.asked == []


@pytest.mark.parametrize("kind", KINDS)
@awaited
async def test_a_name_is_a_stranger_s_word_until_its_server_has_said_it(kind: ServerKind) -> None:
    def only_m(request: Request) -> Script:
        return SCRIPT if request.model.startswith(("m:", "real")) else failing(404, "no such model", "model_not_found")

    async with world(kind, only_m) as at:

        async def asked(name: str) -> str:
            visit = Visit("req", LOCAL)
            with suppress(LocalModelsError):
                await fold(at.answers.chat(chat(model=name), visit))
            assert visit.model == name
            return visit.label

        assert await asked("far/made-up") == UNKNOWN
        refused = Visit("req", Caller("k", "k", USUAL, models=("near/*",)))
        with pytest.raises(Forbidden):
            await fold(at.answers.chat(chat(model="far/real:2"), refused))
        assert (refused.model, refused.label) == ("", "")
        with suppress(LocalModelsError):  # asks the server nothing
            await fold(at.answers.chat(ChatRequest("far/made-up", ()), empty := Visit("req", LOCAL)))
        assert empty.label == UNKNOWN
        assert await asked("far/real") == "far/real"  # it answers by it
        await at.look()
        assert await asked("far/m:1") == "far/m:1"
        assert at.remotes.servers()[0].knows("org/other")  # it lists it


@awaited
async def test_a_server_that_answers_to_any_name_makes_no_more_labels_than_so_many() -> None:
    async with world("openai") as at:
        labels = set()
        for number in range(MOST_CONFIRMED + 3):
            visit = Visit("req", LOCAL)
            await fold(at.answers.chat(chat(model=f"far/{number}"), visit))
            labels.add(visit.label)
        assert len(labels) == MOST_CONFIRMED + 1
        assert UNKNOWN in labels


@awaited
async def test_nothing_else_can_be_unloaded_there() -> None:
    async with world("openai") as at:
        empty = ChatRequest("far/m", (), keep_alive=0)
        with pytest.raises(Unsupported, match=r"the server 'far' decides itself what it has in memory"):
            await fold(at.answers.chat(empty, Visit("req", LOCAL)))
