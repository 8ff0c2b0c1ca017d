"""Files and folders on their way: the form is what the server reads, to the byte that was announced."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from localmodels.client.parcels import Parcel, contents
from localmodels.core.errors import InvalidRequest
from localmodels.server.forms import boundary_of, read_form


def sent(parcel: Parcel) -> bytes:
    with parcel:
        body = b"".join(iter(parcel.read, b""))
    assert len(body) == parcel.size == parcel.done
    return body


def received(parcel: Parcel) -> tuple[dict[str, str], str, bytes]:
    body, files = sent(parcel), []

    async def take(filename: str, _fields: Mapping[str, str], pieces: AsyncIterator[bytes]) -> None:
        files.append((filename, b"".join([piece async for piece in pieces])))

    async def whole() -> AsyncIterator[bytes]:
        yield body

    texts = asyncio.run(read_form(boundary_of(parcel.content_type), whole(), len(body), {"Model"}, take))
    [(name, data)] = files
    return texts, name, data


def test_a_file_is_sent_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / 'a "b".zip'
    file.write_bytes(data := bytes(range(256)) * 5000)
    texts, name, got = received(Parcel(file, {"model_name_on_ollama": "tiny", "base": "größe"}))
    assert (name, got) == (file.name, data)
    assert texts == {"model_name_on_ollama": "tiny", "base": "größe"}


def folder(tmp_path: Path) -> Path:
    root = tmp_path / "tuned"
    (root / "1_Pooling").mkdir(parents=True)
    (root / "checkpoint-10").mkdir()
    (root / ".git").mkdir()
    for name, size in {
        "model.safetensors": 1_000_003, "config.json": 512, "1_Pooling/config.json": 1, "training_args.bin": 9,
        "modeling.py": 3, "LICENSE": 0, "checkpoint-10/model.safetensors": 4, ".git/config.json": 2,
    }.items():  # fmt: skip
        (root / name).write_bytes(b"x" * size)
    return root


def test_a_folder_becomes_a_tar_without_what_no_server_takes(tmp_path: Path) -> None:
    root = folder(tmp_path)
    parcel = Parcel(root, {})
    assert parcel.left_out == ("checkpoint-10/", "modeling.py", "training_args.bin")
    _, name, data = received(parcel)
    assert name == "tuned.tar"
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]
    assert found == {one: (root / one).read_bytes() for one in found}
    assert set(found) == {"model.safetensors", "config.json", "1_Pooling/config.json", "LICENSE"}


def test_a_name_in_the_folder_may_be_long_and_foreign(tmp_path: Path) -> None:
    root = tmp_path / "t"
    root.mkdir()
    (root / f"{'ü' * 120}.safetensors").write_bytes(b"12345678")
    _, _, data = received(Parcel(root, {}))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == [f"{'ü' * 120}.safetensors"]


def test_a_folder_without_weights_is_refused_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(InvalidRequest, match=r"pytorch_model\.bin is a pickle: save the model as safetensors"):
        contents(tmp_path)


def test_a_link_to_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "gone")
    with pytest.raises(InvalidRequest, match="link to nowhere"):
        contents(tmp_path)


def test_nobody_is_sent_a_file_that_lies_elsewhere(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (tmp_path / "secret.txt").write_text("mine")
    (root / "README.md").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(InvalidRequest, match=r"README\.md is a link that leads out of the folder '.*tuned'; copy"):
        Parcel(root, {})
    (root / "README.md").unlink()
    (root / "linked.json").symlink_to(tmp_path, target_is_directory=True)
    (root / "notes.py").symlink_to(tmp_path / "secret.txt")
    (root / "vocab.json").symlink_to("config.json")
    found = contents(root)
    assert {"linked.json", "notes.py"} < set(found.left_out)
    assert {"vocab.json", "config.json"} < {file.name for file in found.files}


def test_the_links_of_hugging_faces_cache_are_followed(tmp_path: Path) -> None:
    root, blobs = tmp_path / "models--x" / "snapshots" / "1234", tmp_path / "models--x" / "blobs"
    root.mkdir(parents=True)
    blobs.mkdir()
    for name in ("config.json", "model.safetensors"):
        (blobs / name).write_text(name)
        (root / name).symlink_to(f"../../blobs/{name}")
    _, _, data = received(Parcel(root, {}))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert {one.name: tar.extractfile(one).read() for one in tar} == {  # type: ignore[union-attr]
            name: name.encode() for name in ("config.json", "model.safetensors")
        }
        assert all(one.isreg() for one in tar)


def test_what_a_server_would_refuse_stays_at_home(tmp_path: Path) -> None:
    root = folder(tmp_path)
    names = ("trainer_state.json", "a:b.json", "con.txt", "run.sh", "more.zip", "optimizer.pt", "._config.json")
    for name in names:
        (root / name).write_text("{}")
    found = contents(root)
    assert set(found.left_out) == {"checkpoint-10/", "modeling.py", "training_args.bin", *names} - {"._config.json"}
    (root / "a:b.safetensors").write_text("{}")
    with pytest.raises(InvalidRequest, match=r"a:b\.safetensors"):
        contents(root)


def test_twins_are_told_before_they_are_sent(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "Config.json").write_text("{}")
    with pytest.raises(InvalidRequest, match="differ in case"):
        contents(root)


def test_a_file_that_shrinks_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    file.write_bytes(b"x" * 3_000_000)
    parcel = Parcel(file, {})
    parcel.read()
    file.write_bytes(b"x")
    with parcel, pytest.raises(InvalidRequest, match="shorter"):
        list(iter(parcel.read, b""))
