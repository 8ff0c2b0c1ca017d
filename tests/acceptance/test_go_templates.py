"""Models with a Go template through the server: made with Ollama's client, asked in both APIs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import ollama
import openai
import pytest
from tests.acceptance.serving import Served, serve
from tests.contract.test_go_templates import SAME
from tests.unit.store.ollama_store import OllamaStore
from tools.random_model import write_random_model

from localmodels.store.shelves import builtin_path

pytestmark = pytest.mark.skipif(not builtin_path().exists(), reason="the built-in model is not here")

STEADY: Any = {"temperature": 0, "seed": 1, "num_predict": 60}
# What a shape leaves open, a small model may fill for ever.
CHOICE: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASKED: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
INSERT = "{{ if .Suffix }}<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>{{ else }}{{ .Prompt }}{{ end }}"
# Made by a model's author, pulled by somebody: it stands in Ollama's store, and nobody here has looked at it.
BROKEN = "{{ .Prompt }}\n{{ if }}"
USELESS = "model '{}:latest' cannot be used: template, line 2: "


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    store = OllamaStore(tmp_path_factory.mktemp("ollama"))
    weights = builtin_path().read_bytes()
    store.add("same:latest", weights, ("template", SAME.encode()))
    store.add("broken:latest", weights, ("template", BROKEN.encode()))
    store.add("poorer:latest", weights, ("template", b"{{ .Prompt }}"))
    odd = write_random_model(tmp_path_factory.mktemp("odd") / "odd.gguf", template="{% if %}", end_bias=-100)
    store.add("odd:latest", odd.read_bytes(), ("template", SAME.encode()))
    home = tmp_path_factory.mktemp("home")
    with serve("--models", str(store.root), "--request-templates", home=home) as served:
        with ollama.Client(host=served.url) as client:
            client.create("templated", from_="localmodels", template=SAME, parameters={"temperature": 0, "seed": 1})
            client.create("plain", from_="localmodels", template="{{ .System }}|{{ .Prompt }}|")
            client.create("filler", from_="localmodels", template=INSERT)
            client.create("costly", from_="localmodels", template=costly())
        yield served


def costly() -> str:
    """A template that would run for hours: a loop in a loop, eight levels of them."""
    return "{{ .System }}\n" + "{{ range $.Messages }}" * 8 + "{{ end }}" * 8


@pytest.fixture
def client(served: Served) -> Iterator[ollama.Client]:
    with ollama.Client(host=served.url) as client:
        yield client


def test_a_model_answers_by_the_template_that_it_was_made_with(client: ollama.Client) -> None:
    question = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who are you?"}]
    by_jinja = client.chat("localmodels", question, options=STEADY)
    for name in ("templated", "same"):
        by_go = client.chat(name, question, options=STEADY)
        assert by_go.message.content == by_jinja.message.content
        assert by_go.prompt_eval_count == by_jinja.prompt_eval_count
    other = client.chat("plain", question, options=STEADY)
    assert other.prompt_eval_count != by_jinja.prompt_eval_count


def test_a_jinja_template_that_the_engine_cannot_read_is_no_matter(client: ollama.Client) -> None:
    assert client.chat("odd", ASKED, options={"num_predict": 3}).eval_count == 3


def test_generate_is_one_message_under_the_template(client: ollama.Client) -> None:
    by_jinja = client.generate("localmodels", "Hello!", system="Be brief.", options=STEADY)
    by_go = client.generate("templated", "Hello!", system="Be brief.", options=STEADY)
    assert (by_go.response, by_go.context) == (by_jinja.response, by_jinja.context)
    raw = client.generate("localmodels", "Be brief.|Hello!|", raw=True, options=STEADY)
    assert client.generate("plain", "Hello!", system="Be brief.", options=STEADY).response == raw.response


def test_an_answer_is_gone_on_from(client: ollama.Client) -> None:
    answers = []
    for name in ("localmodels", "templated"):
        first = client.generate(name, "Hello!", options=STEADY)
        answers.append(client.generate(name, "And now?", context=first.context, options=STEADY).response)
    assert answers[0] == answers[1]


def test_tools_are_called_streamed_and_whole(client: ollama.Client) -> None:
    by_jinja = client.chat("localmodels", ASKED, tools=[WEATHER], options=STEADY)
    whole = client.chat("templated", ASKED, tools=[WEATHER], options=STEADY)
    assert whole.message.content == by_jinja.message.content
    wanted = [(call.function.name, dict(call.function.arguments)) for call in by_jinja.message.tool_calls or []]
    assert [(call.function.name, dict(call.function.arguments)) for call in whole.message.tool_calls or []] == wanted
    assert wanted
    pieces = list(client.chat("templated", ASKED, tools=[WEATHER], options=STEADY, stream=True))
    calls = [call.function for piece in pieces for call in piece.message.tool_calls or []]
    assert [(call.name, dict(call.arguments)) for call in calls] == wanted
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    messages = [*ASKED, whole.message, {"role": "tool", "tool_name": "get_weather", "content": "22 degrees, sunny"}]
    answers = [
        client.chat(name, messages, tools=[WEATHER], options=STEADY).message.content
        for name in ("templated", "localmodels")
    ]
    assert answers[0] == answers[1] != ""


def test_openais_api_says_it_in_its_own_way(served: Served) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        stream = client.chat.completions.create(
            model="templated",
            messages=ASKED,
            tools=[WEATHER],
            temperature=0,
            stream=True,
        )
        choices = [chunk.choices[0] for chunk in stream if chunk.choices]
        calls = [call for choice in choices for call in choice.delta.tool_calls or []]
        assert [(call.index, call.function.name) for call in calls if call.function] == [(0, "get_weather")]
        assert choices[-1].finish_reason == "tool_calls"
        forced = client.chat.completions.create(
            model="templated",
            messages=ASKED,
            tools=[CHOICE],
            tool_choice="required",
            max_tokens=60,
        )
        assert forced.choices[0].message.tool_calls
        scored = client.chat.completions.create(
            model="templated",
            messages=ASKED,
            logprobs=True,
            top_logprobs=2,
            max_tokens=3,
        )
        assert scored.choices[0].logprobs
        assert len(scored.choices[0].logprobs.content or ()) == 3


def test_long_conversations_are_shortened(served: Served) -> None:
    turns = [{"role": role, "content": "word " * 400} for _ in range(20) for role in ("user", "assistant")]
    answer = served.post(
        "/api/chat",
        model="templated",
        messages=[*turns, {"role": "user", "content": "Hello!"}],
        options={"num_predict": 4},
        stream=False,
    )
    assert answer.status_code == 200, answer.text
    assert int(answer.headers["x-localmodels-truncated"]) > 0
    assert 400 < answer.json()["prompt_eval_count"] < 16_000


def test_a_gap_is_filled_by_the_template(client: ollama.Client) -> None:
    by_template = client.generate("filler", "one", suffix="two", options=STEADY)
    raw = client.generate("localmodels", "<PRE>one<SUF>two<MID>", raw=True, options=STEADY)
    assert by_template.response == raw.response
    assert by_template.prompt_eval_count == raw.prompt_eval_count


def test_what_a_model_can_do_shows_in_its_template(client: ollama.Client) -> None:
    shown = {name: client.show(name).capabilities for name in ("templated", "plain", "filler", "same", "poorer")}
    assert shown == {
        "templated": ["completion", "tools"],
        "plain": ["completion"],
        "filler": ["completion", "insert"],
        "same": ["completion", "tools"],
        # Its author's template has no place for tools, the file's own has: as in Ollama, that one is used.
        "poorer": ["completion", "tools"],
    }
    with pytest.raises(ollama.ResponseError, match="plain:latest does not support tools"):
        client.chat("plain", ASKED, tools=[WEATHER])


def test_a_model_made_of_a_templated_one_keeps_the_template(client: ollama.Client) -> None:
    client.create("child", from_="plain", system="S.")
    client.copy("plain", "copy")
    assert client.show("child").template == client.show("copy").template == client.show("plain").template
    assert client.show("child").capabilities == client.show("copy").capabilities == ["completion"]


def test_a_request_may_bring_a_template_where_the_server_lets_it(served: Served, client: ollama.Client) -> None:
    raw = client.generate("localmodels", "<Hello!>", raw=True, options=STEADY)
    for name in ("localmodels", "templated"):
        brought = client.generate(name, "Hello!", template="<{{ .Prompt }}>", options=STEADY)
        assert (brought.response, brought.prompt_eval_count) == (raw.response, raw.prompt_eval_count)
    for template, line in (("\n{{ if }}", "line 2"), ("{{ slice .Prompt 99 }}", "line 1")):
        with pytest.raises(ollama.ResponseError, match=f"template, {line}") as refused:
            client.generate("localmodels", "Hello!", template=template)
        assert refused.value.status_code == 400


def test_a_broken_template_is_named_and_others_go_on(served: Served, client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match=USELESS.format("broken")) as refused:
        client.chat("broken", ASKED)
    assert refused.value.status_code == 500
    with pytest.raises(ollama.ResponseError, match=USELESS.format("broken")):
        client.generate("broken", "Hello!")
    assert client.generate("broken", "Hello!", raw=True, options=STEADY).done
    assert client.show("broken").template == BROKEN
    assert client.chat("templated", ASKED, options=STEADY).message.content


def test_a_costly_template_ends_and_nobody_waits_for_it(served: Served, client: ollama.Client) -> None:
    long = [{"role": role, "content": "x"} for _ in range(20) for role in ("user", "assistant")]
    with pytest.raises(ollama.ResponseError, match=USELESS.format("costly")) as refused:
        client.chat("costly", long)
    assert refused.value.status_code == 500
    assert httpx2.get(f"{served.url}/health").status_code == 200


def test_without_the_flag_a_request_brings_none(tmp_path: Path) -> None:
    with serve(home=tmp_path) as served:
        answer = served.post("/api/generate", model="localmodels", prompt="a", template="{{ .Prompt }}", stream=False)
    assert answer.status_code == 400
    assert "--request-templates" in json.loads(answer.text)["error"]
