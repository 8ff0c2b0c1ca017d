"""Go's templates mean here what they mean in Go: every case was rendered by Go itself (``gotemplate_cases.json``)."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from localmodels.artifacts.gotemplate import NAMES, Limits, Program, parse
from localmodels.core.errors import InvalidRequest, ModelDamaged

TODAY = datetime.date(2026, 3, 1)
KNOWN = json.loads(Path(__file__).with_name("gotemplate_cases.json").read_text(encoding="utf-8"))


def render(source: str, data: Any = None) -> str:
    return Program(parse(source, NAMES)).render(data, today=TODAY, limits=Limits())


@pytest.mark.parametrize("case", KNOWN["cases"], ids=lambda case: case["template"][:60])
def test_as_go(case: dict[str, str]) -> None:
    if case.get("fails") == "read":
        with pytest.raises(InvalidRequest):
            parse(case["template"], NAMES)
    elif case.get("fails") == "run":
        program = Program(parse(case["template"], NAMES))
        with pytest.raises(ModelDamaged):
            program.render(KNOWN["data"], today=TODAY, limits=Limits())
    else:
        assert render(case["template"], KNOWN["data"]) == case["text"]


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("a\n{{ .B }", 2, "an action is not closed; expected '}}'"),
        ("{{ .B } }}", 1, "'}' in a command; expected a space, '|' or the end of the action"),
        ("a\n\n{{ if .B }}", 3, "expected '{{end}}'"),
        ("{{ foo }}", 1, "there is no function 'foo'; there are and, call, currentDate, eq"),
        ("\n{{ $x }}", 2, "variable $x is used before it is declared with ':='"),
        ("\n{{ $x = 1 }}", 2, "variable $x is set with '=' before it is declared with ':='"),
        ("{{ range $a, $b, $c := . }}{{ end }}", 1, "at most two"),
        ("{{ (1 }}", 1, "expected ')' before '}}'"),
        ("{{ 1) }}", 1, "a ')' without its '('"),
        ("{{ .a.b=1 }}", 1, "'=' may not follow '.b'; expected a space or '}}'"),
        ("{{ 1+2i }}", 1, "complex numbers (1+) are not supported"),
        ("{{ 9223372036854775808 }}", 1, "too large for a whole number of 64 bits"),
        ("{{ template x }}", 1, "'x' in template; expected a name in quotes"),
        ("{{ break }}", 1, "'break' outside of a range"),
        ("{{ . | 1 }}", 1, "'1' after '|'; expected a function"),
        ("{{ if }}x{{ end }}", 1, "no value for if"),
        ("{{/* a", 1, "the comment is not closed; expected '*/}}'"),
        ('{{ "a }}', 1, "a quoted text is not closed"),
        (r'{{ "\q" }}', 1, "is not an escape that Go knows"),
    ],
)
def test_what_is_no_template_is_refused_by_line_and_what_was_expected(source: str, line: int, words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(source, NAMES)
    assert refused.value.message.startswith(f"template, line {line}: ")
    assert words in refused.value.message
    assert refused.value.param == "template"


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("\n{{ len . }}", 2, "a value of type nil has no length"),
        ("{{ index . 1 }}", 1, "index of nil"),
        ("a\nb{{ if true }}\n{{ range 1.5 }}{{ end }}{{ end }}", 3, "a range goes over lists, maps and numbers"),
        ("{{ $x := 5 }}\n{{ $x.y }}", 2, "there is no field y in a value of type int"),
        ("{{ .x }}", 1, "there is no .x, because what should have it is nil"),
        ('{{ eq 1 "a" }}', 1, "values of types int and string cannot be compared"),
        ("{{ not }}", 1, "not takes 1 arguments, not 0"),
        ("{{ true 1 }}", 1, "a value takes no arguments"),
        ('{{ template "x" . }}', 1, "there is no template named 'x'"),
        ('{{ printf "%*d" 10001 1 }}', 1, "at most 10000 are allowed"),
        ('{{ printf "%p" 1 }}', 1, "%p, the address of a value, is not supported"),
        ('{{ printf "%x" 1.5 }}', 1, "%x of a number with a point is not supported"),
    ],
)
def test_what_fails_while_it_runs_names_the_line(source: str, line: int, words: str) -> None:
    with pytest.raises(ModelDamaged) as failed:
        render(source)
    assert failed.value.message.startswith(f"template, line {line}: ")
    assert words in failed.value.message


def test_ollamas_dates() -> None:
    assert render("{{ currentDate }} {{ yesterdayDate }}") == "2026-03-01 2026-02-28"
    assert render('{{ currentDate "2006" }}') == "2026-03-01"
    with pytest.raises(ModelDamaged, match="the form of a date is a text"):
        render("{{ currentDate 1 }}")


def test_bytes_find_together_again() -> None:
    assert render("{{ slice . 0 1 }}{{ slice . 1 }}|{{ slice . 1 }}|{{ len . }}|{{ json (slice . 1 2) }}", "é") == (
        'é|\ufffd|2|"\\ufffd"'
    )


def test_pictures_are_bytes() -> None:
    assert render("{{ len . }} {{ index . 1 }} {{ . }} {{ json . }}", b"ab") == '2 98 [97 98] "YWI="'


def test_a_template_is_read_once_and_rendered_often() -> None:
    program = Program(parse("{{ $x := .a }}{{ range 2 }}{{ $x = print $x . }}{{ end }}{{ $x }}", NAMES))
    assert [program.render({"a": a}, today=TODAY, limits=Limits()) for a in "xyx"] == ["x01", "y01", "x01"]
