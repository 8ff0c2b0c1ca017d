"""Small tokenizers in the manner of each family, trained here and saved as transformers saves them.

Each is a folder as a fine-tune leaves it: ``tokenizer.json``, ``tokenizer_config.json``, sometimes ``tokenizer.model``.
The regular expressions are those of the families' own files; the vocabularies are ours, of 2,000 tokens or so.
"""

from __future__ import annotations

import io
import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
from tests.fidelity.vocab_texts import corpus
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GemmaTokenizer, LlamaTokenizer, PreTrainedTokenizerFast, XLMRobertaTokenizer

from localmodels.artifacts.convert.vocab import pretokenizers as known

SIZE = 2000
ROWS = 2560  # more than there are tokens, as embeddings are


@dataclass(frozen=True)
class Style:
    """One folder.

    Attributes:
        specials: tokens to put into texts.
        model: llama.cpp's word that is due, and ``pre`` the one for the pre-tokenizer.
        known: texts in which the engine is known to differ, as beginnings; the vocabulary's notes say why.
    """

    name: str
    make: Callable[[Path], None]
    specials: tuple[str, ...]
    model: str
    pre: str
    known: Callable[[str], bool] = lambda _: False


# BPE of bytes


@dataclass(frozen=True)
class Bytes:
    """What makes a BPE of bytes: how it cuts, what it adds, which tokens are special."""

    cuts: tuple[str, ...] | None
    ignore_merges: bool = False
    nfc: bool = False
    bos: str = ""
    eos: str = "<|endoftext|>"
    special: tuple[str, ...] = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    added: tuple[str, ...] = ("<tool_call>", "</think>")
    add_bos: bool = False
    digits: bool = False
    removed: bool = False

    def make(self, place: Path) -> None:
        tokenizer = Tokenizer(models.BPE(ignore_merges=self.ignore_merges))
        if self.nfc:
            tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = self._cut()
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=SIZE, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
        tokenizer.train_from_iterator(corpus(), trainer)
        tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in self.special])
        tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in self.added])
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        if self.add_bos:
            tokenizer.post_processor = processors.Sequence(
                [
                    processors.ByteLevel(trim_offsets=False),
                    processors.TemplateProcessing(
                        single=f"{self.bos} $A",
                        pair=f"{self.bos} $A {self.bos}:1 $B:1",
                        special_tokens=[(self.bos, tokenizer.token_to_id(self.bos))],
                    ),
                ]
            )
        extra = {"bos_token": self.bos} if self.bos else {}
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=self.eos, **extra).save_pretrained(place)

    def _cut(self) -> Any:
        if self.cuts is None:
            plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
            digits = pre_tokenizers.Digits(individual_digits=True)
            return pre_tokenizers.Sequence([digits, plain]) if self.digits else plain
        behavior, invert = ("removed", True) if self.removed else ("isolated", False)
        return pre_tokenizers.Sequence(
            [
                *(pre_tokenizers.Split(Regex(cut), behavior=behavior, invert=invert) for cut in self.cuts),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )


LLAMA3_SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>")
HARMONY = ("<|startoftext|>", "<|endoftext|>", "<|return|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>")
DEEPSEEK = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")
_CUTS = {row.name: cuts for cuts, row in known.TABLE.items()}


def _bytes_styles() -> dict[str, tuple[Bytes, str]]:
    deepseek: dict[str, Any] = {"bos": DEEPSEEK[0], "eos": DEEPSEEK[1], "special": DEEPSEEK, "add_bos": True}
    return {
        "llama3": (
            Bytes((known.LLAMA3,), ignore_merges=True, bos=LLAMA3_SPECIAL[0], eos="<|eot_id|>", special=LLAMA3_SPECIAL,
                  add_bos=True), "llama-bpe"),
        "qwen2": (Bytes((known.QWEN2,), nfc=True), "qwen2"),
        "qwen3.5": (Bytes((known.QWEN35,), nfc=True), "qwen35"),
        "gpt-oss": (Bytes((known.GPT4O,), ignore_merges=True, bos=HARMONY[0], eos="<|return|>", special=HARMONY,
                          added=()), "granite-embed-multi-97m"),
        "o200k, merged": (Bytes((known.GPT4O,)), "gpt-4o"),
        "phi-4": (Bytes((known.LLAMA3,), bos="<|endoftext|>"), "dbrx"),
        "tekken": (Bytes((known.TEKKEN,), ignore_merges=True, bos="<s>", eos="</s>", special=("<s>", "</s>", "[INST]"),
                         add_bos=True), "tekken"),
        "gpt-2": (Bytes(None), "gpt-2"),
        "smollm": (Bytes(None, digits=True), "smollm"),
        "falcon3-like": (Bytes((known.LLAMA3,), removed=True, ignore_merges=True), "llama-bpe"),
        "seed-coder": (Bytes((known.SEED_CODER,)), "seed-coder"),
        "bailing": (Bytes((known.BAILING,)), "bailingmoe"),
        "deepseek-llm": (Bytes(_CUTS["deepseek-llm"], **deepseek), "deepseek-llm"),
        "deepseek-coder": (Bytes(_CUTS["deepseek-coder"], **deepseek), "deepseek-coder"),
        "minicpm5": (Bytes((known.TRIPLES, known.MINICPM5), ignore_merges=True), "minicpm5"),
        "deepseek-v3": (Bytes(_CUTS["deepseek-v3"], **deepseek), "deepseek-v3"),
    }  # fmt: skip


# SentencePiece


def pieces(kind: str, **options: Any) -> bytes:
    """A SentencePiece model of ours, as bytes."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_writer=out, vocab_size=SIZE, model_type=kind, minloglevel=2,
        character_coverage=0.9999, num_threads=1, **options,
    )  # fmt: skip
    return out.getvalue()


_LLAMA = {
    "byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False,
    "split_digits": True, "allow_whitespace_only_pieces": True, "unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1,
}  # fmt: skip
_GEMMA = {
    "byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False,
    "split_digits": True, "allow_whitespace_only_pieces": True, "add_dummy_prefix": False,
    "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3,
    "pad_piece": "<pad>", "eos_piece": "<eos>", "bos_piece": "<bos>",
    "user_defined_symbols": ["<mask>", "<start_of_turn>", "<end_of_turn>", "\n", "\n\n", "\n\n\n",
                             *("▁" * count for count in range(2, 17)), "<table>", "</table>"],
}  # fmt: skip


def _spm(
    place: Path, cls: Any, options: Mapping[str, Any], *, keep: bool, added: tuple[Any, ...] = (), **init: Any
) -> None:
    """A folder with, or after saving without, the SentencePiece file."""
    place.mkdir(exist_ok=True, parents=True)
    (place / "tokenizer.model").write_bytes(pieces("bpe", **options))
    tokenizer = cls.from_pretrained(place, **init)
    if added:
        tokenizer.add_tokens(list(added))
    tokenizer.save_pretrained(place)
    if not keep:
        (place / "tokenizer.model").unlink()


def _llama(*, keep: bool, legacy: bool) -> Callable[[Path], None]:
    added = (AddedToken("<|im_start|>", special=True, normalized=False), AddedToken("<tool>", normalized=False))
    return lambda place: _spm(place, LlamaTokenizer, _LLAMA, keep=keep, added=added, legacy=legacy, add_bos_token=True)


def _gemma(*, keep: bool) -> Callable[[Path], None]:
    return lambda place: _spm(place, GemmaTokenizer, _GEMMA, keep=keep, add_bos_token=True)


def _with_template(make: Callable[[Path], None]) -> Callable[[Path], None]:
    """The same, with a chat template."""

    def both(place: Path) -> None:
        make(place)
        (place / "chat_template.jinja").write_text("<s>{% for m in messages %}{{ m.content }}</s>{% endfor %}")

    return both


def _llama2_file(*, keep: bool) -> Callable[[Path], None]:
    """As Llama 2's own file has it: two normalizers, nothing that cuts."""

    def make(place: Path) -> None:
        _llama(keep=keep, legacy=True)(place)
        file = place / "tokenizer.json"
        said = json.loads(file.read_text())
        said["pre_tokenizer"] = None
        said["normalizer"] = {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]}  # fmt: skip
        said["model"]["merges"] = [" ".join(pair) for pair in said["model"]["merges"]]  # as it was written before 4.45
        file.write_text(json.dumps(said))

    return make


