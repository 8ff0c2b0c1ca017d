"""What is done to a runner's answers before they are handed on."""

from __future__ import annotations

import pytest

from localmodels.core.chat import Embeddings
from localmodels.core.errors import InvalidValue
from localmodels.engine.llama import first_dimensions

VECTORS = Embeddings(((0.6, 0.0, 0.8), (0.0, 0.0, 1.0)), prompt_tokens=7)


def test_shortened_vectors_have_length_one_again() -> None:
    assert first_dimensions(VECTORS, 2) == Embeddings(((1.0, 0.0), (0.0, 0.0)), prompt_tokens=7)


def test_nothing_is_done_unless_asked() -> None:
    assert first_dimensions(VECTORS, None) is VECTORS
    assert first_dimensions(Embeddings(()), 5) == Embeddings(())


def test_more_dimensions_than_there_are_cannot_be_had() -> None:
    with pytest.raises(InvalidValue, match="at most 3"):
        first_dimensions(VECTORS, 4)
