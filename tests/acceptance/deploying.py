"""Seed 001's routes as a stranger uses them: packed folders, requests, and the rules that every story keeps."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import zstandard
from tests.acceptance.serving import PATIENCE, Served, eventually
from tests.weight_folders import ROWS, WIDTH, drawn, llama_tensors, write_folder

CONTEXT = 4096
DRAFTS = "artifacts/.drafts"
BROAD, BROAD_FEED = 1024, 2816
TARS: Mapping[str, Callable[[bytes], bytes]] = {
    ".tar": bytes,
    ".tar.gz": gzip.compress,
    ".tar.zst": zstandard.ZstdCompressor().compress,
}

UPLOAD = (("Started save model.", 0.0), ("Start extracted model.", 0.66), ("Success upload model file.", 1.0))
CREATE = (("Started to create model.", 0.33), ("Start structure template", 0.66), ("Success create model", 1.0))
DELETE = (("Start delete model.", 0.5), ("Success delete model.", 1.0))
DEPLOY = (
    ("Start save model.", 0.0),
    ("Start extract model.", 0.33),
    ("Success upload model file.", 0.5),
    ("Start create model.", 0.67),
    ("Start structure template", 0.83),
    ("Success create model", 1.0),
)


@dataclass(frozen=True)
class Line:
    """One line of a story."""

    status: int
    action: str
    ratio: float
    details: Mapping[str, Any]
    number: int
    task: str


@dataclass
class Story:
    """An answer under way, or a whole one; ``refusal`` is the body of one that tells no story."""

    status: int
    lines: Iterator[Line] = field(default_factory=lambda: iter(()))
    refusal: Mapping[str, Any] = field(default_factory=dict)
    answer: httpx2.Response | None = None


def read_line(text: str) -> Line:
    """A line as the contract has it, the ratio under both of its names."""
    said = json.loads(text)
    assert set(said) == {"status", "message", "number"}
    message = said["message"]
    assert set(message) == {"action", "task_uuid", "progress_ratio", "progress", "details"}
    assert message["progress"] == message["progress_ratio"]
    return Line(
        said["status"],
        message["action"],
        message["progress"],
        message["details"],
        said["number"],
        message["task_uuid"],
    )


@contextmanager
def asked(served: Served, method: str, path: str, *, key: str = "", **request: Any) -> Iterator[Story]:
    """A request whose answer is read as it comes."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with httpx2.stream(method, served.url + path, headers=headers, timeout=PATIENCE, **request) as answer:
        if answer.status_code == 200:
            assert answer.headers["content-type"] == "application/x-ndjson"
            yield Story(200, (read_line(line) for line in answer.iter_lines()), answer=answer)
        else:
            yield Story(answer.status_code, refusal=json.loads(answer.read()), answer=answer)


def told(served: Served, method: str, path: str, *, key: str = "", **request: Any) -> list[Line]:
    """A whole story that keeps the rules."""
    with asked(served, method, path, key=key, **request) as story:
        assert story.status == 200, story.refusal
        return sound(list(story.lines))


def refused(served: Served, method: str, path: str, *, key: str = "", **request: Any) -> tuple[int, str]:
    """The status of a request that has no story, and what it says."""
    with asked(served, method, path, key=key, **request) as story:
        assert story.status != 200, list(story.lines)
        assert set(story.refusal) == {"detail"}
        return story.status, str(story.refusal["detail"])


def sound(lines: Sequence[Line]) -> list[Line]:
    """The rules: one task, numbers and ratios that grow, and one end, which is a success or says what was wrong."""
    assert lines
    assert len({line.task for line in lines}) == 1
    numbers = [line.number for line in lines]
    assert numbers == sorted(set(numbers))
    ratios = [line.ratio for line in lines]
    assert ratios == sorted(ratios)
    assert [line.status for line in lines[:-1]] == [200] * (len(lines) - 1)
    assert all(line.ratio < 1 for line in lines[:-1])
    last = lines[-1]
    if last.status == 200:
        assert last.ratio == 1.0
    else:
        assert last.status >= 400
        assert {"type", "loc", "msg"} <= set(last.details)
        assert last.ratio < 1
    return list(lines)


