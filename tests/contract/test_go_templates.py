"""A Go template that says what a Jinja one says gives the same answers: a real runner is asked both ways."""

import datetime
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.awaited import awaited
from tools.random_model import TINY, write_random_model

from localmodels.artifacts.chat_template import read_chat_template
from localmodels.artifacts.gguf import read_header
from localmodels.core.catalog import Model
from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Event,
    Format,
    GenerateRequest,
    Image,
    Message,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    fold,
)
from localmodels.core.errors import ContextLengthExceeded, InvalidRequest, ModelDamaged
from localmodels.core.options import Options
from localmodels.engine.hardware import Hardware
from localmodels.engine.housing import Housing
from localmodels.engine.llama import LlamaBackend
from localmodels.engine.loadable import Loadable, Loader
from localmodels.engine.pool import Build, Pool
from localmodels.engine.scheduler import Limits, Scheduler
from localmodels.flows.answering.templated_model import Templated
from localmodels.store.shelves import builtin_path

GIB = 2**30
HARDWARE = Hardware(cpus=2, cores=2, memory_total=8 * GIB, memory_available=8 * GIB)
STEADY = Options(temperature=0.0, seed=1, num_predict=80)
DATE = datetime.date(2026, 3, 1)

# What tools/builtin_model/chat_template.jinja says, for tools with one parameter; Ollama's JSON has no blanks in it.
SAME = """\
{{- if or .System .Tools }}<|im_start|>system
{{ .System }}
{{- if .Tools }}
<tools>
{{- range .Tools }}
{"name": "{{ .Function.Name }}", "description": "{{ .Function.Description }}", "parameters": {"type": "object", \
"properties": {{ "{" }}{{ range $name, $one := .Function.Parameters.Properties }}"{{ $name }}": \
{"type": "{{ $one.Type }}"}{{ end }}}, "required": [{{ range .Function.Parameters.Required }}"{{ . }}"{{ end }}]}}
{{- end }}
</tools>
{{- end }}<|im_end|>
{{ end }}
{{- range .Messages }}
{{- if eq .Role "tool" }}<|im_start|>user
<tool_response>
{{ .Content }}
</tool_response><|im_end|>
{{ else if ne .Role "system" }}<|im_start|>{{ .Role }}
{{ .Content }}
{{- if .ToolCalls }}
{{- range .ToolCalls }}<tool_call>
{"name": "{{ .Function.Name }}", "arguments": {{ "{" }}{{ range $name, $one := .Function.Arguments }}"{{ $name }}": \
"{{ $one }}"{{ end }}}}
</tool_call>
{{- end }}
{{- end }}<|im_end|>
{{ end }}
{{- end }}<|im_start|>assistant
"""

