"""Keys that are none, and wishes for keys that are too wide (threats V-25, V-26, V-28), beside what the matrix asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.hostile.attack import Attack, request
from tests.hostile.bodies import VALUES

TOKENS = (
    "", " ", "x", "lm-", "lm-" + "A" * 43, "lm-" + "A" * 42, "lm-" + "A" * 8_000, "dummy", "null", "undefined",
    "[object Object]", "' OR '1'='1", "'; DROP TABLE key; --", '" OR ""="', "1 UNION SELECT hash FROM key",
    "x' AND sqlite_version()>'1", "%27%20OR%201", "\\x00", "{}", "Bearer", "Bearer lm-x", "a,b", "a b", "\xff\xfe",
    "é", "${KEY}", "../state.db", "*", "admin", "LOCAL",
)  # fmt: skip
CARRIERS = (
    "Authorization: Bearer {}", "authorization: bearer {}", "Authorization: Basic {}", "X-Api-Key: {}",
    "Authorization: {}", "Cookie: key={}", "Proxy-Authorization: Bearer {}",
)  # fmt: skip
TARGETS = (
    ("GET", "/api/tags"),
    ("GET", "/metrics"),
    ("GET", "/api/keys"),
    ("GET", "/api/usage"),
    ("GET", "/v1/models"),
)
WISHES: tuple[dict[str, Any], ...] = (
    {"scopes": ["admin"]}, {"scopes": ["*"]}, {"scopes": []}, {"scopes": "admin"}, {"scopes": ["admin", "admin"]},
    {"admin": True}, {"models": ["*"]}, {"models": ["[" * 500]}, {"models": ["a" * 5_000]},
    {"models": ["*" * 200 + "b"]}, {"models": [""] * 2_000}, {"expires": "1s"}, {"expires_at": -1},
    {"expires_in": "-1s"}, {"expires_in": "9e99"}, {"requests_per_minute": -1}, {"requests_per_minute": 0},
    {"tokens_per_minute": 2**63}, {"token_quota": 10**30}, {"weight": 0}, {"weight": -1}, {"weight": 2**70},
    {"id": "key_0000000000000000"}, {"hash": "x"}, {"created_by": "nobody"}, {"revoked_at": None},
    {"name": "a" * 5_000}, {"name": "a\r\nb"}, {"name": "\0"}, {"name": "'); DROP TABLE key; --"},
)  # fmt: skip
IDS = ("key_" + "0" * 16, "key_", "%27%20OR%201=1", "..", "%2e%2e", "%00", "*", "_", "%25", "me", "made")


def attacks(port: int) -> Iterator[Attack]:
    """All of them."""
    for text in TOKENS:
        for number, carrier in enumerate(CARRIERS):
            method, target = TARGETS[number % len(TARGETS)]
            name, _, value = carrier.format(text).partition(": ")
            headers = [(name.encode(), value.encode("latin-1", "replace"))]
            yield Attack(
                "V-25 keys", f"{target} {carrier.format(text)[:60]!r}", request(port, method, target, headers=headers)
            )
        both = [(b"X-Api-Key", b"lm-other"), (b"Authorization", b"Bearer " + text.encode("latin-1", "replace"))]
        yield Attack("V-25 keys", f"two {text[:40]!r}", request(port, "GET", "/api/tags", headers=both))
    for wish in WISHES:
        body = json.dumps({"name": "made", **wish}).encode()
        yield Attack("V-26 wishes", str(wish)[:60], request(port, "POST", "/api/keys", body))
    for field in (
        "name",
        "scopes",
        "models",
        "expires_at",
        "requests_per_minute",
        "token_quota",
        "quota_period",
        "weight",
    ):
        for value in VALUES:
            body = json.dumps({"name": "made", field: value}).encode()
            yield Attack("V-26 wishes", f"{field} {str(value)[:40]!r}", request(port, "POST", "/api/keys", body))
    for name in IDS:
        yield Attack("V-26 ids", name, request(port, "DELETE", f"/api/keys/{name}"))
        for method, end in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
            sent = request(port, method, f"/v1/responses/{name}{end}", b"" if method == "POST" else None)
            yield Attack("V-26 ids", f"{method} {name}{end}", sent)
        for query in (f"/api/usage?key={name}", f"/api/usage?since={name}"):
            yield Attack("V-28 queries", query, request(port, "GET", query))
