"""llama.cpp's own server asked from afar: what our engine says of a model, the same server says to whoever asks it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.awaited import awaited
from tests.contract.backends import chat, generate
from tests.contract.test_runner import STEADY, engine, model

from localmodels.backends.remote import LlamaServer
from localmodels.core.chat import Tool, ToolChoice, fold
from localmodels.core.errors import Unsupported
from localmodels.dialects.llamacpp import LlamaCpp

__all__ = ["model"]  # the fixture


@awaited
async def test_it_answers_counts_and_tokenizes_as_our_own_engine_does(model: Path) -> None:
    async with engine(model) as own, own.leased() as near:
        far = LlamaServer(near._runner.http, LlamaCpp())
        asked = replace(chat("Hello there!"), options=STEADY)
        ours, theirs = await fold(near.chat(asked)), await fold(far.chat(asked))
        assert ours.text == theirs.text != ""
        assert ours.done.usage.prompt_tokens == theirs.done.usage.prompt_tokens
        text = replace(generate("Once upon"), options=STEADY, raw=True)
        assert (await fold(near.generate(text))).text == (await fold(far.generate(text))).text
        assert await near.count(asked) == await far.count(asked) > 0
        assert await near.render(asked) == await far.render(asked)
        tokens = await far.tokenize("Hello there!")
        assert tokens == await near.tokenize("Hello there!")
        assert await far.detokenize(tokens) == await near.detokenize(tokens)
        assert (await far.health()).ok
        assert len(await far.models()) == 1


@awaited
async def test_a_call_that_must_be_made_is_one(model: Path) -> None:
    async with engine(model) as own, own.leased() as near:
        far = LlamaServer(near._runner.http, LlamaCpp())
        weather = Tool(
            "weather", "", {"type": "object", "properties": {"day": {"enum": ["today"]}}, "required": ["day"]}
        )
        must = replace(
            chat("?"), options=replace(STEADY, num_predict=64), tools=(weather,), tool_choice=ToolChoice("required")
        )
        (call,) = (await fold(far.chat(must))).tool_calls
        assert (call.name, call.arguments.replace(" ", "")) == ("weather", '{"day":"today"}')


@awaited
async def test_what_it_refuses_is_told(model: Path) -> None:
    async with engine(model) as own, own.leased() as near:
        far = LlamaServer(near._runner.http, LlamaCpp())
        logged = replace(chat("?"), logprobs=True, tools=(Tool("t"),))
        with pytest.raises(Unsupported):
            await fold(far.chat(logged))
