"""Ollama's dialect, as a server: what it takes, what it refuses, and its exact bytes."""

from __future__ import annotations

from base64 import b64encode
from itertools import count
from typing import Any

import msgspec
import pytest

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
    Message,
    Text,
    Timings,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    TopLogprob,
    Usage,
)
from localmodels.core.errors import BackendError, Garbled, InvalidRequest, InvalidValue, LocalModelsError, Unsupported
from localmodels.core.options import Options
from localmodels.dialects import ollama
from localmodels.dialects.ollama import Ollama
from localmodels.dialects.protocol import Stamp

DIALECT = Ollama()
STAMP = Stamp("ignored", "llama3.2", 1_700_000_000_123_456_789)
CREATED = "2023-11-14T22:13:20.123456789Z"
HELLO = [{"role": "user", "content": "hi"}]


def chat(**fields: Any) -> ChatRequest:
    return DIALECT.read_chat(msgspec.json.encode({"model": "m", "messages": HELLO, **fields}))


def generate(**fields: Any) -> GenerateRequest:
    return DIALECT.read_generate(msgspec.json.encode({"model": "m", "prompt": "hi", **fields}))


def test_what_is_left_out() -> None:
    assert chat() == ChatRequest("m", (Message("user", (Text("hi"),)),), stream=True)
    assert generate() == GenerateRequest("m", "hi", stream=True)


def test_a_model_may_be_called_name() -> None:
    assert DIALECT.read_chat(b'{"name":"x"}') == ChatRequest("x", ())
    assert DIALECT.read_generate(b'{"name":"x"}') == GenerateRequest("x")
    assert DIALECT.read_embed(b'{"name":"x","input":"a"}').model == "x"


@pytest.mark.parametrize("body", [b"{}", b'{"model":""}', b'{"model":null,"messages":[]}'])
def test_a_model_is_required(body: bytes) -> None:
    for read in (DIALECT.read_chat, DIALECT.read_generate, DIALECT.read_embed, ollama.read_legacy_embed):
        with pytest.raises(InvalidRequest) as caught:
            read(body)
        assert (caught.value.param, caught.value.status) == ("model", 400)


def test_a_message_with_everything() -> None:
    picture = b64encode(b"picture").decode()
    sent = {
        "role": "Assistant",
        "content": "hi",
        "thinking": "hm",
        "images": [picture],
        "tool_calls": [
            {"id": "c1", "function": {"index": 0, "name": "f", "arguments": {"a": [1, 2.5]}}},
            {"function": {"name": "g", "arguments": '{"as": "text"}'}},
            {"function": {"name": "h"}},
        ],
        "tool_name": "f",
        "tool_call_id": "c1",
    }
    assert chat(messages=[sent]).messages == (
        Message(
            "assistant",
            (Text("hi"), Image(b"picture")),
            "hm",
            (ToolCall("c1", "f", '{"a":[1,2.5]}'), ToolCall("", "g", '{"as": "text"}'), ToolCall("", "h", "{}")),
            "c1",
            "f",
        ),
    )


@pytest.mark.parametrize(
    ("sent", "read"),
    [(True, True), (False, False), ("low", "low"), ("medium", "medium"), ("high", "high"), ("max", "max")],
)
def test_think(sent: object, read: object) -> None:
    assert chat(think=sent).think == read
    assert generate(think=sent).think == read


def test_formats() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert chat(format="json").format == Format()
    assert chat(format=schema).format == Format(schema)
    assert chat(format="").format is None


def test_open_webui_puts_options_at_the_top_level() -> None:
    read = chat(
        temperature=1, max_tokens=9, top_p=0.5, top_k=3, repeat_penalty=1.5, seed=7, stop="x", options={"top_k": 4}
    )
    assert read.options == Options(
        temperature=1.0, num_predict=9, top_p=0.5, top_k=4, repeat_penalty=1.5, seed=7, stop=("x",)
    )


def test_a_misspelt_option_is_remembered() -> None:
    assert chat(options={"temprature": 1, "numa": False}).options.ignored == ("temprature", "numa")


