"""The table of the kinds of servers: every kind has a row, and a server gets its key as its API wants it."""

from __future__ import annotations

from typing import get_args

import pytest

from localmodels.backends.kinds import KINDS, credentials
from localmodels.core.errors import InvalidValue
from localmodels.core.secrets import Secret
from localmodels.core.servers import Around, ServerKind, ServerSpec, read_server
from localmodels.dialects.table import WAYS

KEY = "sk-sesame"


def nowhere(_: object) -> None:
    """No file is asked for."""


AROUND = Around(path=nowhere, environ={}, read=lambda path: b"")


@pytest.mark.parametrize("kind", get_args(ServerKind))
def test_every_kind_has_a_row_and_can_stand_in_the_settings(kind: ServerKind) -> None:
    assert KINDS[kind].native in WAYS
    table = f'{{"name": "far", "url": "http://x/", "kind": "{kind}"}}'
    assert read_server(table, AROUND) == ServerSpec(name="far", url="http://x", kind=kind)


def test_the_table_has_no_other_rows() -> None:
    assert set(KINDS) == set(get_args(ServerKind))
    with pytest.raises(InvalidValue, match="kind must be one of openai, ollama, llamacpp, anthropic"):
        read_server('{"name": "far", "url": "http://x", "kind": "other"}', AROUND)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("openai", "Authorization", f"Bearer {KEY}"),
        ("ollama", "Authorization", f"Bearer {KEY}"),
        ("llamacpp", "Authorization", f"Bearer {KEY}"),
        ("anthropic", "x-api-key", KEY),
    ],
)
def test_how_a_server_gets_its_key(kind: ServerKind, name: str, value: str) -> None:
    spec = ServerSpec(name="far", url="http://x", kind=kind, key=Secret(KEY))
    assert credentials(spec)[name] == value
    nameless = ServerSpec(name="far", url="http://x", kind=kind)
    assert not {"Authorization", "x-api-key"} & set(credentials(nameless))
