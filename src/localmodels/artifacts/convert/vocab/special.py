"""Special tokens: which are they, and which of them does the tokenizer put around a text by itself?

Several files speak of it. The rule is that of transformers, which the model was trained with: the tokenizer's
configuration names the tokens and may say outright whether they are added; if it does not, the template of
``tokenizer.json`` decides. What it leaves open, ``config.json`` and ``generation_config.json`` fill in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from localmodels.artifacts.convert.vocab.document import NAME, Added, Document, Step, steps
from localmodels.artifacts.convert.vocab.files import Files, flag_of
from localmodels.artifacts.convert.vocab.vocabulary import TokenType
from localmodels.core.errors import ModelDamaged, Unsupported

CONFIG = "tokenizer_config.json"
GENERATION = "generation_config.json"
_MAP = "special_tokens_map.json"

# What a token is for, by the name of its key in a GGUF file (the spelling of the fourth is theirs).
ROLES: Mapping[str, str] = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "unk": "unknown_token_id",
    "sep": "seperator_token_id",
    "pad": "padding_token_id",
    "cls": "cls_token_id",
    "mask": "mask_token_id",
}

# Texts that are special though some models do not mark them so; the list is llama.cpp's.
_LOOKING_SPECIAL = frozenset({"<pad>", "<mask>", "<2mass>", "[@BOS@]"})
_BRACKETS = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))

# Texts that end an answer in llama.cpp b11549 without any key (llama-vocab.cpp).
_KNOWN_ENDS = frozenset({
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
    "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
    "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[",
})  # fmt: skip


class Around(Struct, frozen=True):
    """Texts of the tokens that the tokenizer puts before and after a text, and between two."""

    before: str = ""
    after: str = ""
    between: tuple[str, ...] = ()


class Specials(Struct, frozen=True):
    """Numbers by the name of their key, and which are added."""

    ids: Mapping[str, int]
    flags: Mapping[str, bool]


def looks_special(text: str) -> bool:
    """Is this text that of a control token, whatever its mark says?"""
    return text in _LOOKING_SPECIAL or any(text.startswith(a) and text.endswith(z) for a, z in _BRACKETS)


def kind_of_added(added: Added) -> TokenType:
    """Control tokens end or steer; the others are text that is never cut."""
    return TokenType.CONTROL if added.special or looks_special(added.content) else TokenType.USER_DEFINED


def read_specials(
    files: Files, document: Document | None, tokens: Sequence[str], config: Mapping[str, Any]
) -> Specials:
    """The special tokens of a folder.

    Args:
        files: of the model.
        document: ``tokenizer.json``, if there is one.
        tokens: texts by number, before they were rewritten for the engine.
        config: of the model (``config.json``).

    Raises:
        ModelDamaged: a file is not sound.
        Unsupported: the tokenizer puts more around a text than the engine can.
    """
    numbers = {text: number for number, text in enumerate(tokens)}.get
    rows = len(tokens)
    said = {**files.read_object(_MAP), **files.read_object(CONFIG)}
    texts = {role: _content(said, f"{role}_token") for role in ROLES}
    around = _around(document)
    if around.before and not (texts["bos"] or texts["cls"]):
        texts["bos"] = around.before
    texts["bos"] = texts["bos"] or texts["cls"]
    texts["eos"] = texts["eos"] or texts["sep"]
    named = {role: numbers(text) for role, text in texts.items() if text}
    for role in ROLES:
        if named.get(role) is None:
            named[role] = _configured(config, f"{role}_token_id", rows)
    ids = {ROLES[role]: number for role, number in named.items() if number is not None and role in ROLES}
    flags = _flags(said, around, texts, ids)
    _keep_last(around, texts, ids, flags, numbers)
    ids.update(_other_ends(files, ids, tokens))
    return Specials(ids, flags)


def _content(said: Mapping[str, Any], key: str) -> str:
    value = said.get(key)
    if isinstance(value, Mapping):
        value = value.get("content")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ModelDamaged(f"{CONFIG}: '{key}' must be a text, not {value!r:.60}")
    return value


def _configured(config: Mapping[str, Any], key: str, rows: int) -> int | None:
    inner = config.get("text_config")
    value = config.get(key, inner.get(key) if isinstance(inner, Mapping) else None)
    if isinstance(value, list) and value:
        value = value[0]
    if value is None or isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < rows:
        return None
    return value


# What is put around a text


def _around(document: Document | None) -> Around:
    found = Around()
    if document is None:
        return found
    for step in steps(document.post_processor, "processors", "post_processor"):
        if step["type"] in {"RobertaProcessing", "BertProcessing"}:
            sep = _first_of(step, "sep")
            found = Around(_first_of(step, "cls"), sep, (sep,) * (2 if step["type"] == "RobertaProcessing" else 1))
        elif step["type"] == "TemplateProcessing":
            found = _templated(step)
        elif step["type"] != "ByteLevel":
            raise Unsupported(f"{NAME}: post_processor: the step '{step['type']:.60}' is none that the engine has")
    return found


def _first_of(step: Step, key: str) -> str:
    pair = step.get(key)
    if not isinstance(pair, list) or not pair or not isinstance(pair[0], str):
        raise ModelDamaged(f"{NAME}: post_processor.{key} must be a token and its number, not {pair!r:.60}")
    return pair[0]


def _templated(step: Step) -> Around:
    before, after = _sides(step.get("single"), "A", "post_processor.single")
    if len(before) > 1 or len(after) > 1:
        raise Unsupported(
            f"{NAME}: post_processor puts {' '.join((*before, 'TEXT', *after))!r:.200} around a text; the engine can "
            "put one token before it and one after it"
        )
    pair = step.get("pair")
    parts = tuple(_parts(pair, "post_processor.pair")) if pair else ()
    texts = [i for i, (is_text, _) in enumerate(parts) if is_text]
    between = parts[texts[0] + 1 : texts[1]] if len(texts) == 2 else ()
    return Around("".join(before), "".join(after), tuple(token for _, token in between))


def _sides(template: object, text: str, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    parts = tuple(_parts(template, where))
    places = [i for i, (is_text, _) in enumerate(parts) if is_text]
    if len(places) != 1 or parts[places[0]][1] != text:
        raise ModelDamaged(f"{NAME}: {where} must hold the text once: {template!r:.200}")
    at = places[0]
    return tuple(token for _, token in parts[:at]), tuple(token for _, token in parts[at + 1 :])


def _parts(template: object, where: str) -> Iterator[tuple[bool, str]]:
    """Whether a part stands for a text, and its name or its token."""
    for part in template if isinstance(template, list) else ():
        for kind in ("Sequence", "SpecialToken"):
            inner = part.get(kind) if isinstance(part, Mapping) else None
            if isinstance(inner, Mapping) and isinstance(inner.get("id"), str):
                yield kind == "Sequence", inner["id"]
                break
        else:
            raise ModelDamaged(f"{NAME}: {where} has a part that is neither a text nor a token: {part!r:.60}")


def _flags(
    said: Mapping[str, Any], around: Around, texts: Mapping[str, str], ids: Mapping[str, int]
) -> dict[str, bool]:
    """Which are added, by the name of the key; only what can be: without a token, nothing is."""
    explicit = any(isinstance(said.get(f"add_{role}_token"), bool) for role in ("bos", "eos"))
    flags = {"add_bos_token": bool(around.before), "add_eos_token": bool(around.after)}
    if explicit:
        # A role without a token of its own is never added, whatever the flag.
        flags = {
            f"add_{role}_token": flag_of(said, f"add_{role}_token", CONFIG, default=False) and bool(texts[role])
            for role in ("bos", "eos")
        }
    flags = {key: value and f"{key[4:]}_id" in ids for key, value in flags.items()}
    if {texts["sep"], texts["eos"]} & set(around.between):
        # Between two texts the engine puts the end of the first, and then this: RoBERTa has both, BERT has one.
        flags["add_sep_token"] = len(around.between) > 1
    return flags


def _keep_last(
    around: Around,
    texts: Mapping[str, str],
    ids: dict[str, int],
    flags: Mapping[str, bool],
    numbers: Callable[[str], int | None],
) -> None:
    """The engine adds its beginning and its end, so they must be those of the template; the other end stays one."""
    first, last = numbers(around.before), numbers(around.after)
    if flags["add_bos_token"] and first is not None and around.before != texts["bos"]:
        ids["bos_token_id"] = first
    if flags["add_eos_token"] and last is not None and last != ids.get("eos_token_id"):
        if "eos_token_id" in ids:
            ids["eot_token_id"] = ids["eos_token_id"]
        ids["eos_token_id"] = last


def _other_ends(files: Files, ids: Mapping[str, int], tokens: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Tokens that end an answer beside the end of the text, as the generation's configuration lists them."""
    listed = files.read_object(GENERATION).get("eos_token_id")
    ends = listed if isinstance(listed, list) else [listed]
    others = [end for end in ends if type(end) is int and 0 <= end < len(tokens) and end not in ids.values()]
    others = [end for end in others if tokens[end] not in _KNOWN_ENDS]
    free = (key for key in ("eot_token_id", "eom_token_id") if key not in ids)
    yield from zip(free, others, strict=False)