@pytest.mark.parametrize(
    ("fields", "param", "kind"),
    [
        ({"messages": [{"content": "a"}]}, "messages[0].role", InvalidRequest),
        ({"messages": [{"role": "robot"}]}, "messages[0].role", InvalidValue),
        ({"messages": "hi"}, "messages", InvalidValue),
        ({"messages": [{"role": "user", "content": ["a"]}]}, "messages[0].content", InvalidValue),
        ({"messages": [{"role": "user"}] * 4097}, "messages", InvalidValue),
        ({"messages": [{"role": "user", "images": ["%"]}]}, "messages[0].images[0]", InvalidValue),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": [1]}}]}]},
            "messages[0].tool_calls[0].function.arguments",
            InvalidValue,
        ),
        ({"options": {"temperature": 3}}, "options.temperature", InvalidValue),
        ({"options": []}, "options", InvalidValue),
        ({"think": "much"}, "think", InvalidValue),
        ({"format": "xml"}, "format", InvalidValue),
        ({"format": {"$ref": "#"}}, "format", InvalidValue),
        ({"keep_alive": "soon"}, "keep_alive", InvalidValue),
        ({"keep_alive": True}, "keep_alive", InvalidValue),
        ({"stream": "yes"}, "stream", InvalidValue),
        ({"top_logprobs": 21}, "top_logprobs", InvalidValue),
        ({"top_logprobs": -1}, "top_logprobs", InvalidValue),
        ({"tools": [{"type": "web", "function": {"name": "a"}}]}, "tools[0].type", Unsupported),
        ({"tools": [{"type": "function"}]}, "tools[0].function", InvalidRequest),
        ({"tools": [{"function": {"name": "a"}}] * 129}, "tools", InvalidValue),
        ({"stop": ["x"] * 17}, "stop", InvalidValue),
    ],
)
def test_what_a_chat_may_not_hold(fields: dict[str, Any], param: str, kind: type[LocalModelsError]) -> None:
    with pytest.raises(kind) as caught:
        chat(**fields)
    assert (type(caught.value), caught.value.param) == (kind, param)


@pytest.mark.parametrize(
    ("fields", "param", "kind"),
    [
        ({"template": "x", "raw": True}, "raw", InvalidRequest),
        ({"raw": True, "system": "s"}, "raw", InvalidRequest),
        ({"raw": True, "context": [1]}, "raw", InvalidRequest),
        ({"prompt": ["a"]}, "prompt", InvalidValue),
        ({"context": ["a"]}, "context[0]", InvalidValue),
        ({"context": [1, 2**40]}, "context[1]", InvalidValue),
        ({"context": [-1]}, "context[0]", InvalidValue),
        ({"images": ["AAAA"] * 17}, "images", InvalidValue),
    ],
)
def test_what_a_text_may_not_hold(fields: dict[str, Any], param: str, kind: type[LocalModelsError]) -> None:
    with pytest.raises(kind) as caught:
        generate(**fields)
    assert (type(caught.value), caught.value.param) == (kind, param)


def test_an_empty_template_is_none() -> None:
    assert generate(template="").raw is False


def test_a_streamed_chat_byte_for_byte() -> None:
    writer = DIALECT.chat_writer(STAMP, chat(logprobs=True, top_logprobs=1))
    top = (TopLogprob("b", -0.5, (98,)), TopLogprob("c", -1.5))
    events: list[Event] = [
        Chunk(thinking="hm"),
        Chunk("a"),
        Chunk("b", logprobs=(TokenLogprob("b", -0.5, (98,), top),)),
        Chunk(tool_calls=(ToolCallDelta(0, "c1", "f", '{"a": '),)),
        Chunk(tool_calls=(ToolCallDelta(0, arguments="1}"), ToolCallDelta(1, "c2", "g", "{"))),
        Done("tool_calls", Usage(10, 5, 4), Timings(9, 1, 3, 5), 2),
    ]
    head = f'{{"model":"llama3.2","created_at":"{CREATED}",'
    assert [writer.write(event).decode() for event in events] == [
        head + '"message":{"role":"assistant","content":"","thinking":"hm"},"done":false}\n',
        head + '"message":{"role":"assistant","content":"a"},"done":false}\n',
        head + '"message":{"role":"assistant","content":"b"},"done":false,"logprobs":[{"token":"b","logprob":-0.5,'
        '"bytes":[98],"top_logprobs":[{"token":"b","logprob":-0.5,"bytes":[98]}]}]}\n',
        "",
        "",
        head + r'"message":{"role":"assistant","content":"{\"name\":\"g\",\"arguments\":\"{\"}","tool_calls":'
        '[{"function":{"name":"f","arguments":{"a":1}},"id":"c1"}]},"done":false}\n'
        + head
        + '"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":9,'
        '"load_duration":1,"prompt_eval_count":10,"prompt_eval_cached_count":4,"prompt_eval_duration":3,'
        '"eval_count":5,"eval_duration":5,"truncated_messages":2}\n',
    ]


