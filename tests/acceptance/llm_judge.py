"""``llm`` as a judge, unmodified: its library and its command line. A program, since it has an environment of its own.

Usage: ``python llm_judge.py URL``. Prints one JSON object: the name of each check, and why it failed or an empty text.
It speaks to us in four ways: by its OpenAI plugin in chat completions, responses and completions, and by the plugin
``llm-ollama``.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import llm
import ollama
import openai
from click.testing import CliRunner
from llm.cli import cli
from pydantic import BaseModel

ASKED = "What is the weather in Paris?"
SECONDS = 50
# How it names a model in each way, and the options that fix an answer there.
WAYS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "chat": ("chat-{}", {"temperature": 0, "max_tokens": 8}),
    "responses": ("responses-{}", {"temperature": 0, "max_tokens": 8}),
    "ollama": ("ollama/{}", {"temperature": 0, "num_predict": 8}),
}


class Reading(BaseModel):
    """The weather."""

    wet: bool


def refusal(kind: type[Exception], call: Callable[[], object]) -> Any:
    """The error of this class that a call has to end in."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} was raised")


class Library:
    """``llm``, in one of the ways in which it speaks to us."""

    def __init__(self, way: str) -> None:
        self._way = way
        self._name, self._options = WAYS[way]

    def prompt(self, model: str, asked: str = "Hello!", **arguments: Any) -> Any:
        return llm.get_model(self._name.format(model)).prompt(asked, **arguments)

    def whole(self) -> None:
        answer = self.prompt("endless", stream=False, **self._options)
        assert answer.text()
        assert answer.usage().output == 8
        assert answer.usage().input > 0
        # In a stream of the Responses API it hears of figures only where an answer came to its own end.
        streamed = self.prompt("localmodels", temperature=0)
        assert streamed.text()
        assert streamed.usage().output > 0

    def stream(self) -> None:
        pieces = list(self.prompt("endless", **self._options))
        assert "".join(pieces) == self.prompt("endless", stream=False, **self._options).text()
        assert len(pieces) > 4, "pieces come as they are made"

    def awaited(self) -> None:
        model = llm.get_async_model(self._name.format("endless"))

        async def run() -> str:
            return "".join([piece async for piece in model.prompt("Hello!", **self._options)])

        assert asyncio.run(run()) == self.prompt("endless", stream=False, **self._options).text()

    def conversation(self) -> None:
        """What was said is sent along, or gone on from."""
        conversation = llm.get_model(self._name.format("endless")).conversation()
        usages = []
        for asked in ("Hello!", "And then?"):
            answer = conversation.prompt(asked, stream=False, **self._options)
            assert answer.text()
            usages.append(answer.usage())
        assert usages[1].input > usages[0].input + usages[0].output

    def tools(self) -> None:
        seen: list[str] = []

        def get_weather(city: str) -> str:
            """Get the current weather in a city."""
            seen.append(city)
            return "22 degrees, sunny"

        model = llm.get_model(self._name.format("localmodels"))
        for stream in (True, False):
            answer = model.chain(ASKED, tools=[get_weather], stream=stream, options={"temperature": 0})
            assert "22" in answer.text()
        assert seen == ["Paris", "Paris"]

    def schema(self) -> None:
        for stream in (True, False):
            answer = self.prompt("localmodels", schema=Reading, stream=stream, temperature=0)
            assert isinstance(json.loads(answer.text())["wet"], bool)

    def errors(self) -> None:
        if self._way == "ollama":  # it knows no model that the server does not list
            refusal(llm.UnknownModelError, lambda: self.prompt("nobody"))
            refusal(ollama.ResponseError, self.prompt("narrow", "x " * 900, stream=False).text)
            refusal(ollama.ResponseError, lambda: list(self.prompt("narrow", "x " * 900)))
            return
        for stream in (True, False):
            error = refusal(openai.NotFoundError, self.prompt("nobody", stream=stream).text)
            assert error.code == "model_not_found"
            error = refusal(openai.BadRequestError, self.prompt("narrow", "x " * 900, stream=stream).text)
            assert error.code == "context_length_exceeded"

    def embed(self) -> None:
        """The OpenAI plugin asks for OpenAI's names, which a server may have as other names of its own."""
        model = llm.get_embedding_model("ollama/embedder" if self._way == "ollama" else "3-small")
        first, second = model.embed_multi(["a cat", "a dog"])
        assert len(first) == len(second) == 64
        assert first != second


