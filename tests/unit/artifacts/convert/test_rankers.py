"""Rerankers: one output, and token types that the engine has not are refused; one separator or two between texts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.fidelity.tokenizers import write_unigram
from tests.hostile_folders.bases import BERT, bert_tensors
from tests.weight_folders import ROWS, WIDTH, drawn, write_folder, write_wordpiece

from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.convert.plan import plan, read_model
from localmodels.core.errors import Unsupported

TYPES = "embeddings.token_type_embeddings.weight"


def ranker(place: Path, *, types: int = 2, alike: bool = False, outputs: int = 1) -> Path:
    """A folder of BERT with a head."""
    tensors = {f"bert.{name}": weights for name, weights in bert_tensors(types=types).items()}
    if alike:
        tensors[f"bert.{TYPES}"] = np.repeat(drawn(1, WIDTH), types, axis=0)
    tensors |= {
        "bert.pooler.dense.weight": drawn(WIDTH, WIDTH, seed=70),
        "bert.pooler.dense.bias": drawn(WIDTH, seed=71),
    }
    tensors |= {"classifier.weight": drawn(outputs, WIDTH, seed=72), "classifier.bias": drawn(outputs, seed=73)}
    write_folder(place, BERT, tensors, architectures=["BertForSequenceClassification"], type_vocab_size=types)
    write_wordpiece(place, ROWS)
    return place


def test_a_model_that_tells_texts_apart_by_type_is_refused(tmp_path: Path) -> None:
    folder = Folder.of(ranker(tmp_path / "m"))
    with pytest.raises(Unsupported, match="type_vocab_size is 2"):
        read_model(folder)
    assert read_model(folder, ignored=("type_vocab_size",)).architecture == "bert"


@pytest.mark.parametrize(("types", "alike"), [(1, False), (2, True)])
def test_types_that_are_one_are_fine(tmp_path: Path, types: int, *, alike: bool) -> None:
    made = plan(Folder.of(ranker(tmp_path / "m", types=types, alike=alike)))
    assert made.header.metadata["bert.pooling_type"] == 4
    assert made.header.metadata["tokenizer.ggml.token_type_count"] == types


def test_classes_are_no_score(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="3 classes"):
        read_model(Folder.of(ranker(tmp_path / "m", types=1, outputs=3)))


def test_bert_has_one_separator_between_two_texts_and_xlm_r_two(tmp_path: Path) -> None:
    place = ranker(tmp_path / "m", types=1)
    added = "tokenizer.ggml.add_sep_token"
    assert plan(Folder.of(place)).header.metadata[added] is False
    write_unigram(place, ROWS)
    assert plan(Folder.of(place)).header.metadata[added] is True
    path = place / "tokenizer.json"
    values = json.loads(path.read_text())
    for kind, two in (("BertProcessing", False), ("RobertaProcessing", True)):
        values["post_processor"] = {"type": kind, "sep": ["</s>", 2], "cls": ["<s>", 0]}
        path.write_text(json.dumps(values))
        assert plan(Folder.of(place)).header.metadata[added] is two
