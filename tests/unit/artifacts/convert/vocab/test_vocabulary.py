"""Tokenizers of folders become vocabularies of GGUF files, or are refused by name. Ids are judged in tests/fidelity."""

from __future__ import annotations

import base64
import copy
import json
import random
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from localmodels.artifacts.convert.vocab import Vocabulary, read_vocabulary
from localmodels.artifacts.convert.vocab.pretokenizers import GPT2, LLAMA3, NAMES, QWEN2, TABLE
from localmodels.artifacts.convert.vocab.vocabulary import TokenType
from localmodels.core.errors import ModelDamaged, Unsupported

N, U, C, D, X, B = (
    TokenType.NORMAL,
    TokenType.UNKNOWN,
    TokenType.CONTROL,
    TokenType.USER_DEFINED,
    TokenType.UNUSED,
    TokenType.BYTE,
)


class Files:
    """Files in memory."""

    def __init__(self, files: Mapping[str, Any]) -> None:
        self._files = {
            name: said
            if isinstance(said, bytes)
            else said.encode()
            if isinstance(said, str)
            else json.dumps(said).encode()
            for name, said in files.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._files))

    def has(self, name: str) -> bool:
        return name in self._files

    def read_bytes(self, name: str) -> bytes:
        return self._files[name]

    def read_text(self, name: str) -> str:
        return self._files[name].decode()

    def read_object(self, name: str) -> dict[str, Any]:
        if name not in self._files:
            return {}
        said = json.loads(self._files[name])
        if not isinstance(said, dict):
            raise ModelDamaged(f"{name}: must hold an object")
        return said


def added(number: int, text: str, *, special: bool = True) -> dict[str, Any]:
    return {"id": number, "content": text, "special": special, "normalized": False}


def split(expression: str, **more: Any) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False, **more}


LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


def bpe(*, cuts: tuple[Any, ...] = (split(QWEN2), LEVEL), **more: Any) -> dict[str, Any]:
    """A tokenizer.json of bytes, as small as they come."""
    return {
        "added_tokens": [added(4, "<|end|>"), added(5, "<tool>", special=False)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(cuts)},
        "post_processor": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3}, "merges": [["a", "b"]], **more},
    }


CONFIG = {"eos_token": "<|end|>"}


def read(document: Any, *, rows: int | None = None, pre: str = "", **files: Any) -> Vocabulary:
    named = {name.replace("__", "."): said for name, said in files.items()}
    return read_vocabulary(
        Files({"tokenizer.json": document, "tokenizer_config.json": CONFIG, **named}), {}, rows=rows, pre=pre
    )


# BPE of bytes


def test_a_bpe_of_bytes_is_laid_out_by_number() -> None:
    found = read(bpe(), rows=8)
    assert found.tokens == ("a", "b", "ab", "Ġ", "<|end|>", "<tool>", "[PAD6]", "[PAD7]")
    assert found.types.tolist() == [N, N, N, N, C, D, X, X]
    pairs = dict(found.pairs())
    assert pairs["tokenizer.ggml.model"] == "gpt2"
    assert pairs["tokenizer.ggml.pre"] == "qwen2"
    assert pairs["tokenizer.ggml.merges"] == ["a b"]
    assert pairs["tokenizer.ggml.eos_token_id"] == np.uint32(4)
    assert pairs["tokenizer.ggml.add_bos_token"] is False
    assert "tokenizer.ggml.scores" not in pairs


def test_merges_may_be_texts_as_they_were_before() -> None:
    assert read(bpe(merges=["a b"])).merges == ("a b",)


