"""What the engine is asked for a model with a Go template, and what becomes of its answers; the engine is a script."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import AsyncGenerator, Sequence

import pytest

from localmodels.artifacts.chat_template import read_chat_template
from localmodels.backends.protocol import Health
from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Done,
    Embeddings,
    EmbedRequest,
    Event,
    Format,
    GenerateRequest,
    Image,
    Lora,
    Message,
    Text,
    Tool,
    ToolChoice,
    Usage,
    fold,
)
from localmodels.core.errors import EngineError, InvalidRequest, ModelDamaged, Unsupported
from localmodels.core.options import Options
from localmodels.core.rerank import Ranking, RerankRequest
from localmodels.flows.answering.templated_model import Templated

BEGINNING = "<s>"
TEMPLATE = (
    "<s>{{ if .Tools }}{{ .Tools }}{{ end }}{{ range .Messages }}[{{ .Role }}]"
    "{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}"
    "{{ if .ToolCalls }}<call>{{ range .ToolCalls }}{{ .Function.Name }}{{ end }}</call>{{ end }}"
    "{{ end }}[assistant]"
)
THOUGHTFUL = f"{TEMPLATE}{{{{ if .Think }}}}<think>\n{{{{ end }}}}"
FILLER = "{{ if .Suffix }}<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>{{ else }}{{ .Prompt }}{{ end }}"
HELLO = (Message("user", (Text("Hello"),)),)
ADD = Tool("add", "adds", {"type": "object", "properties": {"a": {"type": "integer"}}})


class Scripted:
    """Plays one list of texts a question and writes the questions down; a word is a token."""

    def __init__(self, *answers: Sequence[str], reason: str = "stop") -> None:
        self.answers = list(answers)
        self.asked: list[GenerateRequest] = []
        self.closed = 0
        self.said: list[str] = []
        self.reason = reason

    async def rank(self, request: RerankRequest) -> Ranking:
        raise Unsupported("no reranker")

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[list[Event], None]:
        number = len(self.asked)
        self.asked.append(request)
        try:
            for text in self.answers[number]:
                self.said.append(text)
                yield [Chunk(text)]
            usage = Usage(10 + number, len(self.answers[number]))
            yield [Done(self.reason, usage)]  # type: ignore[arg-type]
        finally:
            self.closed += 1

    def chat(self, request: ChatRequest) -> AsyncGenerator[list[Event], None]:
        raise AssertionError("the engine has no template of ours")

    async def embed(self, request: EmbedRequest) -> Embeddings:
        return Embeddings(((1.0,),))

    async def models(self) -> tuple[str, ...]:
        return ("m",)

    async def health(self) -> Health:
        return Health(ok=True)

    async def close(self) -> None: ...

    async def count(self, request: ChatRequest) -> int:
        raise AssertionError("the engine has no template of ours")

    async def render(self, request: ChatRequest) -> str:
        raise AssertionError("the engine has no template of ours")

    async def tokenize(self, text: str, *, special: bool = True) -> tuple[int, ...]:
        return (*((0,) if special else ()), *map(len, text.split()))

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        return " ".join("x" * token for token in tokens)

    async def beginning(self) -> str:
        return BEGINNING


def templated(engine: Scripted, template: str = TEMPLATE, owner: str = "m:latest") -> Templated:
    return Templated(engine, read_chat_template(template), owner, lambda: datetime.date(2026, 1, 1))


def chat(engine: Scripted, template: str = TEMPLATE, **fields: object) -> Answer:
    request = ChatRequest("m", **{"messages": HELLO, **fields})  # type: ignore[arg-type]
    return asyncio.run(fold(templated(engine, template).chat(request)))


def told(answer: Answer) -> tuple[str, str, list[tuple[str, object]]]:
    return answer.thinking, answer.text, [(call.name, json.loads(call.arguments)) for call in answer.tool_calls]


def test_the_prompt_is_made_here_and_all_else_is_passed_on() -> None:
    engine = Scripted(["Hi."])
    lora = (Lora("a", 0.5),)
    options = Options(temperature=0.5, seed=3, stop=("x",))
    answer = chat(engine, options=options, logprobs=True, top_logprobs=2, lora=lora, keep_alive=9.0)
    assert answer.text == "Hi."
    assert engine.asked == [
        GenerateRequest(
            "m",
            "[user]Hello[assistant]",
            raw=True,
            visible=("<think>", "</think>"),
            options=options,
            logprobs=True,
            top_logprobs=2,
            lora=lora,
            keep_alive=9.0,
        )
    ]


def test_what_is_counted_is_what_is_asked() -> None:
    backend = templated(Scripted())
    request = ChatRequest("m", (Message("user", (Text("one two"),)),))
    assert asyncio.run(backend.render(request)) == "[user]one two[assistant]"
    assert asyncio.run(backend.count(request)) == 3


def test_an_answer_is_split() -> None:
    engine = Scripted(["<think>Hm.</th", "ink>\nWell.<ca", 'll>{"name": "add", "arguments": {"a": 1}}</call>'])
    answer = chat(engine, tools=(ADD,))
    assert told(answer) == ("Hm.", "Well.", [("add", {"a": 1})])
    assert engine.asked[0].visible == ("<think>", "</think>", "<call>")
    assert answer.done.reason == "tool_calls"
    assert engine.closed == 1


def test_an_answer_may_begin_in_a_thought() -> None:
    assert told(chat(Scripted(["Hm.</think>Well."]), THOUGHTFUL)) == ("Hm.", "Well.", [])
    assert told(chat(Scripted(["Well."]), THOUGHTFUL, think=False)) == ("", "Well.", [])


def test_tools_that_may_not_be_called_are_not_offered() -> None:
    call = '<call>{"name": "add"}</call>'
    engine = Scripted([call])
    assert told(chat(engine, tools=(ADD,), tool_choice=ToolChoice("none"))) == ("", call, [])
    assert "add" not in str(engine.asked[0].prompt)
    assert "<call>" not in engine.asked[0].visible


def test_one_call_where_no_more_may_be_made() -> None:
    call = '<call>{"name": "add", "arguments": {"a": 1}}</call>'
    assert len(chat(Scripted([call * 3]), tools=(ADD,)).tool_calls) == 3
    assert len(chat(Scripted([call * 3]), tools=(ADD,), parallel_tool_calls=False).tool_calls) == 1


@pytest.mark.parametrize("choice", [ToolChoice("required"), ToolChoice("function", "add")])
def test_a_call_that_must_be_made_is_asked_for_as_json(choice: ToolChoice) -> None:
    engine = Scripted(['{"name": "add", ', '"arguments": {"a": 1}}'])
    other = Tool("other")
    answer = chat(engine, tools=(ADD, other), tool_choice=choice, think=False)
    assert told(answer) == ("", "", [("add", {"a": 1})])
    assert engine.asked[0].format is not None
    assert ('"other"' in str(engine.asked[0].prompt)) == (choice.mode == "required")


def test_pictures_stand_in_the_prompt_as_marks() -> None:
    engine = Scripted(["A cat."])
    pictures = (Image(b"one"), Image(b"two"))
    chat(engine, messages=(Message("user", (Text("Which? [img]"), *pictures)),))
    assert engine.asked[0].prompt == "[user][img-1]Which? [img-0][assistant]"
    assert engine.asked[0].images == pictures


# A shape after a thought

SHAPE = Format({"type": "object"})


def test_a_shape_holds_for_what_comes_after_the_thought() -> None:
    engine = Scripted(["<thi", "nk>\nHm", "."], ['{"a": ', "1}"])
    answer = chat(engine, format=SHAPE, options=Options(num_predict=9, stop=("x",)))
    assert told(answer) == ("Hm.", '{"a": 1}', [])
    assert answer.done.usage == Usage(10, 5)
    first, second = engine.asked
    assert (first.format, first.options.stop) == (None, ("x", "</think>"))
    assert second.prompt == "[user]Hello[assistant]<think>\nHm.</think>\n\n"
    assert (second.format, second.options) == (SHAPE, Options(num_predict=6, stop=("x",)))


def test_a_thought_that_the_prompt_begins() -> None:
    engine = Scripted(["Hm."], ["{}"])
    assert told(chat(engine, THOUGHTFUL, format=SHAPE)) == ("Hm.", "{}", [])
    assert engine.asked[1].prompt == "[user]Hello[assistant]<think>\nHm.</think>\n\n"
    assert told(chat(Scripted(["{}"]), THOUGHTFUL, format=SHAPE, think=False)) == ("", "{}", [])


def test_a_model_that_does_not_think_is_asked_again_for_the_shape_alone() -> None:
    engine = Scripted(["Sure! ", "never heard"], ["{}"])
    answer = chat(engine, format=SHAPE)
    assert told(answer) == ("", "{}", [])
    assert answer.done.usage == Usage(11, 1)
    assert [request.prompt for request in engine.asked] == ["[user]Hello[assistant]"] * 2
    assert engine.said == ["Sure! ", "{}"], "nobody waits for the rest of an answer without the shape"
    assert engine.closed == 2


def test_a_thought_may_use_up_all_tokens() -> None:
    engine = Scripted(["<think>Hm.", " "], reason="length")
    answer = chat(engine, format=SHAPE)
    assert (told(answer), answer.done.reason) == (("Hm.", "", []), "length")
    assert len(engine.asked) == 1


def test_an_answer_that_is_not_of_its_shape_is_an_error() -> None:
    with pytest.raises(EngineError, match="this format"):
        chat(Scripted(["no JSON"]), "{{ .Prompt }}", format=SHAPE)


# Texts


def generate(engine: Scripted, template: str, **fields: object) -> GenerateRequest:
    request = GenerateRequest("m", **fields)  # type: ignore[arg-type]
    asyncio.run(fold(templated(engine, template).generate(request)))
    return engine.asked[0]


def test_a_gap_is_filled_by_a_template_that_has_a_place_for_it() -> None:
    asked = generate(Scripted(["x"]), FILLER, prompt="one", suffix="two")
    assert (asked.prompt, asked.suffix, asked.raw) == ("<PRE>one<SUF>two<MID>", "", True)
    asked = generate(Scripted(["x"]), TEMPLATE, prompt="one", suffix="two")
    assert (asked.prompt, asked.suffix, asked.raw) == ("one", "two", False)


def test_a_raw_text_is_left_as_it_is() -> None:
    asked = generate(Scripted(["x"]), FILLER, prompt="<s>one", suffix="two", raw=True)
    assert (asked.prompt, asked.suffix) == ("<s>one", "two")


# Templates that fail

FAILING = "\n{{ slice .Prompt 99 }}"


def test_a_failing_template_is_whose_it_is() -> None:
    request = ChatRequest("m", HELLO)
    with pytest.raises(ModelDamaged, match=r"^model 'm:latest' cannot be used: template, line 2: "):
        asyncio.run(fold(templated(Scripted(), FAILING).chat(request)))
    with pytest.raises(InvalidRequest, match=r"^template, line 2: ") as refused:
        asyncio.run(fold(templated(Scripted(), FAILING, owner="").chat(request)))
    assert refused.value.param == "template"


def test_what_is_no_matter_of_templates_is_the_engines() -> None:
    async def all_of_it() -> tuple[object, ...]:
        backend = templated(Scripted())
        embeddings = await backend.embed(EmbedRequest("m", ("a",)))
        await backend.close()
        return embeddings.vectors, await backend.models(), (await backend.health()).ok, await backend.detokenize((2,))

    assert asyncio.run(all_of_it()) == (((1.0,),), ("m",), True, "xx")