def succeeded(lines: Sequence[Line]) -> bool:
    return lines[-1].status == 200


def follows(lines: Sequence[Line], seed: Sequence[tuple[str, float]]) -> bool:
    """Are the seed's steps all there once, in its order and with its ratios? Others may stand between them."""
    words = {action for action, _ in seed}
    found: list[tuple[str, float]] = []
    for line in lines:
        if line.action in words and not (found and found[-1][0] == line.action):
            found.append((line.action, line.ratio))
    return found == list(seed)


def form(file: Path, name: str = "", field: str = "Model", **fields: str) -> dict[str, Any]:
    """The arguments of a request that brings a file; the fields come before it."""
    return {"files": {field: (name or file.name, file.read_bytes())}, "data": fields}


# Folders and files


def write_model(place: Path, seed: int = 99) -> Path:
    """A folder of a model that has room for a conversation; one of another seed is another model."""
    tensors = {**llama_tensors(), "model.norm.weight": drawn(WIDTH, seed=seed)}
    return write_folder(place, tensors=tensors, max_position_embeddings=CONTEXT)


def write_broad(place: Path) -> Path:
    """One of 52 MB in one layer: work on it goes on long enough to be stopped in the middle of it."""
    shapes = {
        "input_layernorm": (BROAD,),
        "post_attention_layernorm": (BROAD,),
        "self_attn.q_proj": (BROAD, BROAD),
        "self_attn.k_proj": (BROAD // 2, BROAD),
        "self_attn.v_proj": (BROAD // 2, BROAD),
        "self_attn.o_proj": (BROAD, BROAD),
        "mlp.gate_proj": (BROAD_FEED, BROAD),
        "mlp.up_proj": (BROAD_FEED, BROAD),
        "mlp.down_proj": (BROAD, BROAD_FEED),
    }
    tensors = {"model.embed_tokens.weight": drawn(ROWS, BROAD), "model.norm.weight": drawn(BROAD)} | {
        f"model.layers.0.{name}.weight": drawn(*shape) * np.float32(BROAD**-0.5) for name, shape in shapes.items()
    }
    return write_folder(
        place,
        tensors=tensors,
        hidden_size=BROAD,
        intermediate_size=BROAD_FEED,
        num_attention_heads=16,
        num_key_value_heads=8,
        max_position_embeddings=CONTEXT,
    )


def packed(folder: Path, suffix: str) -> Path:
    """The folder in one file, as the suffix says."""
    target = folder.with_name(folder.name + suffix)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if suffix == ".zip":
        with zipfile.ZipFile(target, "w") as archive:
            for path in files:
                archive.write(path, path.relative_to(folder).as_posix())
        return target
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in files:
            archive.add(path, path.relative_to(folder).as_posix())
    target.write_bytes(TARS[suffix](buffer.getvalue()))
    return target


# What a server does meanwhile


def child(served: Served, module: str) -> psutil.Process:
    """The server's child that runs this module and does not stand still, as soon as it is there."""
    return eventually(lambda: _child(served, module), f"{module} runs")


@contextmanager
def halted(served: Served, module: str) -> Iterator[None]:
    """That child stands still meanwhile, so that its server is in the middle of its work."""
    process = child(served, module)
    process.suspend()
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.resume()


def _child(served: Served, module: str) -> psutil.Process | None:
    for process in served.runners():
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_STOPPED and any(module in word for word in process.cmdline()):
                return process
    return None


def drafts(home: Path) -> set[str]:
    """What uploads have left that are no artifacts."""
    place = home / DRAFTS
    return {path.name for path in place.iterdir()} - {"lock"} if place.is_dir() else set()


def tree(home: Path) -> dict[str, int]:
    """All that uploads and models leave in a home: files and their sizes, but for locks, which stay."""
    places = [path for above in ("artifacts", "models") for path in (home / above).rglob("*")]
    return {
        path.relative_to(home).as_posix(): path.stat().st_size
        for path in places
        if path.is_file() and "lock" not in path.name
    }


def digest(served: Served, model: str) -> str:
    """Of the model that has the name; empty where none has."""
    models = served.get("/api/tags").json()["models"]
    return next((str(one["digest"]) for one in models if one["name"] == f"{model}:latest"), "")
