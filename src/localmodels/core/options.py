"""The options a request or a Modelfile may set: one table with ranges, and the frozen value they end in.

Every dialect, the Modelfile and the reference page read this table, so that a range is written once. Ranges follow
what llama.cpp accepts without harm (threats V-17 and V-35 in the reliability notes: negative ``n_discard``, ``n`` of a
million, ``num_ctx`` wrapping an int32); names are Ollama's.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from localmodels.core.errors import InvalidValue

Kind = Literal["int", "float", "bool", "strings", "choice", "bias"]

INT32_MAX = 2**31 - 1
UINT32_MAX = 2**32 - 1


class Option(Struct, frozen=True):
    """One row of the table.

    ``low`` and ``high`` are inclusive. ``load`` marks options that shape the runner itself (context, threads, GPU
    layers): a change of one may need a new runner; all others are per request.
    """

    name: str
    kind: Kind
    doc: str
    low: float = 0
    high: float = 0
    choices: tuple[str, ...] = ()
    load: bool = False


OPTIONS: Mapping[str, Option] = {
    row.name: row
    for row in (
        Option("temperature", "float", "Randomness; 0 always takes the likeliest token.", 0, 2),
        Option("top_p", "float", "Nucleus sampling: the smallest set of tokens with this probability mass.", 0, 1),
        Option("top_k", "int", "Only the k likeliest tokens; 0 switches it off.", 0, 1_000_000),
        Option("min_p", "float", "Drop tokens less likely than this share of the likeliest.", 0, 1),
        Option("typical_p", "float", "Locally typical sampling; 1 switches it off.", 0, 1),
        Option("repeat_penalty", "float", "Penalty on tokens seen lately; 1 switches it off.", 0.01, 10),
        Option(
            "repeat_last_n", "int", "How many tokens back the penalties look; -1 is the whole context.", -1, 1_048_576
        ),
        Option("presence_penalty", "float", "Flat penalty on tokens already present.", -2, 2),
        Option("frequency_penalty", "float", "Penalty that grows with each occurrence.", -2, 2),
        Option("mirostat", "int", "Mirostat sampling: 0 off, 1 or 2 its version.", 0, 2),
        Option("mirostat_tau", "float", "Mirostat: target entropy.", 0, 100),
        Option("mirostat_eta", "float", "Mirostat: learning rate.", 0, 1),
        Option("seed", "int", "Seed of the random generator; -1 draws one.", -1, UINT32_MAX),
        Option(
            "num_predict",
            "int",
            "Most tokens to generate; -1 is up to the end of the context, -2 likewise.",
            -2,
            INT32_MAX,
        ),
        Option(
            "num_keep",
            "int",
            "Tokens kept from the start when the context shifts; -1 is all of the prompt.",
            -1,
            INT32_MAX,
        ),
        Option("stop", "strings", "Texts that end the answer: at most 16, each at most 256 bytes.", 0, 16),
        Option("logit_bias", "bias", "Token id to bias, from -100 to 100; at most 1,024 entries.", 0, 1_024),
        Option("num_ctx", "int", "Context of one request, in tokens.", 16, 16_777_216, load=True),
        Option("num_batch", "int", "Prompt tokens computed at once.", 1, 16_384, load=True),
        Option("num_gpu", "int", "Layers on the GPU; -1 is as many as fit.", -1, 1_000_000, load=True),
        Option("main_gpu", "int", "The GPU for small tensors.", 0, 255, load=True),
        Option(
            "num_thread",
            "int",
            "CPU threads, as many as there are processors at most; 0 lets the engine choose.",
            0,
            1_024,
            load=True,
        ),
        Option("use_mmap", "bool", "Map the file instead of reading it.", load=True),
        Option("num_parallel", "int", "Requests answered at once by one runner.", 1, 64, load=True),
        Option(
            "kv_cache_type",
            "choice",
            "Number format of the key and value cache.",
            choices=("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"),
            load=True,
        ),
    )
}


class Options(Struct, frozen=True, omit_defaults=True):
    """What a request asks for; None leaves the choice to the model and then to the engine.

    ``ignored`` names what was sent and is not an option here; the answer says so in a header.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    seed: int | None = None
    num_predict: int | None = None
    num_keep: int | None = None
    stop: tuple[str, ...] | None = None
    logit_bias: tuple[tuple[int, float], ...] | None = None
    num_ctx: int | None = None
    num_batch: int | None = None
    num_gpu: int | None = None
    main_gpu: int | None = None
    num_thread: int | None = None
    use_mmap: bool | None = None
    num_parallel: int | None = None
    kv_cache_type: str | None = None
    ignored: tuple[str, ...] = ()

    def over(self, defaults: Options) -> Options:
        """These options, with ``defaults`` wherever nothing was asked for."""
        missing = {
            name: value
            for name in OPTIONS
            if (value := getattr(defaults, name)) is not None and getattr(self, name) is None
        }
        return replace(self, **missing) if missing else self


