"""How a text is cut before BPE, and what llama.cpp calls it.

``tokenizer.json`` says it with regular expressions, llama.cpp with a name for each set of them that it has built in.
The rule: the expressions decide, compared letter by letter with the table; what is not in it is refused with the
expressions in the message, and whoever knows better may name one. To guess would give a model that answers, and badly.

Several steps cut one after the other, so a pre-tokenizer comes to a tuple of expressions. ``Digits`` and the expression
inside ``ByteLevel`` are only other ways to write one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from localmodels.artifacts.convert.job import PRE_TOKENIZER
from localmodels.artifacts.convert.vocab.document import NAME, Step, pattern_of, steps
from localmodels.artifacts.convert.vocab.files import flag_of
from localmodels.core.errors import Unsupported

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LINES = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST
QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST
QWEN35 = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?|\p{{N}}{{1,3}}"
) + _LINES
TEKKEN = (rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}") + _LINES
SEED_CODER = (
    _CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}"
    + "\r\n"
    + r"]+|\s*["
    + "\r\n"
    + r"]+|\s+(?!\S)|\s+"
)
BAILING = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
MINICPM5 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+" + _REST
DIGIT, DIGITS, TRIPLES = r"\p{N}", r"\p{N}+", r"\p{N}{1,3}"
_IDEOGRAPHS, _KANA = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
# What deepseek-llm takes for letters and for signs: ranges, written in escapes since editors turn some into others.
_DEEPSEEK_LETTERS = (
    r"\s?["
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d"
    "\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
    "]+"
)
_DEEPSEEK_SIGNS = "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"
_DEEPSEEK_V3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^"""
    "\r\n"
    r"""\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+["""
    "\r\n"
    r"""]*|\s*["""
    "\r\n"
    r"""]+|\s+(?!\S)|\s+"""
)

_MARKS = (
    "the engine cuts words of scripts with combining marks (Hindi, Thai, Khmer, Bengali) where the tokenizer does not"
)

_NEW = (
    "older engines do not know the name of its pre-tokenizer, granite-embed-multi-97m; for them convert with gpt-4o, "
    "which cuts words of scripts with combining marks (Hindi, Thai, Khmer, Bengali) where the tokenizer does not"
)


class Known(Struct, frozen=True):
    """What llama.cpp calls a cut.

    Attributes:
        name: of the cut alone.
        whole: of the cut where a piece that is a token is taken as it is, before anything is merged; empty if it has
            none. The tables of merges of such vocabularies name every way to a token, so that merging nearly always
            ends at the same.
        note: what the one called ``name`` does otherwise.
        warning: what should be known of the one called ``whole``.
    """

    name: str
    whole: str = ""
    note: str = ""
    warning: str = ""

    def named(self, *, takes_whole: bool) -> tuple[str, str]:
        """llama.cpp's word, and what it does otherwise."""
        if takes_whole and self.whole:
            return self.whole, self.note if self.whole == self.name else self.warning
        return self.name, self.note


TABLE: Mapping[tuple[str, ...], Known] = {
    (GPT2,): Known("gpt-2"),
    (DIGIT, GPT2): Known("smollm"),
    (LLAMA3,): Known("dbrx", "llama-bpe"),
    (QWEN2,): Known("qwen2"),
    (QWEN35,): Known("qwen35"),
    # Written for another model, but the only one of the two that takes combining marks for parts of words.
    (GPT4O,): Known("gpt-4o", "granite-embed-multi-97m", note=_MARKS, warning=_NEW),
    (TEKKEN,): Known("tekken", "tekken", note=_MARKS),
    (TRIPLES, MINICPM5): Known("minicpm5", "minicpm5"),
    (SEED_CODER,): Known("seed-coder"),
    (BAILING,): Known("bailingmoe"),
    # The engine does not cut digits apart here; a vocabulary made so has no token of two of them anyway.
    ("[\r\n]", _DEEPSEEK_LETTERS, _DEEPSEEK_SIGNS, r"\s+$", _IDEOGRAPHS, DIGIT): Known("deepseek-llm"),
    ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _IDEOGRAPHS, DIGIT): Known("deepseek-coder"),
    (TRIPLES, _KANA, _DEEPSEEK_V3): Known("deepseek-v3"),
}