@pytest.mark.parametrize(
    ("cuts", "whole", "name"),
    [
        ((split(LLAMA3), LEVEL), True, "llama-bpe"),
        ((split(LLAMA3), LEVEL), False, "dbrx"),
        ((split(LLAMA3, behavior="Removed", invert=True), LEVEL), True, "llama-bpe"),
        (({"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},), False, "gpt-2"),
        ((split(GPT2), LEVEL), False, "gpt-2"),
        (({"type": "Digits", "individual_digits": True}, {**LEVEL, "use_regex": True}), False, "smollm"),
    ],
)
def test_expressions_decide_over_the_pre_tokenizer(cuts: tuple[Any, ...], *, whole: bool, name: str) -> None:
    assert read(bpe(cuts=cuts, ignore_merges=whole)).pre == name


def test_every_name_in_the_table_is_one_that_the_engine_loads() -> None:
    assert {name for row in TABLE.values() for name in (row.name, row.whole) if name} <= NAMES


def test_an_unknown_expression_is_refused_with_itself_and_can_be_overruled() -> None:
    document = bpe(cuts=(split(r"\p{Unheard}+|."), LEVEL))
    with pytest.raises(Unsupported, match=r"\\p\{Unheard\}\+\|\.") as refusal:
        read(document)
    assert refusal.value.param == "pre_tokenizer"
    assert read(document, pre="tekken").pre == "tekken"
    with pytest.raises(Unsupported, match="'tekke'"):
        read(document, pre="tekke")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (bpe(cuts=(split(QWEN2), {**LEVEL, "add_prefix_space": True})), "add_prefix_space"),
        (bpe(cuts=(split(QWEN2, invert=True), LEVEL)), "isolated and not inverted"),
        (bpe(cuts=({"type": "Punctuation"}, LEVEL)), "Punctuation"),
        ({**bpe(), "normalizer": {"type": "Lowercase"}}, "Lowercase"),
        (bpe(merges=[["a b", "b"]]), r"merges\[0\]"),
        (bpe(end_of_word_suffix="</w>"), "end_of_word_suffix"),
        (bpe(type="WordLevel"), "WordLevel"),
        ({**bpe(), "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<|end|>"}}, {"SpecialToken": {"id": "<|end|>"}}, {"Sequence": {"id": "A"}},
        ]}}, "one token before"),
    ],
)  # fmt: skip
def test_what_the_engine_cannot_do_is_refused_by_name(document: Any, words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        read(document)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "tokenizer.json: "),
        ("[]", "tokenizer.json: Expected `object`"),
        ({"model": {}}, "missing required field `vocab`"),
        (bpe(vocab={}), "0 tokens"),
        (bpe(vocab={"a": -1}), "vocab"),
        (bpe(vocab={"a": 2**40}), "vocab"),
        (bpe(vocab={"a": 0, "b": 0}), "the number 0"),
        (bpe(vocab={"a": 100}), "token 100 is beyond the 8 rows"),
        (bpe(merges=[["a"]]), "merges"),
        (bpe(merges=["a b c"]), r"merges\[0\]"),
        ({**bpe(), "added_tokens": [added(4, "a"), added(5, "<|end|>")]}, "tokens 0 and 4 have the same text"),
        ({**bpe(), "pre_tokenizer": {"type": "Sequence", "pretokenizers": 3}}, "pre_tokenizer.pretokenizers"),
        ({**bpe(), "pre_tokenizer": {"type": "Sequence", "pretokenizers": [LEVEL] * 33}}, "at most 32"),
        ('{"model": ' * 100_000, "tokenizer.json: "),
    ],
)
def test_what_is_not_sound_is_refused_with_its_field(document: Any, words: str) -> None:
    with pytest.raises(ModelDamaged, match=words):
        read(document, rows=8)


def test_without_an_end_there_is_a_refusal_since_the_engine_would_take_token_11() -> None:
    with pytest.raises(ModelDamaged, match="eos_token"):
        read_vocabulary(Files({"tokenizer.json": bpe()}), {})


def test_padding_never_takes_the_name_of_a_token() -> None:
    found = read(bpe(vocab={"a": 0, "[PAD6]": 1, "b": 2, "\0": 3}, merges=[]), rows=7)
    assert len(set(found.tokens)) == 7
    assert found.tokens[1] == "[PAD6]"
    assert found.tokens[3] == "[EMPTY_3]"


def test_an_added_token_without_a_row_is_left_out_and_told() -> None:
    found = read(bpe(), rows=5)
    assert found.size == 5
    assert "'<tool>'" in found.notes[-1]


# Special tokens


def template(*parts: str) -> dict[str, Any]:
    kinds = [{"Sequence": {"id": "A"}} if part == "A" else {"SpecialToken": {"id": part}} for part in parts]
    return {"type": "TemplateProcessing", "single": kinds, "pair": []}


def test_the_template_says_what_is_added_unless_the_configuration_does() -> None:
    document = {**bpe(), "post_processor": template("<tool>", "A")}
    assert read(document).flags == {"add_bos_token": True, "add_eos_token": False}
    assert read(document).ids["bos_token_id"] == 5
    said = {**CONFIG, "bos_token": "<tool>", "add_bos_token": False}
    assert read(document, tokenizer_config__json=said).flags["add_bos_token"] is False


