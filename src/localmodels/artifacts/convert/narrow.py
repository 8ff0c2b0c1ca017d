"""Narrow encoders at 8 bits: which of their matrices stay at 16.

``Q8_0`` rounds every matrix to 8 bits, and while it multiplies the vectors too. Wide models average that out, six
layers of 384 do not: of 367 texts, 52 of all-MiniLM-L6-v2's vectors had a cosine below 0.999 (0.9976 at worst) with the
bytes that llama.cpp's converter and quantiser give. With the values of attention and the way up of the feed-forward
network at F16 none has (0.9995 at worst), at 29 MB instead of 25; other pairs of matrices of that size do less.

The rule: only encoders, only ``Q8_0``, and only below the width of BERT itself; all else is llama.cpp's own mixture.
"""

from __future__ import annotations

from localmodels.artifacts.gguf_header import Header, TensorInfo
from localmodels.artifacts.quantize.file_types import FileType

NARROW = 768  # BERT's base size; MiniLM and the small models of BGE, E5 and GTE have 384, the tiny ones less
ENCODERS = frozenset({"bert", "nomic-bert"})
SPARED = (".attn_v.weight", ".attn_qkv.weight", ".ffn_up.weight")
TARGET = "Q8_0"


def is_spared(tensor: TensorInfo, header: Header, target: FileType) -> bool:
    """Does it stay at 16 bits though the file is of 8?"""
    width = header.number("embedding_length")
    return (
        target.name == TARGET
        and header.architecture in ENCODERS
        and 0 < width < NARROW
        and tensor.name.endswith(SPARED)
    )
