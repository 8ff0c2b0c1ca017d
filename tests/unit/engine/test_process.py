"""What a runner's last words become."""

from __future__ import annotations

from pathlib import Path

import pytest

from localmodels.engine.process import cause, telling

HIDE = Path("/home/me/models/blobs")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            [
                "0.00.003.001 I llama_model_loader: loaded meta data",
                "0.00.005.207 E gguf_init_from_file: failed to open GGUF file '/home/me/models/blobs/sha256-2d' (No)",
                "0.00.005.325 E llama_model_load: error loading model: llama_model_loader: failed to load model",
            ],
            "failed to open GGUF file 'sha256-2d' (No)",
        ),
        (
            ["0.00.029.825 E cmn  common_init_: failed to load lora adapter 'x'"],
            "failed to load lora adapter 'x'",
        ),
        (
            ["llama_model_load: error loading model: unknown model architecture: 'foo'"],
            "error loading model: unknown model architecture: 'foo'",
        ),
        (["error while loading shared libraries: libfoo.so"], "error while loading shared libraries: libfoo.so"),
        (["all is well"], ""),
        ([], ""),
    ],
)
def test_a_cause_is_what_the_engine_says_and_not_how_it_writes_it_down(lines: list[str], told: str) -> None:
    assert cause(telling(lines), hide=HIDE) == told


def test_a_cause_is_short() -> None:
    assert len(cause(["error " * 10_000], hide=HIDE)) == 300
