"""A coding agent's loop in Anthropic's API, as Claude Code holds it: tools, results, one of them an error, and an end.

The model that is built in calls a tool when it must (``tool_choice``), so that the loop is the same each time. What is
judged is the server: every turn is understood, nothing of the history is lost, and calls fit their schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from tests.acceptance.serving import Served

BILLING = "x-anthropic-billing-header: cc_version=2.1.101.e51; cc_entrypoint=cli; cch={:05x};"
LIST = {
    "name": "list_files",
    "description": "Lists the files in a directory",
    "input_schema": {
        "type": "object",
        "properties": {"path": {"type": "string", "maxLength": 20}},
        "required": ["path"],
        "additionalProperties": False,
    },
    "cache_control": {"type": "ephemeral"},
}
READ = {
    "name": "read_file",
    "description": "Reads a file",
    "input_schema": {
        "type": "object",
        "properties": {
            "path": {"type": "string", "maxLength": 20},
            "lines": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["path", "lines"],
        "additionalProperties": False,
    },
}
TOOLS = [LIST, READ, {"type": "web_search_20250305", "name": "web_search"}]
QUESTION = "Which files are there, and what is in the first one?"
# What must be called in each turn, and what comes of it; the last turn calls nothing.
TURNS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"type": "tool", "name": "list_files"}, {"content": "notes.txt\nplan.md"}),
    ({"type": "tool", "name": "read_file"}, {"content": "notes.md: no such file", "is_error": True}),
    ({"type": "any"}, {"content": [{"type": "text", "text": "Buy milk."}]}),
]


class Agent:
    """A conversation that goes on until nothing is called any more."""

    def __init__(self, client: anthropic.Anthropic, *, streams: bool) -> None:
        self._client = client
        self._streams = streams
        self._asked = 0
        self.messages: list[Any] = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
        self.prompts: list[int] = []

    def ask(self, choice: dict[str, Any]) -> Any:
        """One turn of the model."""
        self._asked += 1
        asked: dict[str, Any] = {
            "model": "localmodels",
            "max_tokens": 200,
            "system": [
                {"type": "text", "text": BILLING.format(self._asked)},
                {"type": "text", "text": "You help with files.", "cache_control": {"type": "ephemeral"}},
            ],
            "messages": self.messages,
            "tools": TOOLS,
            "tool_choice": {**choice, "disable_parallel_tool_use": True} if choice["type"] != "none" else choice,
            "thinking": {"type": "adaptive"},
            "metadata": {"user_id": "user_1"},
            "extra_body": {"temperature": 0, "context_management": {"edits": []}},
        }
        message: Any
        if self._streams:
            with self._client.messages.stream(**asked) as stream:
                message = stream.get_final_message()
        else:
            message = self._client.messages.create(**asked)
        self.prompts.append(message.usage.input_tokens + message.usage.cache_read_input_tokens)
        self.messages.append({"role": "assistant", "content": message.content})
        return message

    def answer(self, call: Any, result: dict[str, Any]) -> None:
        """The result of a call, and what Claude Code says besides."""
        told = {"type": "tool_result", "tool_use_id": call.id, **result}
        reminder = {"type": "text", "text": "<system-reminder>Be brief.</system-reminder>"}
        self.messages.append({"role": "user", "content": [told, reminder]})


@pytest.fixture
def client(served: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=served.url, api_key="any", max_retries=0, timeout=60) as made:
        yield made


def loop(agent: Agent) -> tuple[list[Any], Any]:
    """All calls, and the last message."""
    calls = []
    for choice, result in TURNS:
        message = agent.ask(choice)
        assert message.stop_reason == "tool_use"
        (call,) = [block for block in message.content if block.type == "tool_use"]
        calls.append(call)
        agent.answer(call, result)
    return calls, agent.ask({"type": "none"})


@pytest.mark.parametrize("streams", [True, False], ids=["streamed", "whole"])
def test_a_loop_of_calls_comes_to_an_end(client: anthropic.Anthropic, streams: bool) -> None:
    agent = Agent(client, streams=streams)
    calls, last = loop(agent)
    assert [call.name for call in calls[:2]] == ["list_files", "read_file"]
    assert calls[2].name in {"list_files", "read_file"}
    assert len({call.id for call in calls}) == 3
    for call in calls:
        assert isinstance(call.input["path"], str)
        assert set(call.input) == ({"path"} if call.name == "list_files" else {"path", "lines"})
    assert 1 <= calls[1].input["lines"] <= 9
    assert last.stop_reason in {"end_turn", "max_tokens"}
    assert [block.type for block in last.content] == ["text"]
    assert agent.prompts == sorted(set(agent.prompts)), "each turn reads all that came before it"


def test_the_loop_is_the_same_streamed_and_whole(client: anthropic.Anthropic) -> None:
    def told(streams: bool) -> tuple[list[Any], str, list[int]]:
        agent = Agent(client, streams=streams)
        calls, last = loop(agent)
        return [(call.name, call.input) for call in calls], last.content[0].text, agent.prompts

    assert told(True) == told(False)


def test_a_failed_tool_is_told_to_the_model(client: anthropic.Anthropic) -> None:
    def tokens(result: dict[str, Any]) -> int:
        call = {"type": "tool_use", "id": "toolu_1", "name": "list_files", "input": {"path": "."}}
        told = {"type": "tool_result", "tool_use_id": "toolu_1", **result}
        messages: Any = [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [told]},
        ]
        tools: Any = [LIST]
        counted = client.messages.count_tokens(model="localmodels", messages=messages, tools=tools)
        return counted.input_tokens

    assert tokens({"content": "gone", "is_error": True}) == tokens({"content": "Error: gone"})
    assert tokens({"content": "gone", "is_error": True}) > tokens({"content": "gone"})


def test_the_history_goes_back_as_it_came(client: anthropic.Anthropic) -> None:
    """An agent keeps the conversation as JSON and sends it again later: nothing in it may be in the way."""
    agent = Agent(client, streams=True)
    loop(agent)
    kept = json.loads(
        json.dumps(agent.messages, default=lambda block: block.to_dict())  # the SDK's blocks, as it writes them
    )
    again = Agent(client, streams=False)
    again.messages = [*kept, {"role": "user", "content": "Thank you."}]
    assert again.ask({"type": "none"}).content
    assert again.prompts[0] > agent.prompts[-1]
