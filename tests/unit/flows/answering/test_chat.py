"""The flows over the fake back end: defaults, refusals, rotation, times; no socket and no clock but the real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest

from localmodels.backends.protocol import Health
from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Done,
    Embeddings,
    EmbedRequest,
    Event,
    GenerateRequest,
    Image,
    Message,
    Text,
    Tool,
    Usage,
    fold,
)
from localmodels.core.errors import ContextLengthExceeded, ModelNotFound, RunnerDied, Unsupported
from localmodels.core.options import Options
from localmodels.core.rerank import Ranking, RerankRequest
from localmodels.flows.answering.chat import Answerer, Answers, Defaults, Loading, Request, seen
from localmodels.flows.visit import HERE, Visit


class Counting:
    """Answers with the texts that it was sent; a word is a token, and more than ``room`` of them do not fit."""

    def __init__(self, room: int = 1000, *, dies: bool = False) -> None:
        self.room = room
        self.dies = dies
        self.asked: list[ChatRequest | GenerateRequest | EmbedRequest] = []

    async def rank(self, request: RerankRequest) -> Ranking:
        raise Unsupported("no reranker")

    async def chat(self, request: ChatRequest) -> AsyncGenerator[list[Event], None]:
        self.asked.append(request)
        if (length := await self.count(request)) >= self.room:
            raise ContextLengthExceeded(length, self.room)
        yield [Chunk("|".join(message.text for message in request.messages))]
        if self.dies:
            raise ContextLengthExceeded(1, 1)
        yield [Chunk("."), Done()]

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[list[Event], None]:
        self.asked.append(request)
        yield [Chunk(str(request.prompt)), Done()]

    async def embed(self, request: EmbedRequest) -> Embeddings:
        self.asked.append(request)
        return Embeddings(tuple((1.0,) for _ in request.inputs))

    async def models(self) -> tuple[str, ...]:
        return ("m",)

    async def health(self) -> Health:
        return Health(ok=True)

    async def close(self) -> None: ...

    async def count(self, request: ChatRequest) -> int:
        return sum(len(message.text.split()) for message in request.messages)

    async def render(self, request: ChatRequest) -> str:
        return " ".join(message.text for message in request.messages)

    async def tokenize(self, text: str, *, special: bool = True) -> tuple[int, ...]:
        return tuple(map(len, text.split()))

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        return " ".join("x" * token for token in tokens)


class Model:
    """One model behind which a :class:`Counting` stands."""

    name = "m:latest"

    def __init__(self, backend: Counting, defaults: Defaults | None = None, capabilities: str = "completion") -> None:
        self.backend = backend
        self.defaults = defaults or Defaults()
        self.capabilities = tuple(capabilities.split())
        self.adapters: tuple[str, ...] = ()
        self.listed = True
        self.held = 0
        self.unloaded = False

    @asynccontextmanager
    async def ready(self, request: Request, visit: Visit) -> AsyncIterator[Answerer]:
        self.held += 1
        try:
            yield self.backend
        finally:
            self.held -= 1

    async def load(self, request: Loading, visit: Visit) -> None:
        async with self.ready(request, visit):
            pass

    async def unload(self) -> str:
        self.unloaded = True
        return HERE


class OnlyOne:
    """Finds ``m``."""

    def __init__(self, model: Model) -> None:
        self.model = model

    async def find(self, name: str) -> Model:
        if name != "m":
            raise ModelNotFound(name)
        return self.model


def said(role: str, text: str) -> Message:
    return Message(role, (Text(text),))  # type: ignore[arg-type]


def chat(model: Model, *messages: Message, visit: Visit | None = None, **fields: object) -> Answer:
    request = ChatRequest("m", messages, **fields)  # type: ignore[arg-type]
    return asyncio.run(fold(Answers(OnlyOne(model)).chat(request, visit or Visit())))


def test_the_makers_defaults_hold_where_the_request_says_nothing() -> None:
    defaults = Defaults("be brief", (said("user", "q"), said("assistant", "a")), Options(temperature=0.1, top_k=7))
    backend = Counting()
    answer = chat(Model(backend, defaults), said("user", "hi"), options=Options(top_k=3))
    assert answer.text == "be brief|q|a|hi."
    assert backend.asked[0].options == Options(temperature=0.1, top_k=3)
    assert chat(Model(Counting(), defaults), said("system", "mine"), said("user", "hi")).text == "mine|q|a|hi."


def test_what_a_model_cannot_do_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match="m:latest does not support tools"):
        chat(Model(Counting()), said("user", "hi"), tools=(Tool("t"),))
    with pytest.raises(Unsupported, match="does not support images"):
        chat(Model(Counting()), Message("user", (Image(b"x"),)))
    with pytest.raises(Unsupported, match="does not support chat"):
        chat(Model(Counting(), capabilities="embedding"), said("user", "hi"))
    with pytest.raises(ModelNotFound):
        asyncio.run(fold(Answers(OnlyOne(Model(Counting()))).chat(ChatRequest("other", ()), Visit())))


CONVERSATION = (
    said("system", "s s"),
    *(said(role, f"{number} " + "w " * 9) for number in range(6) for role in ("user", "assistant")),
    said("user", "last one"),
)


def test_the_oldest_turns_are_left_out_until_the_rest_and_an_answer_fit() -> None:
    visit = Visit()
    backend = Counting(room=80)
    answer = chat(Model(backend), *CONVERSATION, visit=visit)
    kept = backend.asked[-1]
    assert isinstance(kept, ChatRequest)
    # 124 words; three quarters of 80 may be prompt: the system message, two whole turns of 20 and the last question.
    assert [message.text.split()[0] for message in kept.messages] == ["s", "4", "4", "5", "5", "last"]
    assert visit.truncated_messages == answer.done.truncated_messages == 8


def test_nothing_is_left_out_unless_it_may_be() -> None:
    with pytest.raises(ContextLengthExceeded) as refused:
        chat(Model(Counting(room=80)), *CONVERSATION, truncate=False)
    assert (refused.value.prompt_tokens, refused.value.context_tokens) == (124, 80)


def test_a_last_message_that_is_too_long_alone_is_refused() -> None:
    with pytest.raises(ContextLengthExceeded):
        chat(Model(Counting(room=30)), said("user", "a"), said("assistant", "b"), said("user", "w " * 40))
    with pytest.raises(ContextLengthExceeded):
        chat(Model(Counting(room=30)), said("user", "w " * 40))


def test_no_second_way_is_tried_after_the_first_event() -> None:
    backend = Counting(dies=True)
    with pytest.raises(ContextLengthExceeded):
        chat(Model(backend), *CONVERSATION)
    assert len(backend.asked) == 1


def test_an_empty_chat_only_loads_or_unloads() -> None:
    model = Model(Counting())
    assert chat(model).done.reason == "load"
    assert not model.unloaded
    assert chat(model, keep_alive=0.0).done.reason == "unload"
    assert model.unloaded


def test_times_are_of_the_whole_request() -> None:
    timings = chat(Model(Counting()), said("user", "hi")).done.timings
    assert timings.total >= timings.load > 0


def generate(model: Model, **fields: object) -> Answer:
    request = GenerateRequest("m", **fields)  # type: ignore[arg-type]
    return asyncio.run(fold(Answers(OnlyOne(model)).generate(request, Visit())))


def test_a_prompt_is_one_user_message_unless_it_is_raw() -> None:
    defaults = Defaults("sys", options=Options(top_k=7))
    assert generate(Model(Counting(), defaults), prompt="hi").text == "sys|hi."
    assert generate(Model(Counting(), defaults), prompt="hi", system="mine").text == "mine|hi."
    backend = Counting()
    assert generate(Model(backend, defaults), prompt="hi", raw=True).text == "hi"
    assert backend.asked[0].options.top_k == 7
    assert generate(Model(Counting()), prompt=(1, 2)).text == "(1, 2)"


def test_a_model_that_does_not_write_is_not_asked_to() -> None:
    with pytest.raises(Unsupported, match="does not write text"):
        generate(Model(Counting(), capabilities="embedding"), prompt="hi", raw=True)


def test_a_context_is_gone_on_from() -> None:
    backend = Counting()
    generate(Model(backend), prompt="four xx", context=(9, 8))
    asked = backend.asked[0]
    assert isinstance(asked, GenerateRequest)
    assert (asked.raw, asked.context, asked.prompt) == (True, (9, 8), (4, 2))


def test_the_context_given_back_is_all_that_was_said() -> None:
    first = generate(Model(Counting(), Defaults("sys")), prompt="four xx")
    assert first.text == "sys|four xx."
    assert first.done.context == (3, 4, 10, 3)  # "sys four xx" and the answer right behind it
    second = generate(Model(Counting()), prompt="abc", context=(9, 8))
    assert second.done.context == (9, 8, 3, 4)  # the answer to a raw prompt is "(3,)"
    assert generate(Model(Counting()), prompt="four", raw=True).done.context == ()
    assert generate(Model(Counting(), capabilities="completion vision"), images=(Image(b"png"),)).done.context == ()


def test_a_context_that_cannot_be_had_is_no_harm() -> None:
    class Silent(Counting):
        async def tokenize(self, text: str, *, special: bool = True) -> tuple[int, ...]:
            raise RunnerDied("gone")

    answer = generate(Model(Silent()), prompt="four")
    assert (answer.text, answer.done.context) == ("four.", ())


def test_embeddings_of_nothing_only_load() -> None:
    answers, backend = Answers(OnlyOne(model := Model(Counting()))), model.backend
    assert asyncio.run(answers.embed(EmbedRequest("m", ()), Visit())).vectors == ()
    assert backend.asked == []
    assert asyncio.run(answers.embed(EmbedRequest("m", ("a", "b")), Visit())).vectors == ((1.0,), (1.0,))


def test_a_place_is_given_back_however_a_request_ends() -> None:
    async def run() -> int:
        model = Model(Counting())
        stream = Answers(OnlyOne(model)).chat(ChatRequest("m", (said("user", "hi"),)), Visit())
        await anext(stream)
        assert model.held == 1
        await stream.aclose()
        return model.held

    assert asyncio.run(run()) == 0


def test_what_a_server_has_not_counted_or_cannot_have_is_estimated() -> None:
    for usage, charged in ((Usage(7, 5), Usage(7, 5)), (Usage(7, 0, counted=False), Usage(9, 1))):
        visit = Visit("r")
        visit.asked, visit.admitted = 9, 1
        seen([Chunk("hi"), Done("stop", usage)], visit, 0, 0)
        assert (visit.charged, visit.usage is None) == (charged, not usage.counted)
    visit = Visit("r")
    asyncio.run(Answers(OnlyOne(Model(Counting()))).embed(EmbedRequest("m", ("a b c d",)), visit))
    assert (visit.usage, visit.charged.prompt_tokens > 0) == (None, True)


def test_tokens_and_back() -> None:
    answers = Answers(OnlyOne(Model(Counting())))
    assert asyncio.run(answers.tokenize("m", "ab c", Visit(), special=False)) == (2, 1)
    assert asyncio.run(answers.detokenize("m", (2, 1), Visit())) == "xx x"


def test_an_error_of_the_engine_comes_out_as_it_is() -> None:
    class Dies(Counting):
        async def chat(self, request: ChatRequest) -> AsyncGenerator[list[Event], None]:
            yield [Chunk("a")]
            raise RunnerDied("gone")

    with pytest.raises(RunnerDied):
        chat(Model(Dies()), said("user", "hi"))