def _native(place: Path) -> None:
    """A BPE with bytes for unknown characters that nobody took from SentencePiece, so that merges are missing."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False
    )
    tokenizer.train_from_iterator([line for text in corpus() for line in text.splitlines()], trainer)
    said = json.loads(tokenizer.to_str())
    said["added_tokens"] = said["added_tokens"][:3]
    place.mkdir(parents=True, exist_ok=True)
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(said)), unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(place)


def _xlm_roberta(place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    file = place / "sentencepiece.bpe.model"
    file.write_bytes(pieces("unigram"))
    XLMRobertaTokenizer.from_pretrained(place).save_pretrained(place)


def _bert(*, lower: bool) -> Callable[[Path], None]:
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

    def make(place: Path) -> None:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=SIZE, special_tokens=list(special), show_progress=False)
        tokenizer.train_from_iterator(corpus(), trainer)
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", tokenizer.token_to_id("[CLS]")), ("[SEP]", tokenizer.token_to_id("[SEP]"))],
        )
        names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
                 "mask_token": "[MASK]"}  # fmt: skip
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(place)

    return make


def _none(_: str) -> bool:
    return False


def _combining(text: str) -> bool:
    return any(unicodedata.category(char) in {"Mn", "Mc"} for char in text)


def _composed(text: str) -> bool:
    return unicodedata.normalize("NFC", text) != text


def _spaced(text: str) -> bool:
    """Its beginning, or what follows a special token, is a space: the tokenizer adds no other, the engine does."""
    return text.startswith((" ", "\u2581")) or re.search(r"> ", text) is not None


def _unprefixed(text: str) -> bool:
    """Text after a special token, or a space first."""
    return _spaced(text) or ">" in text


_KNOWN: Mapping[str, Callable[[str], bool]] = {
    "qwen2": _composed,
    "qwen3.5": _composed,
    "o200k, merged": _combining,
    "tekken": _combining,
}


def styles() -> tuple[Style, ...]:
    """All of them."""
    spm = ("<s>", "</s>", "<|im_start|>", "<tool>")
    gemma = ("<bos>", "<start_of_turn>", "<end_of_turn>", "<table>")
    bert = ("[CLS]", "[SEP]", "[MASK]")
    return (
        *(
            Style(name, made.make, (*made.special, *made.added), "gpt2", pre, _KNOWN.get(name, _none))
            for name, (made, pre) in _bytes_styles().items()
        ),
        Style("llama2, both files", _llama2_file(keep=True), spm, "llama", "default"),
        Style("llama2, json alone", _llama2_file(keep=False), spm, "llama", "default"),
        Style("always, both files", _llama(keep=True, legacy=True), spm, "llama", "default", _spaced),
        Style("always, json alone", _llama(keep=False, legacy=True), spm, "llama", "default", _spaced),
        Style("first, json alone", _llama(keep=False, legacy=False), spm, "llama", "default", _unprefixed),
        Style("first, chats", _with_template(_llama(keep=False, legacy=False)), spm, "llama", "default",
              lambda text: not text.startswith(spm)),
        Style("gemma, both files", _gemma(keep=True), gemma, "llama", "default", lambda text: "\u2581" in text),
        Style("gemma, json alone", _gemma(keep=False), gemma, "llama", "default", lambda text: "\u2581" in text),
        Style("merges of its own", _native, ("<s>", "</s>"), "gpt2", "sarvam-moe"),
        Style("xlm-roberta", _xlm_roberta, ("<s>", "</s>", "<mask>"), "t5", "default", _composed),
        Style("bert, lower case", _bert(lower=True), bert, "bert", "bert-bge",
              lambda text: unicodedata.normalize("NFD", text) != text or _combining(text)),
        Style("bert, cased", _bert(lower=False), bert, "bert", "bert-bge"),
    )  # fmt: skip


def load(place: Path) -> Tokenizer:
    """The tokenizer as the file has it; transformers 5 builds those of Llama's class anew, with other spaces."""
    return Tokenizer.from_file(str(place / "tokenizer.json"))
