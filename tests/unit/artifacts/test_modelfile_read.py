"""Modelfiles are read as Ollama reads them, and what is written is read back."""

from __future__ import annotations

import codecs
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.artifacts.modelfile import MOST_BYTES, Modelfile, read_modelfile, write_modelfile
from localmodels.core.errors import InvalidRequest, InvalidValue, TooLarge
from localmodels.core.options import OPTIONS, Option


def read(*lines: str) -> Modelfile:
    return read_modelfile("\n".join(("FROM m", *lines)))


def test_every_command() -> None:
    text = '''
# a comment
  # another, indented
FROM ./weights.gguf
from eyes.gguf
  Adapter ./lora.gguf
DRAFT small.gguf
TEMPLATE """{{ .Prompt }}
{{ .Response }}"""
SYSTEM "You are kind."
PARAMETER temperature 0.5
PARAMETER stop </s>
parameter stop "  x"
PARAMETER num_ctx 4096
PARAMETER use_mmap false
PARAMETER num_gqa 8
LICENSE MIT
LICENSE """
BSD
"""
MESSAGE user hi there
MESSAGE assistant """
"""
RENDERER qwen3-coder
PARSER qwen3-coder
REQUIRES v0.14.0
'''
    assert read_modelfile(text) == Modelfile(
        models=("./weights.gguf", "eyes.gguf"),
        adapters=("./lora.gguf",),
        drafts=("small.gguf",),
        template="{{ .Prompt }}\n{{ .Response }}",
        renderer="qwen3-coder",
        parser="qwen3-coder",
        system="You are kind.",
        parameters=(
            ("temperature", 0.5),
            ("stop", ("</s>", "  x")),
            ("num_ctx", 4096),
            ("use_mmap", False),
            ("num_gqa", "8"),
        ),
        license=("MIT", "\nBSD\n"),
        messages=(("user", "hi there"), ("assistant", "\n")),
        requires="0.14.0",
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a b  ", "a b"),
        ("\t a", "a"),
        ("", ""),
        ('""', ""),
        ('""""""', ""),
        ('"a"', "a"),
        ('" a "', " a "),
        ('"a" b"', 'a" b'),
        ('"""a"""', "a"),
        ('"""a " b"""', 'a " b'),
        ('""""a""""', '"a"'),
        ('"""\na\n"""', "\na\n"),
        ('"""\r\na\r\n"""', "\r\na\r\n"),
        ('"a\nb"', "a\nb"),
        ('"""a\nb""" c\nd"""', 'a\nb""" c\nd'),
        ('"a"  \t', "a"),
        ("a # b", "a # b"),
        ("'a'", "'a'"),
        ('a "b"', 'a "b"'),
        (r"a\nb", r"a\nb"),
        ("👩\u200d🚀 a\u00a0b", "👩\u200d🚀 a\u00a0b"),  # Ollama drops the joiner and the no-break space
    ],
)
def test_values_end_where_ollama_ends_them(value: str, text: str) -> None:
    assert read(f"SYSTEM {value}", "LICENSE x") == Modelfile(models=("m",), system=text, license=("x",))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_will_do(end: str) -> None:
    assert read_modelfile(end.join(("FROM m", "", "SYSTEM s", "MESSAGE user u"))) == Modelfile(
        models=("m",), system="s", messages=(("user", "u"),)
    )


