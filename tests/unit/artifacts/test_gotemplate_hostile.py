"""Templates of somebody who means harm: each ends with a typed error, after a bounded amount of work.

The rule of these tests: what a template costs is counted, not timed. A count is what the limits promise, and it is the
same on every machine; the one test with a clock is generous and says so.
"""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable

import pytest

from localmodels.artifacts.chat_template import read_chat_template, render_chat
from localmodels.artifacts.gotemplate import NAMES, Limits, Program, parse
from localmodels.core.chat import Message, Role, Text, Tool, ToolCall
from localmodels.core.errors import InvalidRequest, ModelDamaged

TODAY = datetime.date(2026, 1, 2)
SECONDS = 2.0  # many times what they take here (0.25), since tests run beside others

ROLES: tuple[Role, Role] = ("user", "assistant")
MESSAGES = (
    Message("system", (Text("You are kind."),)),
    *(Message(ROLES[i % 2], (Text("word é " * 50),), thinking="hm") for i in range(18)),
    Message("assistant", (), tool_calls=(ToolCall("c", "f", '{"a": [1, {"b": "<"}]}'),)),
)
TOOLS = (Tool("f", "does", {"type": "object", "properties": {"a": {"type": "string"}}}),)

M = "{{ range .Messages }}"  # makes a template one that goes through the messages

UNREADABLE = {
    "an action that is not closed": "{{ .System ",
    "a comment that is not closed": "{{/* for ever",
    "a text that is not closed": '{{ "for ever }}',
    "a raw text that is not closed": "{{ `for ever }}",
    "a character that is not closed": "{{ 'x }}",
    "a block that is not closed": "{{ if .System }}x",
    "a bracket that is not closed": "{{ (len .Messages }}",
    "a bracket that was not opened": "{{ len .Messages) }}",
    "an end of nothing": "{{ end }}",
    "an else of nothing": "{{ else }}",
    "two elses": "{{ if .System }}{{ else }}{{ else }}{{ end }}",
    "a break outside of loops": "{{ break }}",
    "an empty action": "{{ }}",
    "an unknown function": "{{ system `id` }}",
    "Python's names as functions": "{{ __import__ `os` }}",
    "an evaluation": "{{ eval `1+1` }}",
    "an environment": "{{ env `HOME` }}",
    "a file": "{{ readFile `/etc/passwd` }}",
    "a variable of nobody": "{{ $secret }}",
    "an assignment to nobody": "{{ $secret = 1 }}",
    "a complex number": "{{ 1i }}",
    "a complex sum": "{{ 1+2i }}",
    "a number too large": "{{ 99999999999999999999999 }}",
    "a float too large": "{{ 1e999999999 }}",
    "digits without end": "{{ " + "9" * 100_000 + " }}",
    "a foreign sign": "{{ \x00 }}",
    "a broken escape": r'{{ "\xzz" }}',
    "half of a surrogate pair": r'{{ "\ud800" }}',
    "a definition in a block": '{{ if .System }}{{ define "x" }}{{ end }}{{ end }}',
    "a definition twice": '{{ define "x" }}a{{ end }}{{ define "x" }}b{{ end }}{{ .Prompt }}',
    "a call without a value": '{{ define "x" }}{{ end }}{{ template "x" }}',
    "brackets 100,000 deep": "{{ " + "(" * 100_000 + "1" + ")" * 100_000 + " }}",
    "brackets 60 deep": "{{ " + "(" * 60 + "1" + ")" * 60 + " }}",
    "blocks 10,000 deep": "{{if 1}}" * 10_000 + "{{end}}" * 10_000,
    "loops 60 deep": "{{range .Messages}}" * 60 + "{{end}}" * 60,
    "blocks in blocks": '{{block "a" .}}' * 60 + "{{end}}" * 60,
    "a million actions": "{{.}}" * 52_000,
    "tokens without end": "{{ print " + "1 " * 30_000 + "}}",
    "a megabyte of text": "x" * 2**20,
    "a megabyte of comments": "{{/* x */}}" * 100_000,
    "spaces without end": "{{" + " " * 2**20,
    "trim markers without end": "{{- 1 -}} " * 20_000,
    "pipes without end": "{{ 1 " + "| print " * 20_000 + "}}",
}

DOUBLE = '{{ $x := "0123456789abcdef" }}'
GROW = "{{ $x = print $x $x }}"
BIG = DOUBLE + GROW * 15
WIDE = "{{ $x := `é` }}" + GROW * 14
OFTEN = "{{ range 1000000 }}"
END = "{{ end }}"


def calls(name: str, *others: str) -> str:
    """A template that calls others."""
    body = "".join(f'{{{{ template "{other}" . }}}}' for other in others)
    return f'{{{{ define "{name}" }}}}{body}{END}'


