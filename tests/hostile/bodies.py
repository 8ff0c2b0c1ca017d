"""JSON as a weapon and values that exhaust (threats V-34 and V-35), for every route that reads a body.

The routes, their fields and the words of each come from the server's own description and from the table of options, so
that a new route or field is attacked the day it is there.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from tests.hostile import conversations
from tests.hostile.attack import Attack, request
from tests.hostile.sound import METHODS, NOBODY, SOUND, filled

from localmodels.core.options import OPTIONS

MIB = 2**20

# Bodies that no two readers agree on, or that cost a reader much; `@` is a sound body without its braces.
WEAPONS: Mapping[str, bytes] = {
    "nothing": b"",
    "a space": b" ",
    "null": b"null",
    "a list": b"[]",
    "a number": b"1",
    "a text": b'"x"',
    "not JSON": b"<model>x</model>",
    "a form": b"model=x&prompt=y",
    "cut off": b'{@, "x": [',
    "something behind": b"{@} {}",
    "a comma behind": b"{@,}",
    "a comment": b"{@ /* x */}",
    "single quotes": b"{'model': 'x'}",
    "NaN": b'{@, "temperature": NaN}',
    "Infinity": b'{@, "options": {"temperature": -Infinity}}',
    "too large a number": b'{@, "temperature": 1e999}',
    "too small a number": b'{@, "temperature": 1e-999}',
    "a minus alone": b'{@, "temperature": -}',
    "zeros in front": b'{@, "seed": 007}',
    "hex": b'{@, "seed": 0x10}',
    "ten thousand digits": b'{@, "seed": ' + b"9" * 10_000 + b"}",
    "ten thousand digits behind a point": b'{@, "temperature": 0.' + b"9" * 10_000 + b"}",
    "a long exponent": b'{@, "temperature": 1e' + b"0" * 10_000 + b"1}",
    "a field that nobody knows with them": b'{@, "x": ' + b"9" * 100_000 + b"}",
    "a key twice": b'{@, "model": "x", "model": "y"}',
    "a key twice, once with escapes": b'{@, "x": 1, "\\u0078": 2}',
    "a key twice, deep": b'{@, "options": {"a": {"seed": 1, "seed": 2}}}',
    "an empty key twice": b'{@, "": 1, "": 2}',
    "half a pair": b'{@, "x": "\\ud800"}',
    "half a pair as a key": b'{@, "\\udc00": 1}',
    "half a pair in its model": b'{"model": "\\ud800"}',
    "a pair the wrong way": b'{@, "x": "\\udc00\\ud800"}',
    "half a pair as bytes": b'{@, "x": "\xed\xa0\x80"}',
    "not UTF-8": b'{@, "x": "\xff\xfe"}',
    "half a character": b'{@, "x": "\xc3"}',
    "a slash in two bytes": b'{@, "x": "\xc0\xaf"}',
    "beyond Unicode": b'{@, "x": "\xf4\x90\x80\x80"}',
    "a mark in front": b"\xef\xbb\xbf{@}",
    "UTF-16": '{"model": "brief"}'.encode("utf-16"),
    "UTF-32": '{"model": "brief"}'.encode("utf-32-le"),
    "a control in a text": b'{@, "x": "a\x00b\x1f"}',
    "NUL as an escape": b'{@, "x": "\\u0000"}',
    "a wrong escape": b'{@, "x": "\\x41\\u12"}',
    "an escape at the end": b'{@, "x": "\\',
    "lists in lists": b'{@, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "lists without an end": b'{@, "x": ' + b"[" * 100_000,
    "objects in objects": b'{@, "x": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
    "as deep as may be": b'{@, "x": ' + b"[" * 63 + b"]" * 63 + b"}",
    "one deeper": b'{@, "x": ' + b"[" * 64 + b"]" * 64 + b"}",
    "closed more than opened": b"{@}" + b"]" * 1000,
    "many empty lists": b'{@, "x": [' + b",".join([b"[]"] * 100_000) + b"]}",
    "many keys": b"{@, " + b",".join(b'"k%d": %d' % (n, n) for n in range(100_000)) + b"}",
    "many keys of one hash": b"{@, " + b",".join(b'"%s": 1' % (b"a" * n) for n in range(1, 700)) + b"}",
    "many texts": b'{@, "x": [' + b",".join([b'""'] * 200_000) + b"]}",
    "as many keys as may be": b"{@, " + b",".join(b'"k%d": %d' % (n, n) for n in range(65_000)) + b"}",
    "many biases": b'{@, "logit_bias": {' + b",".join(b'"%d": 1' % n for n in range(65_000)) + b"}}",
    "a long text": b'{@, "x": "' + b"a" * MIB + b'"}',
    "a long key": b'{@, "' + b"a" * MIB + b'": 1}',
    "a long text of escapes": b'{@, "x": "' + b"\\u0041" * 150_000 + b'"}',
    "backslashes": b'{@, "x": "' + b"\\\\" * 300_000 + b'"}',
    "spaces": b"{@" + b" " * MIB + b"}",
}

# What stands in a field instead of what should.
VALUES: Sequence[Any] = (
    None, True, False, 0, 1, -1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**40, 0.5, -0.0, 1e308, 5e-324,
    "", " ", "x", "0", "-1", "true", "null", "\0", "\r\nX: y", "\u2028", "\u202e", "\U0010ffff",
    "../../../../etc/passwd", "/etc/passwd", "..", ".", "-rf", "a" * 70_000, "%s%n{0}{{7*7}}${7*7}",
    "'; DROP TABLE key; --", f"{NOBODY}/x", "http://169.254.169.254/latest", "file:///etc/passwd", "127.0.0.1:9/a/b",
    "data:image/png;base64,AAAA", "sha256:" + "0" * 64,
    [], [None], [[]], [[[[1]]]], ["a"] * 5_000, [0] * 5_000, [1e308], [{}], {}, {"": ""}, {"a": {"b": {"c": []}}},
    {"$ref": "#"}, {"type": "x"}, {"__proto__": {"x": 1}}, {"type": "text", "text": None},
)  # fmt: skip


def options() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every option with values at and beyond its ends."""
    for option in OPTIONS.values():
        ends = (option.low, option.high, option.low - 1, option.high + 1)
        for value in (*ends, 0, -1, 2**31, 2**63, 1e308, -1e308, "", "x", [], {}, True, None, ["a"], {"1": 1}):
            whole = int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value
            name = f"{option.name} {str(value)[:20]}"
            yield "/api/generate", name, {**SOUND["/api/generate"], "options": {option.name: whole}}
            yield "/v1/chat/completions", name, {**SOUND["/v1/chat/completions"], option.name: whole}


