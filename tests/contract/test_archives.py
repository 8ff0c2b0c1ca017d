"""Sound archives, as people and programs make them, come out byte for byte; and what unpacks them has no rights."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import zstandard
from tests.contract.hostile_archives.making import CONFIG, File, Member, tar_of, with_descriptor, zip_of
from tests.contract.hostile_archives.probe import Probe

from localmodels.artifacts.archive import Extractor, Job
from localmodels.core.errors import EngineError, InvalidRequest, TooLarge, Unsupported

MODULES = ("localmodels.artifacts.archive", "localmodels.engine.extractor")
ENOUGH = 2**40


def weights(size: int) -> bytes:
    """A safetensors file with one tensor that does not shrink."""
    head = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(head).to_bytes(8, "little") + head + os.urandom(size)


FILES: Mapping[str, bytes] = {
    "config.json": CONFIG,
    "model.safetensors": weights(3_000_000),
    "adapter_model.safetensors": b"\x80\x02" + bytes(6) + b"{}".ljust(640) + bytes(9),  # begins as a pickle does
    "tokenizer.json": json.dumps({"vocab": {f"token {n}": n for n in range(50_000)}}).encode(),
    "tokenizer.model": b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02" + os.urandom(1000),
    "original/tokenizer.model": b"IQ== 0\nIg== 1\n",
    "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
    "vocab.txt": b"[PAD]\ncat\ndog\n",
    "merges.txt": b"#version: 0.2\n\xc4\xa0 t\n",
    "chat_template.jinja": "{% for m in messages %}{{ m.content }}…{% endfor %}".encode(),
    "LICENSE": b"",
    "README.md": b"---\nlicense: mit\n---\n",
    "a/b/c/d.json": b"[]",
    f"{'long' * 40}.json": b"{}",
    "café ü 模型.json": b"{}",
}
SHORT = {name: data for name, data in FILES.items() if len(name) < 100}  # what tar had room for in 1979
LEFT = {
    "optimizer.pt": b"PK\x03\x04 a pickle",
    "training_args.bin": b"\x80\x02 a pickle",
    "rng_state_0.pth": b"\x80\x02 a pickle",
    "trainer_state.json": b"{}",
    "runs/Nov21/events.out.tfevents.1": b"\0\0",
    "checkpoint-500/config.json": b"{}",
    ".gitattributes": b"* lfs\n",
    ".cache/huggingface/x.py": b"import os\n",
    "logo.png": b"\x89PNG\r\n",
    ".DS_Store": b"\0\0\0\1Bud1",
    "._config.json": b"\0\5\x16\7",
}


def extracted(path: Path, module: str = MODULES[0]) -> dict[str, bytes]:
    with Extractor(Job(str(path), path.name, ENOUGH), module=module) as extractor:
        outline = extractor.outline()
        found = {entry.name: b"".join(entry.pieces) for entry in extractor.entries()}
    assert (outline.files, outline.size) == (len(found), sum(map(len, found.values())))
    return found


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


class Unseekable(io.RawIOBase):
    """What a pipe is to whoever writes to it."""

    def __init__(self, to: io.BytesIO) -> None:
        self._to = to

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        return self._to.write(data)  # type: ignore[arg-type]


def zipped(files: Mapping[str, bytes], method: int, *, stream: bool = False, wide: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(Unseekable(buffer) if stream else buffer, "w", method) as archive:
        for name, data in files.items():
            with archive.open(name, "w", force_zip64=wide) as file:
                file.write(data)
    return buffer.getvalue()


def tarred(files: Mapping[str, bytes], mode: str = "w", kind: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=kind) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            told = tarfile.TarInfo(name)
            told.size = len(data)
            archive.addfile(told, io.BytesIO(data))
    return buffer.getvalue()


def in_parts(data: bytes, pack: Callable[[bytes], bytes], size: int) -> bytes:
    return b"".join(pack(data[at : at + size]) for at in range(0, len(data), size))


STREAMED = zstandard.ZstdCompressor(level=3, write_content_size=False, write_checksum=True)
SKIPPED = b"\x5e\x2a\x4d\x18\x05\0\0\0hello"

BY_LIBRARY: Mapping[str, Callable[[], bytes]] = {
    "zip, stored": lambda: zipped(FILES, zipfile.ZIP_STORED),
    "zip, deflated": lambda: zipped(FILES, zipfile.ZIP_DEFLATED),
    "zip, stored, streamed": lambda: zipped(FILES, zipfile.ZIP_STORED, stream=True),
    "zip, deflated, streamed": lambda: zipped(FILES, zipfile.ZIP_DEFLATED, stream=True),
    "zip64": lambda: zipped(FILES, zipfile.ZIP_DEFLATED, wide=True),
    "zip64, streamed": lambda: zipped(FILES, zipfile.ZIP_DEFLATED, stream=True, wide=True),
    "zip, with zip64's end": lambda: zip_of(*(File(name=name, data=data) for name, data in FILES.items()), end64={}),
    "zip, with a comment": lambda: zip_of(*(File(name=n, data=d) for n, d in FILES.items()), comment=b"PK, said he"),
    "zip, descriptors without magic": lambda: zip_of(
        *(with_descriptor(File(name=n, data=d), magic=False, wide=d == CONFIG) for n, d in FILES.items())
    ),
    "zip, with modes of folders": lambda: zip_of(
        File(name="m/", data=b"", mode=0o042775, dos=0x10, method=0),
        *(File(name=f"m/{n}", data=d, mode=0o100777) for n, d in FILES.items()),
    ),
    "zip, of before there was UTF-8": lambda: zip_of(
        *(File(name=n, data=d) for n, d in FILES.items() if n.isascii()),
        File(name="café ü 模型.json".encode(), data=b"{}"),
    ),
    "tar, GNU": lambda: tarred(FILES, kind=tarfile.GNU_FORMAT),
    "tar, pax": lambda: tarred(FILES, kind=tarfile.PAX_FORMAT),
    "tar.gz": lambda: tarred(FILES, "w:gz"),
    "tar.gz in members": lambda: in_parts(tarred(FILES), gzip.compress, 65_280),
    "tar.gz that is stored": lambda: gzip.compress(tarred(FILES), 0),
    "tar.zst": lambda: zstandard.ZstdCompressor(write_checksum=True).compress(tarred(FILES)),
    "tar.zst in frames": lambda: in_parts(tarred(FILES), STREAMED.compress, 100_000),
    "tar.zst with something to skip": lambda: STREAMED.compress(tarred(FILES)) + SKIPPED,
    "tar.zst, the best": lambda: zstandard.ZstdCompressor(level=22).compress(tarred(FILES)),
}


@pytest.mark.parametrize("how", BY_LIBRARY)
def test_what_libraries_pack_comes_out(how: str, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(BY_LIBRARY[how]())
    assert extracted(path) == FILES


def test_a_name_of_the_first_pc_comes_out(tmp_path: Path) -> None:
    path = tmp_path / "upload.zip"
    path.write_bytes(zip_of(File(), File(name="café.json".encode("cp437"))))
    assert set(extracted(path)) == {"config.json", "café.json"}


BY_PROGRAM: Mapping[str, str] = {
    "zip": "zip -q -r $to.zip . && mv $to.zip $to",
    "zip into a pipe": "zip -q -r - . | cat > $to",
    "zip -0 into a pipe": "zip -q -0 -r - . | cat > $to",
    "zip -0 of the folder itself": "cd .. && zip -q -0 -r $to.zip files && mv $to.zip $to",
    "zip -fz": "zip -q -fz -r $to.zip . && mv $to.zip $to",
    "tar": "tar -cf $to .",
    "tar of the folder itself": "tar -C .. -cf $to files",
    "tar, v7": "tar --format=v7 -cf $to *",
    "tar, ustar": "tar --format=ustar -C .. -cf $to files",
    "tar, pax": "tar --format=pax -cf $to .",
    "tar -z": "tar -czf $to .",
    "tar with large blocks": "tar -b 100 -cf $to .",
    "tar --zstd": "tar --zstd -cf $to .",
    "zstd --long": "tar -cf - . | zstd -q --long -19 > $to",
}


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("how", BY_PROGRAM)
def test_what_programs_pack_comes_out(how: str, module: str, tmp_path: Path) -> None:
    line = BY_PROGRAM[how]
    missing = [program for program in ("zip", "tar", "zstd") if program in line and shutil.which(program) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} on this machine")
    folder, path = write(tmp_path / "files", SHORT), tmp_path / "upload"
    subprocess.run(["sh", "-c", line], cwd=folder, env={**os.environ, "to": str(path)}, check=True)
    assert extracted(path, module) == SHORT


@pytest.mark.skipif(shutil.which("zip") is None, reason="no zip on this machine")
def test_a_zip_that_was_written_in_place_comes_out(tmp_path: Path) -> None:
    folder, path = write(tmp_path / "files", FILES), tmp_path / "upload.zip"
    for _ in range(2):
        subprocess.run(["zip", "-q", "-r", str(path), "."], cwd=folder, check=True)
        (folder / "more.json").write_bytes(b"{}")
    assert extracted(path) == {**FILES, "more.json": b"{}"}


@pytest.mark.parametrize("top", ["", "my-model/"])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_what_trainers_and_desktops_leave_is_passed_over_and_named(
    top: str, pack: Callable[..., bytes], tmp_path: Path
) -> None:
    files = {f"{top}{name}": data for name, data in {**SHORT, **LEFT}.items()}
    files |= {"__MACOSX/._config.json": b"\0\5\x16\7", f"__MACOSX/{top}a/._b.py": b"\0\5\x16\7"}
    path = tmp_path / "upload.zip"
    path.write_bytes(pack(files, zipfile.ZIP_DEFLATED) if pack is zipped else pack(files))
    with Extractor(Job(str(path), path.name, ENOUGH)) as extractor:
        outline = extractor.outline()
        assert {entry.name: b"".join(entry.pieces) for entry in extractor.entries()} == SHORT
    notes = "; ".join(outline.notes)
    assert [name for name in LEFT if name not in notes] == []
    assert "__MACOSX" in notes


def test_a_gguf_file_comes_out_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "saved"
    path.write_bytes(b"GGUF" + os.urandom(5000))
    for name, expected in (("tiny.Q4_K_M.gguf", "tiny.Q4_K_M.gguf"), ("tiny.zip", "model.gguf")):
        with Extractor(Job(str(path), name, ENOUGH)) as extractor:
            assert extractor.outline().format == "gguf"
            assert {each.name: b"".join(each.pieces) for each in extractor.entries()} == {expected: path.read_bytes()}


def test_a_model_of_nine_gigabytes_is_looked_at_at_once(tmp_path: Path) -> None:
    """A file with a hole, which takes no space: sizes above 8 GiB are no octal number any more."""
    size = 9 * 2**30
    head = weights(0).replace(b" ", b"").ljust(512)
    told = tarfile.TarInfo("model.safetensors")
    told.size = size
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / "upload.tar"
        with path.open("wb") as file:
            file.write(told.tobuf(kind) + head)
            file.truncate(file.tell() - 512 + size)
            file.seek(0, os.SEEK_END)
            file.write(bytes(1024))
        with Extractor(Job(str(path), path.name, ENOUGH)) as extractor:
            assert extractor.outline().size == size
        with (
            Extractor(Job(str(path), path.name, size - 1)) as extractor,
            pytest.raises(TooLarge, match="unpacked here"),
        ):
            extractor.outline()


# What it takes and what becomes of it


@pytest.fixture
def probe(tmp_path: Path) -> Iterator[Probe]:
    folder = tmp_path / "nothing"
    folder.mkdir()
    probe = Probe(folder)
    yield probe
    probe.close()


def test_the_largest_window_that_zstd_takes_fits_into_memory(probe: Probe, tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=27)
    path = tmp_path / "upload"
    size = 150 * 2**20
    with path.open("wb") as file, zstandard.ZstdCompressor(compression_params=parameters).stream_writer(file) as packer:
        packer.write(tar_of(Member(name="model.safetensors", data=weights(size))))
    answer = probe.ask(path)
    assert (answer.error, answer.given > size) == ("", True)
    assert 128 * 2**20 < answer.peak < 256 * 2**20


def test_memory_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(zipped(FILES, zipfile.ZIP_STORED))
    with (
        Extractor(Job(str(path), "x", ENOUGH, memory=2**20)) as extractor,
        pytest.raises((TooLarge, EngineError)),
    ):
        extractor.outline()


def test_patience_ends(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(zipped(FILES, zipfile.ZIP_STORED))
    with Extractor(Job(str(path), "x", ENOUGH), patience=0) as extractor, pytest.raises(EngineError, match="0 s"):
        extractor.outline()


def test_what_nobody_takes_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(zipped(FILES, zipfile.ZIP_STORED))
    with Extractor(Job(str(path), "x", ENOUGH)) as extractor:
        assert [entry.name for entry in extractor.entries()] == list(FILES)


def test_closing_ends_the_child(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(zipped(FILES, zipfile.ZIP_STORED))
    with Extractor(Job(str(path), "x", ENOUGH)) as extractor:
        extractor.outline()
        pid = extractor.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_archive_that_changes_while_it_is_unpacked_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    large = {"model.safetensors": weights(2**23)}  # more than a pipe holds, so the child waits in the middle of it
    path.write_bytes(tarred({**large, "config.json": CONFIG, "z.json": b"{}"}))
    with Extractor(Job(str(path), "x", ENOUGH)) as extractor:
        extractor.outline()
        with path.open("r+b") as file:
            file.write(tarred({**large, "evil.json": CONFIG, "z.json": b"{}"}))
        with pytest.raises(InvalidRequest, match="changed"):
            list(extractor.entries())


def test_signs_of_life_tell_how_far_it_is(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    with gzip.open(path, "wb", compresslevel=1) as file:  # inflating it takes longer than a quarter of a second
        file.write(tar_of(Member(name="model.safetensors", data=weights(1000)), end=b""))
        file.write(tar_of(*(Member(name=f"{n}.dat", data=os.urandom(2**20).hex().encode()) for n in range(40))))
    seen: list[int] = []
    with Extractor(Job(str(path), "x", ENOUGH), seen=seen.append) as extractor:
        extractor.outline()
        list(extractor.entries())
    assert seen
    assert seen == sorted(set(seen))
    assert 0 < seen[-1] <= 2 * path.stat().st_size


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with (
        Extractor(Job(str(tmp_path / "none"), "x.zip", ENOUGH)) as extractor,
        pytest.raises(EngineError, match=r"x\.zip"),
    ):
        extractor.outline()


@pytest.mark.parametrize("module", MODULES)
def test_refusals_come_through_with_their_class(tmp_path: Path, module: str) -> None:
    path = tmp_path / "upload"
    for archive, error in (
        (zip_of(File(name="../x.json")), InvalidRequest),
        (zip_of(File(name="x.py")), Unsupported),
        (zip_of(File(name="x.txt", data=b"a" * 2**22)), TooLarge),
    ):
        path.write_bytes(archive)
        with Extractor(Job(str(path), "x", ENOUGH), module=module) as extractor, pytest.raises(error) as raised:
            extractor.outline()
        assert type(raised.value) is error


# Gives up its rights as the child does, then tries what that must not do: for each attempt the name of the errno.
TRIES_TO_GET_OUT = """
import errno, json, os, socket, sys
from localmodels.artifacts.archive import Job
from localmodels.engine.confine import apply
from localmodels.engine.extractor import policy