COSTLY = {
    "a loop over a number": "{{ range 9223372036854775807 }}{{ end }}",
    "a loop that prints": "{{ range 100000000 }}x{{ end }}",
    "a loop that only goes on": "{{ range 100000000 }}{{ continue }}{{ end }}",
    "loops in loops": "{{ range .Messages }}" + "{{ range $.Messages }}" * 8 + "x" + "{{ end }}" * 9,
    "loops in loops, silent": "{{ range .Messages }}" + "{{ range $.Messages }}" * 30 + "{{ end }}" * 31,
    "loops of numbers": M + "{{ range 1000 }}{{ range 1000 }}{{ range 1000 }}{{ end }}{{ end }}{{ end }}{{ end }}",
    "a text that doubles": DOUBLE + GROW * 64,
    "a text that doubles in a loop": DOUBLE + "{{ range 100 }}" + GROW + "{{ end }}",
    "a text that doubles by printf": DOUBLE + '{{ range 100 }}{{ $x = printf "%s%s" $x $x }}{{ end }}',
    "a text that doubles by escapes": DOUBLE + "{{ range 100 }}{{ $x = js $x $x }}{{ end }}",
    "a text that grows by HTML": "{{ $x := `<` }}{{ range 99 }}{{ $x = html $x $x }}{{ end }}",
    "a text that grows by JSON": "{{ $x := `\"<>` }}{{ range 99 }}{{ $x = json $x }}{{ end }}",
    "a text that grows by URLs": "{{ $x := ` é` }}{{ range 99 }}{{ $x = urlquery $x $x }}{{ end }}",
    "a text that grows by quotes": '{{ $x := "é\\n" }}{{ range 99 }}{{ $x = printf "%+q" $x }}{{ end }}',
    "a text that grows in hex": '{{ $x := "x" }}{{ range 99 }}{{ $x = printf "%x" $x }}{{ end }}',
    "a large text printed often": DOUBLE + GROW * 14 + "{{ range 100 }}{{ $x }}{{ end }}",
    "a large text compared often": BIG + "{{ $y := print $x `` }}" + OFTEN + "{{ if eq $x $y }}{{ end }}" + END,
    "a large text ordered often": BIG + "{{ $y := print $x `` }}" + OFTEN + "{{ if lt $x $y }}{{ end }}" + END,
    "a large text measured often": WIDE + OFTEN + "{{ if len $x }}{{ end }}" + END,
    "a large text cut often": BIG + OFTEN + "{{ $y := slice $x 1 }}" + END,
    "a large text looked into often": BIG + OFTEN + "{{ $y := index $x 1 }}" + END,
    "a large text escaped often": BIG + OFTEN + "{{ $y := html $x }}" + END,
    "a large text quoted often": WIDE + OFTEN + "{{ $y := js $x }}" + END,
    "a large text in URLs often": WIDE + OFTEN + "{{ $y := urlquery $x }}" + END,
    "a large text as Go source often": '{{ $x := "\\n" }}' + GROW * 14 + OFTEN + '{{ $y := printf "%q" $x }}' + END,
    "all messages as JSON, often": "{{ range 1000000 }}{{ $x := json $.Messages }}{{ end }}",
    "all messages as text, often": "{{ range 1000000 }}{{ $x := print $.Messages }}{{ end }}",
    "all messages as source, often": OFTEN + '{{ $x := printf "%#v" $.Messages }}' + END,
    "all tools, often": "{{ range 1000000 }}{{ $x := json $.Tools }}{{ end }}",
    "slices of messages, often": "{{ range 10000000 }}{{ $x := slice $.Messages 1 }}{{ end }}",
    "a wide format": '{{ printf "%1000000d" 1 }}',
    "a wide format from an argument": '{{ printf "%*d" 1000000 1 }}',
    "a precise format": '{{ printf "%.1000000f" 1.5 }}',
    "a precise format from an argument": '{{ printf "%.*f" 1000000 1.5 }}',
    "a negative width": '{{ printf "%-999999s" "x" }}',
    "a width beyond 64 bits": '{{ printf "%99999999999999999999d" 1 }}',
    "many wide formats": '{{ printf "' + "%9999[1]d" * 200 + '" 1 }}',
    "many formats, often": '{{ range 1000000 }}{{ $x := printf "' + "%d" * 3000 + '" 1 }}{{ end }}',
    "a format that was grown": "{{ $x := `%d` }}" + GROW * 18 + "{{ printf $x 1 }}",
    "a template that calls itself": calls("x", "x") + '{{ template "x" . }}',
    "a template that calls itself twice": calls("x", "x", "x") + '{{ template "x" . }}',
    "templates that call each other": calls("a", "b") + calls("b", "a") + '{{ template "a" . }}',
    "a template that calls itself in a loop": '{{ define "x" }}{{ range 10 }}{{ template "x" . }}{{ end }}{{ end }}'
    '{{ template "x" . }}',
    "a tree of templates": "".join(calls(f"t{i}", f"t{i + 1}", f"t{i + 1}") for i in range(40))
    + '{{ define "t40" }}x{{ end }}{{ template "t0" . }}',
    "a template that is not there": '{{ template "nobody" . }}',
    "a double underscore of the root": "{{ .__class__.__mro__ }}",
    "a double underscore of a message": M + "{{ .__class__ }}{{ end }}",
    "a double underscore of a text": M + "{{ .Content.__class__ }}{{ end }}",
    "a method of a Python text": M + "{{ .Content.format }}{{ end }}",
    "a method of a Python list": "{{ .Messages.append }}",
    "a method of a Python dict": M + "{{ range .ToolCalls }}{{ .Function.Arguments.items.x }}{{ end }}{{ end }}",
    "the fields of our own records": M + "{{ .fields }}{{ end }}",
    "the shape of our own records": M + "{{ .shape }}{{ end }}",
    "a call of a text": M + "{{ call .Content }}{{ end }}",
    "a call of nothing": M + "{{ call nil }}{{ end }}",
    "an index beyond the end": "{{ index .Messages 1000000 }}",
    "a negative index": "{{ index .Messages -1 }}",
    "a slice backwards": "{{ slice .Messages 3 1 }}",
    "an address": '{{ printf "%p" .Messages }}',
    "a comparison of lists": "{{ eq .Messages .Messages }}",
    "a loop over a text": "{{ range .System }}{{ end }}",
}  # fmt: skip


