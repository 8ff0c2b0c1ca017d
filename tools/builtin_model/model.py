"""A small llama: RMSNorm, grouped-query attention with rotary positions, SwiGLU, tied embeddings.

Rotary pairs are neighbours (dimension 2i with 2i+1), which is llama.cpp's own order for this architecture, so the
exporter writes the query and key weights as they are, without the permutation that converted checkpoints need.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """Sizes. Rows are multiples of 32, the block of Q8_0.

    So small because the training is short: on two CPU cores a model of twice the size sees less than half the text.
    """

    vocab: int
    width: int = 192
    layers: int = 4
    heads: int = 6
    kv_heads: int = 3
    head_dim: int = 32
    hidden: int = 512
    context: int = 4096
    rope_base: float = 10_000.0
    epsilon: float = 1e-5


def rotation(shape: Shape, length: int) -> Tensor:
    """Cosines and sines by position: (2, length, head_dim / 2)."""
    steps = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    angles = torch.outer(torch.arange(length, dtype=torch.float32), shape.rope_base**-steps)
    return torch.stack((angles.cos(), angles.sin()))


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Turns neighbouring pairs of ``x`` (batch, heads, length, head_dim) by their position."""
    cos, sin = turn[0], turn[1]
    even, odd = x.float().view(*x.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal grouped-query attention. Short sequences on a CPU go by plain products: their backward pass is cheaper."""
    length = q.shape[2]
    if q.device.type != "cpu" or length > 256:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    ahead = torch.ones(length, length, dtype=torch.bool).triu(1)
    return torch.softmax(scores.masked_fill(ahead, float("-inf")), dim=-1).to(v.dtype) @ v


class Block(nn.Module):
    """Attention and feed-forward, each added to the stream after its own norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        inner, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.attn_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.q = nn.Linear(shape.width, inner, bias=False)
        self.k = nn.Linear(shape.width, kv, bias=False)
        self.v = nn.Linear(shape.width, kv, bias=False)
        self.o = nn.Linear(inner, shape.width, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor, turn: Tensor) -> Tensor:
        batch, length, _ = x.shape
        h = self.attn_norm(x)

        def split(y: Tensor) -> Tensor:
            return y.view(batch, length, -1, self.shape.head_dim).transpose(1, 2)

        q, k, v = rotate(split(self.q(h)), turn), rotate(split(self.k(h)), turn), split(self.v(h))
        y = attend(q, k, v)
        x = x + self.o(y.transpose(1, 2).reshape(batch, length, -1))
        h = self.ffn_norm(x)
        grown: Tensor = self.down(functional.silu(self.gate(h)) * self.up(h))
        return x + grown


class Llama(nn.Module):
    """Token ids in, final hidden states out; ``logits`` turns chosen ones into scores."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocab, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.register_buffer("turns", rotation(shape, shape.context), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        for name, weight in self.named_parameters():
            if weight.ndim < 2:
                continue
            deep = name.endswith(("o.weight", "down.weight"))
            nn.init.normal_(weight, std=0.02 / (2 * self.shape.layers) ** 0.5 if deep else 0.02)

    def forward(self, ids: Tensor) -> Tensor:
        turn = self.turns[:, : ids.shape[1]]  # type: ignore[index]
        x: Tensor = self.embed(ids)
        for block in self.blocks:
            x = block(x, turn)
        normed: Tensor = self.norm(x)
        return normed

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden @ self.embed.weight.T
