"""How one of several servers is told of, where its name stands before it already."""

from __future__ import annotations

import pytest

from localmodels.flows.fleet_library.target_servers import without_server


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        ("the server 'Box B': no room", "no room"),
        ("the server 'Box B' cannot be reached", "it cannot be reached"),
        ("the answer of the server 'Box B' is not Ollama's", "its answer is not Ollama's"),
        ("the answer of the server 'c' is not Ollama's", "the answer of the server 'c' is not Ollama's"),
        ("out of cheese", "out of cheese"),
    ],
)
def test_its_name_is_not_said_again(failure: str, said: str) -> None:
    assert without_server("Box B", failure) == said
