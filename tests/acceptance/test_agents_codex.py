"""A coding agent in the manner of Codex against the built-in model: it asks, runs what is called, and asks again.

It believes what Codex believes: items when they are whole (``response.output_item.done``), the end only with
``response.completed``. Which tool is called is forced, since the model is small; what it is called with is the model's.
"""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from tests.acceptance.serving import PATIENCE, Served
from tests.unit.dialects import responses_order as order

HEADERS = {"session-id": "s-1", "thread-id": "t-1", "originator": "codex_cli_rs", "authorization": "Bearer dummy"}
INSTRUCTIONS = "You are a coding agent. You work in a repository with the tools that you have."
SHELL = {
    "type": "function",
    "name": "shell",
    "description": "Runs a command and returns its output",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {"command": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 3}},
        "required": ["command"],
        "additionalProperties": False,
    },
}
GRAMMAR = 'start: begin hunk+ end\nbegin: "*** Begin Patch" LF\nend: "*** End Patch" LF?\nhunk: /.+/ LF\nLF: "\\n"'
PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files. This is a FREEFORM tool, so do not wrap the patch in JSON.",
    "format": {"type": "grammar", "syntax": "lark", "definition": GRAMMAR},
}
READ = {
    "type": "function",
    "name": "read",
    "description": "Reads a file",
    "parameters": {"type": "object", "properties": {"lines": {"type": "integer"}}, "required": ["lines"]},
}
FILES = {"type": "namespace", "name": "files", "description": "Files", "tools": [READ]}
TOOLS = [SHELL, PATCH, FILES, {"type": "web_search"}, {"type": "local_shell"}]
# What is called, turn by turn; at last the model speaks.
CALLS: list[tuple[Any, str]] = [
    ({"type": "function", "name": "shell"}, "main.py  README.md"),
    ({"type": "custom", "name": "apply_patch"}, "Success. Updated the following files:\nM main.py"),
    ({"type": "function", "name": "read", "namespace": "files"}, "print('hello')"),
]


class Agent:
    """One conversation. ``resends`` all items each time, or goes on from the response before."""

    def __init__(self, served: Served, *, streams: bool, resends: bool) -> None:
        self._url = f"{served.url}/v1/responses"
        self._streams = streams
        self._resends = resends
        self._items: list[Any] = []
        self._previous: str | None = None
        self.prompts: list[int] = []
        self.headers: Any = {}

    def ask(self, items: list[Any], choice: Any, **fields: Any) -> list[dict[str, Any]]:
        """What the model says to these items, after all that came before."""
        self._items = [*self._items, *items] if self._resends else items
        body = {
            "model": "localmodels",
            "instructions": INSTRUCTIONS,
            "input": self._items,
            "tools": TOOLS,
            "tool_choice": choice,
            "parallel_tool_calls": False,
            "reasoning": {"effort": "medium", "summary": "auto"},
            "store": not self._resends,
            "stream": self._streams,
            "include": ["reasoning.encrypted_content"],
            "prompt_cache_key": "t-1",
            "text": {"verbosity": "low"},
            "client_metadata": {"x-codex-installation-id": "i-1"},
            "service_tier": "auto",
            "temperature": 0,
            "max_output_tokens": 400,
            **({} if self._resends else {"previous_response_id": self._previous}),
            **fields,
        }
        answer = httpx2.post(self._url, json=body, headers=HEADERS, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        self.headers = answer.headers
        output, last = self._streamed(answer.content) if self._streams else self._whole(answer.json())
        self._previous = last["id"]
        self.prompts.append(last["usage"]["input_tokens"])
        self._items = [*self._items, *output]
        return output

    @staticmethod
    def _streamed(data: bytes) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        events = order.parsed(data)
        order.check(events)
        assert events[-1]["type"] == "response.completed"
        items = [event["item"] for event in events if event["type"] == "response.output_item.done"]
        return items, events[-1]["response"]

    @staticmethod
    def _whole(response: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        assert response["status"] == "completed"
        return response["output"], response


def answered(call: dict[str, Any], output: str) -> dict[str, Any]:
    """The output of a call, in the form that belongs to it; Codex ends the run if it is the other one."""
    return {"type": f"{call['type']}_output", "call_id": call["call_id"], "output": output}


@pytest.mark.parametrize("streams", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("resends", [True, False], ids=["resent items", "previous_response_id"])
def test_a_loop_of_three_calls_and_an_answer(served: Served, streams: bool, resends: bool) -> None:
    agent = Agent(served, streams=streams, resends=resends)
    said: list[Any] = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix main.py."}]}]
    called = []
    for choice, output in CALLS:
        (call,) = [item for item in agent.ask(said, choice) if "call_id" in item]
        called.append(call)
        said = [answered(call, output)]
    (message,) = agent.ask(said, "none")
    shell, patch, read = called
    assert (shell["type"], shell["name"]) == ("function_call", "shell")
    assert isinstance(json.loads(shell["arguments"])["command"], list)
    assert (patch["type"], patch["name"]) == ("custom_tool_call", "apply_patch")
    assert isinstance(patch["input"], str)
    assert not patch["input"].startswith('{"input"'), "the bare text, not the JSON around it"
    assert (read["type"], read["name"], read["namespace"]) == ("function_call", "read", "files")
    assert isinstance(json.loads(read["arguments"])["lines"], int)
    assert len({call["call_id"] for call in called}) == 3
    assert (message["type"], message["status"]) == ("message", "completed")
    assert message["content"][0]["text"]
    # A call that must be made is asked for with its own tool alone, so prompts do not simply grow.
    assert agent.prompts[-1] == max(agent.prompts), "the last turn reads all that came before"
    assert agent.headers["x-localmodels-ignored-tools"] == "web_search, local_shell"


def test_newer_models_have_all_tools_in_an_item(served: Served) -> None:
    run = {"type": "custom", "name": "exec", "description": "Runs JavaScript", "format": PATCH["format"]}
    offer = {"type": "additional_tools", "role": "developer", "tools": [{**FILES, "name": "functions", "tools": [run]}]}
    agent = Agent(served, streams=True, resends=True)
    choice = {"type": "custom", "name": "exec", "namespace": "functions"}
    (call,) = agent.ask([offer, {"role": "user", "content": "List the files."}], choice, tools=[])
    assert (call["type"], call["name"], call["namespace"]) == ("custom_tool_call", "exec", "functions")
    (message,) = agent.ask([answered(call, "main.py")], "none", tools=[])
    assert message["content"][0]["text"]


def test_both_ways_of_going_on_ask_the_same(served: Served) -> None:
    def prompts(*, resends: bool) -> list[int]:
        agent = Agent(served, streams=True, resends=resends)
        (call,) = agent.ask([{"role": "user", "content": "List the files."}], CALLS[0][0])
        agent.ask([answered(call, CALLS[0][1])], "none")
        return agent.prompts

    assert prompts(resends=True) == prompts(resends=False)


def test_a_model_that_cannot_think_is_asked_all_the_same(served: Served) -> None:
    agent = Agent(served, streams=True, resends=True)
    assert agent.ask([{"role": "user", "content": "Hello!"}], "none")[-1]["type"] == "message"
