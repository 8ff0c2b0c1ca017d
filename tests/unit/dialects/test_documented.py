"""Every field that a request may hold is told in ``docs/dialects.md``, in the part of its dialect."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import Struct

from localmodels.dialects import gateway, rerank
from localmodels.dialects.anthropic import wire as anthropic
from localmodels.dialects.ollama import wire as ollama
from localmodels.dialects.openai import wire as openai
from localmodels.dialects.responses import wire as responses

PAGE = (Path(__file__).parents[3] / "docs" / "dialects.md").read_text(encoding="utf-8")


def part(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("shape", [ollama.Chat, ollama.Generate, ollama.Embed, ollama.LegacyEmbed, ollama.Message])
def test_ollama_fields(shape: type[Struct]) -> None:
    assert [name for name in shape.__struct_fields__ if f"`{name}`" not in part("Ollama")] == []


@pytest.mark.parametrize("shape", [openai.Chat, openai.Complete, openai.Embed, openai.Message])
def test_openai_fields(shape: type[Struct]) -> None:
    assert [name for name in shape.__struct_fields__ if f"`{name}`" not in part("OpenAI")] == []


ANTHROPIC = [anthropic.Request, anthropic.Message, anthropic.Block, anthropic.Tool, anthropic.Thinking]


@pytest.mark.parametrize("shape", [*ANTHROPIC, anthropic.OutputConfig])
def test_anthropic_fields(shape: type[Struct]) -> None:
    assert [name for name in shape.__struct_fields__ if f"`{name}`" not in part("Anthropic")] == []


@pytest.mark.parametrize("shape", [responses.Asked, responses.Item])
def test_responses_fields(shape: type[Struct]) -> None:
    assert [name for name in shape.__struct_fields__ if f"`{name}`" not in part("Responses")] == []


@pytest.mark.parametrize(("title", "shape"), [("Gateway", gateway.Ask), ("Rerank", rerank.Rerank)])
def test_our_own_fields(title: str, shape: type[Struct]) -> None:
    assert [name for name in shape.__struct_fields__ if f"`{name}`" not in part(title)] == []
