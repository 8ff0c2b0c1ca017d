"""Texts that would end a line, a header or a frame wherever the server says them again (threats V-23, V-33), and
addresses that would leave the store (V-01, V-02).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from tests.hostile.attack import Attack, request
from tests.hostile.sound import HI, METHODS, MODEL, SOUND, filled

# What a careless writer would pass on; `X-Injected` is looked for in every answer's head.
INJECTED = "X-Injected"
BREAKS = ("\r\n", "\n", "\r", "\u2028", "\u2029", "\x85", "\0", "\x0b", "\x0c", "\x1b[2J", "\x7f", "\r\n\r\n", "\n\n")
TEXTS = (
    *(f"a{end}{INJECTED}: 1{end}b" for end in BREAKS),
    *(f'a{end}data: {{"done":true}}{end}{end}data: [DONE]{end}{end}' for end in ("\n", "\r", "\r\n")),
    *(f"a{end}event: message_stop{end}id: 1{end}retry: 0{end}" for end in ("\n", "\r")), 'a\n{"done":true}\n',
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "javascript:alert(1)", "{{7*7}}",
    "${jndi:ldap://x/}", "\u202eevil", "\ufeff", "\U0010ffff", "é" * 300, "a" * 4_000, "' OR 1=1 --",
    "%0d%0aX-Injected:%201", "%", "%%00", "\\", "..",
)  # fmt: skip
PATHS = (
    "/", "//", "/.", "/..", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/api/../etc", "/api//chat",
    "/api/chat/", "/API/CHAT", "/api/chat;x=1", "/api/chat%00", "/api%2fchat", "/%61pi/chat",
    "/api/blobs/sha256:..%2f..%2fetc", "/api/blobs/sha256-" + "0" * 64, "/api/blobs/SHA256:" + "0" * 64,
    "/api/blobs/sha256:" + "0" * 63, "/api/blobs/sha256:" + "0" * 64 + "%0a", "/v1/models/..%2f..%2fetc%2fpasswd",
    "/v1/models/%00", "/v1/models/", "/v1/models/" + "a" * 4_000, "/v1/models/%ff%fe", "/v1/responses/..",
    "/v1/responses/resp_%27%20OR%201=1--", "/v1/responses/x/input_items?limit=99999999999999999999",
    "/v1/responses/x/input_items?order=%0d%0a", "/v1/responses/x?stream=true&starting_after=-1",
    "/v1/responses/x?starting_after=" + "9" * 400, "/api/keys/%27", "/api/keys/" + "a" * 3_000,
    "/api/usage?since=9e99", "/api/usage?since=-1&key=%27", "/api/show?name=%00", "/api/show?name=../../x",
    "/health?verbose=" + "1" * 4_000, "/?" + "a&" * 3_000, "/chat/%2e%2e%2f", "/chat/" + "a/" * 1_000,
    "/metrics?name[]=x", "/docs/../docs", "/ollama/", "/ollama/ollama/api/tags", "/favicon.ico", "/.git/config",
    "/.env", "*",
)  # fmt: skip


def attacks(port: int) -> Iterator[Attack]:
    """All of them."""
    yield from _echoes(port)
    for path, sound in SOUND.items():
        for text in TEXTS:
            for field in ("model", "name", "source", "destination", "from", "query", "keep_alive"):
                if field in sound:
                    yield _of(port, path, field, {**sound, field: text})
            yield _of(port, path, "a field's name", {**sound, text: 1})
            yield _of(port, path, "an option's name", {**sound, "options": {text: 1}})
    for text in TEXTS:
        for field in ("think", "format", "tool_choice", "reasoning_effort", "truncation", "lora"):
            for path in ("/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/responses", "/chat"):
                yield _of(port, path, field, {**SOUND[path], field: text})
        yield from _tools(port, text)
    for path in PATHS:
        for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS"):
            body = b"{}" if method == "POST" else None
            yield Attack("V-01 paths", f"{method} {path[:80]}", request(port, method, path, body))


def _of(port: int, path: str, what: str, body: dict[str, Any]) -> Attack:
    sent = request(port, METHODS.get(path, "POST"), filled(path), json.dumps(body).encode())
    return Attack("V-33 texts", f"{path}: {what}", sent)


def _tools(port: int, text: str) -> Iterator[Attack]:
    """Names and ids that come back in calls, ends and streams."""
    function = {"type": "function", "function": {"name": text, "description": text, "parameters": {"type": "object"}}}
    forced = {"type": "function", "function": {"name": text}}
    for stream in (False, True):
        body: dict[str, Any] = {
            "model": MODEL,
            "messages": HI,
            "tools": [function],
            "tool_choice": forced,
            "stream": stream,
        }
        yield _of(port, "/v1/chat/completions", "a tool's name", body)
        yield _of(
            port, "/v1/chat/completions", "a stop", {"model": MODEL, "messages": HI, "stop": text, "stream": stream}
        )
        tool = {"name": text, "input_schema": {"type": "object"}}
        blocks = [{"type": "tool_use", "id": text, "name": text, "input": {text: text}}]
        turns = [*HI, {"role": "assistant", "content": blocks}]
        result = [{"type": "tool_result", "tool_use_id": text, "content": text}]
        chosen = {"type": "tool", "name": text}
        yield _of(port, "/v1/messages", "a tool's name", {
            **SOUND["/v1/messages"], "tools": [tool], "tool_choice": chosen, "stream": stream})  # fmt: skip
        turns.append({"role": "user", "content": result})
        called = {**SOUND["/v1/messages"], "messages": turns, "stream": stream}
        yield _of(port, "/v1/messages", "a call's id", called)
        yield _of(port, "/v1/responses", "an id", {
            "model": MODEL, "input": [{"type": "function_call", "call_id": text, "name": text, "arguments": text}],
            "metadata": {text[:60]: text[:500]}, "instructions": text, "user": text, "stream": stream})  # fmt: skip
        yield _of(port, "/v1/responses", "the one before", {
            "model": MODEL, "input": "x", "previous_response_id": text, "stream": stream})  # fmt: skip


def _echoes(port: int) -> Iterator[Attack]:
    """Headers and addresses that answers, logs and traces say again."""
    for text in TEXTS:
        value = text.encode()
        plain = text.encode("ascii", "ignore").translate(None, b"\r\n\0")
        for name in (b"X-Request-Id", b"traceparent", b"tracestate", b"anthropic-version", b"User-Agent", b"Origin"):
            yield Attack(
                "V-33 headers",
                f"{name.decode()} {text[:40]!r}",
                request(port, "GET", "/api/tags", headers=[(name, value)]),
            )
            yield Attack("V-33 headers", f"{name.decode()} {text[:40]!r}, printed", request(
                port, "GET", "/v1/models", headers=[(name, plain)]))  # fmt: skip
        for pattern in (
            "/{}",
            "/v1/models/{}",
            "/chat/{}",
            "/api/blobs/{}",
            "/v1/responses/{}",
            "/api/show?name={}",
            "/api/keys/{}",
        ):
            method = "POST" if pattern.startswith(("/chat", "/api/blobs")) else "GET"
            body = b'{"message": "Hi"}' if method == "POST" else None
            target = pattern.format(quote(text, safe="")[:6_000])
            yield Attack("V-33 addresses", f"{pattern} {text[:40]!r}", request(port, method, target, body))