def properties(document: dict[str, Any], path: str) -> tuple[str, ...]:
    """The fields of what a route reads, by its description."""
    operation = document["paths"][path][METHODS.get(path, "POST").lower()]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    named = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return tuple(named.get("properties", {}))


Making = Callable[[], Attack]


def attacks(document: dict[str, Any], port: int, draw: random.Random) -> Iterator[Attack]:
    """All of them, in an order that is drawn: the weapons, the fields, the options and the conversations in turn.

    Each is made when its turn comes: together they are gigabytes.
    """
    parts: list[list[Making]] = [
        [partial(_weapon, port, path, name) for path in SOUND for name in WEAPONS],
        [
            partial(_of, "V-35 fields", port, path, f"{field} {str(value)[:40]!r}", {**sound, field: value})
            for path, sound in SOUND.items()
            for field in properties(document, path)
            for value in VALUES
        ],
        [partial(_of, "V-35 options", port, *one) for one in options()],
        [partial(_of, "V-35 values", port, *one) for one in conversations.costly()],
    ]
    for part in parts:
        draw.shuffle(part)
    while any(parts):
        for part in filter(None, parts):
            yield part.pop()()


def _weapon(port: int, path: str, name: str) -> Attack:
    body = WEAPONS[name].replace(b"@", json.dumps(SOUND[path])[1:-1].encode())
    return Attack("V-34 JSON", f"{path}: {name}", request(port, METHODS.get(path, "POST"), filled(path), body))


def _of(kind: str, port: int, path: str, name: str, body: dict[str, Any]) -> Attack:
    sent = request(port, METHODS.get(path, "POST"), filled(path), json.dumps(body).encode())
    return Attack(kind, f"{path}: {name}", sent)
