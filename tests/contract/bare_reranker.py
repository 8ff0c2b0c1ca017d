"""llama.cpp's own reranking, with nothing of ours around it: the judge of the order.

Usage: ``python bare_reranker.py MODEL`` with ``{"query", "documents"}`` on standard input. Prints its answer.
"""

from __future__ import annotations

import json
import sys

import xllamacpp


def main() -> None:
    """The command line."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = sys.argv[1]
    parameters.embedding = True
    parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    parameters.n_ctx = 4096
    parameters.n_parallel = 1
    parameters.warmup = False
    parameters.verbosity = 0
    print(json.dumps(xllamacpp.Server(parameters).handle_rerank(json.load(sys.stdin))))


if __name__ == "__main__":
    main()
