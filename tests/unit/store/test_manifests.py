"""A manifest has one meaning or none (threat V-03)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.test_catalog import hostile_digests
from tests.unit.store.ollama_store import MANIFEST_TYPE

from localmodels.core.catalog import Details
from localmodels.core.errors import ModelDamaged
from localmodels.core.options import Options
from localmodels.store.manifests import (
    MAX_LAYERS,
    Origin,
    parse_config,
    parse_manifest,
    parse_messages,
    parse_origin,
    parse_parameters,
    parse_text,
    write_config,
    write_manifest,
)

DIGEST = "sha256:" + "ab" * 32


def layer(kind: str = "model", digest: str = DIGEST, size: int = 1) -> dict[str, Any]:
    return {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digest, "size": size}


def document(**changes: Any) -> dict[str, Any]:
    whole = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": DIGEST, "size": 1},
        "layers": [layer()],
    }
    return {key: value for key, value in {**whole, **changes}.items() if value is not None}


def encoded(**changes: Any) -> bytes:
    return json.dumps(document(**changes)).encode()


def test_a_manifest_is_read() -> None:
    other = "sha256:" + "cd" * 32
    manifest = parse_manifest(encoded(layers=[layer(size=5), layer("license", other, 2), layer("new", other, 2)]))
    assert [one.kind for one in manifest.layers] == ["model", "license", "new"]
    assert [one.size for one in manifest.of("model", "license")] == [5, 2]
    assert len(manifest.digest) == 64


def test_a_blob_that_is_named_twice_is_counted_once() -> None:
    assert parse_manifest(encoded(layers=[layer(size=1), layer("license", size=1)])).size == 1


def test_the_names_of_files_stay_with_their_layers() -> None:
    title = {"annotations": {"org.opencontainers.image.title": "style.gguf"}}
    manifest = parse_manifest(encoded(layers=[layer(), {**layer("adapter"), **title}]))
    assert [one.title for one in manifest.layers] == ["", "style.gguf"]
    written = write_manifest(manifest.config, manifest.layers)
    assert parse_manifest(written).layers == manifest.layers
    assert written.count(b"annotations") == 1


@pytest.mark.parametrize("annotations", [None, [], "x", {}, {"org.opencontainers.image.title": 7}])
def test_annotations_of_other_programs_are_passed_over(annotations: object) -> None:
    assert parse_manifest(encoded(layers=[{**layer(), "annotations": annotations}])).layers[0].title == ""


def test_what_newer_programs_add_is_passed_over() -> None:
    manifest = parse_manifest(
        encoded(runner="x", layers=[{**layer(), "from": "/x"}, {**layer("x"), "mediaType": "y/z"}])
    )
    assert [one.kind for one in manifest.layers] == ["model", ""]


REFUSED: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"hello",
    "a list": b"[]",
    "null": b"null",
    "truncated": encoded()[:-1],
    "two documents": encoded() * 2,
    "not UTF-8": encoded().replace(b"model", b"m\xff"),
    "UTF-16": encoded().decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + encoded(),
    "half a surrogate pair": encoded(mediaType="\ud800"),
    "NaN": encoded().replace(b'"size": 1', b'"size": NaN'),
    "a huge number": encoded().replace(b'"size": 1', b'"size": ' + b"9" * 10_000),
    "a fraction": encoded().replace(b'"size": 1', b'"size": 1.5'),
    "a negative size": encoded(layers=[layer(size=-1)]),
    "a size beyond 16 TiB": encoded(layers=[layer(size=2**44 + 1)]),
    "a size beyond 64 bits": encoded(layers=[layer(size=2**64)]),
    "many empty objects": encoded(x=[{}] * 60_000),
    "many numbers": encoded(x=[1] * 100_001),
    "a size as text": encoded().replace(b'"size": 1', b'"size": "1"'),
    "deep": b'{"schemaVersion":2,"config":' + b"[" * 200_000,
    "schema 1": encoded(schemaVersion=1),
    "schema 3": encoded(schemaVersion=3),
    "schema true": encoded(schemaVersion=True),
    "no schema": encoded(schemaVersion=None),
    "no config": encoded(config=None),
    "an empty config": encoded(config={}),
    "no layers": encoded(layers=None),
    "a list of manifests": encoded(mediaType="application/vnd.docker.distribution.manifest.list.v2+json"),
    "both kinds at once": encoded(manifests=[document()]),
    "an unknown kind": encoded(mediaType="text/plain"),
    "the schema twice": encoded().replace(b"{", b'{"schemaVersion": 2, ', 1),
    "a layer's digest twice": encoded().replace(b'"size": 1', b'"size": 1, "digest": "sha256:' + b"0" * 64 + b'"'),
    "too many layers": encoded(layers=[layer("x")] * (MAX_LAYERS + 1)),
    "two model layers": encoded(layers=[layer(), layer(digest="sha256:" + "cd" * 32)]),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_is_not_one_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ModelDamaged) as refused:
        parse_manifest(data)
    assert len(refused.value.message) < 300


def test_as_many_layers_as_allowed_are_read() -> None:
    assert len(parse_manifest(encoded(layers=[layer("x")] * MAX_LAYERS)).layers) == MAX_LAYERS


def test_no_hostile_digest_gets_in_as_a_layer_or_as_the_config() -> None:
    for spelling in set(hostile_digests()) - {DIGEST}:
        for changes in ({"layers": [layer(digest=spelling)]}, {"config": layer(digest=spelling)}):
            with pytest.raises(ModelDamaged):
                parse_manifest(encoded(**changes))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in (parse_manifest, parse_config, parse_parameters, parse_messages, parse_text):
        try:
            parse(data)
        except ModelDamaged:
            continue


def test_parameters_that_we_know_are_options_and_the_rest_is_kept_aside() -> None:
    raw = {"temperature": 0.5, "stop": ["<|a|>", "b"], "num_gqa": 8, "top_k": "many", "seed": 2**40, "use_mmap": None}
    parameters = parse_parameters(json.dumps(raw).encode())
    assert parameters.options == Options(temperature=0.5, stop=("<|a|>", "b"))
    assert parameters.others == (("num_gqa", 8), ("top_k", "many"), ("seed", 2**40))


@pytest.mark.parametrize("data", [b"[]", b'{"a": 1, "a": 2}', b"{", b'{"stop": NaN}'])
def test_parameters_of_two_meanings_are_refused(data: bytes) -> None:
    with pytest.raises(ModelDamaged):
        parse_parameters(data)


def test_messages_are_role_and_text() -> None:
    data = json.dumps([{"role": "user", "content": "hi"}, {"role": "assistant", "images": []}]).encode()
    assert parse_messages(data) == (("user", "hi"), ("assistant", ""))


def test_a_config_may_say_little() -> None:
    assert parse_config(b'{"model_families": null}').model_format == "gguf"


def test_an_origin_is_kept_beside_ollamas_fields() -> None:
    origin = Origin("hf.co/me/tiny", "c" * 40, ("sha256:" + "a" * 64,))
    data = write_config(Details(family="llama"), [], origin=origin)
    assert parse_origin(data) == origin
    assert parse_config(data).model_family == "llama"


@pytest.mark.parametrize("data", [b"{}", b"no", b'{"localmodels": 5}', b'{"localmodels": {"repository": "x"}}'])
def test_what_is_no_origin_of_ours_is_none(data: bytes) -> None:
    assert parse_origin(data) is None
