"""What is said between the child that converts and whoever started it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

# Python, NumPy and a vocabulary of 260,000 tokens take 300 MiB; what is moved before it is written, a tensor at most.
MEMORY = 2 * 2**30


# Fields of a job that may help with a refusal; it names one as its ``param``.
IGNORED, PRE_TOKENIZER = "ignored", "pre_tokenizer"


class Job(Struct, frozen=True):
    """What is to be done: a model of a folder; of a folder and an adapter; or of an adapter alone, ``apart``.

    Attributes:
        files: path by name, as :class:`~localmodels.artifacts.convert.folder.Folder` has them; of the whole model.
        target: name of a file type; empty: as the folder is.
        title: what the model calls itself in the file.
        threads: how many compute at once.
        adapter: files of a PEFT adapter, if there are any. It is merged into the model, or with ``apart`` made a file
            of its own for the model in ``files``, or for the one in ``base``.
        base: paths of a GGUF file, or in order of the parts of one, of which the head alone is read.
        ignored: fields of ``config.json`` that compute nothing, as the user says.
        pre_tokenizer: llama.cpp's name of how text is cut, if the user knows better.
        memory: bytes that the child may set aside; what it maps of the folder is not counted.
        nice: how far the child gives way to others, from 0 (not at all) to 19.
    """

    files: Mapping[str, str]
    target: str
    title: str
    threads: int
    adapter: Mapping[str, str] = {}
    apart: bool = False
    base: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    pre_tokenizer: str = ""
    memory: int = MEMORY
    nice: int = 0


class Outline(Struct, frozen=True):
    """What the file will be; said before its first byte.

    Attributes:
        size: bytes; 0 of an adapter that must be merged into the model it is for: then ``merge`` says why, and there
            is no file.
        target: name of its file type.
        source: likewise, of what the folder's weights are stored as.
        architecture: by llama.cpp's name.
        parameters: weights.
        tensors: how many.
        context: tokens.
        notes: what the user should know, in sentences.
        sampling: what the folder says of how tokens are drawn, by our names of options.
        licenses: texts of the folder.
    """

    size: int
    target: str
    architecture: str
    parameters: int
    tensors: int
    context: int
    source: str = ""
    merge: str = ""
    notes: tuple[str, ...] = ()
    sampling: Mapping[str, int | float] = {}
    licenses: tuple[str, ...] = ()
