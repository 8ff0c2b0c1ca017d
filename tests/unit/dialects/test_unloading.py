"""What of a request says that a model shall leave the memory, and nothing else."""

from __future__ import annotations

import pytest
from msgspec import Raw, json

from localmodels.dialects.ollama.unloading import is_unload


def fields(body: bytes) -> dict[str, Raw]:
    return json.decode(body, type=dict[str, Raw])


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "m", "keep_alive": 0}',
        b'{"model": "m", "keep_alive": "0"}',
        b'{"model": "m", "keep_alive": "0s", "prompt": ""}',
        b'{"model": "m", "keep_alive": 0, "messages": [], "images": null}',
    ],
)
def test_that_it_leaves_the_memory(body: bytes) -> None:
    assert is_unload(fields(body))


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "m"}',
        b'{"model": "m", "keep_alive": null}',
        b'{"model": "m", "keep_alive": "5m"}',
        b'{"model": "m", "keep_alive": -1}',
        b'{"model": "m", "keep_alive": "soon"}',
        b'{"model": "m", "keep_alive": []}',
        b'{"model": "m", "keep_alive": 0, "prompt": "Hello"}',
        b'{"model": "m", "keep_alive": 0, "messages": [{"role": "user", "content": "Hello"}]}',
        b'{"model": "m", "keep_alive": 0, "context": [1]}',
    ],
)
def test_that_it_is_loaded_kept_or_asked(body: bytes) -> None:
    assert not is_unload(fields(body))
