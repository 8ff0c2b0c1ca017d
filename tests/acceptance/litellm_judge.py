"""The ``litellm`` package as a judge, unmodified. A program, since LiteLLM wants an environment of its own.

Usage: ``python litellm_judge.py URL``. Prints one JSON object: the name of each check, and why it failed
or an empty text.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or the import asks a stranger for prices

import litellm

HELLO = [{"role": "user", "content": "Hello!"}]
ASKED = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SCHEMA = {"type": "object", "properties": {"wet": {"type": "boolean"}}, "required": ["wet"]}
FIXED = {"messages": HELLO, "max_tokens": 8, "temperature": 0}


class Provider:
    """One of LiteLLM's ways to speak to us."""

    def __init__(self, name: str, base: str) -> None:
        self._name = name
        self._at: dict[str, Any] = {"api_base": base, "api_key": "any"}

    def chat(self, model: str, **arguments: Any) -> Any:
        return litellm.completion(model=f"{self._name}/{model}", **self._at, **arguments)

    def embed(self, model: str, **arguments: Any) -> Any:
        return litellm.embedding(model=f"{self._name}/{model}", **self._at, **arguments)

    def rank(self, model: str, **arguments: Any) -> Any:
        return litellm.rerank(model=f"{self._name}/{model}", **self._at, **arguments)

    def respond(self, model: str, **arguments: Any) -> Any:
        return litellm.responses(model=f"{self._name}/{model}", temperature=0, **self._at, **arguments)

    def kept(self, response_id: str) -> Any:
        return litellm.get_responses(response_id, custom_llm_provider=self._name, **self._at)

    def forget(self, response_id: str) -> Any:
        return litellm.delete_responses(response_id, custom_llm_provider=self._name, **self._at)

    def message(self, model: str, **arguments: Any) -> Any:
        asked = {"model": f"{self._name}/{model}", "max_tokens": 8, "temperature": 0, **self._at, **arguments}
        return asyncio.run(litellm.anthropic.messages.acreate(**asked))


def whole(provider: Provider) -> None:
    answer = provider.chat("endless", **FIXED)
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens == 8
    assert answer.usage.prompt_tokens > 0


def several(provider: Provider) -> None:
    fixed = {"messages": HELLO, "max_tokens": 8, "temperature": 1, "seed": 7}
    texts = [choice.message.content for choice in provider.chat("endless", n=2, **fixed).choices]
    assert texts == [provider.chat("endless", **{**fixed, "seed": seed}).choices[0].message.content for seed in (7, 8)]


def end(provider: Provider) -> None:
    assert provider.chat("endless", **FIXED).choices[0].finish_reason == "length"


def stream(provider: Provider) -> None:
    chunks = list(provider.chat("endless", **FIXED, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == provider.chat("endless", **FIXED).choices[0].message.content
    assert len([chunk for chunk in chunks if chunk.choices[0].finish_reason]) == 1
    assert len(chunks) > 4, "pieces come as they are made"


def tools(provider: Provider) -> None:
    answer = provider.chat("localmodels", messages=ASKED, tools=[WEATHER], temperature=0, max_tokens=300)
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert set(json.loads(call.function.arguments)) == {"city"}


def schema(provider: Provider) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA, "strict": True}}
    answer = provider.chat("localmodels", messages=HELLO, max_tokens=1000, temperature=0, response_format=form)
    assert isinstance(json.loads(answer.choices[0].message.content)["wet"], bool)


def embed(provider: Provider) -> None:
    answer = provider.embed("embedder", input=["a cat", "a dog"])
    first, second = (row["embedding"] for row in answer.data)
    assert len(first) == len(second) == 64
    assert first != second
    assert answer.usage.prompt_tokens > 0


def rank(provider: Provider) -> None:
    documents = ["hi", "it is a bear", "The giant panda is a bear species endemic to China."]
    every = provider.rank("reranker", query="What is a panda?", documents=documents).results
    best = provider.rank("reranker", query="What is a panda?", documents=documents, top_n=2, return_documents=True)
    scores = [one["relevance_score"] for one in every]
    assert sorted(one["index"] for one in every) == [0, 1, 2]
    assert scores == sorted(scores, reverse=True)
    assert 1 >= scores[0] > scores[2] >= 0
    for one, same in zip(best.results, every, strict=False):
        assert one["index"] == same["index"]
        assert one["document"]["text"] == documents[one["index"]]


