"""Values of every kind that a dialect carries, drawn by hypothesis: small, but with the nastiest characters."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Done,
    Embeddings,
    EmbedRequest,
    Event,
    Format,
    GenerateRequest,
    Image,
    Lora,
    Message,
    Text,
    ThinkLevel,
    Timings,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    TopLogprob,
    Usage,
)
from localmodels.core.options import OPTIONS, Option, Options

# What ends lines somewhere, what is escaped somewhere, and one character of each length in UTF-8.
NASTY = '\r\n\x00\x0b\x0c\x1c\x85\u2028\u2029"\\/{}[]:, dataж漢😀\ufeff'

texts = st.text(st.sampled_from(NASTY) | st.characters(exclude_categories=["Cs"]), max_size=8)
words = texts.filter(bool)
counts = st.integers(0, 2**31 - 1)
durations = st.integers(0, 2**53)
tokens = st.lists(st.integers(0, 2**31 - 1), max_size=4).map(tuple)
numbers = st.floats(allow_nan=False, allow_infinity=False)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | numbers | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
objects = st.dictionaries(texts.filter(lambda key: key != "$ref"), json_values, max_size=3)


def option_values(option: Option) -> st.SearchStrategy[Any]:
    """Values that the table allows."""
    match option.kind:
        case "int":
            return st.integers(int(option.low), int(option.high))
        case "float":
            return st.floats(option.low, option.high)
        case "bool":
            return st.booleans()
        case "choice":
            return st.sampled_from(option.choices)
        case "strings":
            return st.lists(words, max_size=3).map(tuple)
        case "bias":
            bias = st.tuples(st.integers(0, 10**6), st.floats(-100, 100))
            return st.lists(bias, max_size=3, unique_by=lambda pair: pair[0]).map(tuple)


options = st.fixed_dictionaries({}, optional={name: option_values(row) for name, row in OPTIONS.items()}).map(
    lambda values: Options(**values)
)
keep_alives = st.none() | st.integers(-1, 10**6).map(float) | st.floats(-1, 1e9)
thinks: st.SearchStrategy[bool | ThinkLevel | None] = st.sampled_from(
    [None, True, False, "low", "medium", "high", "max"]
)
formats = st.none() | st.builds(Format, st.none() | objects, st.sampled_from(["", "person"]))

images = st.builds(Image, st.binary(min_size=1, max_size=9), st.sampled_from(["", "image/png"]))
parts = st.lists(st.builds(Text, texts) | images, max_size=3).map(tuple)
arguments = st.sampled_from(["", "{}", '{"a": [1, {"b": "\\n"}]}', '{"город":"Москва"}', "[1]", "{broken", '"text"'])
tool_calls = st.lists(st.builds(ToolCall, texts, words, arguments), max_size=2).map(tuple)
messages = st.builds(
    Message,
    role=st.sampled_from(["system", "user", "assistant", "tool"]),
    parts=parts,
    thinking=texts,
    tool_calls=tool_calls,
    tool_call_id=texts,
    tool_name=texts,
)
tools = st.lists(st.builds(Tool, words, texts, objects), max_size=2).map(tuple)

loras = st.none() | st.lists(
    st.builds(Lora, texts | st.integers(0, 2**31), st.floats(-100, 100)), max_size=3, unique_by=lambda one: one.adapter
).map(tuple)


@st.composite
def chat_requests(draw: st.DrawFn, *, fewest: int = 0) -> ChatRequest:
    chosen = draw(tools)
    choices = [ToolChoice("auto"), ToolChoice("none")]
    if chosen:
        choices += [ToolChoice("required"), ToolChoice("function", chosen[0].name)]
    logprobs = draw(st.booleans())
    return ChatRequest(
        model=draw(words),
        messages=tuple(draw(st.lists(messages, min_size=fewest, max_size=3))),
        tools=chosen,
        tool_choice=draw(st.sampled_from(choices)),
        parallel_tool_calls=draw(st.sampled_from([None, True, False])),
        format=draw(formats),
        think=draw(thinks),
        options=draw(options),
        stream=draw(st.booleans()),
        keep_alive=draw(keep_alives),
        truncate=draw(st.booleans()),
        shift=draw(st.booleans()),
        logprobs=logprobs,
        top_logprobs=draw(st.integers(0, 20)) if logprobs else 0,
        include_usage=draw(st.booleans()),
        lora=draw(loras),
    )


@st.composite
def generate_requests(draw: st.DrawFn) -> GenerateRequest:
    logprobs = draw(st.booleans())
    return GenerateRequest(
        model=draw(words),
        prompt=draw(texts),
        suffix=draw(texts),
        images=tuple(draw(st.lists(images, max_size=2))),
        system=draw(st.none() | texts),
        template=draw(texts),
        context=draw(tokens),
        format=draw(formats),
        think=draw(thinks),
        options=draw(options),
        stream=draw(st.booleans()),
        keep_alive=draw(keep_alives),
        truncate=draw(st.booleans()),
        shift=draw(st.booleans()),
        logprobs=logprobs,
        top_logprobs=draw(st.integers(0, 20)) if logprobs else 0,
        include_usage=draw(st.booleans()),
        lora=draw(loras),
    )


@st.composite
def embed_requests(draw: st.DrawFn) -> EmbedRequest:
    inputs = tuple(draw(st.lists(words, min_size=1, max_size=3)))
    return EmbedRequest(
        model=draw(words),
        inputs=inputs,
        single=len(inputs) == 1 and draw(st.booleans()),
        dimensions=draw(st.none() | st.integers(1, 4096)),
        encoding=draw(st.sampled_from(["float", "base64"])),
        truncate=draw(st.booleans()),
        options=draw(options),
        keep_alive=draw(keep_alives),
    )


top_logprobs = st.builds(TopLogprob, texts, numbers, st.binary(max_size=3).map(tuple))
logprobs = st.lists(
    st.builds(
        TokenLogprob, texts, numbers, st.binary(max_size=3).map(tuple), st.lists(top_logprobs, max_size=2).map(tuple)
    ),
    max_size=2,
).map(tuple)
deltas = st.lists(st.builds(ToolCallDelta, st.integers(0, 2), texts, texts, arguments), max_size=2).map(tuple)
chunks = st.builds(Chunk, texts, texts, deltas, logprobs)
dones = st.builds(
    Done,
    st.sampled_from(["stop", "length", "tool_calls", "load", "unload"]),
    st.tuples(counts, counts, counts).map(lambda told: Usage(told[0], told[1], min(told[0], told[2]))),
    st.builds(Timings, durations, durations, durations, durations),
    st.integers(0, 9),
    tokens,
)


@st.composite
def event_streams(draw: st.DrawFn) -> list[Event]:
    return [*draw(st.lists(chunks, max_size=5)), draw(dones)]


answers = st.builds(Answer, dones, texts, texts, tool_calls, logprobs)
floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
embeddings = st.builds(
    Embeddings,
    st.lists(st.lists(floats32, min_size=1, max_size=3).map(tuple), max_size=3).map(tuple),
    counts,
    st.builds(Timings, durations, durations),
)


def cut(data: bytes, positions: list[int]) -> list[bytes]:
    """The bytes in pieces, cut at these positions (taken modulo their length)."""
    places = sorted({position % (len(data) + 1) for position in positions})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


cuts = st.lists(st.integers(0, 10**6), max_size=6)
