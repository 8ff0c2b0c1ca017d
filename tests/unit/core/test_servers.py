"""Tables of servers: what they become, and that no key is ever repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localmodels.core.errors import InvalidValue
from localmodels.core.secrets import Secret
from localmodels.core.servers import FIELDS, Around, ServerSpec, Table, key_goes, read_server, scope_missing

FILES = {Path("/etc/key"): b"sk-from-file\n", Path("/etc/two"): b"one\ntwo\n", Path("/etc/empty"): b"\n"}


def reading(path: Path) -> bytes:
    if path not in FILES:
        raise FileNotFoundError(2, "No such file or directory")
    return FILES[path]


AROUND = Around(lambda text: Path("/etc") / text if text else None, {"KEY": "sk-from-environ", "EMPTY": " "}, reading)
PLAIN = {"name": "gpu", "url": "http://10.0.0.5:8000", "kind": "openai"}


def read(**fields: Any) -> ServerSpec:
    return read_server(json.dumps({**PLAIN, **fields}), AROUND)


def test_a_table_with_everything() -> None:
    spec = read(
        url="https://gpu.example/llm/v1/",
        key_env="KEY",
        models=["a", "b/c:7b"],
        max_concurrent=4,
        max_queue=9,
        first_byte="5m",
        idle=30,
        ca_file="ca.pem",
    )
    assert spec == ServerSpec(
        name="gpu",
        url="https://gpu.example/llm",
        kind="openai",
        key=Secret("sk-from-environ"),
        models=("a", "b/c:7b"),
        max_concurrent=4,
        max_queue=9,
        first_byte=300.0,
        idle=30.0,
        ca_file=Path("/etc/ca.pem"),
    )
    assert "sk-" not in repr(spec) + str(spec)
    assert str(spec) == "gpu=https://gpu.example/llm (openai)"


def test_what_a_table_leaves_out() -> None:
    spec = read()
    assert (spec.key, spec.models, spec.max_concurrent, spec.first_byte, spec.idle) == (Secret(""), (), 0, 60.0, 120.0)
    kept = read(key_file="key")
    assert (kept.key, kept.key_file) == (Secret("sk-from-file"), Path("/etc/key"))
    assert Table.__struct_fields__ == FIELDS


@pytest.mark.parametrize(
    ("kind", "url", "meant"),
    [
        ("openai", "http://h:1/v1", "http://h:1"),
        ("anthropic", "https://h/v1/", "https://h"),
        ("llamacpp", "http://[::1]:8080", "http://[::1]:8080"),
        ("ollama", "http://h:11434/api", "http://h:11434"),
        ("ollama", "http://h:11434/v1", "http://h:11434/v1"),
    ],
)
def test_the_path_that_other_clients_want_may_stand_there(kind: str, url: str, meant: str) -> None:
    assert read(kind=kind, url=url).url == meant


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"name": "Box 1"}, "letter or digit, and 'Box 1' is not"),
        ({"name": "local"}, "name must be another: 'local' is our own engine's"),
        ({"name": "a/b"}, "name must be"),
        ({"name": "a.b"}, "name must be"),
        ({"name": 7}, "Expected `str`"),
        ({"kind": "vllm"}, "kind must be one of openai, ollama, llamacpp, anthropic, not 'vllm'"),
        ({"url": "gpu:8000"}, "url must begin with http:// or https://, such as http://gpu:8000"),
        ({"url": "10.0.0.7"}, "url must begin with http:// or https://, such as http://10.0.0.7"),
        ({"url": "me:sesame@gpu"}, "url must begin with http:// or https://"),
        ({"url": "sk-sesame"}, "url must begin with http:// or https://"),
        ({"url": "gpu:8000/sesame"}, "url must begin with http:// or https://"),
        ({"url": "ftp://gpu"}, "url must begin with http:// or https://"),
        ({"url": "http://me:sesame@gpu"}, "url must be without a user and a password: key_env or key_file says where"),
        ({"url": "http://gpu/?a=sesame"}, "url must be http://HOST:PORT or https://HOST, perhaps with a path"),
        ({"url": "http://gpu\r\nX: y"}, "url must be http://HOST:PORT"),
        ({"models": ["a", "a b"]}, "models must be names without spaces, and 'a b' is none"),
        ({"models": "a"}, "the server 'gpu': Expected `array`"),
        ({"max_concurrent": -1}, "the server 'gpu': max_concurrent must be a whole number from 0 to 100000, not -1"),
        ({"max_queue": 10**9}, "max_queue must be"),
        ({"first_byte": "soon"}, "of at most a day, not 'soon'"),
        ({"idle": 0}, "idle must be"),
        ({"idle": "2000h"}, "idle must be"),
        (
            {"key": "sk-inline-sesame"},
            "the server 'gpu': a key does not stand in the table, and there is no field 'key'",
        ),
        (
            {"api_key": "sk-sesame"},
            "there is no field 'api_key': say in which variable of the environment it is (key_env)",
        ),
        ({"colour": "sesame"}, "the server 'gpu': Object contains unknown field `colour`; a server has name, url"),
        ({"key_env": "NOPE"}, "NOPE in the environment is empty or not there"),
        ({"key_env": "EMPTY"}, "is empty or not there"),
        ({"key_env": "KEY", "key_file": "key"}, "exclude each other"),
        ({"key_file": "nope"}, "cannot be read: No such file"),
        ({"key_file": "two"}, "holds spaces, or more than one line"),
        ({"key_file": "empty"}, "is empty or not there"),
    ],
)
def test_what_cannot_be_used_is_said_without_what_may_be_secret(fields: dict[str, Any], part: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read(**fields)
    assert part in caught.value.message
    assert "sesame" not in caught.value.message
    assert "sk-" not in caught.value.message


@pytest.mark.parametrize("field", ["name", "url", "kind"])
def test_what_every_server_needs(field: str) -> None:
    with pytest.raises(InvalidValue, match=f"missing required field `{field}`"):
        read_server(json.dumps({name: text for name, text in PLAIN.items() if name != field}), AROUND)


@pytest.mark.parametrize(
    ("fields", "goes"),
    [
        ({"registered": True}, "`localmodels servers set big-box --key-file FILE` gives it another"),
        ({}, "key_file or key_env in the file of settings gives it another"),
    ],
)
def test_how_a_server_gets_its_key_is_said_and_no_key(fields: dict[str, Any], goes: str) -> None:
    spec = ServerSpec(name="Big Box", url="http://b", kind="ollama", key=Secret("sk-sesame"), **fields)
    assert key_goes(spec, "another") == goes
    assert scope_missing("this key is for the models qwen3 alone", spec) == ""
    said = scope_missing("this key may not do this: it needs the scope 'manage'", spec)
    assert said == (
        "our key lacks the scope 'manage': on its machine `localmodels keys add NAME --scopes infer,list,manage` makes "
        f"one that has it, and here {goes.replace('another', 'that')}"
    )
    assert "--scopes infer,list`" in scope_missing("it needs the scope 'list'", spec)
