"""``tokenizer.json`` as a value: the file that Hugging Face's tokenizers are saved to.

The rule: only the fields that decide over ids are read, each with its type and bounds, in one pass by the parser; so
what is not as it should be has been refused before anybody looks at it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from localmodels.artifacts.convert.vocab.files import Files, decoded
from localmodels.artifacts.convert.vocab.vocabulary import MOST_TOKENS
from localmodels.core.errors import ModelDamaged

NAME = "tokenizer.json"
MOST_MERGES = 2**20  # Gemma 3 has 514,906
MOST_ADDED = 2**17  # Gemma 3 has 6,415
MOST_STEPS = 32  # normalizers or pre-tokenizers, one after the other; six are the most known

Id = Annotated[int, Meta(ge=0, lt=MOST_TOKENS)]
Step = dict[str, Any]


class Added(Struct, frozen=True):
    """A token that was added to the vocabulary, or is not to be touched by what cuts the text."""

    id: Id
    content: Annotated[str, Meta(min_length=1)]
    special: bool = False
    normalized: bool = False
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False


class Model(Struct, frozen=True):
    """The vocabulary itself and what it is made of."""

    vocab: dict[str, Id] | list[tuple[str, float]]
    type: str = ""
    merges: list[str | tuple[str, str]] = []
    unk_token: str | None = None
    unk_id: Id | None = None
    byte_fallback: bool | None = False
    ignore_merges: bool | None = False
    dropout: float | None = None
    continuing_subword_prefix: str | None = None
    end_of_word_suffix: str | None = None


class Document(Struct, frozen=True):
    """The whole file."""

    model: Model
    added_tokens: list[Added] = []
    normalizer: Step | None = None
    pre_tokenizer: Step | None = None
    post_processor: Step | None = None


class Outline(Struct, frozen=True):
    """What is counted before it is read: an added token takes twenty times the memory of its text."""

    added_tokens: msgspec.Raw = msgspec.Raw(b"[]")


_DECODER = msgspec.json.Decoder(Document)
_OUTLINE = msgspec.json.Decoder(Outline)


def read_document(files: Files) -> Document:
    """The file of this folder.

    Raises:
        ModelDamaged: it is missing or not sound.
    """
    added = bytes(decoded(files, NAME, _OUTLINE).added_tokens).count(b"{")
    if added > MOST_ADDED:
        raise ModelDamaged(f"{NAME}: added_tokens has {added} tokens, at most {MOST_ADDED} are possible")
    document = decoded(files, NAME, _DECODER)
    model = document.model
    if not model.vocab or len(model.vocab) > MOST_TOKENS:
        raise ModelDamaged(f"{NAME}: model.vocab has {len(model.vocab)} tokens; from 1 to {MOST_TOKENS} are possible")
    if len(model.merges) > MOST_MERGES:
        raise ModelDamaged(f"{NAME}: model.merges has {len(model.merges)} pairs, at most {MOST_MERGES} are possible")
    return document


def steps(step: Step | None, inner: str, where: str) -> tuple[Step, ...]:
    """What a step and the sequences in it come to: single steps, in order.

    Args:
        step: as the file has it.
        inner: the field that a ``Sequence`` has its steps in.
        where: the field of the file, for errors.

    Raises:
        ModelDamaged: there are too many, or something is no step.
    """
    found = tuple(_flat(step, inner, where, 0))
    if len(found) > MOST_STEPS:
        raise ModelDamaged(f"{NAME}: {where} has {len(found)} steps, at most {MOST_STEPS} are possible")
    return found


def _flat(step: object, inner: str, where: str, depth: int) -> Iterator[Step]:
    if step is None:
        return
    if not isinstance(step, Mapping) or not isinstance(step.get("type"), str) or depth > MOST_STEPS:
        raise ModelDamaged(f"{NAME}: {where} must be a step with a 'type', not {step!r:.60}")
    if step["type"] != "Sequence":
        yield dict(step)
        return
    within = step.get(inner)
    if not isinstance(within, list) or len(within) > MOST_STEPS:
        raise ModelDamaged(f"{NAME}: {where}.{inner} must be a list of at most {MOST_STEPS} steps")
    for part in within:
        yield from _flat(part, inner, where, depth + 1)


def pattern_of(step: Step, where: str) -> tuple[str, bool]:
    """The pattern of a step, and whether it is a regular expression.

    Raises:
        ModelDamaged: it has none.
    """
    pattern = step.get("pattern")
    if isinstance(pattern, Mapping) and len(pattern) == 1:
        for kind in ("Regex", "String"):
            text = pattern.get(kind)
            if isinstance(text, str):
                return text, kind == "Regex"
    raise ModelDamaged(f"{NAME}: {where} has a step '{step['type']}' without a pattern: {pattern!r:.60}")