def render(source: str) -> str:
    return render_chat(read_chat_template(source), MESSAGES, tools=TOOLS, think=True, today=TODAY).text


def test_there_are_enough_of_them() -> None:
    assert len(UNREADABLE) + len(COSTLY) >= 60


@pytest.mark.parametrize("source", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_template_is_refused_when_it_is_read(source: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^template, line [0-9]+: .") as refused:
        read_chat_template(source)
    assert refused.value.param == "template"
    assert len(refused.value.message) < 500


@pytest.mark.parametrize("source", COSTLY.values(), ids=COSTLY)
def test_what_costs_too_much_or_reaches_too_far_is_ended(source: str) -> None:
    with pytest.raises(ModelDamaged, match=r"^template, line 1: .") as ended:
        render(source + M + END)
    assert len(ended.value.message) < 500


@pytest.mark.parametrize("source", COSTLY.values(), ids=COSTLY)
def test_nothing_takes_long(source: str) -> None:
    began = time.process_time()
    with pytest.raises(ModelDamaged):
        render(source + M + END)
    assert time.process_time() - began < SECONDS


ODD = (
    "{{ ." + "a." * 5000 + "b }}",
    '{{ printf "%!" }}',
    "{{ `{{` }}}}",
    '{{ print "%n%s%n" .System }}',
    "{{ .Content }}",
    "{{ .System.X | print }}",
    "{{ html .Messages }}",
)


@pytest.mark.parametrize("source", ODD)
def test_odd_templates_end_in_one_of_the_known_ways(source: str) -> None:
    try:
        text = render(source + M + "{{ end }}")
    except (InvalidRequest, ModelDamaged):
        return
    assert len(text) < 2**20


def at_depth(frames: int, call: Callable[[], str]) -> str:
    return at_depth(frames - 1, call) if frames else call()


def test_deep_templates_fit_under_a_deep_caller() -> None:
    deep = "{{if 1}}" * 40 + "{{ " + "(" * 9 + "len .Messages" + ")" * 9 + " }}" + "{{end}}" * 40
    nested = "".join(
        f'{{{{define "t{i}"}}}}{{{{with .}}}}{{{{template "t{i + 1}" .}}}}{{{{end}}}}{{{{end}}}}' for i in range(20)
    )
    source = nested + '{{define "t20"}}{{len .Messages}}{{end}}{{template "t0" .}}' + M + "{{end}}"
    room = sys.getrecursionlimit() // 3
    assert at_depth(room, lambda: render(deep)) == "19"
    assert at_depth(room, lambda: render(source)) == "19"


def test_the_deepest_template_ends_in_a_refusal_under_a_deep_caller() -> None:
    source = (
        '{{define "x"}}{{with .}}{{range 1}}{{template "x" $}}{{end}}{{end}}{{end}}{{template "x" .}}' + M + "{{end}}"
    )
    with pytest.raises(ModelDamaged, match="levels deep"):
        at_depth(sys.getrecursionlimit() // 3, lambda: render(source))


@pytest.mark.parametrize("steps", [1, 10, 1000])
def test_the_steps_that_are_allowed_are_all_that_is_done(steps: int) -> None:
    program = Program(parse("{{ range 100000 }}x{{ end }}", NAMES))
    with pytest.raises(ModelDamaged, match=f"more than {steps} steps"):
        program.render({}, today=TODAY, limits=Limits(steps=steps))


def test_the_output_that_is_allowed_is_all_that_is_printed() -> None:
    program = Program(parse("é{{ .a }}", NAMES))
    assert program.render({"a": "bé"}, today=TODAY, limits=Limits(output=5)) == "ébé"
    with pytest.raises(ModelDamaged, match="more than 4 bytes"):
        program.render({"a": "bé"}, today=TODAY, limits=Limits(output=4))


def test_a_long_conversation_is_not_a_costly_template() -> None:
    turns = [Message(ROLES[i % 2], (Text("é" * 2000),)) for i in range(2000)]
    template = read_chat_template(
        "{{ range $i, $m := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}<{{ .Role }}>{{ .Content }}"
        "{{ if not $last }}</>{{ end }}{{ end }}"
    )
    assert len(render_chat(template, turns, today=TODAY).text) > 4_000_000
