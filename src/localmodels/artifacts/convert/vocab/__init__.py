"""The tokenizer of a folder as the metadata that llama.cpp reads; see :func:`~.read.read_vocabulary`."""

from __future__ import annotations

from localmodels.artifacts.convert.vocab.files import Files
from localmodels.artifacts.convert.vocab.read import read_vocabulary
from localmodels.artifacts.convert.vocab.vocabulary import Vocabulary

__all__ = ["Files", "Vocabulary", "read_vocabulary"]
