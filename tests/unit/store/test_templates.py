"""Which of two templates a model answers by: its maker's, unless its file's shows more or Ollama would not use it."""

from __future__ import annotations

import pytest
from tests.unit.store.ollama_store import CONFIG, OllamaStore

from localmodels.artifacts.gguf_header import Header
from localmodels.core.catalog import ModelName
from localmodels.store.entries import Entry, capabilities
from localmodels.store.ollama import OllamaShelf
from localmodels.store.templates import NONE, Templates

TALKS = "{{ .Prompt }}"
CALLS = "{{ .Tools }}{{ range .Messages }}{{ .Content }}{{ .ToolCalls }}{{ end }}"
LISTS = "{{ .Tools }}{{ range .Messages }}{{ .Content }}{{ end }}"
THINKS = "{{ range .Messages }}{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}{{ end }}"
HARMONY = "<|start|>system<|message|>{{ .System }}<|end|>{{ range .Messages }}{{ .Content }}{{ end }}"

J_TALKS = "{{ messages[0].content }}"
J_CALLS = "{{ tools }}{{ tool_calls }}"
J_THINKS = "<think></think>"


def header(jinja: str = "", **metadata: str) -> Header:
    known = {"general.architecture": "llama", **metadata, **({"tokenizer.chat_template": jinja} if jinja else {})}
    return Header("m.gguf", 3, known, (), 32, 0, 0)


@pytest.mark.parametrize(
    ("go", "jinja", "chosen"),
    [
        ("", "", False),
        ("", J_TALKS, False),
        (TALKS, "", True),
        (TALKS, J_TALKS, True),
        (TALKS, J_CALLS, False),
        (TALKS, J_THINKS, False),
        (CALLS, J_TALKS, True),
        (CALLS, J_CALLS, True),
        (LISTS, J_CALLS, False),  # it has no place for what was called before
        (LISTS, "", True),
        (CALLS, J_THINKS, True),  # each shows what the other does not
        (THINKS, J_CALLS, True),
        (THINKS, J_CALLS + J_THINKS, False),
        (HARMONY, J_TALKS, False),
        (HARMONY, "", True),
    ],
)
def test_the_template_that_answers(go: str, jinja: str, chosen: bool) -> None:
    found = Templates().chosen(go, header(jinja))
    assert (found.chat.source if found.chat else "") == (go if chosen else "")
    # What Ollama renders by code of its own has a template that stands for nothing; what was meant here is used.
    assert (Templates().chosen(go, header(jinja), rendered=True) == NONE) == (not go or bool(jinja))
    meant = Templates().chosen(go, header(jinja), made_here=True, rendered=True)
    assert (meant.chat.source if meant.chat else "") == go


def test_a_broken_template_is_told_by_its_line() -> None:
    found = Templates().chosen("one\n{{ if }}", header(J_TALKS))
    assert found.chat is None
    assert found.damage.startswith("template, line 2: ")


def test_equal_templates_are_read_once() -> None:
    templates = Templates()
    assert templates.chosen(TALKS, header()).chat is templates.chosen(TALKS, header(J_TALKS)).chat


def entry(store: OllamaStore, weights: bytes, template: str, **config: str) -> Entry:
    layers = [store.layer("model", weights), store.layer("template", template.encode())]
    document = store.document(layers, store.config({**CONFIG, **config}))
    store.write("registry.ollama.ai/library/tiny/q4", document)
    found = OllamaShelf(store.root).find(ModelName.parse("tiny:q4"))
    assert found is not None
    return found


def test_what_a_model_can_do_is_what_its_template_shows(store: OllamaStore, weights: bytes) -> None:
    assert capabilities(entry(store, weights, TALKS)) == ("completion",)
    assert capabilities(entry(store, weights, CALLS)) == ("completion", "tools")
    assert capabilities(entry(store, weights, THINKS)) == ("completion", "thinking")
    assert capabilities(entry(store, weights, "{{ .Prompt }}{{ .Suffix }}")) == ("completion", "insert")
    assert capabilities(entry(store, weights, "{{ if }}")) == ("completion",)


def test_a_model_that_ollama_renders_itself_answers_by_its_file(store: OllamaStore, weights: bytes) -> None:
    assert entry(store, weights, CALLS).answers_by.chat
    assert entry(store, weights, CALLS, renderer="qwen3-coder").answers_by == NONE
    assert entry(store, weights, CALLS, parser="qwen3-coder").answers_by == NONE
    assert entry(store, weights, CALLS, parser="qwen3-coder", template_by="create").answers_by.chat


def test_a_broken_template_does_not_hide_its_model(store: OllamaStore, weights: bytes) -> None:
    broken = entry(store, weights, "{{ if }}")
    assert broken.template == "{{ if }}"
    assert "line 1" in broken.answers_by.damage