class Program:
    """``llm`` as a program."""

    def __init__(self, url: str, directory: Path) -> None:
        self._url = url
        self._directory = directory

    def run(self, *arguments: str, typed: str = "", status: int = 0) -> str:
        """What it prints; its errors, if it is to fail. In this process, since it takes a second to begin."""
        done = CliRunner().invoke(cli, arguments, input=typed)
        assert done.exit_code == status, done.output
        return done.stderr if status else done.stdout

    def prompt(self) -> None:
        asked = ("-m", "chat-endless", "-o", "temperature", "0", "-o", "max_tokens", "8", "Hello!")
        command = [sys.executable, "-I", "-m", "llm", *asked]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
        whole = llm.get_model("chat-endless").prompt("Hello!", temperature=0, max_tokens=8, stream=False).text()
        assert done.stdout.strip() == self.run(*asked).strip() == whole.strip()

    def chat(self) -> None:
        said = self.run("chat", "-m", "chat-localmodels", "-o", "temperature", "0",
                        typed="Hello!\nWhy is the sky blue?\nexit\n")  # fmt: skip
        assert "Hello" in said
        assert "blue" in said

    def schema(self) -> None:
        for way in ("chat", "responses"):
            said = self.run("-m", f"{way}-localmodels", "--schema", "wet bool", "Hello!")
            assert isinstance(json.loads(said)["wet"], bool)

    def tools(self) -> None:
        functions = self._directory / "weather.py"
        functions.write_text(
            'def get_weather(city: str) -> str:\n    "Get the current weather"\n    return "22 degrees"\n'
        )
        for way in ("chat-", "responses-", "ollama/"):
            said = self.run("-m", f"{way}localmodels", "--functions", str(functions), "-o", "temperature", "0", ASKED)
            assert "22" in said

    def completion(self) -> None:
        said = self.run("-m", "text-endless", "-o", "max_tokens", "8", "-o", "temperature", "0", "Once upon")
        assert said.strip()

    def models(self) -> None:
        assert "tiny:latest" in self.run("openai", "endpoint", f"{self._url}/v1", "--models").split()
        listed = self.run("ollama", "models")
        assert "embedder:latest" in listed
        assert "embedding" in listed

    def endpoint(self) -> None:
        for more in ((), ("--responses",)):
            said = self.run("openai", "endpoint", f"{self._url}/v1", "-m", "localmodels", *more, "Why is the sky blue?")
            assert "blue" in said

    def embed(self) -> None:
        for model in ("3-small", "ollama/embedder"):
            assert len(json.loads(self.run("embed", "-m", model, "-c", "a cat"))) == 64

    def errors(self) -> None:
        for way in ("chat", "responses"):
            assert "model 'nobody' not found" in self.run("-m", f"{way}-nobody", "Hello!", status=1)


def configure(url: str, directory: Path) -> None:
    """What a user sets so that ``llm`` asks us."""
    flags = {"api_base": f"{url}/v1", "supports_schema": True, "supports_tools": True}
    more: Mapping[str, dict[str, Any]] = {"chat": {}, "responses": {"responses": True}, "text": {"completion": True}}
    models = [
        {"model_id": f"{way}-{model}", "model_name": model, **flags, **kind}
        for way, kind in more.items()
        for model in ("endless", "localmodels", "narrow", "nobody")
    ]
    # JSON is YAML, too.
    (directory / "extra-openai-models.yaml").write_text(json.dumps(models))
    os.environ |= {"LLM_USER_PATH": str(directory), "OLLAMA_HOST": url}
    os.environ |= {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "any"}


CHECKS: Mapping[type[Library | Program], tuple[str, ...]] = {
    Library: ("whole", "stream", "awaited", "conversation", "tools", "schema", "embed", "errors"),
    Program: ("prompt", "chat", "schema", "tools", "completion", "models", "endpoint", "embed", "errors"),
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
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        configure(url, directory)
        judges: dict[str, Library | Program] = {way: Library(way) for way in WAYS}
        judges["program"] = Program(url, directory)
        verdicts = {
            f"llm {name}: {check}": verdict(getattr(judge, check))
            for name, judge in judges.items()
            for check in CHECKS[type(judge)]
        }
    print(json.dumps(verdicts))


if __name__ == "__main__":
    main()
