"""Marks of prompts."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from localmodels.core.chat import ChatRequest, GenerateRequest, Image, Lora, Message, Text, Tool, ToolCall
from localmodels.fleet.affinity import Prefix
from localmodels.fleet.prefix import FIRST, LAST, marks_of, marks_of_fields

LONG = "".join(f"line {number} of the long text. " for number in range(800))


def chat(*texts: str) -> ChatRequest:
    """A conversation: who speaks alternates, after a system prompt."""
    roles = ("system", *("user", "assistant") * len(texts))
    return ChatRequest("m", tuple(Message(role, (Text(text),)) for role, text in zip(roles, texts, strict=False)))  # type: ignore[arg-type]


def fields(request: ChatRequest, **more: object) -> dict[str, msgspec.Raw]:
    """The same as it comes over the wire."""
    messages = [{"role": message.role, "content": message.text} for message in request.messages]
    body = {"model": "m", "messages": messages, **more}
    return msgspec.json.decode(msgspec.json.encode(body), type=dict[str, msgspec.Raw])


def alike(one: Prefix, other: Prefix) -> int:
    """Tokens of the beginning that both have."""
    known = set(one)
    return max((mark[1] for mark in other if mark in known), default=0)


def test_the_same_prompt_has_the_same_marks_and_the_last_tells_its_tokens() -> None:
    marks = marks_of(chat("You are kind.", LONG), "m")
    assert marks == marks_of(chat("You are kind.", LONG), "m")
    assert marks[-1][1] == pytest.approx(len("You are kind." + LONG) / 4, abs=2)


def test_one_more_turn_has_all_marks_of_the_turns_before_it() -> None:
    before = marks_of(chat("sys", LONG, "yes", "and?"), "m")
    after = marks_of(chat("sys", LONG, "yes", "and?", "no", "why?"), "m")
    assert after[: len(before)] == before
    assert len(after) > len(before)


def test_tokens_only_grow() -> None:
    tokens = [count for _, count in marks_of(chat("sys", LONG, "a", LONG, "b"), "m")]
    assert tokens == sorted(tokens)
    assert tokens[0] > 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(LONG) - 1))
def test_prompts_that_differ_have_alike_what_is_before_the_difference_to_an_eighth(at: int) -> None:
    other = LONG[:at] + "#" + LONG[at + 1 :]
    tokens = alike(marks_of(chat("s", LONG), "m"), marks_of(chat("s", other), "m"))
    assert tokens * 4 <= at + 4
    assert tokens * 4 >= at - max(512, at / 8) - 8


@pytest.mark.parametrize(
    "other",
    [
        lambda request: replace(request, lora=(Lora("a", 0.5),)),
        lambda request: replace(request, tools=(Tool("look"),)),
        lambda request: replace(request, messages=(Message("user", (Text("sys"),)), *request.messages[1:])),
    ],
    ids=["lora", "tools", "role"],
)
def test_what_changes_the_prompt_from_its_beginning_changes_all_marks(other: object) -> None:
    request = chat("sys", LONG)
    assert alike(marks_of(request, "m"), marks_of(other(request), "m")) == 0  # type: ignore[operator]


def test_another_model_has_other_marks() -> None:
    assert alike(marks_of(chat("sys", LONG), "m"), marks_of(chat("sys", LONG), "n")) == 0


def test_options_and_the_like_change_nothing() -> None:
    assert marks_of(replace(chat("sys"), stream=False, think=True), "m") == marks_of(chat("sys"), "m")


def test_calls_of_tools_and_pictures_count() -> None:
    def asked(message: Message) -> Prefix:
        return marks_of(ChatRequest("m", (Message("user", (Text("see"),)), message)), "m")

    one, other = Image(b"1" * 1000 + b"a" + b"1" * 1000), Image(b"1" * 999 + b"b")
    assert asked(Message("user", (one,))) != asked(Message("user", (other,)))
    assert asked(Message("user", (one,)))[-1][1] > 500
    calls = [Message("assistant", tool_calls=(ToolCall("1", "f", text),)) for text in ("{}", '{"a":1}')]
    assert asked(calls[0]) != asked(calls[1])


def test_a_conversation_of_many_turns_keeps_its_first_and_its_last_marks() -> None:
    turns = [f"turn {number}" for number in range(500)]
    before, after = marks_of(chat(*turns[:-2]), "m"), marks_of(chat(*turns), "m")
    assert len(after) == FIRST + LAST
    assert before[-1] in after
    assert before[:FIRST] == after[:FIRST]


def test_a_text_that_grows_has_the_marks_of_its_beginning() -> None:
    short, whole = GenerateRequest("m", prompt=LONG[:9000]), GenerateRequest("m", prompt=LONG)
    assert 8000 < alike(marks_of(short, "m"), marks_of(whole, "m")) * 4 <= 9000


def test_ids_of_tokens_are_counted_one_by_one() -> None:
    marks = marks_of(GenerateRequest("m", prompt=tuple(range(2000)), raw=True), "m")
    assert marks[-1][1] == 2000
    assert marks[0][1] == 512


def test_what_passes_as_it_came_has_marks_of_its_own_that_go_on_alike() -> None:
    before = marks_of_fields(fields(chat("sys", LONG), temperature=1), "m")
    after = marks_of_fields(fields(chat("sys", LONG, "yes", "why?"), temperature=0), "m")
    assert after[: len(before)] == before
    assert marks_of_fields(fields(chat("sys", LONG), system="other"), "m")[0] != before[0]


@pytest.mark.parametrize("prompt", [LONG, [1, 2, 3] * 1000, [LONG, "b"], [], "", None, 7, {"a": 1}])
def test_a_prompt_of_any_form_has_marks(prompt: object) -> None:
    raw = {"prompt": msgspec.Raw(msgspec.json.encode(prompt))}
    marks = marks_of_fields(raw, "m")
    assert marks == marks_of_fields(raw, "m")
    assert 1 <= len(marks) <= FIRST + LAST


def test_what_has_no_prompt_has_no_marks() -> None:
    assert marks_of_fields({"query": msgspec.Raw(b'"x"')}, "m") == ()


def test_a_prompt_that_is_no_json_is_one_piece() -> None:
    assert len(marks_of_fields({"messages": msgspec.Raw(b"[{broken")}, "m")) == 1


def test_a_picture_that_passes_as_it_came_counts_as_a_picture() -> None:
    picture = "data:image/png;base64," + "A" * 2_000_000
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": picture}}]}
    raw = {"messages": msgspec.Raw(msgspec.json.encode([message]))}
    assert 500 < marks_of_fields(raw, "m")[-1][1] < 1000