source, other, outside = sys.argv[1:]

def answer(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "allowed"

attempts = {
    "read the archive": lambda: open(source, "rb").close(),
    "write the archive": lambda: open(source, "ab").close(),
    "remove the archive": lambda: os.unlink(source),
    "read another file": lambda: open(other, "rb").close(),
    "write a file": lambda: open(outside, "wb").close(),
    "write to a descriptor that is open": lambda: os.write(descriptor, b"x"),
    "make a folder": lambda: os.mkdir(outside),
    "make a link": lambda: os.symlink("/etc/passwd", outside),
    "reach the network": lambda: socket.socket(socket.AF_INET),
    "reach a neighbour": lambda: socket.socket(socket.AF_UNIX).connect(other),
    "run a program": lambda: os.execv("/bin/true", ["true"]),
}
descriptor = os.open(outside + ".open", os.O_WRONLY | os.O_CREAT)
layers = {layer.name: layer.active for layer in apply(policy(Job(source, "x.zip", 1)))}
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
print(json.dumps([layers, {name: answer(attempt) for name, attempt in attempts.items()}]))
"""


def test_the_child_can_write_nothing_and_reach_nobody(tmp_path: Path) -> None:
    archive, other = tmp_path / "upload.zip", tmp_path / "other"
    for path in (archive, other):
        path.write_bytes(b"x")
    told = subprocess.run(
        [sys.executable, "-c", TRIES_TO_GET_OUT, str(archive), str(other), str(tmp_path / "new")],
        capture_output=True,
        check=True,
    ).stdout
    layers, answers = json.loads(told)
    if not (layers["landlock"] and layers["seccomp"]):
        pytest.skip(f"not all layers on this machine: {layers}")
    assert answers.pop("read the archive") == "allowed"
    assert answers.pop("write to a descriptor that is open") == "EFBIG"
    assert {what: error for what, error in answers.items() if error not in {"EACCES", "EPERM"}} == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.open", "other", "upload.zip"]