@pytest.mark.parametrize(
    "encoded",
    [text.encode(encoding) for text in ("FROM é\nSYSTEM 👍\n",) for encoding in ("utf-8", "utf-8-sig", "utf-16")]
    + ["\ufeffFROM é\nSYSTEM 👍\n".encode(encoding) for encoding in ("utf-16-le", "utf-16-be")],
)
def test_the_marks_of_utf_8_and_utf_16(encoded: bytes) -> None:
    assert read_modelfile(encoded) == Modelfile(models=("é",), system="👍")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_known_without_its_mark(encoding: str) -> None:
    assert read_modelfile("FROM é\nSYSTEM 👍\n".encode(encoding)) == Modelfile(models=("é",), system="👍")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (b"FROM m\nSYSTEM caf\xe9", "line 2: byte 0xe9 is no UTF-8; save the file as UTF-8"),
        (b"FROM m\nSYSTEM caf\xe9\nSYSTEM x", "line 2: byte 0xe9 is no UTF-8"),
        (codecs.BOM_UTF16_LE + "FROM m\n".encode("utf-16-le") + b"x", "line 2: byte 0x78 is no UTF-16"),
    ],
)
def test_another_encoding_is_refused_with_the_place(source: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        read_modelfile(source)


def test_of_two_the_last_counts() -> None:
    file = read("SYSTEM a", "SYSTEM b", "PARAMETER seed 1", "PARAMETER seed 2", "REQUIRES 1", "REQUIRES 0.2")
    assert (file.system, file.parameters, file.requires) == ("b", (("seed", 2),), "0.2")


def test_unknown_parameters_are_kept_and_named() -> None:
    file = read("PARAMETER num_gqa 8", "PARAMETER seed 1", "PARAMETER x a", "PARAMETER x b")
    assert file.parameters == (("num_gqa", "8"), ("seed", 1), ("x", ("a", "b")))
    assert file.unknown_parameters == ("num_gqa", "x")


@pytest.mark.parametrize("text", ["1", "t", "T", "true", "True", "TRUE"])
def test_every_word_that_go_takes_for_true(text: str) -> None:
    assert read(f"PARAMETER use_mmap {text}").parameters == (("use_mmap", True),)


def test_biases_are_an_object() -> None:
    file = read('PARAMETER logit_bias {"15": -100, "7": 1.5}')
    assert file.parameters == (("logit_bias", ((15, -100.0), (7, 1.5))),)
    assert read_modelfile(write_modelfile(file)) == file


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("temperature hot", "PARAMETER temperature must be a number, not 'hot'"),
        ("temperature 3", "PARAMETER temperature must be between 0 and 2, not 3"),
        ("temperature nan", "PARAMETER temperature must be a number"),
        ("num_ctx 4k", "PARAMETER num_ctx must be a whole number, not '4k'"),
        ("num_ctx 1e3000", "PARAMETER num_ctx must be a whole number"),
        ("num_ctx 99999999999999999999", "PARAMETER num_ctx must be between"),
        ("num_ctx -1", "PARAMETER num_ctx must be between"),
        ("use_mmap maybe", "PARAMETER use_mmap must be true or false, not 'maybe'"),
        ("kv_cache_type q9", "PARAMETER kv_cache_type must be one of"),
        ("stop " + "x" * 257, "PARAMETER stop takes at most 16 texts of at most 256 bytes"),
        ("logit_bias {", "PARAMETER logit_bias must be an object"),
        ('logit_bias {"x":' + "[" * 20_000 + "]" * 20_000 + "}", "PARAMETER logit_bias must be an object"),
    ],
)
def test_values_of_the_wrong_type_or_out_of_range_are_refused_by_line(line: str, words: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        read("SYSTEM x", f"PARAMETER {line}")
    assert refused.value.message.startswith(f"Modelfile, line 3: {words}")
    assert refused.value.param == "modelfile"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no FROM line"),
        ("# only words", "no FROM line"),
        ("SYSTEM x", "no FROM line"),
        ("FROM", "line 1: FROM has no value"),
        ("FROM ", "line 1: FROM without a model"),
        ('FROM ""', "line 1: FROM without a model"),
        ("FROM m\nFORM x", "line 2: 'FORM' is not a command; expected one of FROM, ADAPTER"),
        ("FROM m\r\n\r\nFROM: x", "line 3: 'FROM:' is not a command"),
        ("FROM m\nPARAMETER", "line 2: '' is no parameter's name"),
        ("FROM m\nPARAMETER seed", "line 2: PARAMETER seed has no value"),
        ("FROM m\nPARAMETER se-ed 1", "line 2: 'se-ed' is no parameter's name"),
        ("FROM m\nMESSAGE bob hi", "line 2: 'bob' is not a role; expected one of system, user, assistant"),
        ("FROM m\nMESSAGE User hi", "line 2: 'User' is not a role"),
        ("FROM m\nMESSAGE user", "line 2: MESSAGE user has no value"),
        ('FROM m\n\nSYSTEM """a\nb\n""" c', 'line 3: the quotes are not closed; expected """'),
        ('FROM m\nSYSTEM "a\n', 'line 2: the quotes are not closed; expected "'),
        ('FROM m\nSYSTEM """', "line 2: the quotes are not closed"),
        ('FROM m\nSYSTEM """""', "line 2: the quotes are not closed"),
        ("FROM m\nREQUIRES new", "line 2: 'new' is not a version; expected one like 0.14.0"),
        ("FROM m\nSYSTEM a\0b", "line 2: a NUL in the text"),
        ("{{ .Prompt }}", "line 1: '{{' is not a command"),
    ],
)
def test_what_is_no_modelfile_is_refused_by_line(text: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_modelfile(text)
    assert words in refused.value.message
    assert refused.value.param == "modelfile"


def test_what_is_too_long_is_refused() -> None:
    start = b"FROM m\nSYSTEM "
    assert len(read_modelfile(start + b"x" * (MOST_BYTES - len(start))).system) == MOST_BYTES - len(start)
    with pytest.raises(TooLarge, match="1 MiB at most"):
        read_modelfile(start + b"x" * MOST_BYTES)


def test_characters_are_counted_in_bytes() -> None:
    with pytest.raises(TooLarge):
        read_modelfile("FROM m\nSYSTEM " + "é" * (MOST_BYTES // 2))


# What is written is read back

# No line but the last may end in three quotation marks: the grammar has no escape (see `quote`).
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60).filter(
    lambda text: '"""' not in text or ("\n" not in text and "\r" not in text)
)
FILLED = TEXTS.filter(bool)
NAMES = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=12).filter(
    lambda name: name not in OPTIONS
)


def values_of(option: Option) -> st.SearchStrategy[Any]:
    match option.kind:
        case "int":
            return st.integers(int(option.low), int(option.high))
        case "float":
            return st.floats(option.low, option.high)
        case "bool":
            return st.booleans()
        case "choice":
            return st.sampled_from(option.choices)
        case "strings":
            short = st.text(st.characters(codec="utf-8", exclude_characters='\0"'), min_size=1, max_size=60)
            return st.lists(short, min_size=1, max_size=16).map(tuple)
        case "bias":
            pair = st.tuples(st.integers(0, 10**9 - 1), st.floats(-100, 100))
            return st.lists(pair, max_size=4, unique_by=lambda pair: pair[0]).map(tuple)


def pairs_of(name: str) -> st.SearchStrategy[tuple[str, Any]]:
    return st.tuples(st.just(name), values_of(OPTIONS[name]))


PARAMETERS = st.lists(
    st.one_of(
        *map(pairs_of, OPTIONS), st.tuples(NAMES, TEXTS), st.tuples(NAMES, st.lists(TEXTS, min_size=2).map(tuple))
    ),
    unique_by=lambda pair: pair[0],
    max_size=6,
).map(lambda pairs: tuple((name, value) for name, value in pairs if value != ()))
MODELFILES = st.builds(
    Modelfile,
    models=st.lists(FILLED, min_size=1, max_size=3).map(tuple),
    adapters=st.lists(FILLED, max_size=2).map(tuple),
    drafts=st.lists(FILLED, max_size=2).map(tuple),
    template=TEXTS,
    renderer=TEXTS,
    parser=TEXTS,
    system=TEXTS,
    parameters=PARAMETERS,
    license=st.lists(TEXTS, max_size=2).map(tuple),
    messages=st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXTS), max_size=3).map(tuple),
    requires=st.sampled_from(["", "1", "0.14", "0.14.0", "1.2.3-rc.1+x"]),
)


@given(MODELFILES)
def test_what_is_written_is_read_back(modelfile: Modelfile) -> None:
    assert read_modelfile(write_modelfile(modelfile)) == modelfile


PIECES = st.sampled_from(
    ["FROM m\n", "SYSTEM ", "TEMPLATE ", "PARAMETER stop ", "PARAMETER x ", "MESSAGE user ", "LICENSE ", "# c",
     '"', '"""', "a", " ", "\t", "\n", "\r\n", "é", "{{ .X }}", "REQUIRES 1\n", "PARSER p\n"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map(lambda pieces: "FROM m\n" + "".join(pieces)))
def test_what_was_read_once_stays_as_it_is(text: str) -> None:
    try:
        modelfile = read_modelfile(text)
    except InvalidRequest:
        return
    assert read_modelfile(write_modelfile(modelfile)) == modelfile


def test_the_name_stands_in_a_comment() -> None:
    written = write_modelfile(Modelfile(name="mine", models=("m",)))
    assert written.startswith("# Modelfile of mine\n")
    assert read_modelfile(written) == Modelfile(models=("m",))
