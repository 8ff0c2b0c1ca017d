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
    assert parcel.left_out == ("modeling.py", "training_args.bin")
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


def test_a_file_that_shrinks_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    file.write_bytes(b"x" * 3_000_000)
    parcel = Parcel(file, {})
    parcel.read()
    file.write_bytes(b"x")
    with parcel, pytest.raises(InvalidRequest, match="shorter"):
        list(iter(parcel.read, b""))
