"""Rerankers: encoders with one output, compared by the score of a question and a text.

The engine knows no token types but the first. A BERT whose second is another one is computed otherwise, which the
converter must refuse; one with a single type, as RoBERTa and XLM-R have it, must give transformers' very score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tests.fidelity.comparison import convert
from tests.fidelity.encoders import SIZES, TEXTS
from tests.fidelity.engine import ask
from tests.fidelity.models import draw
from tests.fidelity.tokenizers import write_unigram, write_wordpiece
from tokenizers import Tokenizer

from localmodels.core.errors import Unsupported

QUESTION = "what does the fox jump over?"
NEAR = 5e-3  # GELU is read from a table of F16, as in the other encoders


@dataclass(frozen=True)
class Ranker:
    """One kind.

    Attributes:
        kind: the class of transformers, ``Bert`` for ``BertForSequenceClassification``.
        config: fields beside those of encoders.
        refused: it must be, by a message that says this.
    """

    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Callable[[Path, int], None] = write_wordpiece
    refused: str = ""


RANKERS: Mapping[str, Ranker] = {
    "rank-bert": Ranker("Bert", {"type_vocab_size": 1}),
    "rank-bert-types": Ranker("Bert", refused="token types"),
    "rank-xlm-roberta": Ranker("XLMRoberta", {"pad_token_id": 1, "type_vocab_size": 1}, write_unigram),
}


def compare_ranker(case: Ranker, place: Path) -> tuple[bool, str]:
    """Is it refused as it must be, or near enough; and how far the scores are apart."""
    folder, path = place / "model", place / "model.gguf"
    folder.mkdir()
    torch.manual_seed(1)
    config = getattr(transformers, f"{case.kind}Config")(**{**SIZES, **case.config}, num_labels=1)
    model = getattr(transformers, f"{case.kind}ForSequenceClassification")(config).eval()
    draw(model)
    model.save_pretrained(folder)
    case.tokenizer(folder, config.vocab_size)
    try:
        convert(folder, path)
    except Unsupported as error:
        return bool(case.refused) and case.refused in error.message, f"refused: {error.message:.80}"
    answer = ask(path, ranked=[QUESTION, list(TEXTS)], context=256, vocabulary=0)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    worst = 0.0
    for text, score, length in zip(TEXTS, answer["scores"], answer["lengths"], strict=True):
        pair = tokenizer.encode(QUESTION, text)
        types = [min(kind, config.type_vocab_size - 1) for kind in pair.type_ids]
        with torch.no_grad():
            due = model(torch.tensor([pair.ids]), token_type_ids=torch.tensor([types])).logits[0, 0].item()
        worst = max(worst, abs(due - score), 100.0 * (length != len(pair.ids)))
    return worst <= NEAR and not case.refused, f"{worst:9.2e} (<= {NEAR:.0e})"
