"""The ``litellm`` package as a judge, unmodified. A program, since LiteLLM wants an environment of its own.

Usage: ``python litellm_judge.py URL``. Prints one JSON object: the name of each check, and why it failed
or an empty text.
"""

from __future__ import annotations

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
# Its detour over MCP servers wants a package that it does not depend on.
DIRECT = {"_skip_mcp_handler": True}
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


def whole(provider: Provider) -> None:
    answer = provider.chat("endless", **FIXED)
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens == 8
    assert answer.usage.prompt_tokens > 0


def end(provider: Provider) -> None:
    assert provider.chat("endless", **FIXED).choices[0].finish_reason == "length"


def stream(provider: Provider) -> None:
    chunks = list(provider.chat("endless", **FIXED, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == provider.chat("endless", **FIXED).choices[0].message.content
    assert len([chunk for chunk in chunks if chunk.choices[0].finish_reason]) == 1
    assert len(chunks) > 4, "pieces come as they are made"


def tools(provider: Provider) -> None:
    answer = provider.chat("localmodels", messages=ASKED, tools=[WEATHER], temperature=0, max_tokens=300, **DIRECT)
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert set(json.loads(call.function.arguments)) == {"city"}


def schema(provider: Provider) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA, "strict": True}}
    answer = provider.chat("tiny", messages=HELLO, max_tokens=1000, seed=1, response_format=form)
    assert isinstance(json.loads(answer.choices[0].message.content)["wet"], bool)


def embed(provider: Provider) -> None:
    answer = provider.embed("embedder", input=["a cat", "a dog"])
    first, second = (row["embedding"] for row in answer.data)
    assert len(first) == len(second) == 64
    assert first != second
    assert answer.usage.prompt_tokens > 0


def unknown(provider: Provider) -> None:
    try:
        provider.chat("nobody", messages=HELLO)
    except litellm.NotFoundError as error:
        assert "nobody" in str(error)  # noqa: PT017 - pytest is not in this environment
    else:
        raise AssertionError("an unknown model was answered for")


def out_of_range(provider: Provider) -> None:
    try:
        provider.chat("tiny", messages=HELLO, temperature=99)
    except (litellm.UnprocessableEntityError, litellm.BadRequestError) as error:
        assert "temperature" in str(error)  # noqa: PT017
    else:
        raise AssertionError("a temperature of 99 was taken")


# LiteLLM's `ollama` asks /api/generate, does tools by itself, and says "stop" whatever the reason was.
CHECKS: Mapping[str, tuple[Callable[[Provider], None], ...]] = {
    "ollama": (whole, stream, schema, embed, unknown),
    "ollama_chat": (whole, end, stream, tools, schema, unknown),
    "openai": (whole, end, stream, tools, schema, embed, unknown, out_of_range),
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
