"""What a registry has under a name and is no model is told before any of it is fetched."""

from __future__ import annotations

import json

import pytest
from tests.unit.store.written import MANIFEST, NAME

from localmodels.core.errors import Garbled, Unsupported
from localmodels.flows.library.transfers import require_model

DIGEST = f"sha256:{'0' * 64}"


def image(*kinds: str) -> bytes:
    """A manifest of an image with layers of these kinds."""
    layers = [{"mediaType": kind, "digest": DIGEST, "size": 1} for kind in kinds]
    config = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": DIGEST, "size": 1}
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    return json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers}).encode()


def test_a_model_is_one() -> None:
    require_model(NAME, MANIFEST)


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (
            image("application/vnd.docker.image.rootfs.diff.tar.gzip"),
            "'application/vnd.docker.image.rootfs.diff.tar.gzip'",
        ),
        (
            image(*["application/vnd.ollama.image.tensor"] * 300),
            "'application/vnd.ollama.image.tensor' and no GGUF file",
        ),
        (image(), "it has no layers and no GGUF file"),
    ],
)
def test_what_is_none_is_named(manifest: bytes, said: str) -> None:
    with pytest.raises(Unsupported) as refused:
        require_model(NAME, manifest)
    assert said in refused.value.message
    assert str(NAME) in refused.value.message


def test_a_manifest_that_nobody_can_read_is_the_registrys_fault() -> None:
    with pytest.raises(Garbled, match="the registry's manifest of tiny:1b cannot be used"):
        require_model(NAME, b"{}")
