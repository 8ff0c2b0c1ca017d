from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.hostile_archives.contents import CODE_NAMES, PICKLE_NAMES

from localmodels.artifacts.model_files import (
    content_of,
    fate,
    is_adapter,
    is_pickle,
    is_program,
    is_sent,
    lies_in,
    passed_over_inside,
)
from localmodels.core.errors import Unsupported

TAKEN = (
    "config.json", "model.safetensors", "MODEL.SAFETENSORS", "m.gguf", "tokenizer.model", "vocab.txt", "chat.jinja",
    "LICENSE", "license.apache", "NOTICE", "README.md", "a/b/config.json", "pytorch_model.bin.index.json",
)  # fmt: skip
UNREAD = (
    "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "training_args.bin", "rng_state.pth",
    "rng_state_3.pth", "random_states_0.pkl", "trainer_state.json", "eval_results.json", "zero_to_fp32.py",
    "global_step5/mp_rank_00_model_states.pt", "runs/x/events.out.tfevents.1.host", "wandb/run.py", ".git/hooks/x.sh",
    ".cache/huggingface/x.lock", "__MACOSX/._x.py", "._x.py", ".DS_Store", "a/.DS_Store", "Thumbs.db",
)  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken(name: str) -> None:
    assert fate(tuple(name.split("/"))).taken


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_passed_over_unread(name: str) -> None:
    found = fate(tuple(name.split("/")))
    assert (found.taken, found.unread) == (False, True)
    assert found.why


@pytest.mark.parametrize(
    "name", ["logo.png", "model.onnx", ".gitattributes", "tokenizer.tiktoken", "weights", "x.ipynb"]
)
def test_what_is_nothing_of_a_model_is_looked_at(name: str) -> None:
    found = fate((name,))
    assert (found.taken, found.unread) == (False, False)


@pytest.mark.parametrize("name", [*PICKLE_NAMES, *CODE_NAMES, "m.zip", "m.tar.gz", "m.tar.zst", "m.7z"])
def test_what_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(Unsupported, match=name.rpartition("/")[2]):
        fate(tuple(name.split("/")))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "x.pickle"])
def test_a_pickle_is_told_what_to_be_instead(name: str) -> None:
    with pytest.raises(Unsupported, match="safetensors"):
        fate((name,))


def test_checkpoints_beside_the_model_are_passed_over() -> None:
    assert passed_over_inside(("checkpoint-500", "config.json"))
    assert not passed_over_inside(("checkpoint-500",))
    assert not passed_over_inside(("1_Pooling", "config.json"))


@pytest.mark.parametrize("name", [name for name in TAKEN if name != "a/b/config.json"])
def test_what_is_taken_is_sent(name: str) -> None:
    assert is_sent(name)
    assert content_of(name)


@pytest.mark.parametrize(
    "name",
    [
        *UNREAD, *PICKLE_NAMES, *CODE_NAMES, "logo.png", "m.zip", ".hidden.json", ".git/config.json", "a:b.json",
        "checkpoint-5/config.json", "checkpoint-best/config.json", "con.txt", "a /config.json", "a/b/c/d/config.json",
        "../config.json",
    ],
)  # fmt: skip
def test_what_is_refused_or_passed_over_is_not_sent(name: str) -> None:
    assert not is_sent(name)


def test_what_a_trainer_leaves_is_not_weights_but_runs() -> None:
    for name in ("pytorch_model.bin", "original/consolidated.00.pth", "model.PT2", "x.dill"):
        assert is_pickle(name)
    for name in ("training_args.bin", "optimizer.pt", "random_states_0.pkl", "model.safetensors"):
        assert not is_pickle(name)
    assert [name for name in ("optimizer.pt", "x.py", "x.sh", "x.json", "pt") if is_program(name)] == [
        "optimizer.pt", "x.py", "x.sh",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "adapter"),
    [
        (("adapter_config.json", "adapter_model.safetensors"), True),
        (("adapter_config.json", "adapter_model.safetensors", "config.json"), True),
        (("adapter_config.json",), True),
        (("adapter_model.safetensors",), True),
        (("adapter_config.json", "adapters.safetensors"), True),
        (("adapter_config.json", "adapter_model.safetensors", "model.safetensors"), False),
        (("adapter_config.json", "adapter_model.safetensors", "model.safetensors.index.json"), False),
        (("adapter_config.json", "adapter_model.safetensors", "1_Pooling/model.safetensors"), True),
        (("config.json", "model.safetensors"), False),
        ((), False),
    ],
)
def test_what_an_adapter_is(names: tuple[str, ...], *, adapter: bool) -> None:
    assert is_adapter(iter(names)) is adapter


def test_a_folder_of_hugging_faces_cache_has_its_blobs() -> None:
    cached = Path("/hub/models--x/snapshots/1234")
    assert lies_in(cached, cached / "a" / "config.json")
    assert lies_in(cached, Path("/hub/models--x/blobs/abcd"))
    for elsewhere in (
        "/hub/models--x/blobs2/a",
        "/hub/models--y/blobs/a",
        "/hub/models--x/snapshots/12345/a",
        "/etc/passwd",
    ):
        assert not lies_in(cached, Path(elsewhere))
    assert not lies_in(Path("/home/x/tuned"), Path("/home/x/blobs/a"))
    assert not lies_in(Path("/home/x/tuned"), Path("/home/x/tuned-2/a"))
