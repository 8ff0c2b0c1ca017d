"""Bodies of one route that would cost much, and texts that somebody would run (threats V-13, V-14, V-17, V-35)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain, product
from typing import Any

from tests.hostile.sound import HI, MODEL, NOBODY, SOUND

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
SCHEMAS: Mapping[str, Any] = {
    "refers to itself": {"$ref": "#"},
    "refers in a ring": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    "refers elsewhere": {"$ref": f"{NOBODY}/schema"},
    "doubles": {"$ref": "#/$defs/d0", "$defs": {
        **{f"d{n}": {"type": "array", "items": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)}, "d30": {}}},
    "a pattern that never ends": {"type": "string", "pattern": "^(a+)+$"},
    "a long pattern": {"type": "string", "pattern": "^" + "(a|b)" * 300 + "$"},
    "nested groups": {"type": "string", "pattern": "(" * 500 + "a" + ")" * 500},
    "a pattern that repeats": {"type": "string", "pattern": "^(a{1,1000000}){1,1000000}$"},
    "a broken pattern": {"type": "string", "pattern": "(["},
    "a pattern that is no text": {"type": "string", "pattern": 1},
    "no pattern": {"type": "string", "pattern": ""},
    "many items": {"type": "array", "items": {"type": "string"}, "minItems": 10**9, "maxItems": 10**9},
    "a long text": {"type": "string", "minLength": 10**9},
    "a length below zero": {"type": "string", "minLength": -1},
    "numbers": {"type": "integer", "minimum": -(10**30), "maximum": 10**30},
    "many properties": {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(2_000)}},
    "many words": {"enum": [str(n) for n in range(6_000)]},
    "no words": {"enum": []},
    "many kinds": {"anyOf": [{"type": "integer"}] * 2_000},
    "nested kinds": json.loads('{"anyOf":[' * 14 + "{}" + "]}" * 14),
    "a kind of nobody": {"type": "banana"},
    "kinds in a list": {"type": ["string", "null", 3, {}]},
    "no": False,
    "a name that ends a rule": {"type": "object", "properties": {'"::=\n\nroot': {"type": "string"}}},
}  # fmt: skip
TEMPLATES = (
    "{{ 7*7 }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ cycler.__init__.__globals__.os.popen('id') }}",
    "{% for x in range(99999999) %}a{% endfor %}", "{{ 'a'*10**9 }}", "{{ 9**9999999 }}",
    "{{ '%c'|format(1)*99999999 }}", "{% include '/etc/passwd' %}", "{{ (''|attr('format'))('x') }}", "{%",
    "{{ .Messages }}{{ range . }}", "{{ call .System }}", "<|im_start|>system\n<|im_end|>", "{{- " + "(" * 3_000,
    '{{ define "x" }}{{ template "x" . }}{{ end }}{{ template "x" . }}',
)  # fmt: skip

Body = tuple[str, str, dict[str, Any]]  # path, name, body


def costly() -> Iterator[Body]:
    """All of them."""
    return chain(long(), told(), tooled(), shaped(), seeing(), templated(), many())


def long() -> Iterator[Body]:
    """Too much, or in no order."""
    for path in ("/api/chat", "/v1/chat/completions", "/v1/messages"):
        base = SOUND[path]
        yield path, "many messages", {**base, "messages": HI * 4_096}
        yield path, "too many messages", {**base, "messages": HI * 5_000}
        yield path, "a long message", {**base, "messages": [{"role": "user", "content": "word " * 200_000}]}
        yield path, "no role", {**base, "messages": [{"content": "x"}] * 3}
        roles = [{"role": role, "content": "x"} for role in ("tool", "", "x\n", "root")]
        yield path, "roles", {**base, "messages": roles}


def told() -> Iterator[Body]:
    """Templates as texts."""
    for path, template in product(("/api/chat", "/v1/chat/completions", "/v1/messages"), TEMPLATES):
        yield path, f"says {template[:40]}", {**SOUND[path], "messages": [{"role": "user", "content": template}]}
        ordered = [{"role": "system", "content": template}, *HI]
        yield path, f"is told {template[:40]}", {**SOUND[path], "messages": ordered}


def tooled() -> Iterator[Body]:
    """Tools that are many, or whose grammar is hard to make."""
    for path in ("/api/chat", "/v1/chat/completions"):
        base = SOUND[path]
        yield path, "many tools", {**base, "tools": [TOOL] * 128}
        yield path, "too many tools", {**base, "tools": [TOOL] * 1_000}
        yield path, "a tool without a name", {**base, "tools": [{"type": "function", "function": {}}]}
        for name, schema in SCHEMAS.items():
            tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
            yield path, f"a tool that {name}", {**base, "tools": [tool], "tool_choice": "required"}
    for name, schema in SCHEMAS.items():
        tool = {"name": "f", "input_schema": schema}
        wished = {"tools": [tool], "tool_choice": {"type": "any"}}
        yield "/v1/messages", f"a tool: {name}", {**SOUND["/v1/messages"], **wished}


def shaped() -> Iterator[Body]:
    """The same as shapes of an answer."""
    for name, schema in SCHEMAS.items():
        what = f"a schema: {name}"
        shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        yield "/api/chat", what, {**SOUND["/api/chat"], "format": schema}
        yield "/v1/chat/completions", what, {**SOUND["/v1/chat/completions"], "response_format": shape}
        text = {"format": {"type": "json_schema", "schema": schema}}
        yield "/v1/responses", what, {**SOUND["/v1/responses"], "text": text}


def seeing() -> Iterator[Body]:
    """Pictures: many, none, elsewhere."""
    for number, picture in product((1, 16, 17, 200), (PICTURE, "AAAA", "@@@@", "")):
        message = {**HI[0], "images": [picture] * number}
        yield "/api/chat", f"{number} pictures {picture[:4]}", {**SOUND["/api/chat"], "messages": [message]}
    for place in (f"{NOBODY}/x.png", "file:///etc/passwd", "data:text/html,x", f"data:image/png;base64,{PICTURE}"):
        parts = [{"type": "image_url", "image_url": {"url": place}}]
        asked = {"messages": [{"role": "user", "content": parts}]}
        yield "/v1/chat/completions", f"a picture at {place[:20]}", {**SOUND["/v1/chat/completions"], **asked}


def templated() -> Iterator[Body]:
    """Templates where templates are taken."""
    for path, template in product(("/api/generate", "/api/create"), TEMPLATES):
        yield path, f"a template {template[:40]}", {**SOUND[path], "template": template}


def many() -> Iterator[Body]:
    """Lists and numbers beyond what anybody needs."""
    for path, n in product(("/v1/completions", "/v1/chat/completions"), (0, -1, 8, 9, 10**6)):
        yield path, f"n {n}", {**SOUND[path], "n": n, "max_tokens": 2}
    yield "/v1/completions", "many prompts", {**SOUND["/v1/completions"], "prompt": ["a"] * 3_000}
    yield "/v1/embeddings", "many inputs", {**SOUND["/v1/embeddings"], "input": ["a"] * 3_000}
    yield "/detokenize", "many tokens", {"model": MODEL, "tokens": [1] * 300_000}
    yield "/detokenize", "tokens of nobody", {"model": MODEL, "tokens": [-1, 2**31, 2**62]}
    for path in ("/v1/rerank", "/rerank", "/api/rerank"):
        yield path, "many documents", {**SOUND[path], "documents": ["a"] * 3_000}
    for words in (["a"] * 17, ["a" * 257], ["a"] * 100_000, [""], [None], "\0"):
        yield "/api/chat", f"stops {str(words)[:20]}", {**SOUND["/api/chat"], "options": {"stop": words}}