WEATHER = Tool(
    "get_weather",
    "The weather in a city",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


def said(role: Role, text: str, *calls: ToolCall) -> Message:
    return Message(role, (Text(text),) if text else (), tool_calls=calls)


PARIS = ToolCall("call_1", "get_weather", '{"city":"Paris"}')
ASKED = said("user", "What is the weather in Paris?")
CONVERSATIONS = {
    "a question": ChatRequest("m", (said("user", "What is the capital of France?"),)),
    "a system prompt": ChatRequest("m", (said("system", "Be brief."), said("user", "Who are you?"))),
    "turns": ChatRequest("m", (said("user", "Hello!"), said("assistant", "Hi."), said("user", "How are you?"))),
    "thinking off": ChatRequest("m", (said("user", "Hello!"),), think=False),
    "a tool to call": ChatRequest("m", (ASKED,), tools=(WEATHER,)),
    "a tool's answer": ChatRequest(
        "m",
        (ASKED, said("assistant", "", PARIS), Message("tool", (Text("22 degrees, sunny"),), tool_call_id="call_1")),
        tools=(WEATHER,),
    ),
    "a stop": ChatRequest("m", (said("user", "Count to ten."),), options=replace(STEADY, stop=("3", "e"))),
    "a short limit": ChatRequest("m", (said("user", "Hello!"),), options=replace(STEADY, num_predict=3)),
}
COLOUR = Format(
    {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
)


@asynccontextmanager
async def loaded(path: Path, context: int = 2048) -> AsyncIterator[LlamaBackend]:
    loadable = Loadable("m", Model("m:latest", 1, "d", ""), str(path), read_header(path))
    load = Loader(HARDWARE, Options(num_parallel=1, num_ctx=context)).load(loadable, "generate", Options())
    housing = Housing()
    pool = Pool(Scheduler(Limits(memory=4 * GIB)), housing, Build())
    try:
        async with pool.lease(load, keep_alive=None, patience=60.0) as backend:
            yield backend
    finally:
        await pool.close()
        housing.close()


def by(backend: LlamaBackend, source: str, owner: str = "m:latest") -> Templated:
    return Templated(backend, read_chat_template(source), owner, lambda: DATE)


def told(answer: Answer) -> tuple[object, ...]:
    calls = [(call.name, json.loads(call.arguments)) for call in answer.tool_calls]
    return answer.text, answer.thinking, calls, answer.done.reason, answer.done.usage.completion_tokens


@pytest.fixture(scope="module")
def builtin() -> Path:
    if not (path := builtin_path()).exists():
        pytest.skip("the built-in model is not here")
    return path


@awaited
async def test_the_same_template_gives_the_same_answers(builtin: Path) -> None:
    async with loaded(builtin) as jinja:
        go = by(jinja, SAME)
        for name, conversation in CONVERSATIONS.items():
            request = replace(conversation, options=conversation.options.over(STEADY))
            assert await go.render(request) == await jinja.render(request), name
            assert await go.count(request) == await jinja.count(request), name
            by_jinja, by_go = await fold(jinja.chat(request)), await fold(go.chat(request))
            assert told(by_go) == told(by_jinja), name
            assert by_go.done.usage.prompt_tokens == by_jinja.done.usage.prompt_tokens, name


@awaited
async def test_a_call_comes_whole_and_no_tag_of_it_is_seen(builtin: Path) -> None:
    async with loaded(builtin) as backend:
        called = CONVERSATIONS["a tool to call"]
        by_jinja = await fold(backend.chat(replace(called, options=STEADY)))
        request = replace(called, options=STEADY, logprobs=True, top_logprobs=2)
        events: list[Event] = [event async for some in by(backend, SAME).chat(request) for event in some]
    deltas = [delta for event in events if isinstance(event, Chunk) for delta in event.tool_calls]
    assert [(delta.name, json.loads(delta.arguments)) for delta in deltas] == told(by_jinja)[2] != []
    assert [delta.index for delta in deltas] == list(range(len(deltas)))
    assert deltas[0].id.startswith("call_")
    assert "".join(event.text for event in events if isinstance(event, Chunk)) == ""
    tokens = [one for event in events if isinstance(event, Chunk) for one in event.logprobs]
    assert "".join(token.token for token in tokens).startswith("<tool_call>")
    assert all(len(token.top) == 2 for token in tokens)


@awaited
async def test_a_call_that_must_be_made_is_made(builtin: Path) -> None:
    # What the shape leaves open, a small model may fill for ever.
    city = {"type": "string", "enum": ["Paris", "Rome"]}
    closed = {"type": "object", "properties": {"city": city}, "required": ["city"], "additionalProperties": False}
    weather, other = replace(WEATHER, parameters=closed), Tool("get_time", "The time in a city", closed)
    async with loaded(builtin) as backend:
        go = by(backend, SAME)
        for choice in (ToolChoice("required"), ToolChoice("function", "get_weather")):
            request = ChatRequest("m", (ASKED,), tools=(weather, other), tool_choice=choice, options=STEADY)
            answer = await fold(go.chat(request))
            assert (answer.text, answer.done.reason) == ("", "tool_calls")
            [call] = answer.tool_calls
            assert call.name in ({"get_weather", "get_time"} if choice.mode == "required" else {"get_weather"})
            assert json.loads(call.arguments).keys() == {"city"}
        none = await fold(go.chat(replace(request, tool_choice=ToolChoice("none"))))
    assert none.tool_calls == ()
    assert none.text


@awaited
async def test_an_answer_keeps_to_its_shape(builtin: Path) -> None:
    async with loaded(builtin) as backend:
        request = ChatRequest("m", (said("user", "Name a colour."),), format=COLOUR, options=STEADY)
        answer = await fold(by(backend, SAME).chat(request))
    assert json.loads(answer.text)["colour"] in {"red", "blue"}


@awaited
async def test_thoughts_come_apart_and_a_shape_is_kept_to_after_them(builtin: Path) -> None:
    # The model thinks because its answer is begun for it; what it says up to a full stop is taken for its thought. The
    # tag is a beginning that any model goes on with.
    tag = "The sky is blue because"
    shown = f"{{{{ if .Thinking }}}}{tag}{{{{ .Thinking }}}}.{{{{ end }}}}"
    thinking = SAME.replace("{{ .Content }}\n{{- if", shown + "{{ .Content }}\n{{- if") + tag
    async with loaded(builtin) as backend:
        go = by(backend, thinking)
        request = replace(CONVERSATIONS["a question"], options=STEADY)
        free = await fold(go.chat(request))
        shaped = await fold(go.chat(replace(request, format=COLOUR)))
        short = await fold(go.chat(replace(request, format=Format(), options=replace(STEADY, num_predict=2))))
    assert free.thinking
    assert "." not in free.thinking
    assert shaped.thinking == free.thinking
    assert json.loads(shaped.text).keys() == {"colour"}
    assert shaped.done.usage.completion_tokens > short.done.usage.completion_tokens
    assert (short.text, short.done.reason) == ("", "length")


@awaited
async def test_what_the_tokenizer_puts_first_is_not_there_twice(tmp_path: Path) -> None:
    path = write_random_model(tmp_path / "begins.gguf", shape=TINY, end_bias=-100.0)
    key = b"tokenizer.ggml.add_bos_token" + struct.pack("<I", 7)
    data = path.read_bytes()
    assert data.count(key + b"\0") == 1
    path.write_bytes(data.replace(key + b"\0", key + b"\1"))
    request = replace(CONVERSATIONS["a question"], options=replace(STEADY, num_predict=4))
    async with loaded(path) as backend:
        beginning = await backend.beginning()
        assert beginning
        plain, first = by(backend, "{{ .Prompt }}"), by(backend, beginning + "{{ .Prompt }}")
        assert await plain.render(request) == await first.render(request)
        one, other = await fold(plain.chat(request)), await fold(first.chat(request))
        assert one.done.usage.prompt_tokens == other.done.usage.prompt_tokens == await first.count(request)
        assert told(one) == told(other)


@awaited
async def test_control_tokens_that_are_tags_are_seen(builtin: Path) -> None:
    source = "{{ range .Messages }}{{ if .ToolCalls }}<|im_start|>{{ .ToolCalls }}{{ end }}{{ .Content }}{{ end }}"
    async with loaded(builtin) as backend:
        [control] = await backend.tokenize("<|im_start|>", special=False)
        always = replace(STEADY, num_predict=3, logit_bias=((control, 100.0),))
        request = replace(CONVERSATIONS["a question"], options=always, tools=(WEATHER,))
        seen = await fold(by(backend, source).chat(request))
        unseen = await fold(by(backend, source.replace("<|im_start|>", "<call>")).chat(request))
    assert (seen.text, unseen.text) == ("<|im_start|>" * 3, "")


@awaited
async def test_pictures_reach_the_engine_as_pictures(builtin: Path) -> None:
    look = ChatRequest("m", (Message("user", (Text("Which colour?"), Image(b"no picture"))),), options=STEADY)
    async with loaded(builtin) as backend:
        with pytest.raises(InvalidRequest, match="does not support multimodal requests"):
            await fold(by(backend, SAME).chat(look))


@awaited
async def test_a_prompt_that_is_too_long_is_refused_with_both_counts(builtin: Path) -> None:
    async with loaded(builtin, context=256) as backend:
        go = by(backend, SAME)
        request = ChatRequest("m", (said("user", "word " * 300),), options=STEADY)
        with pytest.raises(ContextLengthExceeded) as caught:
            await fold(go.chat(request))
        assert (caught.value.prompt_tokens, caught.value.context_tokens) == (await go.count(request), 256)


@awaited
async def test_a_gap_is_filled_by_the_template(builtin: Path) -> None:
    template = "{{ if .Suffix }}<|im_start|>user\nBefore: {{ .Prompt }} After: {{ .Suffix }}<|im_end|>\n{{ end }}"
    async with loaded(builtin) as backend:
        gap = GenerateRequest("m", "one", suffix="two", options=STEADY)
        whole = GenerateRequest("m", "<|im_start|>user\nBefore: one After: two<|im_end|>\n", raw=True, options=STEADY)
        assert told(await fold(by(backend, template).generate(gap))) == told(await fold(backend.generate(whole)))


@awaited
async def test_a_template_that_fails_names_the_model_and_the_line(builtin: Path) -> None:
    request = replace(CONVERSATIONS["a question"], options=STEADY)
    endless = '\n{{ define "x" }}{{ template "x" . }}{{ end }}{{ template "x" . }}'
    async with loaded(builtin) as backend:
        for source in (endless, "{{ .Prompt }}\n{{ slice .Prompt 1000 }}"):
            with pytest.raises(ModelDamaged, match="model 'm:latest' cannot be used: template, line 2: "):
                await fold(by(backend, source).chat(request))
            with pytest.raises(InvalidRequest, match="template, line 2: ") as refused:
                await fold(by(backend, source, owner="").chat(request))
            assert refused.value.param == "template"
        assert (await fold(by(backend, SAME).chat(request))).text, "and the next one is answered"