def response(provider: Provider) -> None:
    asked = {"input": "Hello!", "max_output_tokens": 16}  # it makes 16 of what is less, OpenAI's own least
    answer = provider.respond("endless", **asked)
    assert (answer.status, answer.usage.output_tokens) == ("incomplete", 16)
    events = list(provider.respond("endless", **asked, stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == answer.output[0].content[0].text
    assert events[-1].response.status == "incomplete"  # LiteLLM names every such event `response.completed`


def response_goes_on(provider: Provider) -> None:
    """From one that is kept, which can be had and taken away."""
    first = provider.respond("localmodels", input="Hello!")
    second = provider.respond("localmodels", input="And then?", previous_response_id=first.id)
    assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens
    assert provider.kept(first.id).output[0].content[0].text == first.output[0].content[0].text
    assert provider.forget(first.id).deleted
    refused(litellm.NotFoundError, lambda: provider.kept(first.id))


def response_calls(provider: Provider) -> None:
    tool = {"type": "function", **WEATHER["function"]}  # type: ignore[dict-item]
    (call,) = provider.respond("localmodels", input=ASKED[0]["content"], tools=[tool]).output
    assert (call.type, call.name, set(json.loads(call.arguments))) == ("function_call", "get_weather", {"city"})


def unknown_response(provider: Provider) -> None:
    for stream in (False, True):
        error = refused(litellm.NotFoundError, partial(provider.respond, "nobody", input="Hello!", stream=stream))
        assert "nobody" in str(error)


def message(provider: Provider) -> None:
    """Only whole: streamed ones load LiteLLM's proxy, which is not in this environment."""
    answer = provider.message("endless", messages=HELLO)
    assert (answer["type"], answer["stop_reason"], answer["usage"]["output_tokens"]) == ("message", "max_tokens", 8)
    assert answer["content"][0]["text"] == provider.chat("endless", **FIXED).choices[0].message.content
    error = refused(litellm.NotFoundError, lambda: provider.message("nobody", messages=HELLO))
    assert "nobody" in str(error)


def refused(kind: type[Exception] | tuple[type[Exception], ...], call: Callable[[], object]) -> Exception:
    """The error of this class, or of these, that a call has to end in."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind} was raised")


def unknown(provider: Provider) -> None:
    for stream in (False, True):
        error = refused(litellm.NotFoundError, partial(provider.chat, "nobody", messages=HELLO, stream=stream))
        assert "nobody" in str(error)


def out_of_range(provider: Provider) -> None:
    kinds = (litellm.UnprocessableEntityError, litellm.BadRequestError)
    error = refused(kinds, lambda: provider.chat("tiny", messages=HELLO, temperature=99))
    assert "temperature" in str(error)


# LiteLLM's `ollama` asks /api/generate, does tools by itself, and says "stop" whatever the reason was.
CHECKS: Mapping[str, tuple[Callable[[Provider], None], ...]] = {
    "ollama": (whole, stream, schema, embed, unknown),
    "ollama_chat": (whole, end, stream, tools, schema, unknown),
    "openai": (
        *(whole, several, end, stream, tools, schema, embed, unknown, out_of_range),
        *(response, response_goes_on, response_calls, unknown_response),
    ),
    "anthropic": (whole, end, stream, tools, schema, unknown, out_of_range, message),
    "cohere": (rank,),
    "jina_ai": (rank,),
    "hosted_vllm": (rank,),
    "huggingface": (rank,),
}


def verdict(check: Callable[[], None]) -> str:
    """Why it failed, or an empty text."""
    try:
        check()
    except Exception:  # noqa: BLE001 - whatever it is, the test that started this program says it
        return traceback.format_exc()
    return ""


def main() -> None:
    """The command line."""
    url = sys.argv[1]
    litellm.suppress_debug_info = True
    bases = {"openai": f"{url}/v1"}
    providers = {name: Provider(name, bases.get(name, url)) for name in CHECKS}
    verdicts = {
        f"{name}: {check.__name__}": verdict(partial(check, providers[name]))
        for name, checks in CHECKS.items()
        for check in checks
    }
    print(json.dumps(verdicts))


if __name__ == "__main__":
    main()
