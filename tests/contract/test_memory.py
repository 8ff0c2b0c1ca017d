"""The estimate against the engine: what llama.cpp says it allocates, and what its process takes."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tools.random_model import Shape, write_random_model

from localmodels.artifacts.gguf import read_header
from localmodels.engine.memory import Plan, estimate

# Wide enough for the buffers to outweigh the process; written in well under a second.
SHAPE = Shape(width=512, layers=4, heads=8, kv_heads=2, head_width=64, feed_forward=1536, context=32_768, vocab=16_000)

# The process counts for much in a model this small, and one prompt does not touch all of the compute buffer.
SLACK = 16 * 2**20

LOAD_AND_REPORT = """
import json, os, sys, urllib.request
import xllamacpp
path, context, parallel, cache, embedding = sys.argv[1], *map(int, sys.argv[2:4]), sys.argv[4], sys.argv[5] == "True"
p = xllamacpp.CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.warmup, p.fit_params, p.offline = path, context * parallel, parallel, 0, 0, 1
p.cache_type_k = p.cache_type_v = getattr(xllamacpp.ggml_type, "GGML_TYPE_" + cache.upper())
p.cpuparams.n_threads, p.verbosity, p.cache_ram_mib, p.embedding = 1, 4, 0, embedding
if embedding:
    p.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
server = xllamacpp.Server(p)
tokens = [40] * 500
route = "/v1/embeddings" if embedding else "/completion"
body = json.dumps({"input": [tokens]} if embedding else {"prompt": tokens, "n_predict": 2}).encode()
request = urllib.request.Request(server.listening_address + route, body, {"Content-Type": "application/json"})
urllib.request.urlopen(request, timeout=60).read()
status = open("/proc/self/status").read()
os.write(1, json.dumps(int(status.split("VmHWM:")[1].split()[0]) * 1024).encode())
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("context", "parallel", "cache", "embedding"),
    [(4096, 4, "f16", False), (16_384, 2, "q8_0", False), (2048, 1, "f16", True)],
)
def test_the_estimate_is_near_the_truth_and_not_below(
    context: int, parallel: int, cache: str, embedding: bool, tmp_path: Path
) -> None:
    file = write_random_model(tmp_path / "model.gguf", shape=SHAPE, type="q8_0")
    plan = Plan(context, parallel, cache_k=cache, cache_v=cache, embedding=embedding)
    memory = estimate(read_header(file), plan)
    words = [str(file), str(context), str(parallel), cache, str(embedding)]
    done = subprocess.run(
        [sys.executable, "-c", LOAD_AND_REPORT, *words], capture_output=True, text=True, timeout=120, check=True
    )
    reported: Counter[str] = Counter()
    for kind, size in re.findall(r"(KV|compute) buffer size = +([\d.]+) MiB", done.stderr):
        reported[kind] += int(float(size) * 2**20)
    assert memory.kv_cache == reported["KV"]
    assert memory.compute >= 0.95 * reported["compute"]
    taken = int(json.loads(done.stdout.splitlines()[-1]))
    assert 0.95 * taken <= memory.total <= 1.25 * taken + SLACK