# All that llama.cpp b11549 knows (llama-vocab.cpp): it refuses to load a file that names another.
NAMES = frozenset({
    "a.x-4.0", "afmoe", "bailingmoe", "bailingmoe2", "bloom", "chameleon", "chatglm-bpe", "codeshell", "cohere2moe",
    "command-r", "dbrx", "deepseek-coder", "deepseek-llm", "deepseek-r1-qwen", "deepseek-v3", "default", "exaone",
    "exaone-moe", "exaone4", "f2llmv2", "falcon", "falcon-h1", "falcon3", "gemma4", "gigachat", "glm4", "glm5", "gpt-2",
    "gpt-4o", "gpt3-finnish", "granite-docling", "granite-embed-multi-311m", "granite-embed-multi-97m", "grok-2",
    "hunyuan", "hunyuan-dense", "hy_v4", "jais", "jais-2", "jina-de", "jina-es", "jina-v1-en", "jina-v2-code",
    "jina-v2-de", "jina-v2-es", "jina-v5-nano", "joyai-llm", "k2-horizon", "kanana2", "kimi-k2", "kormo", "laguna",
    "lfm2", "llada-moe", "llama-bpe", "llama-v3", "llama3", "llama4", "megrez", "mellum", "mellum2", "midm-2.0",
    "minerva-7b", "minicpm5", "minimax-m2", "mmbert", "modern-bert", "mpt", "olmo", "phi-2", "pixtral", "poro-chat",
    "qwen2", "qwen35", "refact", "roberta-bpe", "sarvam-moe", "seed-coder", "smaug-bpe", "smollm", "solar-open",
    "spark2_5", "stablelm2", "starcoder", "superbpe", "talkie", "tekken", "tiny_aya", "trillion", "ufakzeka", "viking",
    "whitespace", "youtu",
})  # fmt: skip


def is_of_bytes(pre_tokenizer: Step | None) -> bool:
    """Are the tokens of this tokenizer made of bytes, each written as a character that can be seen?"""
    found = steps(pre_tokenizer, "pretokenizers", "pre_tokenizer")
    return any(step["type"] == "ByteLevel" for step in found)


def name_of(pre_tokenizer: Step | None, *, takes_whole: bool, override: str = "") -> tuple[str, str]:
    """llama.cpp's name for a pre-tokenizer, and what the engine does otherwise there; mostly nothing.

    Args:
        pre_tokenizer: as the file has it; of bytes.
        takes_whole: a piece that is a token is not merged (``ignore_merges``).
        override: the name that somebody chose instead.

    Raises:
        ModelDamaged: it is not sound.
        Unsupported: llama.cpp has no such thing; or no such name as was chosen.
    """
    if override:
        if override not in NAMES:
            raise Unsupported(f"llama.cpp knows no pre-tokenizer {override!r:.60}", param=PRE_TOKENIZER)
        return override, ""
    found = steps(pre_tokenizer, "pretokenizers", "pre_tokenizer")
    expressions = tuple(expression for step in found for expression in _expressions(step))
    known = TABLE.get(expressions)
    if known is None:
        cuts = ", then ".join(expression[:300] for expression in expressions)[:400] or "nothing"
        raise Unsupported(
            f"{NAME}: pre_tokenizer cuts in a way that the engine has no name for: {cuts}; it may do the same as one "
            "of llama.cpp's pre-tokenizers",
            param=PRE_TOKENIZER,
        )
    return known.named(takes_whole=takes_whole)


def _expressions(step: Step) -> Iterator[str]:
    write = _STEPS.get(step["type"])
    if write is None:
        raise _without(step, "is not one that the engine has together with BPE of bytes")
    yield from write(step)


def _split(step: Step) -> Iterator[str]:
    expression, is_regular = pattern_of(step, "pre_tokenizer")
    invert = flag_of(step, "invert", f"{NAME}: pre_tokenizer", default=False)
    # What is not removed is what matches; an expression that ends so matches everything, so both come to the same.
    keeps = step.get("behavior") == "Removed" and invert and expression.endswith(r"|\s+")
    if not is_regular or not (keeps or (step.get("behavior") == "Isolated" and not invert)):
        raise _without(step, f"with {expression!r:.300} must be a regular expression, isolated and not inverted")
    yield expression


def _digits(step: Step) -> Iterator[str]:
    yield DIGIT if flag_of(step, "individual_digits", f"{NAME}: pre_tokenizer", default=False) else DIGITS


def _byte_level(step: Step) -> Iterator[str]:
    if flag_of(step, "add_prefix_space", f"{NAME}: pre_tokenizer", default=True):
        raise _without(step, "adds a space before the text (add_prefix_space), which the engine cannot")
    if flag_of(step, "use_regex", f"{NAME}: pre_tokenizer", default=True):
        yield GPT2


_STEPS: Mapping[str, Callable[[Step], Iterator[str]]] = {
    "Split": _split,
    "Digits": _digits,
    "ByteLevel": _byte_level,
}


def _without(step: Step, why: str) -> Unsupported:
    return Unsupported(f"{NAME}: pre_tokenizer: the step '{step['type']:.60}' {why}", param=PRE_TOKENIZER)
