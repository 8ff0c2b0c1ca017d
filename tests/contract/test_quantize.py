"""ggml's quantisers behind our plan, judged by the reference library in Python and by the engine that must load it."""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest
from gguf.quants import dequantize, quantize
from tests.hostile_gguf import HOSTILE, mutants
from tools.random_model import TINY, write_random_model

from localmodels.artifacts.gguf import read_header
from localmodels.artifacts.gguf_header import WEIGHT_TYPES, TensorInfo
from localmodels.artifacts.quantize import TARGETS, Job, Quantizer, plan
from localmodels.artifacts.quantize.file_types import weight_type
from localmodels.artifacts.quantize.ggml import Ggml, find_library
from localmodels.artifacts.quantize.work import Buffer, Work
from localmodels.core.errors import EngineError, ModelDamaged, Unsupported

Floats = npt.NDArray[np.float32]

# Rows of 256, two layers, grouped queries; 1.07 million weights in the largest matrices, which is more than a stretch.
SHAPE = replace(TINY, width=256, heads=4, kv_heads=2, head_width=64, feed_forward=512, layers=2, vocab=4200)
FEASIBLE = [name for name, target in TARGETS.items() if not target.needs_matrix]
MUTANTS = 300
CONFINED = "localmodels.engine.quantizer"

# Loads each file and answers once; tells which one it is about before it does.
LOAD_AND_ANSWER = """
import json, sys, urllib.request
import xllamacpp
for path in sys.argv[1:]:
    print(path, flush=True)
    p = xllamacpp.CommonParams()
    p.model.path, p.n_ctx, p.n_parallel, p.warmup, p.fit_params, p.offline = path, 256, 1, False, False, True
    p.cpuparams.n_threads = 2
    server = xllamacpp.Server(p)
    body = json.dumps({"prompt": "hello", "n_predict": 4, "ignore_eos": True}).encode()
    header = {"Content-Type": "application/json"}
    request = urllib.request.Request(server.listening_address + "/completion", body, header)
    answer = json.load(urllib.request.urlopen(request, timeout=60))
    assert answer["tokens_predicted"] == 4, answer
    del server
print("all", flush=True)
"""

# Gives up its rights as the child does, then tries what that must not do: for each attempt the name of the errno.
TRIES_TO_GET_OUT = """
import errno, json, os, socket, sys
from localmodels.artifacts.quantize import Job
from localmodels.engine.confine import apply
from localmodels.engine.quantizer import policy

source, other, outside = sys.argv[1:]

def answer(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "allowed"

attempts = {
    "read the source": lambda: open(source, "rb").close(),
    "write the source": lambda: open(source, "ab").close(),
    "read another file": lambda: open(other, "rb").close(),
    "write a file": lambda: open(outside, "wb").close(),
    "reach the network": lambda: socket.socket(socket.AF_INET),
    "run a program": lambda: os.execv("/bin/true", ["true"]),
}
layers = {layer.name: layer.active for layer in apply(policy(Job(source, "Q4_0", 1)))}
print(json.dumps([layers, {name: answer(attempt) for name, attempt in attempts.items()}]))
"""

# Quantises each file, or refuses to, and tells which one it is about before it does.
QUANTIZES_ALL = """
import sys
from pathlib import Path
from localmodels.artifacts.gguf import read_header
from localmodels.artifacts.quantize import TARGETS, plan
from localmodels.artifacts.quantize.ggml import Ggml, find_library
from localmodels.artifacts.quantize.work import Work
from localmodels.core.errors import LocalModelsError

ggml, to, written = Ggml(find_library()), Path(sys.argv[1]), 0
for path in sys.stdin.read().splitlines():
    print(path, flush=True)
    for target in ("Q4_K_M", "Q4_0", "F32"):
        try:
            made = plan(path, TARGETS[target])
            with to.open("wb") as file:
                for piece in Work(Path(path), made, ggml, 1).pieces():
                    file.write(piece)
        except LocalModelsError:
            continue
        assert to.stat().st_size == made.size
        assert read_header(to).quantization_level == target
        written += 1
print(written, "written", flush=True)
"""

