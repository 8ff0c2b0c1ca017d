"""Training: batches of similar length, loss on the assistant's words, and a second, contrastive loss for embeddings.

Documents start at position 0 and are never packed together, as they will be when the model is served. The learning
rate follows the larger of the two progresses, tokens and minutes, so a slow machine also ends with a finished model.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from . import corpus
from .model import Llama, Shape
from .template import TURN_START


@dataclass(frozen=True)
class Plan:
    """How long and how fast. The defaults are the shipped model's."""

    tokens: int = 30_000_000
    minutes: float = 52.0
    batch_tokens: int = 5120
    longest: int = 1536
    rate: float = 3e-3
    warmup: float = 0.02
    prompt_share: float = 0.12
    """Part of the prompt's tokens that also count, at ``prompt_weight``: enough to learn the words of questions."""
    prompt_weight: float = 0.3
    pairs: int = 32
    pairs_every: int = 5
    pairs_longest: int = 32
    pairs_weight: float = 0.15
    tails_cut: float = 0.55
    """Share of the single long answers of which only the first words are trained. What follows is soon known by heart;
    choosing the right answer is the hard part, and so more questions fit into the same time."""
    seed: int = 1


Row: TypeAlias = tuple[list[int], list[bool]]
"""Token ids, and which of them the assistant says."""


def encode(document: corpus.Document, tokenizer: Tokenizer, longest: int) -> Row:
    """Token ids, and which of them the assistant says."""
    ids: list[int] = []
    own: list[bool] = []
    for text, is_own in document:
        piece = tokenizer.encode(text).ids
        ids += piece
        own += [is_own] * len(piece)
    return ids[:longest], own[:longest]


def _row(document: corpus.Document, tokenizer: Tokenizer, plan: Plan, rng: random.Random) -> Row:
    """A document's tokens; of a single long answer perhaps only the first ones."""
    ids, own = encode(document, tokenizer, plan.longest)
    said = sum(own)
    if not document[0][0].startswith(TURN_START) or said < 28 or len(ids) - said > 60 or rng.random() > plan.tails_cut:
        return ids, own
    end = len(ids) - said + rng.randint(6, 16)
    return ids[:end], own[:end]


def batches(tokenizer: Tokenizer, plan: Plan, rng: random.Random) -> Iterator[list[Row]]:
    """Endless batches of about ``batch_tokens``: a pool of documents is sorted by length, cut up and shuffled."""
    stream = corpus.lessons(rng.randrange(2**32))
    while True:
        pool = [_row(document, tokenizer, plan, rng) for document in islice(stream, 4000)]
        pool.sort(key=lambda row: (len(row[0]), rng.random()))
        cut: list[list[Row]] = [[]]
        for row in pool:
            if cut[-1] and len(row[0]) * (len(cut[-1]) + 1) > plan.batch_tokens:
                cut.append([])
            cut[-1].append(row)
        rng.shuffle(cut)
        yield from cut


def _padded(rows: list[list[int]], fill: int = 0) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [fill] * (longest - len(row)) for row in rows])


def language_loss(model: Llama, batch: list[Row], plan: Plan, device: torch.device) -> Tensor:
    """Next-token loss on the assistant's tokens and on a sample of the prompt's."""
    ids = _padded([row[0] for row in batch]).to(device)
    kind = _padded([[2 if own else 1 for own in row[1]] for row in batch]).to(device)[:, 1:]
    sampled = (kind == 1) & (torch.rand(kind.shape, device=device) < plan.prompt_share)
    chosen = (kind == 2) | sampled
    hidden = model(ids[:, :-1])[chosen]
    losses = functional.cross_entropy(model.logits(hidden).float(), ids[:, 1:][chosen], reduction="none")
    weights = torch.where(kind[chosen] == 2, 1.0, plan.prompt_weight)
    return (losses * weights).sum() / weights.sum()