def test_a_streamed_text_byte_for_byte() -> None:
    writer = DIALECT.generate_writer(STAMP, generate())
    head = f'{{"model":"llama3.2","created_at":"{CREATED}",'
    assert writer.write(Chunk("a")).decode() == head + '"response":"a","done":false}\n'
    assert writer.write(Chunk(thinking="b")).decode() == head + '"response":"","thinking":"b","done":false}\n'
    assert writer.write(Chunk()) == b""
    assert writer.write(Done("load", context=(1, 2))).decode() == (
        head + '"response":"","done":true,"done_reason":"load","context":[1,2]}\n'
    )


def test_every_line_has_its_own_time_where_there_is_a_clock() -> None:
    ticks = count(1_700_000_000_000_000_000)
    writer = DIALECT.chat_writer(Stamp("", "m", 0, lambda: next(ticks)), chat())
    times = [msgspec.json.decode(writer.write(event))["created_at"] for event in (Chunk("a"), Chunk("b"), Done())]
    assert [time[-6:] for time in times] == ["00000Z", "00001Z", "00002Z"]


def test_a_failure_is_the_last_line() -> None:
    assert DIALECT.chat_writer(STAMP, chat()).fail(BackendError("gone\n")) == b'{"error":"gone\\n"}\n'


def test_a_whole_chat_byte_for_byte() -> None:
    answer = Answer(Done("stop", Usage(1, 2)), "hi", tool_calls=(ToolCall("c", "f", ""),))
    assert DIALECT.write_chat_answer(STAMP, chat(), answer).decode() == (
        f'{{"model":"llama3.2","created_at":"{CREATED}","message":{{"role":"assistant","content":"hi","tool_calls":'
        '[{"function":{"name":"f","arguments":{}},"id":"c"}]},"done":true,"done_reason":"stop",'
        '"prompt_eval_count":1,"eval_count":2}'
    )


def test_embeddings() -> None:
    found = Embeddings(((0.5, 1.0),), 3, Timings(9, 1))
    request = DIALECT.read_embed(b'{"model":"m","input":"a","dimensions":2,"truncate":false,"keep_alive":"5m"}')
    assert request == EmbedRequest("m", ("a",), single=True, dimensions=2, truncate=False, keep_alive=300.0)
    assert DIALECT.write_embeddings(STAMP, request, found) == (
        b'{"model":"llama3.2","embeddings":[[0.5,1.0]],"total_duration":9,"load_duration":1,"prompt_eval_count":3}'
    )
    assert DIALECT.read_embed(b'{"model":"m","input":["a","b"]}').inputs == ("a", "b")
    assert DIALECT.read_embed(b'{"model":"m","input":""}').inputs == ()
    assert DIALECT.read_embed(b'{"model":"m"}').inputs == ()


def test_legacy_embeddings() -> None:
    assert ollama.read_legacy_embed(b'{"model":"m","prompt":"a"}') == EmbedRequest("m", ("a",), single=True)
    assert ollama.read_legacy_embed(b'{"model":"m","prompt":""}').inputs == ()
    assert ollama.write_legacy_embeddings(Embeddings(((0.5,),))) == b'{"embedding":[0.5]}'
    assert ollama.write_legacy_embeddings(Embeddings(())) == b'{"embedding":[]}'


def test_a_client_is_told_what_cannot_be_said() -> None:
    request = ChatRequest("m", (), (Tool("f"),), ToolChoice("required"))
    with pytest.raises(Unsupported):
        DIALECT.write_chat(request)
    with pytest.raises(Unsupported):
        DIALECT.write_generate(GenerateRequest("m", (1, 2)))
    with pytest.raises(Unsupported):
        DIALECT.write_embed(EmbedRequest("m", ((1, 2),)))


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        b"[]\n",
        b'{"done":1}\n',
        b'{"message":{"role":"assistant","content":3}}\n',
        b'{"message":{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":[1]}}]}}\n',
        b'{"message":{"role":"assistant","content":"\xff"}}\n',
        b"[" * 5000 + b"\n",
    ],
)
def test_garbage_is_garbled(line: bytes) -> None:
    with pytest.raises(Garbled):
        DIALECT.chat_reader().feed(line)


def test_garbage_in_one_piece_is_garbled() -> None:
    for read in (DIALECT.read_chat_answer, DIALECT.read_embeddings, DIALECT.read_models):
        with pytest.raises(Garbled):
            read(b"<html>")