def test_the_end_that_is_added_is_the_end_and_the_other_one_ends_answers_too() -> None:
    found = read({**bpe(), "post_processor": template("A", "<tool>")})
    assert (found.ids["eos_token_id"], found.ids["eot_token_id"]) == (5, 4)
    assert found.flags["add_eos_token"] is True


def test_other_ends_of_the_generation_get_a_key_if_the_engine_does_not_know_them() -> None:
    assert read(bpe(), generation_config__json={"eos_token_id": [4, 5, 99]}).ids["eot_token_id"] == 5
    assert "eot_token_id" not in read(bpe(), generation_config__json={"eos_token_id": 4}).ids


def test_tokens_may_be_named_by_objects_and_by_the_model() -> None:
    config = {"eos_token": {"content": "<|end|>"}, "pad_token": None}
    files = Files({"tokenizer.json": bpe(), "tokenizer_config.json": config})
    assert read_vocabulary(files, {"pad_token_id": 3, "bos_token_id": [1]}).ids == {
        "eos_token_id": 4, "padding_token_id": 3, "bos_token_id": 1,
    }  # fmt: skip


# Chat templates


def test_a_file_of_its_own_wins_over_the_configuration() -> None:
    config = {**CONFIG, "chat_template": "old"}
    assert read(bpe(), tokenizer_config__json=config).templates == {"default": "old"}
    both = read(bpe(), tokenizer_config__json=config, chat_template__jinja="new")
    assert both.templates == {"default": "new"}


def test_several_templates_are_kept_by_name() -> None:
    listed = [{"name": "default", "template": "one"}, {"name": "tool_use", "template": "two"}]
    pairs = dict(read(bpe(), tokenizer_config__json={**CONFIG, "chat_template": listed}).pairs())
    assert pairs["tokenizer.chat_template"] == "one"
    assert pairs["tokenizer.chat_template.tool_use"] == "two"
    assert pairs["tokenizer.chat_templates"] == ["tool_use"]


@pytest.mark.parametrize("wrong", [3, [3], [{"name": "x"}], [{"name": "", "template": "x"}], "x" * (2**20 + 1)])
def test_a_template_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ModelDamaged, match="chat"):
        read(bpe(), tokenizer_config__json={**CONFIG, "chat_template": wrong})


# SentencePiece

