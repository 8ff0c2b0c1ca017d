"""What was uploaded to become a model: a folder of weights, an adapter, or one GGUF file."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

ArtifactKind = Literal["model", "adapter", "gguf"]
"""A whole model as safetensors; a LoRA adapter of PEFT; one GGUF file, which needs no conversion."""


class ArtifactFile(Struct, frozen=True):
    """A file of an artifact: its name relative to the folder, with ``/``, and its bytes."""

    name: str
    size: int


class Artifact(Struct, frozen=True, kw_only=True):
    """An artifact, as inspection found it. What does not apply or is not known is empty.

    Attributes:
        name: what it is asked for by.
        id: of what has the name now; another upload under the same name has another. Empty where it has none.
        architecture: the class in ``config.json`` (``LlamaForCausalLM``), or a GGUF file's architecture.
        size: bytes of all files.
        dtype: what most weights are stored as: ``BF16``, ``F16``, ``F32``, ``Q4_K_M``.
        parameters: weights.
        context: tokens.
        tokenizer: ``bpe``, ``sentencepiece``, ``wordpiece`` or ``unigram``.
        base: of an adapter, the name of the model that it was made for, as its maker had it.
        files: in the order of their names.
        notes: what the user should know, in sentences.
        source: name of the file that was uploaded.
        created_at: nanoseconds since 1970, UTC.
    """

    name: str
    kind: ArtifactKind
    size: int
    architecture: str = ""
    dtype: str = ""
    parameters: int = 0
    context: int = 0
    tokenizer: str = ""
    base: str = ""
    files: tuple[ArtifactFile, ...] = ()
    notes: tuple[str, ...] = ()
    source: str = ""
    created_at: int = 0
    id: str = ""
