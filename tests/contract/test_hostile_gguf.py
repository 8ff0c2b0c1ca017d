"""What our parser lets through, the real engine must survive or refuse: each file in a process of its own."""

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from tests.hostile_gguf import HOSTILE, PASSES, mutants
from tools.random_model import SMALLEST_VOCAB, Shape, write_random_model

from localmodels.artifacts.gguf import read_header
from localmodels.core.errors import ModelDamaged

SHAPE = Shape(
    width=32, layers=2, heads=2, kv_heads=1, head_width=32, feed_forward=32, context=4096, vocab=SMALLEST_VOCAB + 8
)
MUTANTS = 20

# Loads the file and answers once. Ends with 3 when llama.cpp refused it; bounded, since some templates never end.
LOAD_AND_ANSWER = """
import json, os, resource, sys, urllib.error, urllib.request
resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.warmup, p.fit_params, p.offline = sys.argv[1], 512, 1, False, False, True
p.cpuparams.n_threads = 1
try:
    server = xllamacpp.Server(p)
except RuntimeError:
    os._exit(3)
body = json.dumps({"prompt": "hello", "n_predict": 4}).encode()
request = urllib.request.Request(server.listening_address + "/completion", body, {"Content-Type": "application/json"})
try:
    urllib.request.urlopen(request, timeout=20).read()
except urllib.error.HTTPError:
    pass
os._exit(0)
"""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_random_model(tmp_path_factory.mktemp("sound") / "sound.gguf", shape=SHAPE).read_bytes()


def _fate(file: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LOAD_AND_ANSWER, str(file)],
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return {0: "runs", 3: "refused"}.get(done.returncode, "dies")


def test_the_sound_file_runs(tmp_path: Path, sound: bytes) -> None:
    file = tmp_path / "sound.gguf"
    file.write_bytes(sound)
    assert _fate(file) == "runs"


@pytest.mark.parametrize("kind", [*list(PASSES)[::3], "template recursive"])
def test_the_engine_does_with_a_hostile_file_what_we_expect(kind: str, tmp_path: Path, sound: bytes) -> None:
    file = tmp_path / "hostile.gguf"
    file.write_bytes(HOSTILE[kind](sound))
    assert _fate(file) == PASSES[kind]


def test_no_mutant_that_we_accept_ends_the_engine(tmp_path: Path, sound: bytes) -> None:
    accepted = (mutant for mutant in mutants(sound, 1000, seed=3) if mutant != sound and _accepted(tmp_path, mutant))
    for number, mutant in enumerate(islice(accepted, MUTANTS)):
        file = tmp_path / "mutant.gguf"
        file.write_bytes(mutant)
        assert _fate(file) != "dies", f"accepted mutant {number}"


def _accepted(directory: Path, data: bytes) -> bool:
    file = directory / "candidate.gguf"
    file.write_bytes(data)
    try:
        read_header(file)
    except ModelDamaged:
        return False
    return True
