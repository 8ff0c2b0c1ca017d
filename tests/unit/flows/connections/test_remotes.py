"""What other servers do wrong, in words that name them."""

from __future__ import annotations

import pytest

from localmodels.core.errors import BackendTimeout, Garbled, LocalModelsError
from localmodels.core.servers import ServerSpec
from localmodels.flows.connections.remotes import of_server, translated

BAD = ServerSpec(name="bad", url="http://bad:11434", kind="ollama")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Garbled("the server's answer is not Ollama's: x"), "the answer of the server 'bad' is not Ollama's: x"),
        (Garbled("the server's list is not OpenAI's"), "the list of the server 'bad' is not OpenAI's"),
        (BackendTimeout("the server fell silent"), "the server 'bad' fell silent"),
        (Garbled("what the server tells is none"), "what the server 'bad' tells is none"),
    ],
)
def test_an_error_names_its_server_in_plain_words(error: LocalModelsError, said: str) -> None:
    assert translated(error, BAD, "m").message == said


def test_what_was_noted_of_a_server_names_it_too() -> None:
    assert of_server("bad", "the server's answer is not Ollama's") == "the answer of the server 'bad' is not Ollama's"
    assert of_server("bad", "the server cannot be reached") == "the server 'bad' cannot be reached"
    assert of_server("bad", "it refuses our key") == "the server 'bad' refuses our key"
    assert of_server("bad", "out of cheese") == "the server 'bad': out of cheese"
