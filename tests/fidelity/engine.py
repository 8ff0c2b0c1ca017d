"""The engine, asked for what it computes: log-probabilities of the whole vocabulary, greedy tokens, embeddings.

The wheel's own server in a process of its own, since a bad file may abort it; with a cache in F32 and without flash
attention, so that what differs is the model and not the rounding. ``python -m tests.fidelity.engine`` is that process:
one JSON line in (:class:`Question`), one out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

GREEDY = 48
AT_ONCE = 32  # texts
WHOLE_LETTER = 100  # "a" by tests.fidelity.tokenizers


def ask(path: Path, **question: Any) -> dict[str, Any]:
    """What the engine says of a model file.

    Args:
        path: of the file.
        question: ``prompts`` (lists of token ids) for log-probabilities, ``greedy`` (one list) for the tokens after it,
            ``texts`` for embeddings; ``ranked`` (a question and documents) for scores; ``adapter`` (a path) and its
            ``scale``; ``vocabulary`` and ``context``.

    Raises:
        RuntimeError: it did not load; with its last words.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.fidelity.engine"],
        input=json.dumps({"path": str(path), **question}),
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )
    if done.returncode:
        raise RuntimeError(f"{path.name}: the engine refused it: {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _post(address: str, body: Mapping[str, Any]) -> Any:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def _log_probabilities(address: str, prompt: Sequence[int], vocabulary: int) -> list[float]:
    # The server keeps probabilities back with half a letter; so it is made to take a whole one, after they are read.
    body = {"prompt": list(prompt), "n_predict": 1, "n_probs": vocabulary, "cache_prompt": False, "temperature": 0.0,
            "logit_bias": [[WHOLE_LETTER, 1000.0]]}  # fmt: skip
    answer = _post(f"{address}/completion", body)
    found = [0.0] * vocabulary
    listed = answer["completion_probabilities"][0]["top_logprobs"]
    if len(listed) != vocabulary:
        raise RuntimeError(f"{len(listed)} of {vocabulary} log-probabilities")
    for one in listed:
        found[one["id"]] = one["logprob"]
    return found


def _greedy(address: str, prompt: Sequence[int]) -> list[int]:
    body = {"prompt": list(prompt), "n_predict": GREEDY, "temperature": 0.0, "cache_prompt": False, "ignore_eos": False,
            "return_tokens": True}  # fmt: skip
    tokens: list[int] = _post(f"{address}/completion", body)["tokens"]
    return tokens


def main() -> None:
    """One question from standard input."""
    import xllamacpp  # noqa: PLC0415 - loads the whole engine, which the process that asks has no use for

    question = json.loads(sys.stdin.read())
    p = xllamacpp.CommonParams()
    p.model.path = question["path"]
    p.n_ctx = question["context"]
    p.n_parallel = 1
    p.n_batch = p.n_ubatch = 512
    p.warmup, p.fit_params, p.offline, p.swa_full = False, False, True, True
    p.cache_type_k = p.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    p.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 2
    if "texts" in question or "ranked" in question:
        p.embedding = True
        p.kv_unified = True
    if "ranked" in question:
        p.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    if "adapter" in question:
        p.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(question["adapter"], question["scale"])]
    server = xllamacpp.Server(p)
    address = server.listening_address
    answer: dict[str, Any] = {
        "log_probabilities": [
            _log_probabilities(address, prompt, question["vocabulary"]) for prompt in question.get("prompts", ())
        ],
    }
    if "greedy" in question:
        answer["greedy"] = _greedy(address, question["greedy"])
    if "texts" in question:
        texts = question["texts"]
        parts = [
            _post(f"{address}/v1/embeddings", {"input": texts[at : at + AT_ONCE]})
            for at in range(0, len(texts), AT_ONCE)
        ]
        answer["embeddings"] = [one["embedding"] for part in parts for one in part["data"]]
        answer["tokens"] = [_post(f"{address}/tokenize", {"content": text, "add_special": True})["tokens"]
                            for text in question["texts"]]  # fmt: skip
    if "ranked" in question:
        query, documents = question["ranked"]
        results = [server.handle_rerank({"query": query, "documents": [text]}) for text in documents]
        answer["scores"] = [one["results"][0]["relevance_score"] for one in results]
        answer["lengths"] = [one["usage"]["prompt_tokens"] for one in results]
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
