"""What is written in a Modelfile is read back: by a reader that follows Ollama's grammar, written here anew."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.artifacts.modelfile import Modelfile, quote, write_modelfile


def _unquoted(raw: str) -> str | None:
    """The value in its quotes; None while they are open. (Ollama's parser/parser.go, ``unquote``.)"""
    raw = raw.strip(" \t\r\n")
    for mark in ('"""', '"'):
        if raw.startswith(mark):
            closed = len(raw) >= 2 * len(mark) and raw.endswith(mark)
            return raw[len(mark) : -len(mark)] if closed else None
    return raw


def read_back(text: str) -> list[tuple[str, str]]:
    """Commands and values, by Ollama's rule: a value ends at the first line end at which its quotes are closed."""
    commands = []
    lines = iter(text.split("\n"))
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        command, _, raw = line.partition(" ")
        if command in {"PARAMETER", "MESSAGE"}:  # a second word, then the value
            word, _, raw = raw.partition(" ")
            command += f" {word}"
        while (value := _unquoted(raw)) is None:
            raw += "\n" + next(lines)
        commands.append((command, value))
    return commands


# Everything but what the grammar cannot say: a line that ends in three quotation marks, which is not the last.
CHARACTERS = st.sampled_from('"ab \t\nЖ#\\{}')
TEXTS = st.text(CHARACTERS, max_size=40).filter(
    lambda text: (
        not any(line.rstrip(" \t").endswith('"""') for line in f'"""{text}'.split("\n")[1:-1])
        and not (text.startswith('"""') and "\n" in text)
    )
)


@given(TEXTS)
def test_a_quoted_text_is_read_back(text: str) -> None:
    assert read_back(f"SYSTEM {quote(text)}\n") == [("SYSTEM", text)]


@pytest.mark.parametrize(
    "text",
    ["", " ", "a", "a b", " a", "a ", "\ta", '"', '""', '"""', '"a"', 'a"', 'say "hi"', "a\nb", "\n", "a\n", 'a\n"b"',
     'x """ y\nz', "a\r\nb", "# no comment", "{{ .System }}\n{{ .Prompt }}"],
)  # fmt: skip
def test_awkward_texts(text: str) -> None:
    assert read_back(f"TEMPLATE {quote(text)}\n") == [("TEMPLATE", text)]


def test_plain_texts_stay_plain() -> None:
    assert quote('You are "Mario".') == 'You are "Mario".'


def test_every_command_is_written() -> None:
    text = write_modelfile(
        Modelfile(
            name="m:q4",
            models=("/models/a b.gguf", "/models/eyes.gguf"),
            adapters=("/models/lora.gguf",),
            template="{{ .Prompt }}\n",
            system="Be kind.",
            parameters=(
                ("temperature", 0.5),
                ("stop", ("</s>", " x")),
                ("use_mmap", False),
                ("seed", 1),
                ("top_p", 1e-5),
            ),
            license=("MIT\nand more", "BSD"),
            messages=(("user", "hi"), ("assistant", "line\nline")),
        )
    )
    assert read_back(text) == [
        ("FROM", "/models/a b.gguf"),
        ("FROM", "/models/eyes.gguf"),
        ("ADAPTER", "/models/lora.gguf"),
        ("TEMPLATE", "{{ .Prompt }}\n"),
        ("SYSTEM", "Be kind."),
        ("PARAMETER temperature", "0.5"),
        ("PARAMETER stop", "</s>"),
        ("PARAMETER stop", " x"),
        ("PARAMETER use_mmap", "false"),
        ("PARAMETER seed", "1"),
        ("PARAMETER top_p", "1e-05"),
        ("LICENSE", "MIT\nand more"),
        ("LICENSE", "BSD"),
        ("MESSAGE user", "hi"),
        ("MESSAGE assistant", "line\nline"),
    ]


def test_what_is_not_set_is_not_written() -> None:
    assert read_back(write_modelfile(Modelfile(name="m", models=("/m.gguf",)))) == [("FROM", "/m.gguf")]