def pooled(model: Llama, rows: list[list[int]], device: torch.device) -> Tensor:
    """Mean of the final hidden states: what llama.cpp returns with mean pooling, made unit length."""
    mask = _padded([[1] * len(row) for row in rows]).to(device).unsqueeze(-1)
    hidden = model(_padded(rows).to(device)).float()
    return functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def contrastive_loss(
    model: Llama, tokenizer: Tokenizer, plan: Plan, rng: random.Random, device: torch.device
) -> Tensor:
    """Texts that mean the same attract, the others in the batch repel; equal topics are not each other's others."""
    rows = [corpus.embedding_pair(rng) for _ in range(plan.pairs)]
    labels = [row[0] for row in rows]
    left, right = (
        pooled(model, [tokenizer.encode(t).ids[: plan.pairs_longest] for row in rows for t in row[1:]], device)
        .view(len(rows), 2, -1)
        .unbind(1)
    )
    scores = left @ right.T / 0.07
    same = torch.tensor(
        [[a == b and i != j for j, b in enumerate(labels)] for i, a in enumerate(labels)], device=device
    )
    scores = scores.masked_fill(same, -1e4)
    aim = torch.arange(len(rows), device=device)
    return (functional.cross_entropy(scores, aim) + functional.cross_entropy(scores.T, aim)) / 2


def _rate(progress: float, plan: Plan) -> float:
    """Warm-up, then a cosine down to nearly nothing."""
    if progress < plan.warmup:
        return plan.rate * max(progress, 1e-4) / plan.warmup
    return plan.rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def optimisers(model: Llama) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, which learns faster per token at this size; AdamW for the rest."""
    matrices = [w for name, w in model.named_parameters() if w.ndim == 2 and not name.startswith("embed")]
    others = [w for name, w in model.named_parameters() if w.ndim != 2 or name.startswith("embed")]
    return [
        torch.optim.Muon(matrices, lr=1e-3, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


@dataclass(frozen=True)
class Run:
    """A finished training."""

    model: Llama
    tokens: int
    steps: int
    speed: float


def train(tokenizer: Tokenizer, plan: Plan, folder: Path, start: Path | None = None) -> Run:
    """Trains from nothing, or goes on from the weights in ``start``; writes ``model.pt`` every two minutes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(plan.seed)
    rng = random.Random(plan.seed)
    model = Llama(Shape(vocab=tokenizer.get_vocab_size())).to(device)
    if start:
        model.load_state_dict(torch.load(start, map_location=device))
    steppers = optimisers(model)
    began = saved = time.monotonic()
    seen = step = 0
    recent = [0.0, 0.0]
    for batch in batches(tokenizer, plan, rng):
        elapsed = time.monotonic() - began
        progress = max(seen / plan.tokens, elapsed / (60 * plan.minutes))
        if progress >= 1:
            break
        for stepper in steppers:
            for group in stepper.param_groups:
                group["lr"] = _rate(progress, plan)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = language_loss(model, batch, plan, device)
        recent[0] += 0.05 * (loss.item() - recent[0])
        loss.backward()  # type: ignore[no-untyped-call]
        if step % plan.pairs_every == 0:
            with torch.autocast(device.type, dtype=torch.bfloat16):
                near = contrastive_loss(model, tokenizer, plan, rng, device)
            recent[1] += 0.05 * (near.item() - recent[1])
            (plan.pairs_weight * plan.pairs_every * near).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper in steppers:
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        seen += sum(len(row[0]) for row in batch)
        step += 1
        if step % 50 == 0:
            print(
                f"step {step} {progress:5.1%} loss {recent[0]:.3f} pairs {recent[1]:.3f} "
                f"{seen / 1e6:.2f}M tokens {seen / (time.monotonic() - began):.0f}/s",
                flush=True,
            )
        if time.monotonic() - saved > 120:
            torch.save(model.state_dict(), folder / "model.pt")
            saved = time.monotonic()
    torch.save(model.state_dict(), folder / "model.pt")
    return Run(model, seen, step, seen / (time.monotonic() - began))
