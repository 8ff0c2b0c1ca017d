"""Every file type that can be asked for: it loads, and is as near to the model as so many bits allow.

A quantised file is compared by the mean difference of log-probabilities, which falls from type to type with the bits;
what its bytes must be is compared with llama.cpp's own program elsewhere (``tools/llama_quantize``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from tests.fidelity.comparison import convert
from tests.fidelity.engine import ask
from tests.fidelity.models import Case, make

# A third more than was seen: a file of the next coarser type is beyond it.
TYPES: Mapping[str, float] = {
    "F32": 1e-5, "F16": 2.5e-3, "BF16": 2.5e-2, "Q8_0": 0.08, "Q6_K": 0.21, "Q5_K_M": 0.39, "Q5_K_S": 0.39,
    "Q5_0": 0.41, "Q5_1": 0.38, "Q4_K_M": 0.68, "Q4_K_S": 0.65, "Q4_0": 0.79, "Q4_1": 0.72, "IQ4_NL": 0.62,
    "IQ4_XS": 0.63, "Q3_K_L": 1.04, "Q3_K_M": 1.04, "Q3_K_S": 1.2, "Q2_K": 1.65,
}  # fmt: skip
# Rows of 256, which the largest blocks need; sharded, for the reader's sake.
CASE = Case("Llama", {"hidden_size": 256, "intermediate_size": 512}, sharded=True)


def compare_type(place: Path, target: str) -> tuple[bool, str]:
    """Is a file of this type near enough; and how near it is."""
    folder, path = place / "model", place / "model.gguf"
    folder.mkdir()
    model = make(CASE, folder)
    plan = convert(folder, path, target)
    draw = np.random.default_rng(7)
    prompts = [draw.integers(3, 250, length).tolist() for length in CASE.lengths]
    vocabulary = model.config.vocab_size
    answer = ask(path, prompts=prompts, vocabulary=vocabulary, context=CASE.context)
    with torch.no_grad():
        logits = [model(torch.tensor([prompt]), use_cache=False).logits[0, -1].double() for prompt in prompts]
    due = np.array([torch.log_softmax(one, -1).numpy() for one in logits])
    mean = float(np.abs(np.array(answer["log_probabilities"]) - due).mean())
    used = sorted({placed.type.name for placed in plan.tensors if len(placed.made.shape) > 1})
    return mean <= TYPES[target], f"{mean:9.2e} (<= {TYPES[target]:.0e})  {' '.join(used)}"