NO_OPTIONS = Options()


def parse_options(values: Mapping[str, Any], *, prefix: str = "") -> Options:
    """Checks raw JSON values against the table.

    Unknown names are not refused, since every Ollama client has a few of its own, but they end in ``ignored`` and from
    there in a response header: a misspelt ``temprature`` that silently does nothing costs its author an afternoon.
    ``None`` means "not given".

    Raises:
        InvalidValue: wrong type or outside the range; ``param`` is ``prefix`` + the name.
    """
    checked: dict[str, Any] = {}
    ignored: list[str] = []
    for name, value in values.items():
        option = OPTIONS.get(name)
        if option is None:
            ignored.append(str(name)[:60])
        elif value is not None:
            checked[name] = check(option, value, param=prefix + name)
    return Options(**checked, ignored=tuple(ignored[:16]))


def check(option: Option, value: Any, *, param: str) -> Any:
    """``value`` in the option's own type, or an error that names the range.

    Raises:
        InvalidValue: wrong type or outside the range.
    """
    match option.kind:
        case "int":
            if isinstance(value, float) and value.is_integer():
                value = int(value)  # JavaScript clients send 1.0 for 1
            if isinstance(value, bool) or not isinstance(value, int):
                raise InvalidValue(f"{param} must be a whole number, not {_shown(value)}", param=param)
            return _within(option, value, param)
        case "float":
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
                raise InvalidValue(f"{param} must be a number, not {_shown(value)}", param=param)
            return float(_within(option, value, param))
        case "bool":
            if not isinstance(value, bool):
                raise InvalidValue(f"{param} must be true or false, not {_shown(value)}", param=param)
            return value
        case "choice":
            if value not in option.choices:
                raise InvalidValue(
                    f"{param} must be one of {', '.join(option.choices)}, not {_shown(value)}", param=param
                )
            return value
        case "strings":
            return _strings(option, value, param)
        case "bias":
            return _bias(option, value, param)


def _within(option: Option, value: float, param: str) -> float:
    if not option.low <= value <= option.high:
        raise InvalidValue(
            f"{param} must be between {option.low:.12g} and {option.high:.12g}, not {_shown(value)}", param=param
        )
    return value


def _is_finite(value: float) -> bool:
    try:
        return isfinite(value)
    except OverflowError:  # an int too large for a float
        return False


def _strings(option: Option, value: Any, param: str) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
        raise InvalidValue(f"{param} must be a text or a list of texts", param=param)
    if len(items) > option.high or not all(_is_short(item) for item in items):
        raise InvalidValue(f"{param} takes at most {option.high:.12g} texts of at most 256 bytes", param=param)
    return tuple(item for item in items if item)


def _is_short(text: str) -> bool:
    try:
        return len(text.encode()) <= 256
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def _bias(option: Option, value: Any, param: str) -> tuple[tuple[int, float], ...]:
    if not isinstance(value, Mapping) or len(value) > option.high:
        raise InvalidValue(f"{param} must be an object of at most {option.high:.12g} token ids", param=param)
    pairs = []
    for key, bias in value.items():
        if not (str(key).isdecimal() and len(str(key)) < 10):
            raise InvalidValue(f"{param}: '{_shown(key)}' is not a token id", param=param)
        if isinstance(bias, bool) or not isinstance(bias, (int, float)) or not -100 <= bias <= 100:
            raise InvalidValue(f"{param}: a bias must be between -100 and 100", param=param)
        pairs.append((int(key), float(bias)))
    return tuple(pairs)


def _shown(value: Any) -> str:
    """The value as it may stand in an error: short, whatever was sent."""
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python prints
        return "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."
