"""What a model says is split into thoughts, words and calls, the same however it was cut, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import count, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from localmodels.core.chat import Answer, Chunk, Done, Event, Fold, TokenLogprob
from localmodels.dialects.called import calls_in
from localmodels.dialects.tagged import LONGEST_LABEL, TaggedReader, Tags

THINK = ("<think>", "</think>")
HERMES = Tags(THINK, "<tool_call>", "<tool_call>\n", "}\n</tool_call>")
LISTED = Tags(call="[TOOL_CALLS] [", call_end="]</s>")
NAMED = Tags(call="[TOOL_CALLS]", call_end="</s>")
BARE = Tags(THINK)
FENCED = Tags(call="Action: ```json", call_end="]```")
BLOCK = Tags(call="```json", call_start="```json\n", call_end="\n```")
FUNCTION = Tags(call="<function=", call_end="</function>")
DEEP = Tags(
    THINK,
    "<|calls begin|>",
    "<|calls begin|><|call begin|>function<|sep|>",
    "\n```<|call end|><|calls end|><|end of text|>",
)
EVERY = (HERMES, LISTED, NAMED, BARE, FENCED, BLOCK, FUNCTION, DEEP)
TOOLS = ("get_weather", "get", "add")


def read(tags: Tags, *pieces: str, tools: Iterable[str] = TOOLS, reason: str = "stop", **more: object) -> Answer:
    numbers = count()
    reader = TaggedReader(tags, tuple(tools), new_id=lambda: f"c{next(numbers)}", **more)  # type: ignore[arg-type]
    folded = Fold()
    events: list[Event] = [*map(Chunk, pieces), Done(reason)]  # type: ignore[arg-type]
    for event in events:
        for split in reader.read(event):
            folded.add(split)
    return folded.answer()


def told(answer: Answer) -> tuple[str, str, list[tuple[str, object]]]:
    return answer.thinking, answer.text, [(call.name, json.loads(call.arguments)) for call in answer.tool_calls]


def deep(name: str, arguments: str) -> str:
    return f"<|call begin|>function<|sep|>{name}\n```json\n{arguments}\n```<|call end|>\n"


PARIS = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
SUM = '{"name": "add", "arguments": {"a": 1, "b": [2, {"c": "}"}]}}'
WEATHER = ("get_weather", {"city": "Paris"})
ADDED = ("add", {"a": 1, "b": [2, {"c": "}"}]})


@pytest.mark.parametrize(
    ("tags", "text", "expected"),
    [
        # words alone
        (HERMES, "Hello.", ("", "Hello.", [])),
        (HERMES, " \n Hello. \n", ("", " \n Hello. \n", [])),
        (BARE, "Hello {x}", ("", "Hello {x}", [])),
        (HERMES, "", ("", "", [])),
        # thoughts
        (HERMES, "<think>\nHm.\n</think>\n\nYes.", ("Hm.", "Yes.", [])),
        (HERMES, " <think>Hm. <b> a</think> Yes.", ("Hm. <b> a", "Yes.", [])),
        (HERMES, "Yes <think>no</think>", ("", "Yes <think>no</think>", [])),
        (HERMES, "<think>never ends ", ("never ends", "", [])),
        (HERMES, "<think></think>", ("", "", [])),
        (HERMES, "<thin", ("", "<thin", [])),
        (HERMES, "<think>a</thin", ("a</thin", "", [])),
        # calls
        (HERMES, f"<tool_call>\n{PARIS}\n</tool_call>", ("", "", [WEATHER])),
        (HERMES, f"<tool_call>{PARIS}</tool_call>\n<tool_call>{SUM}</tool_call>\n", ("", "", [WEATHER, ADDED])),
        (HERMES, f"<tool_call>{PARIS}\n{SUM}</tool_call>", ("", "", [WEATHER, ADDED])),
        (HERMES, f"<think>a</think>Well.\n<tool_call>{PARIS}</tool_call>", ("a", "Well.", [WEATHER])),
        (HERMES, f"<tool_call>{PARIS}</tool_call>\n\nWait.", ("", "Wait.", [WEATHER])),
        (HERMES, f"<tool_call>{PARIS}}}}}</tool_cal", ("", "", [WEATHER])),
        (LISTED, f"[TOOL_CALLS] [{PARIS}, {SUM}]</s>", ("", "", [WEATHER, ADDED])),
        (LISTED, f"[TOOL_CALLS][{PARIS}]", ("", "", [WEATHER])),
        (NAMED, '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}', ("", "", [WEATHER])),
        (NAMED, '[TOOL_CALLS]add{}[TOOL_CALLS]get{"name": "x"}', ("", "", [("add", {}), ("get", {"name": "x"})])),
        (BARE, f" {PARIS}; {SUM}", ("", "", [WEATHER, ADDED])),
        (BARE, f"[{PARIS},\n{SUM}]", ("", "", [WEATHER, ADDED])),
        (BARE, f"<think>a</think>{PARIS}", ("a", "", [WEATHER])),
        (FENCED, f"Action: ```json\n[{PARIS}]```", ("", "", [WEATHER])),
        (BLOCK, f"Well.\n```json\n{PARIS}\n```\n```json\n{SUM}\n```\nDone.", ("", "Well.Done.", [WEATHER, ADDED])),
        (FUNCTION, '<function=get_weather>{"city": "Paris"}</function>', ("", "", [WEATHER])),
        (FUNCTION, 'get_weather({"city": "Paris"})', None),
        (NAMED, '[TOOL_CALLS]get_weather({"city": "Paris"})', ("", "", [WEATHER])),
        (LISTED, f"[TOOL_CALLS] [{PARIS}, {SUM}, ", ("", "", [WEATHER, ADDED])),
        (BARE, f"[{PARIS}", ("", "", [WEATHER])),
        (
            DEEP,
            "<think>a</think>\n<|calls begin|>"
            + deep("get_weather", '{"city": "Paris"}')
            + deep("get", "{}")
            + "<|calls end|>",
            ("a", "", [WEATHER, ("get", {})]),
        ),
        # what is no call is told in full
        (HERMES, '<tool_call>{"name": "steal", "arguments": {}}</tool_call> ok', None),
        (HERMES, '<tool_call>{"name": "add", "arguments": [1]}</tool_call>', None),
        (HERMES, '<tool_call>{"name": "add", "arguments": {"a": NaN}}', None),
        (HERMES, '<tool_call>{"name": "add", "arguments": {"a": "\\ud800"}}', None),
        (HERMES, '<tool_call>{"name": add}</tool_call>', None),
        (HERMES, '<tool_call>{"name": "add", "argum', None),
        (HERMES, f"Well. <tool_call>[{PARIS}, {{}}]</tool_call>", None),
        (HERMES, "Write <tool_call> before a call. " + "word " * LONGEST_LABEL, None),
        (HERMES, f"<tool_call>{'x' * LONGEST_LABEL}{PARIS}", None),
        (HERMES, f"<tool_call>[{' ' * LONGEST_LABEL}{PARIS}]", None),
        (HERMES, "a <tool_", None),
        (NAMED, '[TOOL_CALLS]forget{"city": "Paris"}', None),
        (BARE, '{"answer": 42} and more', None),
        (BARE, f"[1] {PARIS}", None),
        (BARE, f"Call {PARIS}", None),
        (BARE, '{"name": "add", "argum', None),
        (BARE, f'[{PARIS}, {{"name": "add", "argum', None),
        (BARE, f'[{PARIS}, {{"name": "steal"}}', None),
        (BARE, '{"function":' * 99 + '{"name": "add"}' + "}" * 99, None),
        (BARE, '{"a":' * 9000 + "1" + "}" * 9000, None),
        (BARE, '{"name": "add", "arguments": "' + "[" * 9000 + '"}', None),
    ],
)
def test_a_text_is_split(tags: Tags, text: str, expected: tuple[str, str, list[object]] | None) -> None:
    assert told(read(tags, text)) == (expected or ("", text, []))
    assert told(read(tags, *text)) == (expected or ("", text, []))


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ('{"name": "add", "parameters": {"a": 1}}', {"a": 1}),
        ('{"tool_name": "add", "parameters": {"a": 1}}', {"a": 1}),
        ('{"name": "add", "arguments": "{\\"a\\": 1}"}', {"a": 1}),
        ('{"name": "add", "arguments": ""}', {}),
        ('{"name": "add", "arguments": null}', {}),
        ('{"name": "add"}', {}),
        ('{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}', {"a": 1}),
        ('{"function": "add", "arguments": {"a": 1}}', {"a": 1}),
        ('{"tool_calls": [{"name": "add", "arguments": {"a": 1}}]}', {"a": 1}),
        ('{"add": {"a": 1}}', {"a": 1}),
        ('{"name": "add", "arguments": {"a": "two\nlines"}}', {"a": "two\nlines"}),
        ('{"name": "add", "arguments": {"a": "Ж"}}', {"a": "Ж"}),
    ],
)
def test_a_call_is_written_in_many_ways(written: str, arguments: object) -> None:
    [call] = calls_in(written, "", TOOLS)
    assert (call.name, json.loads(call.arguments)) == ("add", arguments)


def test_without_tools_everything_is_said() -> None:
    assert told(read(HERMES, f"<tool_call>{PARIS}</tool_call>", tools=())) == (
        "",
        f"<tool_call>{PARIS}</tool_call>",
        [],
    )


def test_an_answer_that_begins_in_a_thought() -> None:
    assert told(read(HERMES, "\nHm.\n</think>\nYes.", inside=True)) == ("Hm.", "Yes.", [])
    assert told(read(Tags(), "Hm.</think>Yes.", inside=True)) == ("", "Hm.</think>Yes.", [])


def test_an_answer_with_calls_ends_for_their_sake() -> None:
    call = f"<tool_call>{PARIS}</tool_call>"
    assert read(HERMES, call).done.reason == "tool_calls"
    assert read(HERMES, call, reason="length").done.reason == "length"
    assert read(HERMES, "Hello.").done.reason == "stop"
    assert [one.id for one in read(HERMES, call * 2).tool_calls] == ["c0", "c1"]


def test_no_more_calls_than_may_be_made() -> None:
    call = f"<tool_call>{PARIS}</tool_call>"
    assert told(read(HERMES, call, call, f"{call}Done.", most=1)) == ("", "Done.", [WEATHER])


def test_log_probabilities_are_handed_on_at_once() -> None:
    reader = TaggedReader(HERMES, TOOLS)
    token = TokenLogprob("<tool_", -0.5)
    assert reader.read(Chunk("<tool_", logprobs=(token,))) == [Chunk(logprobs=(token,))]
    assert reader.read(Chunk("x")) == [Chunk("<tool_x")]


def test_what_is_certain_is_told_at_once() -> None:
    reader = TaggedReader(HERMES, TOOLS)
    said = ("<thi", "nk>One ", "two</think", ">\nThree < ", " four")
    heard = [(reader.read(Chunk(text)), reader.is_thinking) for text in said]
    assert heard == [
        ([], True),
        ([Chunk(thinking="One")], True),
        ([Chunk(thinking=" two")], True),
        ([Chunk("Three <")], False),
        ([Chunk("  four")], False),
    ]


MARKUP = (
    "<think> </think> <tool_call> </tool_call> [TOOL_CALLS] [ARGS] <function= </function> ``` </s> <tool _call> [ ] { }"
)
PIECES = st.sampled_from(
    [
        *MARKUP.split(), "```json", "<|calls begin|>", "<|call begin|>", "<|sep|>", "<|call end|>", "Action: ```json",
        PARIS, SUM, '{"a": 1}', '"name"', "get_weather", "word", "é", "x" * (LONGEST_LABEL - 3), *' \n,;)<>"\\',
    ]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=8).map("".join)


@given(tags=st.sampled_from(EVERY), text=TEXTS, cuts=st.lists(st.integers(0, 400), max_size=12), inside=st.booleans())
@example(HERMES, f"<tool_call>[{' ' * (LONGEST_LABEL - 2)}{{", [12], False)
@example(FENCED, f"Action: ```json {PARIS}```json", [len(PARIS) + 19], False)
def test_any_cut_gives_the_same(tags: Tags, text: str, cuts: list[int], inside: bool) -> None:
    whole = read(tags, text, inside=inside)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in pairwise(places)]
    assert read(tags, *pieces, inside=inside) == whole
    assert read(tags, *text, inside=inside) == whole


@given(tags=st.sampled_from(EVERY), text=TEXTS.filter(lambda text: "<think>" not in text))
def test_without_thoughts_and_calls_every_character_is_said(tags: Tags, text: str) -> None:
    answer = read(tags, text)
    assert answer.tool_calls or answer.text == text


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.integers(-9, 9) | st.booleans(), max_size=4))
def test_any_arguments_arrive(arguments: dict[str, object]) -> None:
    written = json.dumps({"name": "add", "arguments": arguments}, ensure_ascii=False)
    for text in (f"<tool_call>{written}</tool_call>", f"<tool_call>\n {written}"):
        [call] = read(HERMES, text).tool_calls
        assert json.loads(call.arguments) == arguments
