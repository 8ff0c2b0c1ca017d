"""A base with its adapter in it: what PEFT's ``merge_and_unload`` gives. Pure.

The rule: everything is computed in 32-bit floats and rounded once, by whoever writes the result. In blocks of rows, so
that the product of a large matrix takes no more memory than the matrix.
"""

from __future__ import annotations

import numpy as np

from localmodels.artifacts.convert.folder import Floats

_BLOCK = 2**22  # weights


def merged(base: Floats, a: Floats, b: Floats, scale: float, magnitude: Floats | None = None) -> Floats:
    """A matrix with a change of low rank in it.

    Args:
        base: (rows, columns).
        a: (rank, columns).
        b: (rows, rank).
        scale: of the product.
        magnitude: (rows), the length that each row is to have (DoRA); None leaves them as they come out.

    Returns:
        A new matrix, ``base + scale * b @ a``, with its rows brought to those lengths.
    """
    result = np.empty(base.shape, np.float32)
    step = max(1, _BLOCK // max(1, base.shape[1]))
    for start in range(0, len(base), step):
        rows = slice(start, start + step)
        np.matmul(b[rows], a, out=result[rows])
        result[rows] *= np.float32(scale)
        result[rows] += base[rows]
        if magnitude is not None:
            lengths = np.linalg.norm(result[rows], axis=1)
            # A row of zeros gives no numbers, which are refused where weights are looked at.
            with np.errstate(divide="ignore", invalid="ignore"):
                result[rows] *= (magnitude[rows] / lengths)[:, None]
    return result


def merged_embedding(base: Floats, a: Floats, b: Floats, scale: float, magnitude: Floats | None = None) -> Floats:
    """Embeddings with a change of low rank in them.

    Args:
        base: (tokens, columns).
        a: (rank, tokens).
        b: (columns, rank).
        scale: of the product.
        magnitude: (columns), the length that each column is to have (DoRA).
    """
    return merged(base.T, a, b, scale, magnitude).T
