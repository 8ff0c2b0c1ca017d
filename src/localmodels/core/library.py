"""What is asked of the library of models, and how it says how far it is."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

SUCCESS = "success"
"""The status that ends a stream of progress: all that was asked is done and durable."""


class Progress(Struct, frozen=True):
    """One step of a long operation.

    Attributes:
        status: in Ollama's words, which its clients show: ``pulling manifest``, ``pulling 797b70c4edf8``,
            ``verifying sha256 digest``, ``writing manifest``, ``success``.
        digest: of the blob that the step is about, ``sha256:…``; empty if it is about none.
        total: bytes of that blob; ``completed`` of them are done.
    """

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


class PullRequest(Struct, frozen=True):
    """Fetch a model from its registry. ``insecure`` allows plain HTTP to that registry."""

    model: str
    insecure: bool = False
    stream: bool = True


class PushRequest(Struct, frozen=True):
    """Send a model to its registry. ``insecure`` allows plain HTTP to that registry."""

    model: str
    insecure: bool = False
    stream: bool = True


class CopyRequest(Struct, frozen=True):
    """Give a model a second name."""

    source: str
    destination: str


class DeleteRequest(Struct, frozen=True):
    """Take a name away, and with the last name the model."""

    model: str


class CreateRequest(Struct, frozen=True):
    """Make a model of another one or of uploaded files.

    Attributes:
        base: name of the model that it is made of; empty if it is made of ``files``.
        files: file name and digest of uploaded blobs, relative names in any order.
        adapters: the same, of LoRA adapters.
        template, system: None leaves what the base has; an empty text takes it away.
        parameters: name and value, as checked against the table of options where it knows them.
        messages: role and text of the turns that every conversation begins with; None leaves what the base has.
        license: None leaves what the base has.
        quantize: type in llama.cpp's words, such as ``Q4_K_M``; empty leaves the weights as they are.
        requires: least version of Ollama that the model needs; kept for Ollama, not heeded here.
        modelfile: the whole recipe as text instead of the fields above (seed 004).
    """

    model: str
    base: str = ""
    files: tuple[tuple[str, str], ...] = ()
    adapters: tuple[tuple[str, str], ...] = ()
    template: str | None = None
    system: str | None = None
    parameters: tuple[tuple[str, Any], ...] = ()
    messages: tuple[tuple[str, str], ...] | None = None
    license: tuple[str, ...] | None = None
    quantize: str = ""
    requires: str = ""
    modelfile: str = ""
    stream: bool = True
