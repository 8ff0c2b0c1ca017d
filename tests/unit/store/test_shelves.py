"""Shelves: what is on them is told, and one bad model never hides the others."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.store.ollama_store import CONFIG, OllamaStore, write_gguf, write_projector

from localmodels import store as package
from localmodels.artifacts.gguf import read_header
from localmodels.artifacts.gguf_header import Header
from localmodels.core.catalog import ModelName
from localmodels.core.errors import ModelDamaged
from localmodels.core.options import Options
from localmodels.store.entries import Damaged, Entry, capabilities, names_of
from localmodels.store.headers import Headers
from localmodels.store.ollama import OllamaShelf
from localmodels.store.shelves import (
    BuiltinShelf,
    FileShelf,
    ModelFiles,
    Shelf,
    builtin_path,
)

NAME = ModelName.parse("tiny:q4")
PLACE = "registry.ollama.ai/library/tiny/q4"


def only(shelf: Shelf) -> Entry:
    (found,) = shelf.list()
    assert isinstance(found, Entry)
    return found


# Ollama's store


def test_a_model_is_told_with_all_that_its_maker_set(
    store: OllamaStore, weights: bytes, projector: bytes, adapter: bytes
) -> None:
    manifest = store.add(
        "tiny:q4",
        weights,
        ("template", b"{{ .Prompt }}"),
        ("system", "Du bist höflich.".encode()),
        ("params", b'{"temperature": 0.25, "stop": ["</s>"], "num_gqa": 8}'),
        ("messages", b'[{"role": "user", "content": "hi"}]'),
        ("license", b"MIT"),
        ("license", b"and more"),
        ("adapter", adapter),
        ("projector", projector),
        mtime_ns=1_750_000_000_123_456_789,
    )
    entry = only(OllamaShelf(store.root))
    assert entry.name == NAME
    assert Path(entry.model_path).read_bytes() == weights
    assert entry.parts == (entry.model_path,)
    assert Path(entry.projector_path).read_bytes() == projector
    assert [Path(path).read_bytes() for path in entry.adapter_paths] == [adapter]
    assert (entry.adapter_names, entry.adapter_bytes) == (("adapter-0",), len(adapter))
    assert (entry.template, entry.system) == ("{{ .Prompt }}", "Du bist höflich.")
    assert (entry.options, entry.other_options) == (Options(temperature=0.25, stop=("</s>",)), (("num_gqa", 8),))
    assert (entry.messages, entry.license) == ((("user", "hi"),), ("MIT", "and more"))
    assert entry.modified_at == "2025-06-15T15:06:40.123456789Z"
    assert entry.size == sum(blob.stat().st_size for blob in store.blobs.iterdir())
    assert entry.source == "ollama"
    assert capabilities(entry) == ("completion", "vision")
    assert (entry.details.parameter_size, entry.details.quantization_level) == ("1.5B", "Q4_0")
    assert manifest.exists()


@pytest.mark.parametrize(
    ("titles", "names"),
    [
        (("style.gguf", "tone"), ("style", "tone")),
        (("", "x.gguf", "x"), ("adapter-0", "x", "adapter-2")),
        (("\x1b[2J", "a" * 200), ("adapter-0", "a" * 120)),
        ((), ()),
    ],
)
def test_adapters_have_names_that_tell_them_apart(titles: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert names_of(titles) == names


def test_a_stamp_tells_of_weights_that_were_put_anew_and_of_no_text(store: OllamaStore, weights: bytes) -> None:
    manifest = store.add("tiny:q4", weights, ("system", b"Be kind."))
    shelf = OllamaShelf(store.root)
    before = only(shelf)
    document = json.loads(manifest.read_bytes())
    model, system = (store.blob_path(layer["digest"]) for layer in document["layers"])
    put_anew(system)
    assert only(shelf).stamp == before.stamp
    put_anew(model)
    assert only(shelf).stamp != before.stamp
    assert only(shelf).digest == before.digest


def put_anew(path: Path) -> None:
    """The same bytes in another file."""
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def test_the_legacy_prompt_layer_is_a_template(store: OllamaStore, weights: bytes) -> None:
    store.add("tiny:q4", weights, ("prompt", b"old"))
    assert only(OllamaShelf(store.root)).template == "old"


def test_without_its_makers_words_the_file_tells_the_details(store: OllamaStore, weights: bytes) -> None:
    layers = [store.layer("model", weights)]
    store.write(PLACE, store.document(layers, store.config({"model_format": "gguf"})))
    details = only(OllamaShelf(store.root)).details
    assert (details.family, details.families, details.quantization_level) == ("llama", ("llama",), "F32")
    assert details.parameter_size == "24"


def test_finding_is_listing_one(store: OllamaStore, weights: bytes) -> None:
    store.add("tiny:q4", weights)
    shelf = OllamaShelf(store.root)
    assert shelf.find(NAME) == only(shelf)
    assert shelf.find(ModelName.parse("tiny:q8")) is None
    assert shelf.find(ModelName.parse("Tiny:q4")) is None


def test_case_twins_are_two_models_that_do_not_disturb_each_other(store: OllamaStore, weights: bytes) -> None:
    store.add("tiny:q4", weights, ("system", b"small"))
    store.add("Tiny:q4", weights, ("system", b"large"))
    shelf = OllamaShelf(store.root)
    found = {str(entry.name): entry.system for entry in shelf.list() if isinstance(entry, Entry)}
    assert found == {"tiny:q4": "small", "Tiny:q4": "large"}
    for name, system in found.items():
        entry = shelf.find(ModelName.parse(name))
        assert entry is not None
        assert entry.system == system


Break = Callable[[OllamaStore, dict[str, Any]], object]


def model_blob(store: OllamaStore, document: dict[str, Any]) -> Path:
    return store.blob_path(document["layers"][0]["digest"])


def _link(path: Path, target: Path) -> None:
    path.rename(target)
    path.symlink_to(target)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _lose(store: OllamaStore, document: dict[str, Any], **changes: Any) -> None:
    """Names a new blob and takes it away."""
    _replace(store, document, **changes)
    (new,) = changes.values()
    store.blob_path((new[-1] if isinstance(new, list) else new)["digest"]).unlink()


def _resize(store: OllamaStore, document: dict[str, Any]) -> None:
    with model_blob(store, document).open("ab") as stream:
        stream.write(b"x")


def _replace(store: OllamaStore, document: dict[str, Any], **changes: Any) -> None:
    store.write(PLACE, {**document, **changes})


def _again(store: OllamaStore, document: dict[str, Any], kind: str) -> None:
    """Gives the weights out for something else too."""
    _replace(store, document, layers=[*document["layers"], store.layer(kind, model_blob(store, document).read_bytes())])


def _text(kind: str, data: bytes) -> Break:
    def put(store: OllamaStore, document: dict[str, Any]) -> None:
        _replace(store, document, layers=[*document["layers"], store.layer(kind, data)])

    return put


def _weights(data: bytes) -> Break:
    return lambda store, document: _replace(store, document, layers=[store.layer("model", data)])


# What is done to a model, and a word of the reason that is given.
DAMAGE: dict[str, tuple[Break, str]] = {
    "weights missing": (lambda s, d: model_blob(s, d).unlink(), "missing"),
    "weights too long": (_resize, "bytes long, not"),
    "weights cut": (lambda s, d: os.truncate(model_blob(s, d), 100), "100 bytes long, not"),
    "weights empty": (lambda s, d: os.truncate(model_blob(s, d), 0), "0 bytes long"),
    "weights a link to outside": (lambda s, d: _link(model_blob(s, d), s.root.parent / "out"), "not a plain file"),
    "weights a directory": (lambda s, d: _directory(model_blob(s, d)), "not a plain file"),
    "weights a fifo": (lambda s, d: _fifo(model_blob(s, d)), "not a plain file"),
    "weights no GGUF": (_weights(b"hello" * 100), "GGUF"),
    "weights absent from the manifest": (lambda s, d: _replace(s, d, layers=[]), "no GGUF file"),
    "config missing": (lambda s, d: _lose(s, d, config=s.config({"os": "mine"})), "missing"),
    "config no JSON": (lambda s, d: _replace(s, d, config=s.layer("x", b"{")), "config cannot be read"),
    "config twofold": (lambda s, d: _replace(s, d, config=s.layer("x", b'{"os":"a","os":"b"}')), "twice"),
    "somebody else's server": (
        lambda s, d: _replace(s, d, layers=[], config=s.config({**CONFIG, "remote_model": "x"})),
        "somebody else's server",
    ),
    "another format": (
        lambda s, d: _replace(s, d, layers=[], config=s.config({**CONFIG, "model_format": "safetensors"})),
        "'safetensors'",
    ),
    "manifest truncated": (lambda s, d: os.truncate(s.manifests / PLACE, 100), "manifest cannot be read"),
    "manifest empty": (lambda s, d: s.write(PLACE, b""), "manifest cannot be read"),
    "manifest too long": (lambda s, d: s.write(PLACE, b" " * (4 * 2**20 + 1)), "longer than"),
    "manifest a link to outside": (lambda s, d: _link(s.manifests / PLACE, s.root.parent / "out"), "a link"),
    "manifest a directory": (lambda s, d: _directory(s.manifests / PLACE), "not a plain file"),
    "manifest of another schema": (lambda s, d: _replace(s, d, schemaVersion=1), "schemaVersion 1"),
    "a digest that climbs": (
        lambda s, d: _replace(s, d, layers=[{**d["layers"][0], "digest": "sha256:../../../etc/passwd"}]),
        "invalid digest",
    ),
    "template missing": (lambda s, d: _lose(s, d, layers=[*d["layers"], s.layer("template", b"t1")]), "missing"),
    "template not UTF-8": (_text("template", b"\xff"), "not UTF-8"),
    "template endless": (_text("template", b"x" * (2**20 + 1)), "longer than"),
    "licences without end": (
        lambda s, d: _replace(
            s, d, layers=d["layers"] + [s.layer("license", b"x" * 2**19 + b"%d" % n) for n in range(3)]
        ),
        "bytes of license",
    ),
    "parameters no JSON": (_text("params", b"{"), "params cannot be read"),
    "messages no list": (_text("messages", b"{}"), "messages cannot be read"),
    "projector no GGUF": (_text("projector", b"eyes"), "GGUF"),
    "projector a model": (lambda s, d: _again(s, d, "projector"), "of the kind 'model', not 'projector'"),
    "adapter no GGUF": (_text("adapter", b"ggla"), "GGUF"),
    "adapter a model": (lambda s, d: _again(s, d, "adapter"), "of the kind 'model', not 'adapter'"),
}


@pytest.mark.parametrize(("spoil", "why"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_model_is_reported_and_hides_nothing(
    store: OllamaStore, weights: bytes, tmp_path: Path, spoil: Break, why: str
) -> None:
    other = write_gguf(tmp_path / "other.gguf", seed=1).read_bytes()
    store.add("before:latest", other)
    store.add("zebra:latest", other)
    document = json.loads(store.add("tiny:q4", weights).read_text())
    shelf = OllamaShelf(store.root)
    assert not any(isinstance(found, Damaged) for found in shelf.list())  # also: what is cached must not hide it
    spoil(store, document)
    before, damaged, zebra = shelf.list()
    assert isinstance(before, Entry)
    assert isinstance(zebra, Entry)
    assert isinstance(damaged, Damaged)
    assert damaged.name == "tiny:q4"
    assert why in damaged.why
    assert str(tmp_path) not in damaged.why
    with pytest.raises(ModelDamaged):
        shelf.find(NAME)


def test_a_deleted_model_is_served_by_no_cache(store: OllamaStore, weights: bytes) -> None:
    manifest = store.add("tiny:q4", weights)
    shelf = OllamaShelf(store.root)
    assert shelf.find(NAME) is not None
    manifest.unlink()
    assert shelf.find(NAME) is None
    assert shelf.list() == ()


def test_a_damaged_model_heals(store: OllamaStore, weights: bytes) -> None:
    document = json.loads(store.add("tiny:q4", weights, ("system", b"a")).read_text())
    shelf = OllamaShelf(store.root)
    model_blob(store, document).unlink()
    assert isinstance(shelf.list()[0], Damaged)
    store.blob(weights)
    assert only(shelf).system == "a"


def test_a_model_that_was_made_anew_is_read_anew(store: OllamaStore, weights: bytes) -> None:
    store.add("tiny:q4", weights, ("system", b"one"))
    shelf = OllamaShelf(store.root)
    first = only(shelf)
    store.add("tiny:q4", weights, ("system", b"two"))
    second = only(shelf)
    assert (first.system, second.system) == ("one", "two")
    assert first.digest != second.digest


def test_names_that_climb_are_reported(store: OllamaStore, weights: bytes) -> None:
    store.add("tiny:q4", weights)
    store.write("registry.ollama.ai/library/a..b/q4", b"{}")
    store.write("registry.ollama.ai/library/stray", b"{}")
    found = {item.name: type(item) for item in OllamaShelf(store.root).list() if isinstance(item, Damaged)}
    assert found == {"registry.ollama.ai/library/a..b/q4": Damaged, "registry.ollama.ai/library/stray": Damaged}
    assert OllamaShelf(store.root).find(NAME) is not None


def test_a_warm_listing_reads_no_header_and_no_text_again(store: OllamaStore, weights: bytes) -> None:
    read: list[Path] = []

    def counting(path: Path) -> Header:
        read.append(path)
        return read_header(path)

    for name in ("a:latest", "b:latest"):
        store.add(name, weights, ("system", name.encode()))
    shelf = OllamaShelf(store.root, headers=Headers(read=counting))
    cold, warm = shelf.list(), shelf.list()
    assert len(read) == 1  # two names, one blob
    assert all(one is other for one, other in zip(cold, warm, strict=True))


def test_a_manifest_of_megabytes_is_read_all_the_same(store: OllamaStore, weights: bytes) -> None:
    manifest = store.add("tiny:q4", weights)
    manifest.write_bytes(manifest.read_bytes() + b" " * 2**20)
    shelf = OllamaShelf(store.root)
    assert only(shelf) == shelf.find(NAME)


def test_headers_are_read_once_and_forgotten_in_turn(tmp_path: Path) -> None:
    read: list[str] = []

    def counting(path: Path) -> Header:
        read.append(path.name)
        return read_header(path)

    headers = Headers(capacity=2, read=counting)
    paths = [write_gguf(tmp_path / f"{name}.gguf") for name in "abc"]
    for path in (*paths[:2], *paths[:2], paths[2], paths[0]):
        headers.of(str(path), path.stat().st_mtime_ns, path.stat().st_size)
    assert read == ["a.gguf", "b.gguf", "c.gguf", "a.gguf"]


# Single files


def test_a_file_is_run_where_it_lies(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    os.utime(path, ns=(1, 1_750_000_000_000_000_001))
    entry = only(FileShelf({NAME: ModelFiles(path)}))
    assert (entry.name, entry.model_path, entry.source) == (NAME, str(path), "file")
    assert entry.size == path.stat().st_size
    assert entry.modified_at == "2025-06-15T15:06:40.000000001Z"
    assert len(entry.digest) == 64
    assert capabilities(entry) == ("completion",)


def test_a_relative_path_is_made_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    monkeypatch.chdir(tmp_path)
    assert only(FileShelf({NAME: ModelFiles(Path("tiny.gguf"))})).model_path == str(tmp_path / "tiny.gguf")


def test_a_projector_beside_it_gives_it_eyes(tmp_path: Path) -> None:
    files = ModelFiles(write_gguf(tmp_path / "tiny.gguf"), write_projector(tmp_path / "mmproj.gguf"))
    entry = only(FileShelf({NAME: files}))
    assert entry.projector_path == str(files.projector)
    assert "vision" in capabilities(entry)


def test_an_identity_changes_with_the_file_and_not_without(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    shelf = FileShelf({NAME: ModelFiles(path)})
    first = only(shelf).digest
    assert only(shelf).digest == first
    write_gguf(path, seed=1)
    os.utime(path, ns=(1, 1))
    second = only(shelf).digest
    os.utime(path, ns=(2, 2))
    assert len({first, second, only(shelf).digest}) == 3


def test_a_split_model_is_one_model_of_many_files(tmp_path: Path) -> None:
    for number in (1, 2):
        write_gguf(tmp_path / f"big-{number:05}-of-00002.gguf", split=(number - 1, 2))
    entry = only(FileShelf({NAME: ModelFiles(tmp_path / "big-00001-of-00002.gguf")}))
    assert [Path(part).name for part in entry.parts] == ["big-00001-of-00002.gguf", "big-00002-of-00002.gguf"]
    assert entry.model_path == entry.parts[0]
    assert entry.size == sum(Path(part).stat().st_size for part in entry.parts)
    assert entry.header.parts == 2
    (tmp_path / "big-00002-of-00002.gguf").unlink()
    (damaged,) = FileShelf({NAME: ModelFiles(tmp_path / "big-00001-of-00002.gguf")}).list()
    assert isinstance(damaged, Damaged)


@pytest.mark.parametrize("what", ["missing", "directory", "no GGUF", "projector"])
def test_a_file_that_cannot_be_run_is_reported(tmp_path: Path, what: str) -> None:
    path = tmp_path / "tiny.gguf"
    match what:
        case "directory":
            path.mkdir()
        case "no GGUF":
            path.write_bytes(b"hello")
        case "projector":
            write_projector(path)
    good = write_gguf(tmp_path / "good.gguf")
    shelf = FileShelf({NAME: ModelFiles(path), ModelName.parse("good"): ModelFiles(good)})
    damaged, whole = shelf.list()
    assert isinstance(whole, Entry)
    assert isinstance(damaged, Damaged)
    assert "tiny.gguf" in damaged.why
    assert str(tmp_path) not in damaged.why
    with pytest.raises(ModelDamaged):
        shelf.find(NAME)


def test_a_link_that_its_owner_named_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link.gguf").symlink_to(write_gguf(tmp_path / "tiny.gguf"))
    assert only(FileShelf({NAME: ModelFiles(tmp_path / "link.gguf")})).header.architecture == "llama"


# The built-in model


def test_a_checkout_without_the_built_in_model_has_an_empty_shelf(tmp_path: Path) -> None:
    shelf = BuiltinShelf(tmp_path / "builtin.gguf")
    assert shelf.list() == ()
    assert shelf.find(ModelName.parse("localmodels")) is None


def test_the_built_in_model_has_its_name(tmp_path: Path) -> None:
    entry = only(BuiltinShelf(write_gguf(tmp_path / "builtin.gguf")))
    assert (str(entry.name), entry.source) == ("localmodels:latest", "builtin")


def test_the_built_in_model_lies_in_the_package() -> None:
    assert builtin_path() == Path(package.__path__[0]) / "builtin.gguf"


def test_another_file_in_a_models_place_is_noticed_though_size_and_time_are_the_same(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "a.gguf")
    shelf = FileShelf({NAME: ModelFiles(file)})
    before = only(shelf)
    other = tmp_path / "b.gguf"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    other.write_bytes(data)
    time = file.stat().st_mtime_ns
    other.replace(file)
    os.utime(file, ns=(time, time))
    after = only(shelf)
    assert (after.size, after.modified_at) == (before.size, before.modified_at)
    assert after.digest != before.digest


def test_reading_leaves_the_store_as_it_was(store: OllamaStore, weights: bytes, tmp_path: Path) -> None:
    store.add("tiny:q4", weights, ("params", b"{}"))
    shutil.copytree(store.root, tmp_path / "copy")
    shelf = OllamaShelf(store.root)
    shelf.list()
    shelf.find(NAME)
    shelf.find(ModelName.parse("other"))
    seen = {path.relative_to(store.root) for path in store.root.rglob("*")}
    assert seen == {path.relative_to(tmp_path / "copy") for path in (tmp_path / "copy").rglob("*")}
