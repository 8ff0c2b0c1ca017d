"""The ``litellm`` package as a judge: ``litellm_judge.py`` in an environment of its own (``make test`` makes it)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.acceptance.serving import Served, verdicts_of

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("LITELLM_PYTHON", ROOT / ".venv-litellm" / "bin" / "python"))
NAMES = [
    f"{provider}: {check}"
    for provider, checks in {
        "ollama": "whole stream schema embed unknown",
        "ollama_chat": "whole end stream tools schema unknown",
        "openai": "whole several end stream tools schema embed unknown out_of_range "
        "response response_goes_on response_calls unknown_response",
        "anthropic": "whole end stream tools schema unknown out_of_range message",
        "cohere": "rank",
        "jina_ai": "rank",
        "hosted_vllm": "rank",
        "huggingface": "rank",
    }.items()
    for check in checks.split()
]


@pytest.fixture(scope="module")
def verdicts(served: Served) -> dict[str, str]:
    if not PYTHON.exists():
        pytest.skip(f"LiteLLM's environment is not here ({PYTHON}); `make test` makes it")
    return verdicts_of([str(PYTHON), "-I", str(Path(__file__).with_name("litellm_judge.py")), served.url])


@pytest.mark.parametrize("name", NAMES)
def test_litellm(name: str, verdicts: dict[str, str]) -> None:
    assert verdicts[name] == ""


def test_every_check_of_the_judge_is_named_here(verdicts: dict[str, str]) -> None:
    assert sorted(verdicts) == sorted(NAMES)