BYTES = {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
PIECES = {"<unk>": 0, "<s>": 1, "</s>": 2, **BYTES, "▁": 259, "a": 260, "b": 261, "▁a": 262, "ab": 263, "▁ab": 264}
# Every way to each token, the token that is merged first before the others.
MERGES = [["a", "b"], ["▁", "a"], ["▁a", "b"], ["▁", "ab"]]
PREPEND = {"type": "Sequence", "normalizers": [
    {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
]}  # fmt: skip
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
SPM_CONFIG = {"bos_token": "<s>", "eos_token": "</s>"}


def sentencepiece(**more: Any) -> dict[str, Any]:
    model = {"type": "BPE", "vocab": PIECES, "merges": MERGES, "byte_fallback": True, "unk_token": "<unk>"}
    return {
        "added_tokens": [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")],
        "normalizer": PREPEND,
        "pre_tokenizer": None,
        "model": {**model, **more.pop("model", {})},
        **more,
    }


def spm(document: Any, **files: Any) -> Vocabulary:
    return read(document, tokenizer_config__json=SPM_CONFIG, **files)


def test_sentencepiece_gets_its_scores_from_the_order_of_merges() -> None:
    found = spm(sentencepiece(), rows=266)
    assert (found.model, found.pre) == ("llama", "default")
    assert found.scores is not None
    assert [found.scores[PIECES[text]] for text in ("ab", "▁a", "▁ab")] == [0.0, -1.0, -2.0]
    assert found.types[:4].tolist() == [U, C, C, B]
    assert found.types[259:].tolist() == [N] * 6 + [X]
    assert found.flags["add_space_prefix"] is True
    assert found.ids == {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}


def metaspace(scheme: str, **more: Any) -> dict[str, Any]:
    step = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False, **more}
    return sentencepiece(normalizer=None, pre_tokenizer=step)


def test_a_space_before_the_first_word_alone_is_left_out_where_prompts_begin_with_a_special_token() -> None:
    assert spm(metaspace("first")).flags["add_space_prefix"] is True
    chats = spm(metaspace("first"), chat_template__jinja="{{ messages }}")
    assert chats.flags["add_space_prefix"] is False
    assert chats.notes
    assert spm(metaspace("never")).flags["add_space_prefix"] is False


def test_merges_that_do_not_say_all_go_into_the_file_or_are_refused() -> None:
    partly = {"merges": MERGES[:3]}
    found = spm(sentencepiece(model=partly, normalizer=REPLACE))
    assert (found.model, found.pre, found.merges) == ("gpt2", "sarvam-moe", ("a b", "▁ a", "▁a b"))
    with pytest.raises(Unsupported, match=r"model\.merges"):
        spm(sentencepiece(model=partly))
    apart = [MERGES[2], MERGES[0], MERGES[1], MERGES[3]]
    with pytest.raises(Unsupported, match=r"model\.merges"):
        spm(sentencepiece(model={"merges": apart}))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (sentencepiece(normalizer={"type": "Lowercase"}), "Lowercase"),
        (sentencepiece(normalizer=None), "not rewritten"),
        (metaspace("sometimes"), "sometimes"),
        (sentencepiece(model={"vocab": {k: v for k, v in PIECES.items() if k != "<0x41>"}}), "<0x41>"),
        (sentencepiece(model={"vocab": {**PIECES, "a▁b": 265}}, normalizer=None, pre_tokenizer={
            "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}), "several words"),
    ],
)  # fmt: skip
def test_another_sentencepiece_is_refused_by_name(document: Any, words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        spm(document)


def test_added_tokens_are_looked_for_with_their_spaces() -> None:
    document = sentencepiece()
    document["added_tokens"] += [added(265, "▁▁", special=False), added(266, "<|x|>", special=False)]
    found = spm(document)
    assert found.tokens[265:] == ("  ", "<|x|>")
    assert found.types[265:].tolist() == [D, C]


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


def piece(text: str, score: float, kind: TokenType) -> bytes:
    return message(1, message(1, text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind]))


def model_file(*, kind: int = 2, prefix: int = 1, flip: bool = False) -> bytes:
    """A tokenizer.model with the pieces above."""
    types = {"<unk>": U, "<s>": C, "</s>": C, **dict.fromkeys(BYTES, B)}
    scores = {"ab": -2.0, "▁a": -1.0} if flip else {"▁a": -1.0}
    body = b"".join(
        piece(text, scores.get(text, -5.0 if text == "▁ab" else 0.0), types.get(text, N)) for text in PIECES
    )
    return body + message(2, b"\x18" + bytes([kind])) + message(3, b"\x18" + bytes([prefix]) + b"\x20\0")


def test_tokenizer_model_alone_is_enough() -> None:
    config = {**SPM_CONFIG, "added_tokens_decoder": {"265": {"content": "<tool>", "special": False}}}
    files = Files({"tokenizer.model": model_file(prefix=0), "tokenizer_config.json": config})
    found = read_vocabulary(files, {"vocab_size": 266})
    assert found.scores is not None
    assert found.scores[PIECES["▁ab"]] == -5.0
    assert found.tokens[265] == "<tool>"
    assert found.flags["add_space_prefix"] is False
    with pytest.raises(Unsupported, match="Unigram"):
        read_vocabulary(Files({"tokenizer.model": model_file(kind=1), "tokenizer_config.json": config}), {})


def test_where_both_files_are_there_the_old_one_counts_only_if_it_still_agrees() -> None:
    agreed = spm(sentencepiece(), tokenizer__model=model_file())
    assert agreed.scores is not None
    assert agreed.scores[PIECES["▁ab"]] == -5.0
    other = spm(sentencepiece(), tokenizer__model=model_file(flip=True))
    assert other.scores is not None
    assert other.scores[PIECES["▁ab"]] == -2.0


def test_a_broken_tokenizer_model_is_refused_wherever_it_is_cut_or_changed() -> None:
    whole, chance = model_file(), random.Random(3)
    for _ in range(300):
        broken = bytearray(whole[: chance.randrange(len(whole))])
        for _ in range(chance.randrange(4)):
            broken[chance.randrange(len(broken) or 1) : 0] = chance.randbytes(chance.randrange(1, 4))
        files = Files({"tokenizer.model": bytes(broken), "tokenizer_config.json": SPM_CONFIG})
        with pytest.raises((ModelDamaged, Unsupported)):
            read_vocabulary(files, {"vocab_size": 265})


# Unigram and WordPiece

CHARSMAP = struct.pack("<I", 8) + bytes(8) + b"x\0"


def unigram(**more: Any) -> dict[str, Any]:
    return {
        "added_tokens": [added(0, "<s>"), added(1, "<pad>"), added(2, "</s>"), added(3, "<unk>"), added(6, "<mask>")],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(CHARSMAP).decode()},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
        ]},
        "post_processor": template("<s>", "A", "</s>"),
        "model": {"type": "Unigram", "unk_id": 3, "vocab": [
            ["<s>", 0], ["<pad>", 0], ["</s>", 0], ["<unk>", 0], ["▁a", -1.5], ["b", -2.5],
        ]},
        **more,
    }  # fmt: skip