STARTS_A_CHILD = """
import sys
from localmodels.artifacts.quantize import Job, Quantizer
quantizer = Quantizer(Job(sys.argv[1], "IQ4_NL", 1))
print(quantizer.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def ggml() -> Ggml:
    return Ggml(find_library())


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("models") / "f32.gguf", shape=SHAPE, type="f32", end_bias=-100)


def quantized(source: Path, target: str, to: Path, *, threads: int = 2, **more: bool) -> Path:
    with Quantizer(Job(str(source), target, threads, **more)) as quantizer, to.open("wb") as out:
        for piece in quantizer.pieces():
            out.write(piece)
    return to


def content(file: Path, tensor: TensorInfo) -> npt.NDArray[np.uint8]:
    """The bytes of a tensor, row by row."""
    data = np.fromfile(file, np.uint8, tensor.size, offset=tensor.offset)
    return data.reshape(-1, tensor.size // (tensor.count // tensor.shape[0]))


def floats(file: Path, name: str) -> Floats:
    tensor = tensor_of(file, name)
    return content(file, tensor).view(np.float32)


def tensor_of(file: Path, name: str) -> TensorInfo:
    return next(tensor for tensor in read_header(file).tensors if tensor.name == name)


# Those that it can compute, and that are a main type of dense models.
@pytest.mark.parametrize("target", ["F16", "BF16", "Q8_0", "Q5_0", "Q5_1", "Q4_0", "Q4_1", "TQ1_0", "TQ2_0"])
def test_bytes_are_those_of_the_reference_library(file: Path, tmp_path: Path, target: str) -> None:
    made = quantized(file, target, tmp_path / "new.gguf")
    form = TARGETS[target].main
    compared = [tensor for tensor in read_header(made).tensors if tensor.type.name == form]
    assert len(compared) >= 10
    for tensor in compared:
        expected = quantize(floats(file, tensor.name), gguf.GGMLQuantizationType[form]).view(np.uint8)
        assert np.array_equal(content(made, tensor), expected.reshape(content(made, tensor).shape)), tensor.name


def narrowed(ggml: Ggml, weights: Floats, form: str) -> npt.NDArray[np.uint8]:
    """Blocks of these weights."""
    kind = weight_type(form)
    source, target = Buffer(weights.nbytes), Buffer(weights.size // kind.block * kind.size)
    source.view(0, weights.nbytes)[:] = weights.tobytes()
    ggml.narrow(kind, source.address, target.address, weights.size)
    assert ggml.is_sound(kind, target.address, len(target.memory))
    return np.frombuffer(target.memory, np.uint8).reshape(-1, kind.size)


def test_mxfp4_is_that_of_the_reference_library(ggml: Ggml) -> None:
    weights = np.random.default_rng(0).standard_normal(2**16).astype(np.float32)
    expected = quantize(weights.reshape(1, -1), gguf.GGMLQuantizationType.MXFP4)
    assert np.array_equal(narrowed(ggml, weights, "MXFP4").ravel(), expected.ravel())


# Relative root mean square errors of normally distributed weights, measured with llama.cpp (conversion notes).
ERRORS = {"Q8_0": 0.0055, "Q6_K": 0.018, "Q5_K": 0.036, "Q4_K": 0.071, "Q3_K": 0.151, "Q2_K": 0.297, "Q4_0": 0.089}


@pytest.mark.parametrize(("form", "error"), ERRORS.items())
def test_errors_are_as_large_as_llama_cpps(ggml: Ggml, form: str, error: float) -> None:
    weights = np.random.default_rng(0).standard_normal(2**16).astype(np.float32)
    back = dequantize(narrowed(ggml, weights, form), gguf.GGMLQuantizationType[form]).ravel()
    found = float(np.sqrt(np.mean((back - weights) ** 2) / np.mean(weights**2)))
    assert found == pytest.approx(error, rel=0.05)


def test_every_file_loads_and_answers(file: Path, tmp_path: Path) -> None:
    paths = [quantized(file, target, tmp_path / f"{target}.gguf") for target in FEASIBLE]
    for path in paths:
        assert read_header(path).quantization_level == path.stem
    done = subprocess.run(
        [sys.executable, "-c", LOAD_AND_ANSWER, *map(str, paths)],
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "all", done.stdout.splitlines()[-1] + done.stderr[-2000:]


@pytest.mark.parametrize("source", ["f16", "bf16"])
def test_16_bits_are_read_as_what_they_are(tmp_path: Path, source: str) -> None:
    old = write_random_model(tmp_path / "16.gguf", shape=SHAPE, type=source)
    wide = quantized(old, "F32", tmp_path / "32.gguf")
    for tensor in read_header(old).tensors:
        if tensor.type.name != "F32":
            kind = gguf.GGMLQuantizationType[tensor.type.name]
            assert np.array_equal(dequantize(content(old, tensor), kind), floats(wide, tensor.name)), tensor.name
    small = [quantized(one, "Q4_K_S", tmp_path / "small.gguf").read_bytes() for one in (old, wide)]
    assert small[0] == small[1]


@pytest.mark.parametrize("target", ["Q4_K_M", "IQ4_XS", "Q8_0"])
def test_the_number_of_threads_changes_no_byte(file: Path, tmp_path: Path, target: str) -> None:
    one, many = (quantized(file, target, tmp_path / str(threads), threads=threads) for threads in (1, 7))
    assert one.read_bytes() == many.read_bytes()
    assert one.stat().st_size == plan(file, TARGETS[target]).size


def test_the_confined_child_makes_the_same_file(file: Path, tmp_path: Path) -> None:
    with Quantizer(Job(str(file), "Q4_K_M", 2, nice=10), module=CONFINED) as quantizer:
        confined = b"".join(quantizer.pieces())
    assert confined == quantized(file, "Q4_K_M", tmp_path / "free").read_bytes()


def test_quantizing_twice_is_refused_and_possible(file: Path, tmp_path: Path) -> None:
    eight = quantized(file, "Q8_0", tmp_path / "eight.gguf")
    with pytest.raises(Unsupported, match="only supported for F16, BF16 and F32"):
        quantized(eight, "Q4_0", tmp_path / "four.gguf")
    four = quantized(eight, "Q4_0", tmp_path / "four.gguf", requantize=True)
    name = "blk.0.ffn_up.weight"
    expected = quantize(
        dequantize(content(eight, tensor_of(eight, name)), gguf.GGMLQuantizationType.Q8_0),
        gguf.GGMLQuantizationType.Q4_0,
    )
    assert np.array_equal(content(four, tensor_of(four, name)), expected)


def spoiled(file: Path, to: Path, name: str, value: float) -> Path:
    """The file with one weight of a tensor changed, behind the first stretch where there is more than one."""
    tensor = tensor_of(file, name)
    data = bytearray(file.read_bytes())
    data[tensor.offset + tensor.size - 4 : tensor.offset + tensor.size] = struct.pack("<f", value)
    to.write_bytes(data)
    return to


@pytest.mark.parametrize("module", ["localmodels.artifacts.quantize", CONFINED])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["output.weight", "blk.1.attn_norm.weight"])
def test_weights_that_are_no_numbers_are_named(
    file: Path, tmp_path: Path, name: str, value: float, module: str
) -> None:
    bad = spoiled(file, tmp_path / "bad.gguf", name, value)
    with (
        Quantizer(Job(str(bad), "Q4_K_M", 2), module=module) as quantizer,
        pytest.raises(ModelDamaged, match=rf"bad\.gguf: tensor '{name}' has weights that are infinite or not a number"),
    ):
        list(quantizer.pieces())


@pytest.mark.parametrize("target", ["Q8_0", "F16", "Q4_K_M"])
def test_weights_that_are_too_large_are_named(file: Path, tmp_path: Path, target: str) -> None:
    bad = spoiled(file, tmp_path / "bad.gguf", "blk.1.ffn_up.weight", 3e38)
    with pytest.raises(ModelDamaged, match=r"'blk\.1\.ffn_up\.weight' has weights that are too large for"):
        quantized(bad, target, tmp_path / "new.gguf")


def test_a_file_that_becomes_shorter_is_told(file: Path, tmp_path: Path, ggml: Ggml) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes())
    made = plan(cut, TARGETS["Q4_0"])
    os.truncate(cut, cut.stat().st_size // 2)
    with pytest.raises(ModelDamaged, match=r"cut\.gguf: became shorter while it was read"):
        for _ in Work(cut, made, ggml, 3).pieces():
            pass


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelDamaged, match=r"none\.gguf: cannot be read"):
        quantized(tmp_path / "none.gguf", "Q4_0", tmp_path / "new.gguf")


def test_no_hostile_file_ends_the_process(tmp_path: Path) -> None:
    """Each is refused by name, or becomes a file that is sound itself."""
    sound = write_random_model(tmp_path / "sound.gguf", shape=replace(TINY, width=32, feed_forward=32)).read_bytes()
    made = [*(make(sound) for make in HOSTILE.values()), *mutants(sound, MUTANTS, seed=11)]
    paths = [tmp_path / f"{number}.gguf" for number in range(len(made))]
    for path, data in zip(paths, made, strict=True):
        path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", QUANTIZES_ALL, str(tmp_path / "new.gguf")],
        input="\n".join(map(str, paths)), capture_output=True, text=True, check=False,
    )  # fmt: skip
    last = done.stdout.splitlines()[-1]
    assert last.endswith("written"), last + done.stderr[-2000:]
    assert int(last.split()[0]) >= 100  # many are accepted, and these are the ones that could do harm


def test_a_child_that_dies_is_an_error_and_leaves_nothing(file: Path) -> None:
    with Quantizer(Job(str(file), "IQ4_NL", 1)) as quantizer:
        pieces = quantizer.pieces()
        next(pieces)
        os.kill(quantizer.pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="ended with signal SIGKILL"):
            list(pieces)
    with pytest.raises(ProcessLookupError):
        os.kill(quantizer.pid, 0)


def test_who_leaves_early_ends_the_child(file: Path) -> None:
    with Quantizer(Job(str(file), "IQ4_NL", 1)) as quantizer:
        next(quantizer.pieces())
    with pytest.raises(ProcessLookupError):
        os.kill(quantizer.pid, 0)


def test_a_module_that_is_none_is_an_error(file: Path) -> None:
    with (
        Quantizer(Job(str(file), "Q4_0", 1), module="localmodels.nothing") as quantizer,
        pytest.raises(EngineError, match=r"ended with status 1: .*No module named"),
    ):
        list(quantizer.pieces())


def test_the_confined_child_sees_one_file_and_nothing_else(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.touch()
    words = [sys.executable, "-c", TRIES_TO_GET_OUT, str(file), str(other), str(tmp_path / "new")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    layers, answers = json.loads(done.stdout)
    assert answers["read the source"] == "allowed"
    if layers["landlock"]:
        assert {answers[name] for name in ("write the source", "read another file", "write a file")} == {"EACCES"}
    if layers["seccomp"]:
        assert {answers[name] for name in ("reach the network", "run a program")} == {"EPERM"}
    if missing := [name for name in ("landlock", "seccomp") if not layers[name]]:
        pytest.skip(f"this kernel has no {' and no '.join(missing)}, so not all of it was tried")


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux tells of the end of another's child")
def test_the_child_ends_with_whoever_started_it(file: Path) -> None:
    """A parent that is killed can tell nobody; the end of its pipe does."""
    command = [sys.executable, "-c", STARTS_A_CHILD, str(file)]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = os.pidfd_open(int(parent.stdout.readline()))
    try:
        parent.kill()
        parent.communicate()
        ended, _, _ = select.select([child], [], [], 30)
        assert ended
    finally:
        os.close(child)


@pytest.mark.parametrize(("form", "bits"), [("F16", 0x7C00), ("BF16", 0x7F80)])
def test_every_number_of_16_bits_is_read_and_judged_as_it_is(ggml: Ggml, form: str, bits: int) -> None:
    """``bits`` are those of an exponent that only infinity and what is no number have."""
    kind, patterns = weight_type(form), np.arange(2**16, dtype=np.uint16)
    finite = (patterns & bits) != bits
    source, target = Buffer(2 * patterns.size), Buffer(4 * patterns.size)
    source.view(0, len(source.memory))[:] = patterns.tobytes()
    ggml.widen(kind, source.address, target.address, patterns.size)
    expected = dequantize(patterns.view(np.float16 if form == "F16" else np.uint8), gguf.GGMLQuantizationType[form])
    found = np.frombuffer(target.memory, np.float32)
    assert np.array_equal(found[finite].view(np.uint32), expected.ravel()[finite].view(np.uint32))
    ones = np.full(64, 0x3C00, np.uint16)
    for pattern, wanted in zip(patterns.tolist(), finite.tolist(), strict=True):
        ones[17] = pattern
        source.view(0, 128)[:] = ones.tobytes()
        assert ggml.is_sound(kind, source.address, 128) is wanted, hex(pattern)


@pytest.mark.parametrize("value", [0.0, 1e-45, 1e19, 1e38, 3.4e38, float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("place", [0, 31, 4000])
def test_numbers_of_32_bits_are_judged_as_they_are(ggml: Ggml, value: float, place: int) -> None:
    weights = np.ones(4001, np.float32)
    weights[place] = value
    source = Buffer(weights.nbytes)
    source.view(0, weights.nbytes)[:] = weights.tobytes()
    assert ggml.is_sound(weight_type("F32"), source.address, weights.nbytes) is bool(np.isfinite(value))


def test_numbers_become_f16_as_everywhere(ggml: Ggml) -> None:
    """Rounded to the nearest, of two to the even one; tiny ones too."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0x33000000, 0x477FE000, 2**16, dtype=np.uint32)
    halves = patterns & np.uint32(0xFFFFE000) | np.uint32(0x1000)
    weights = np.concatenate([patterns, halves, patterns | np.uint32(0x80000000)]).view(np.float32)
    assert np.array_equal(narrowed(ggml, weights, "F16").ravel(), weights.astype(np.float16).view(np.uint8))


def test_numbers_that_are_no_blocks_never_reach_ggml(ggml: Ggml) -> None:
    """It would end the process."""
    for form in WEIGHT_TYPES.values():
        for count in (0, -form.block, form.block + 1 if form.block > 1 else -1):
            with pytest.raises(ValueError, match="are no blocks"):
                ggml.widen(form, 0, 0, count)
            with pytest.raises(ValueError, match="are no blocks"):
                ggml.narrow(form, 0, 0, count)
        if form.size > 1:
            with pytest.raises(ValueError, match="are no blocks"):
                ggml.is_sound(form, 0, form.size + 1)


def test_what_needs_a_matrix_never_reaches_ggml(ggml: Ggml) -> None:
    with pytest.raises(ValueError, match="needs an importance matrix"):
        ggml.narrow(weight_type("IQ2_XS"), 0, 0, 256)


def test_a_library_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.so").write_bytes(b"")
    with pytest.raises(EngineError, match=r"x\.so: the engine's functions cannot be loaded"):
        Ggml(tmp_path / "x.so")
