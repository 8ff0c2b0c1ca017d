"""Hostile tokenizers: ``tokenizer.json``, ``tokenizer.model``, what configures them, and templates of chats."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.hostile_folders.bases import field, piece, pieces, sentencepiece, varint
from tests.hostile_folders.kinds import Body, Change, Hostile, edited, raw_field, removed, replaced, with_field

FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"
MODEL = "tokenizer.model"
WRONG: tuple[object, ...] = (None, "x", 7, -1, 1.5, True, [], {}, [None], [[1, 2, 3]], {"a": None}, {"a": "b"}, "\0")


def corpus() -> dict[str, Hostile]:
    """All of them by name."""
    return {**_fields(), **_whole(), **_vocabularies(), **_merges(), **_added(), **_steps(), **_pieces(), **_beside(),
            **_templates()}  # fmt: skip


def document(edit: Callable[[Any], object], says: str = FILE, fate: Any = "refused", base: str = "llama") -> Hostile:
    """A sound tokenizer in which something is changed."""
    return Hostile(edited(FILE, edit), fate, says if fate == "refused" else "", base)


def _with(**fields: object) -> Callable[[Any], object]:
    return lambda values: values.update(fields)


def _fields() -> dict[str, Hostile]:
    found = {}
    for base in ("llama", "bert", "xlm"):
        for key in ("model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "version"):
            for number, value in enumerate(WRONG):
                found[f"tokenizer of {base}: {key} is {value!r:.20} #{number}"] = Hostile(
                    with_field(FILE, key, value=value), "either", base=base
                )
        for key in ("vocab", "merges", "type", "unk_token", "unk_id", "byte_fallback", "ignore_merges",
                    "continuing_subword_prefix", "end_of_word_suffix"):  # fmt: skip
            for number, value in enumerate((*WRONG, ...)):
                found[f"tokenizer of {base}: model.{key} is {value!r:.20} #{number}"] = Hostile(
                    with_field(FILE, "model", key, value=value), "either", base=base
                )
    return found


def _whole() -> dict[str, Hostile]:
    def merging(listed: bytes) -> bytes:
        return b'{"model": {"vocab": {"a": 0}, "merges": [' + listed + b"]}}"

    bodies: Mapping[str, Body] = {
        "nothing": b"", "a list": b"[]", "null": b"null", "half": b'{"model": {', "no UTF-8": b'{"model": "\xff\xfe"}',
        "two bytes a letter": '{"model": {}}'.encode("utf-16"),
        "deep": b'{"model":' + b"[" * 10**5 + b"]" * 10**5 + b"}",
        "deep where nobody looks": b'{"x":' + b'{"a":' * 10**5 + b"1" + b"}" * 10**5 + b"}",
        "a pickle": b"\x80\x04\x95\x00.", "a zip": b"PK\x03\x04", "65 MB": lambda: b" " * (65 * 2**20),
        "zeros": bytes(4096),
        "NaN": b'{"model": {"vocab": {"a": NaN}}}', "an exponent": b'{"model": {"vocab": {"a": 1e999}}}',
        "merges, 10 million": lambda: merging(b'"a",' * 10**7 + b'"a"'),
        "texts, 24 MB": lambda: merging((b'"' + b"x" * 30 + b'",') * (7 * 10**5) + b'"a"'),
        "lists, 12 MB": lambda: merging(b"[]," * (4 * 2**20) + b"[]"),
    }  # fmt: skip
    found = {f"tokenizer: {name}": Hostile(replaced(FILE, raw), says=FILE) for name, raw in bodies.items()}
    found["tokenizer: missing"] = Hostile(removed(FILE), says=FILE)
    found["tokenizer: missing, but an old one"] = Hostile(_old, says="vocab.json")
    return found


def _old(place: Path) -> None:
    (place / FILE).rename(place / "vocab.json")
    (place / "merges.txt").write_text("#version: 0.2\nt h\n")


def _vocabularies() -> dict[str, Hostile]:
    def vocab(**tokens: object) -> Hostile:
        return document(lambda d: d["model"]["vocab"].update(tokens))

    found = {
        "an id of 2^31": vocab(evil=2**31), "an id of 2^64": vocab(evil=2**64), "an id below 0": vocab(evil=-1),
        "an id beyond the rows": vocab(evil=300), "an id of text": vocab(evil="1"), "an id of half": vocab(evil=1.5),
        "an id twice": vocab(evil=5), "an id of true": vocab(evil=True), "an id of nothing": vocab(evil=None),
        "an id far away": vocab(evil=2**19 - 1),
        "no tokens": document(lambda d: d["model"].update(vocab={})),
        "600,000 tokens": document(lambda d: d["model"].update(vocab={f"t{i}": i for i in range(600_000)})),
        "all with one number": document(lambda d: d["model"].update(vocab=dict.fromkeys(d["model"]["vocab"], 3))),
        "a token of a megabyte": document(lambda d: d["model"]["vocab"].update({"x" * 2**20: 290})),
        "a list for BPE": document(lambda d: d["model"].update(vocab=[["a", 0.0]])),
        "half a letter": document(lambda d: d["model"]["vocab"].update({"\ud800": 290})),
        "two that end at a zero byte": document(
            lambda d: d["model"]["vocab"].update({"evil\0a": 290, "evil\0b": 291}), says="same text"
        ),
        "another kind": document(lambda d: d["model"].update(type="WordLevel"), says="WordLevel"),
        "a kind of Python": document(lambda d: d["model"].update(type="__reduce__"), says="model.type"),
        "a kind of a megabyte": document(lambda d: d["model"].update(type="x" * 2**20), says="model.type"),
    }  # fmt: skip
    loose = {
        "an empty token": lambda d: d["model"]["vocab"].update({"": 290}),
        "a zero byte": lambda d: d["model"]["vocab"].update({"\0": 290}),
        "a byte below 0": lambda d: d["model"]["vocab"].update({"<0x-1>": 290}),
        "bytes that are none": lambda d: d["model"]["vocab"].update({"<0xGG>": 290, "<0x100>": 291, "<0x>": 292}),
        "one token": lambda d: d["model"].update(vocab={"a": 0}, merges=[]),
        "control tokens of others": lambda d: d["model"]["vocab"].update({"<|im_start|>": 290, "</s>": 291}),
        "spaces": lambda d: d["model"]["vocab"].update({" ": 290, "  ": 291, "\t": 292, "\n": 293}),
    }  # fmt: skip
    found |= {name: document(edit, fate="either") for name, edit in loose.items()}
    wordpiece = {
        "two that become one": lambda d: d["model"]["vocab"].update({"##\u2581evil": 290, "evil": 291}),
        "a prefix alone": lambda d: d["model"]["vocab"].update({"##": 290}),
        "prefixes alone": lambda d: d["model"]["vocab"].update({"####": 290, "##": 291}),
    }
    found |= {f"WordPiece: {name}": document(edit, fate="either", base="bert") for name, edit in wordpiece.items()}
    unigram: Mapping[str, Callable[[Any], object]] = {
        "a score of text": lambda d: d["model"]["vocab"].append(["evil", "x"]),
        "a score of 1e300": lambda d: d["model"]["vocab"].append(["evil", 1e300]),
        "a pair of one": lambda d: d["model"]["vocab"].append(["evil"]),
        "a pair of three": lambda d: d["model"]["vocab"].append(["evil", 0.0, 1]),
        "twice": lambda d: d["model"]["vocab"].append(d["model"]["vocab"][-1]),
        "more than rows": lambda d: d["model"]["vocab"].extend([f"e{i}", 0.0] for i in range(300)),
        "an unknown that is none": lambda d: d["model"].update(unk_id=10**6),
        "an unknown beyond": lambda d: d["model"].update(unk_id=299),
        "no unknown": lambda d: d["model"].update(unk_id=None),
    }
    for name, edit in unigram.items():
        fate: Any = "either" if name == "an unknown beyond" else "refused"
        found[f"Unigram: {name}"] = document(edit, fate=fate, base="xlm")
    return {f"vocabulary: {name}": hostile for name, hostile in found.items()}


def _merges() -> dict[str, Hostile]:
    def merges(*listed: object) -> Callable[[Any], object]:
        return lambda d: d["model"]["merges"].extend(listed)

    refused = {
        "of one": merges("x"), "of three": merges("a b c"), "of nothing": merges(""), "a space alone": merges(" "),
        "a number": merges(7), "null": merges(None), "a list of one": merges(["a"]),
        "a list of three": merges(["a"] * 3),
        "empty halves": merges(["", ""]), "a space within": merges(["a b", "c"]),
        "half a letter": merges(["\ud800", "a"]),
        "a text": lambda d: d["model"].update(merges="a b"),
        "an object": lambda d: d["model"].update(merges={"a": "b"}),
        "a million and a half": lambda d: d["model"].update(merges=["a b"] * 1_500_000),
    }  # fmt: skip
    loose = {
        "of tokens that are not": merges(["zz", "yy"]),
        "a cycle": merges(["a", "b"], ["b", "a"], ["ab", "a"], ["ba", "b"]),
        "of itself": merges(["th", "th"]), "the same again": merges(*[["t", "h"]] * 1000),
        "of a megabyte": merges(["x" * 2**20, "y"]), "with a zero byte": merges(["t\0", "h"]),
        "200,000": lambda d: d["model"].update(merges=[["a", chr(0x4E00 + i % 20_000)] for i in range(200_000)]),
    }  # fmt: skip
    found = {f"merges: {name}": document(edit) for name, edit in refused.items()}
    return found | {f"merges: {name}": document(edit, fate="either") for name, edit in loose.items()}


def _added() -> dict[str, Hostile]:
    def added(**fields: object) -> Callable[[Any], object]:
        token = {"id": 290, "content": "<evil>", "special": True}
        return lambda d: d["added_tokens"].append({**token, **fields})

    refused = {
        "an id below 0": added(id=-1), "an id of 2^31": added(id=2**31), "an id of text": added(id="290"),
        "no id": lambda d: d["added_tokens"].append({"content": "x"}), "no text": added(content=""),
        "a number for a text": added(content=7), "special as text": added(special="yes"),
        "the text of another": added(content="th"), "half a letter": added(content="\ud800"),
        "600,000": lambda d: d["added_tokens"].extend({"id": i % 1000, "content": f"a{i}"} for i in range(600_000)),
        "a megabyte": added(content="x" * 2**20),
    }  # fmt: skip
    loose = {
        "beyond the rows": added(id=300), "far beyond": added(id=2**19 - 1), "in the place of another": added(id=5),
        "a byte below 0": added(content="<0x-1>"), "a zero byte": added(content="\0"),
        "an end of a chat": added(content="<|im_end|>"), "a template within": added(content="{{ 7 * 7 }}"),
        "1,000 in one place": lambda d: d["added_tokens"].extend({"id": 290, "content": f"a{i}"} for i in range(1000)),
        "percent": added(content="%s%n%x"), "an escape": added(content="\x1b[2J"),
    }  # fmt: skip
    found = {f"added tokens: {name}": document(edit) for name, edit in refused.items()}
    return found | {f"added tokens: {name}": document(edit, fate="either") for name, edit in loose.items()}


def _steps() -> dict[str, Hostile]:
    def cut(step: object) -> Callable[[Any], object]:
        return lambda d: d.update(pre_tokenizer=step)

    def split(regex: object, **fields: object) -> dict[str, object]:
        return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False, **fields}

    of_bytes = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}

    def sequence(*steps: object) -> dict[str, object]:
        return {"type": "Sequence", "pretokenizers": [*steps, of_bytes]}

    nested: dict[str, object] = dict(of_bytes)
    for _ in range(60):
        nested = {"type": "Sequence", "pretokenizers": [nested]}
    cuts: Mapping[str, object] = {
        "a bomb": sequence(split("(a+)+$")), "a bomb of stars": sequence(split("(.*.*.*.*)*" * 50)),
        "a megabyte": sequence(split("a" * 2**20)), "no regular expression": sequence(split("(")),
        "a number": sequence(split(7)), "null": sequence(split(None)), "two patterns": sequence(split("a", pattern={})),
        "an unknown step": sequence({"type": "Evil"}),
        "a step of code": sequence({"type": "Custom", "code": "import os"}),
        "a type that is a number": sequence({"type": 7}), "33 steps": sequence(*[split("a")] * 33),
        "a million steps": sequence(*[split("a")] * 100_000),
        "a sequence of text": {"type": "Sequence", "pretokenizers": "x"},
        "a sequence of nothing": {"type": "Sequence"}, "60 sequences in each other": nested,
        "merged": sequence(split(r"\p{N}", behavior="MergedWithNext")), "inverted": sequence(split("a", invert=True)),
        "a name of a megabyte": sequence({"type": "x" * 2**20}),
        "digits in words": sequence({"type": "Digits", "individual_digits": "no"}),
        "escapes": sequence(split("\x1b[2J\r\n")), "spaces before": {"type": "ByteLevel"},
        "31 long ones": sequence(*[split("b" * 5000)] * 31),
    }  # fmt: skip
    found = {f"pre-tokenizer: {name}": document(cut(step), says="pre_tokenizer") for name, step in cuts.items()}
    normalizers: Mapping[str, object] = {
        "a bomb": {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""},
        "an unknown": {"type": "Evil"}, "a text that comes before": {"type": "Prepend", "prepend": "x" * 10_000},
        "a million": {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 100_000},
        "lower case": {"type": "Lowercase"}, "no base64": {"type": "Precompiled", "precompiled_charsmap": "%%"},
    }  # fmt: skip
    for base in ("llama", "bert", "xlm"):
        for name, step in normalizers.items():
            found[f"normalizer of {base}: {name}"] = document(
                _with(normalizer=step), says="normalizer",
                fate="either" if base == "bert" and name == "lower case" else "refused", base=base,
            )  # fmt: skip
    charsmaps = {"of nothing": "", "of zeros": "AAAA", "too large a part": "/////w==", "a megabyte": "AAAA" * 2**18,
                 "not the end": "BAAAAAAAAAABAQEB"}  # fmt: skip
    for name, charsmap in charsmaps.items():
        step = {"type": "Precompiled", "precompiled_charsmap": charsmap}
        found[f"charsmap: {name}"] = document(_with(normalizer=step), fate="either", base="xlm")
    token = {"SpecialToken": {"id": "<|begin|>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    posts: Mapping[str, object] = {
        "an unknown": {"type": "Evil"}, "two before": {"type": "TemplateProcessing", "single": [token, token, text]},
        "no text": {"type": "TemplateProcessing", "single": [token]},
        "two texts": {"type": "TemplateProcessing", "single": [text, text]},
        "a number": {"type": "TemplateProcessing", "single": 7},
        "parts of numbers": {"type": "TemplateProcessing", "single": [7]},
        "a million parts": {"type": "TemplateProcessing", "single": [token] * 100_000},
        "a cls that is a number": {"type": "BertProcessing", "cls": 7, "sep": ["x", 1]},
    }  # fmt: skip
    found |= {f"post-processor: {name}": document(_with(post_processor=step), says="post_processor")
              for name, step in posts.items()}  # fmt: skip
    missing = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<nobody>"}}, text]}
    found["post-processor: a token that is not there"] = document(
        lambda d: d.update(post_processor=missing), fate="either"
    )
    return found


def _pieces() -> dict[str, Hostile]:
    def model(raw: Body, fate: Any = "refused") -> Hostile:
        return Hostile(replaced(MODEL, raw), fate, MODEL if fate == "refused" else "", "pieces")

    sound = pieces()
    message = sentencepiece()
    found = {
        "nothing": model(b""), "a text": model(b"hello there"), "a pickle": model(b"\x80\x04\x95."),
        "JSON": model(b"{}"),
        "zeros": model(bytes(1000)), "cut in a piece": model(message[:-3] + b"\x0a"),
        "a length of 2^63": model(b"\x0a" + varint(2**63)),
        "a length beyond": model(b"\x0a\x7f\x01"), "a number without end": model(b"\x0a" + b"\xff" * 100),
        "a group": model(b"\x0b" + message), "a kind that is none": model(sentencepiece([*sound, piece("x", kind=9)])),
        "a kind of 2^63": model(sentencepiece([*sound, piece("x", kind=2**63)])),
        "no UTF-8": model(sentencepiece([*sound, piece(b"\xff\xfe")])),
        "a score that is no number": model(sentencepiece([*sound, piece("x", float("nan"))])),
        "an infinite score": model(sentencepiece([*sound, piece("x", float("inf"))])),
        "a score of one byte": model(sentencepiece([*sound, field(1, field(1, b"x") + field(2, b"\1"))])),
        "a text that is a number": model(sentencepiece([*sound, field(1, field(1, 7))])),
        "a piece that is a number": model(field(1, 7) + message),
        "a piece twice": model(sentencepiece([*sound, sound[-1]])),
        "no pieces": model(field(2, field(3, 2))), "a trainer that is a number": model(message + field(2, 7)),
        "more than rows": model(sentencepiece([*sound, *(piece(f"e{i}") for i in range(300))])),
        "600,000 pieces": model(lambda: sentencepiece([*sound, *(piece(f"e{i}") for i in range(600_000))])),
        "Unigram": model(sentencepiece(trainer=field(3, 1)), "either"),
        "a model of kind 9": model(sentencepiece(trainer=field(3, 9))),
        "bytes that are missing": model(sentencepiece([*sound[:3], *sound[4:]]), "either"),
        "a byte below 0": model(sentencepiece([*sound, piece("<0x-1>", kind=6)]), "either"),
        "a byte of 256": model(sentencepiece([*sound, piece("<0x100>", kind=6)]), "either"),
        "a byte that is none": model(sentencepiece([*sound, piece("evil", kind=6)]), "either"),
        "an empty piece": model(sentencepiece([*sound, piece("")]), "either"),
        "a zero byte": model(sentencepiece([*sound, piece("\0")]), "either"),
        "a megabyte": model(sentencepiece([*sound, piece("x" * 2**20)])),
        "no unknown": model(sentencepiece(sound[1:]), "either"),
        "two unknown": model(sentencepiece([*sound, piece("u", kind=2)]), "either"),
        "a charsmap of nonsense": model(sentencepiece(rest=field(3, field(2, b"\xff" * 100))), "either"),
        "a charsmap of 40 MB": model(lambda: sentencepiece(rest=field(3, field(2, bytes(40 * 2**20)))), "either"),
        "a prefix of 2^60": model(sentencepiece(rest=field(3, field(3, 2**60))), "either"),
        "fields that nobody knows": model(message + field(99, b"x" * 1000) + field(98, 2**63), "either"),
    }  # fmt: skip
    found |= {f"cut after {part} of 16": model(message[: len(message) * part // 16], "either") for part in range(1, 16)}
    return {f"SentencePiece: {name}": hostile for name, hostile in found.items()}


def _beside() -> dict[str, Hostile]:
    found: dict[str, Hostile] = {}
    for key in ("eos_token", "bos_token", "unk_token", "chat_template", "add_bos_token", "added_tokens_decoder",
                "auto_map", "tokenizer_class", "model_max_length"):  # fmt: skip
        for number, value in enumerate(WRONG):
            found[f"tokenizer_config: {key} is {value!r:.20} #{number}"] = Hostile(
                with_field(CONFIG, key, value=value), "either"
            )
    bodies: Mapping[str, Body] = {
        "nothing": b"", "a list": b"[]", "deep": b"[" * 10**5, "a pickle": b"\x80\x04.", "no UTF-8": b'{"\xff": 1}',
        "lists, 12 MB": lambda: b'{"a":[' + b"[]," * (4 * 2**20) + b"[]]}",
    }  # fmt: skip
    for name in (CONFIG, "generation_config.json", "special_tokens_map.json"):
        for kind, raw in bodies.items():
            found[f"{name}: {kind}"] = Hostile(replaced(name, raw), says=name)
    ends: tuple[object, ...] = (-1, 10**40, [10**6] * 1000, ["x"], {"a": 1}, [[]], 1.5, True)
    for value in ends:
        said = json.dumps({"eos_token_id": value})
        found[f"generation_config: ends {value!r:.30}"] = Hostile(replaced("generation_config.json", said), "either")
    found["tokenizer_config: no end"] = Hostile(with_field(CONFIG, "eos_token", value=...), says="eos_token")
    found["tokenizer_config: an end that is no token"] = Hostile(
        with_field(CONFIG, "eos_token", value="<nobody>"), says="eos_token"
    )
    found["tokenizer_config: a number of many digits"] = Hostile(
        raw_field(CONFIG, "model_max_length", "9" * 5000), "either"
    )
    listed: Mapping[str, object] = {
        "a list": [1], "a key of text": {"x": {"content": "a"}}, "an id below 0": {"-1": {"content": "a"}},
        "an id of 2^70": {str(2**70): {"content": "a"}}, "a number": {"5": 7}, "no text": {"5": {}},
    }  # fmt: skip
    for name, value in listed.items():
        found[f"added_tokens_decoder: {name}"] = Hostile(
            with_field(CONFIG, "added_tokens_decoder", value=value), says="added_tokens", base="pieces"
        )
    found["added_tokens.json: an id of text"] = Hostile(
        replaced("added_tokens.json", '{"a": "b"}'), says="added_tokens", base="pieces"
    )
    return found


def _templates() -> dict[str, Hostile]:
    templates = {
        "that reaches for Python": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "that never ends": "{% for a in range(1000000000) %}{{ a }}{% endfor %}",
        "of loops in loops": "{% for a in range(9999) %}" * 30 + "x" + "{% endfor %}" * 30,
        "that calls itself": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
        "that includes a file": "{% include '/etc/passwd' %}",
        "that imports": "{% import 'os' as os %}{{ os.getcwd() }}",
        "without an end": "{% if true %}", "of nonsense": "{{ {% }} %}",
        "of deep brackets": "{{ " + "(" * 5000 + ")" * 5000 + " }}",
        "of nothing": "", "of a zero byte": "a\0b", "that multiplies": "{{ 'x' * 1000000000 }}",
        "that refuses": "{{ raise_exception('no') }}", "of a megabyte": "x" * 2**20, "that divides": "{{ 1 // 0 }}",
    }  # fmt: skip
    found = {
        f"template {name}": Hostile(replaced("chat_template.jinja", text), "either") for name, text in templates.items()
    }
    refused: Mapping[str, Change] = {
        "of 5 MB": replaced("chat_template.jinja", "x" * (5 * 2**20)),
        "of no UTF-8": replaced("chat_template.jinja", b"\xff\xfe"),
        "that is a pickle": replaced("chat_template.jinja", b"\x80\x04\x95."),
        "that is a number": with_field(CONFIG, "chat_template", value=7),
        "in a list of numbers": with_field(CONFIG, "chat_template", value=[7]),
        "33 times": with_field(CONFIG, "chat_template", value=[{"name": f"t{i}", "template": "x"} for i in range(33)]),
        "with a name of a megabyte": with_field(
            CONFIG, "chat_template", value=[{"name": "n" * 2**20, "template": "x"}]
        ),
    }
    return found | {f"template {name}": Hostile(change, says="template") for name, change in refused.items()}