def test_unigram_keeps_its_scores_and_its_table_of_replacements() -> None:
    found = read_vocabulary(
        Files({"tokenizer.json": unigram(), "tokenizer_config.json": {"cls_token": "<s>", "sep_token": "</s>"}}),
        {"type_vocab_size": 1},
    )
    pairs = dict(found.pairs())
    assert found.model == "t5"
    assert found.scores is not None
    assert found.scores.tolist() == [0, 0, 0, 0, -1.5, -2.5, 0]
    assert found.types.tolist() == [C, C, C, U, N, N, C]
    assert bytes(pairs["tokenizer.ggml.precompiled_charsmap"]) == CHARSMAP  # type: ignore[arg-type]
    assert found.flags == {
        "add_space_prefix": True, "remove_extra_whitespaces": True, "add_bos_token": True, "add_eos_token": True,
    }  # fmt: skip
    assert pairs["tokenizer.ggml.token_type_count"] == np.uint32(1)


@pytest.mark.parametrize("charsmap", [b"\0", CHARSMAP[:-1], struct.pack("<I", 2**31) + bytes(12), CHARSMAP[:12]])
def test_a_table_that_would_lead_the_engine_astray_is_refused(charsmap: bytes) -> None:
    step = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}
    with pytest.raises(ModelDamaged, match="precompiled_charsmap"):
        read(unigram(normalizer=step))


def test_wordpiece_marks_the_beginnings_of_words_instead_of_the_rest() -> None:
    document = {
        "added_tokens": [added(0, "[PAD]"), added(1, "[UNK]"), added(2, "[CLS]"), added(3, "[SEP]")],
        "normalizer": {"type": "BertNormalizer", "lowercase": True, "strip_accents": None},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": template("[CLS]", "A", "[SEP]"),
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "vocab": {
            "[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "word": 4, "##s": 5}},
    }  # fmt: skip
    config = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    found = read_vocabulary(Files({"tokenizer.json": document, "tokenizer_config.json": config}), {})
    assert found.tokens == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁word", "s")
    assert found.flags["normalizer.lowercase"] is True
    assert found.flags["normalizer.strip_accents"] is True
    assert found.ids["seperator_token_id"] == 3


# Strangers' files


def test_whatever_is_in_the_files_the_answer_is_a_vocabulary_or_a_refusal() -> None:
    chance = random.Random(11)
    junk: list[Any] = [None, 0, -1, 2**63, 1e308, "", "x" * 300, [], {}, [[]], {"type": "Sequence"}, True, ["a", 1]]
    accepted = 0
    for _ in range(1500):
        made, said = chance.choice([(bpe(), CONFIG), (sentencepiece(), SPM_CONFIG), (unigram(), SPM_CONFIG)])
        document, config = copy.deepcopy((made, dict(said)))
        for _ in range(chance.randrange(1, 4)):
            _spoil(chance.choice([document, document, config]), junk, chance)
        files = Files({"tokenizer.json": document, "tokenizer_config.json": config})
        with suppress(ModelDamaged, Unsupported):
            found = read_vocabulary(files, {"vocab_size": 300})
            accepted += 1
            assert len(set(found.tokens)) == found.size == 300
    assert 30 < accepted < 1400


def _spoil(value: Any, junk: list[Any], chance: random.Random) -> None:
    """Puts something else in one place."""
    while isinstance(value, dict | list) and value:
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        inner = value[key]
        if not isinstance(inner, dict | list) or not inner or chance.random() < 0.3:
            value[key] = copy.deepcopy(chance.choice(junk))
            return
        value = inner
