"""The chat template, and the conversations it renders.

The Jinja text in ``chat_template.jinja`` is the single source: training renders its documents with it, the exporter
embeds it in the GGUF, and llama.cpp renders it again when the model is served. So what was trained is what is asked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jinja2

SOURCE = (Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8").rstrip("\n")

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
CONTROL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)
"""Never shown to the user: llama.cpp drops them from the text of an answer."""
MARKUP_TOKENS = ("<tools>", "</tools>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
"""One token each, but text all the same: the server parses tool calls out of the answer's text."""

Message: TypeAlias = dict[str, Any]


def _tojson(value: object, **_: object) -> str:
    return json.dumps(value, ensure_ascii=False)


_environment = jinja2.Environment(  # noqa: S701 (chat text, not HTML)
    trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
)
_environment.filters["tojson"] = _tojson
_template = _environment.from_string(SOURCE)


def render(
    messages: Sequence[Message], tools: Sequence[dict[str, Any]] = (), add_generation_prompt: bool = False
) -> str:
    """Renders a conversation exactly as the served model will see it."""
    return _template.render(messages=messages, tools=list(tools) or None, add_generation_prompt=add_generation_prompt)


def segments(messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> list[tuple[str, bool]]:
    """Splits a rendered conversation into (text, is the assistant's own) pieces, for the loss mask.

    The end-of-turn mark belongs to the assistant: ending its turn is what it must learn above all.
    """
    rest = render(messages, tools)
    opening = f"{TURN_START}assistant\n"
    pieces: list[tuple[str, bool]] = []
    while opening in rest:
        before, rest = rest.split(opening, 1)
        answer, rest = rest.split(TURN_END, 1)
        pieces.append((before + opening, False))
        pieces.append((answer + TURN_END, True))
    if rest.strip():
        pieces.append((rest, False))
    return pieces
