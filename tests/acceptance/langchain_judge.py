"""``langchain-ollama`` as a judge, unmodified. A program, since it has an environment of its own.

Usage: ``python langchain_judge.py URL``. Prints one JSON object: the name of each check, and why it failed or an empty
text.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import ollama
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from pydantic import BaseModel

ASKED = "What is the weather in Paris?"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
FIXED = {"temperature": 0, "num_predict": 8}


class Reading(BaseModel):
    """The weather."""

    wet: bool


def get_weather(city: str) -> str:
    """Get the current weather in a city."""
    return f"22 degrees, sunny in {city}"


def refusal(kind: type[Exception], call: Callable[[], object]) -> Any:
    """The error of this class that a call has to end in."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} was raised")


class LangChain:
    """``langchain-ollama``."""

    def __init__(self, url: str) -> None:
        self._url = url

    def chat(self, model: str, **arguments: Any) -> ChatOllama:
        return ChatOllama(model=model, base_url=self._url, **arguments)

    def whole(self) -> None:
        answer = self.chat("endless", **FIXED).invoke("Hello!")
        assert answer.content
        assert answer.response_metadata["done_reason"] == "length"
        assert answer.usage_metadata["output_tokens"] == 8
        assert answer.usage_metadata["input_tokens"] > 0

    def stream(self) -> None:
        model = self.chat("endless", **FIXED)
        chunks = list(model.stream("Hello!"))
        assert "".join(chunk.content for chunk in chunks) == model.invoke("Hello!").content
        ends = [chunk.response_metadata["done_reason"] for chunk in chunks if "done_reason" in chunk.response_metadata]
        assert ends == ["length"]
        assert len(chunks) > 4, "pieces come as they are made"

    def awaited(self) -> None:
        model = self.chat("endless", **FIXED)

        async def run() -> tuple[str, str]:
            pieces = [chunk.content async for chunk in model.astream("Hello!")]
            return "".join(pieces), (await model.ainvoke("Hello!")).content

        streamed, whole = asyncio.run(run())
        assert streamed == whole

    def text(self) -> None:
        model = OllamaLLM(model="endless", base_url=self._url, **FIXED)
        assert "".join(model.stream("Once upon")) == model.invoke("Once upon") != ""

    def tools(self) -> None:
        model = self.chat("localmodels", temperature=0).bind_tools([tool(get_weather)])
        messages: list[Any] = [HumanMessage(ASKED)]
        answer = model.invoke(messages)
        (call,) = answer.tool_calls
        assert (call["name"], set(call["args"])) == ("get_weather", {"city"})
        whole = None
        for chunk in model.stream(messages):
            whole = chunk if whole is None else whole + chunk
        assert whole is not None
        assert [(one["name"], one["args"]) for one in whole.tool_calls] == [(call["name"], call["args"])]
        result = tool(get_weather).invoke(call)
        last = model.invoke([*messages, answer, result])
        assert "22" in last.content
        assert not last.tool_calls

    def schema(self) -> None:
        model = self.chat("tiny", seed=1, num_predict=1000)
        assert isinstance(model.with_structured_output(Reading).invoke("Hello!"), Reading)
        called = self.chat("localmodels", temperature=0).with_structured_output(get_weather, method="function_calling")
        assert set(called.invoke(ASKED)) == {"city"}

    def embed(self) -> None:
        model = OllamaEmbeddings(model="embedder", base_url=self._url)
        first, second = model.embed_documents(["a cat", "a dog"])
        assert len(first) == len(second) == 64
        assert first != second
        assert all(abs(one - other) < 1e-4 for one, other in zip(first, model.embed_query("a cat"), strict=True))
        assert len(asyncio.run(model.aembed_documents(["a cat"]))) == 1

    def models(self) -> None:
        """It can look at its start whether a model is there."""
        self.chat("tiny", validate_model_on_init=True)
        error = refusal(ValueError, lambda: self.chat("nobody", validate_model_on_init=True))
        assert "tiny:latest" in str(error)

    def errors(self) -> None:
        blind = [HumanMessage([{"type": "image_url", "image_url": f"data:image/png;base64,{PIXEL}"}])]
        wrong: tuple[tuple[dict[str, Any], Any, int], ...] = (
            ({"model": "nobody"}, "Hello!", 404),
            ({"model": "tiny", "temperature": 99}, "Hello!", 422),
            ({"model": "localmodels", "reasoning": True}, "Hello!", 400),
            ({"model": "embedder"}, "Hello!", 400),
            ({"model": "tiny"}, blind, 400),
        )
        for arguments, asked, status in wrong:
            model = self.chat(**arguments)
            assert refusal(ollama.ResponseError, partial(model.invoke, asked)).status_code == status
            assert refusal(ollama.ResponseError, partial(listened, model, asked))


def listened(model: ChatOllama, asked: Any) -> list[Any]:
    """All pieces of a streamed answer."""
    return list(model.stream(asked))


CHECKS = ("whole", "stream", "awaited", "text", "tools", "schema", "embed", "models", "errors")


def verdict(check: Callable[[], None]) -> str:
    """Why it failed, or an empty text."""
    try:
        check()
    except Exception:  # noqa: BLE001 - whatever it is, the test that started this program says it
        return traceback.format_exc()
    return ""


def main() -> None:
    """The command line."""
    judge = LangChain(sys.argv[1])
    print(json.dumps({f"langchain: {name}": verdict(getattr(judge, name)) for name in CHECKS}))


if __name__ == "__main__":
    main()
