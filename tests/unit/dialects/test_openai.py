"""OpenAI's dialect, as a server: what it takes, what it refuses, and its exact bytes."""

from __future__ import annotations

from base64 import b64encode
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
from localmodels.core.errors import (
    BackendError,
    Garbled,
    InvalidRequest,
    InvalidValue,
    LocalModelsError,
    StreamCut,
    Unsupported,
)
from localmodels.core.options import Options
from localmodels.dialects.openai import OpenAI
from localmodels.dialects.protocol import Stamp

DIALECT = OpenAI()
STAMP = Stamp("chatcmpl-1", "m", 1_700_000_000_123_456_789)
HELLO = [{"role": "user", "content": "hi"}]
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
NOW = {"type": "function", "function": {"name": "now", "description": "The time.", "strict": True}}
HEAD = '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m",'


def chat(**fields: Any) -> ChatRequest:
    return DIALECT.read_chat(msgspec.json.encode({"model": "m", "messages": HELLO, **fields}))


def complete(**fields: Any) -> GenerateRequest:
    return DIALECT.read_generate(msgspec.json.encode({"model": "m", "prompt": "hi", **fields}))


def embed(**fields: Any) -> EmbedRequest:
    return DIALECT.read_embed(msgspec.json.encode({"model": "m", "input": "hi", **fields}))


def test_what_is_left_out() -> None:
    assert chat() == ChatRequest("m", (Message("user", (Text("hi"),)),), stream=False, include_usage=False)
    assert complete() == GenerateRequest("m", "hi", raw=True, stream=False, include_usage=False)


def test_nulls_are_nothing() -> None:
    names = ("temperature", "max_tokens", "stop", "tools", "tool_choice", "response_format", "n", "logprobs", "stream")
    assert chat(**dict.fromkeys(names)) == chat()


def test_what_nobody_needs_is_ignored() -> None:
    assert chat(user="u", metadata={"a": "b"}, store=True, service_tier="auto", whatever=[1]) == chat()


def test_messages_of_every_kind() -> None:
    url = "data:image/png;base64," + b64encode(b"picture").decode()
    read = chat(
        messages=[
            {"role": "developer", "content": "be kind", "name": "ann"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": url}}],
            },
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"a":1}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": [{"type": "text", "text": "sun"}]},
            {"role": "assistant", "refusal": "no"},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "x"},
        ]
    )
    assert read.messages == (
        Message("system", (Text("be kind"),)),
        Message("user", (Text("see"), Image(b"picture", "image/png"))),
        Message("assistant", (), "hm", (ToolCall("c1", "weather", '{"a":1}'),)),
        Message("tool", (Text("sun"),), tool_call_id="c1", tool_name="weather"),
        Message("assistant", (Text("no"),)),
        Message("assistant", tool_calls=(ToolCall("", "f", "{}"),)),
        Message("tool", (Text("x"),), tool_name="f"),
    )


@pytest.mark.parametrize(
    ("sent", "choice", "names"),
    [
        (None, ToolChoice(), ["weather", "now"]),
        ("auto", ToolChoice(), ["weather", "now"]),
        ("none", ToolChoice("none"), ["weather", "now"]),
        ("required", ToolChoice("required"), ["weather", "now"]),
        ({"type": "function", "function": {"name": "now"}}, ToolChoice("function", "now"), ["weather", "now"]),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "now"}}]},
            },
            ToolChoice("required"),
            ["now"],
        ),
    ],
)
def test_tool_choices(sent: object, choice: ToolChoice, names: list[str]) -> None:
    read = chat(tools=[WEATHER, NOW], tool_choice=sent)
    assert (read.tool_choice, [tool.name for tool in read.tools]) == (choice, names)
    assert read.tools[-1] == Tool("now", "The time.", {})


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, "low"),
        ({"reasoning_effort": "high"}, "high"),
        ({"reasoning_effort": "xhigh"}, "max"),
        ({"reasoning": {"effort": "medium"}}, "medium"),
        ({"think": True, "reasoning_effort": "low"}, True),
        ({"think": "low"}, "low"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"chat_template_kwargs": {}}, None),
    ],
)
def test_think(fields: dict[str, Any], think: object) -> None:
    assert chat(**fields).think == think


def test_formats() -> None:
    schema = {"type": "object"}
    named = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}}
    assert chat(response_format={"type": "text"}).format is None
    assert chat(response_format={"type": "json_object"}).format == Format()
    assert chat(response_format={"type": "json_object", "schema": schema}).format == Format(schema)
    assert chat(response_format=named).format == Format(schema, "person")


def test_options_at_the_top_and_in_options() -> None:
    read = chat(
        max_tokens=5, max_completion_tokens=6, temperature=0, logit_bias={"7": -100}, num_ctx=4096, min_p=0.1,
        stop=["a"], options={"temperature": 1, "repeat_last_n": 9}, keep_alive="-1", truncation="disabled",
    )  # fmt: skip
    assert read.options == Options(
        num_predict=6, temperature=1.0, logit_bias=((7, -100.0),), num_ctx=4096, min_p=0.1, stop=("a",), repeat_last_n=9
    )
    assert (read.keep_alive, read.truncate) == (-1.0, False)


@pytest.mark.parametrize(
    ("fields", "param", "kind"),
    [
        ({"messages": []}, "messages", InvalidRequest),
        ({"messages": None}, "messages", InvalidRequest),
        ({"messages": [{"content": "a"}]}, "messages[0].role", InvalidRequest),
        ({"messages": [{"role": "robot"}]}, "messages[0].role", InvalidValue),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content", InvalidValue),
        ({"messages": [{"role": "user"}] * 4097}, "messages", InvalidValue),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}
                ]
            },
            "messages[0].content[0].image_url.url",
            InvalidRequest,
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "messages[0].content[0]",
            InvalidValue,
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}]},
            "messages[0].tool_calls[0].function.name",
            InvalidRequest,
        ),
        ({"model": ""}, "model", InvalidRequest),
        ({"n": 0}, "n", InvalidValue),
        ({"n": 9}, "n", InvalidValue),
        ({"functions": [{"name": "f"}]}, "functions", Unsupported),
        ({"function_call": "auto"}, "function_call", Unsupported),
        ({"top_logprobs": 2}, "top_logprobs", InvalidRequest),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", InvalidValue),
        ({"temperature": 3}, "temperature", InvalidValue),
        ({"max_tokens": 1.5}, "max_tokens", InvalidValue),
        ({"logit_bias": {"x": 1}}, "logit_bias", InvalidValue),
        ({"tool_choice": "required"}, "tool_choice", InvalidRequest),
        ({"tool_choice": "must"}, "tool_choice", InvalidValue),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice", InvalidRequest),
        ({"tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "tool_choice", InvalidRequest),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice", Unsupported),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", Unsupported),
        ({"response_format": {"type": "grammar"}}, "response_format.type", InvalidValue),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", InvalidRequest),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}}},
            "response_format.json_schema.schema",
            InvalidValue,
        ),
        ({"reasoning_effort": "much"}, "reasoning_effort", InvalidValue),
        ({"think": "much"}, "think", InvalidValue),
        ({"chat_template_kwargs": {"x": 1}}, "chat_template_kwargs", Unsupported),
        ({"chat_template_kwargs": {"enable_thinking": "no"}}, "chat_template_kwargs", Unsupported),
        ({"truncation": "middle"}, "truncation", InvalidValue),
    ],
)
def test_what_a_chat_may_not_hold(fields: dict[str, Any], param: str, kind: type[LocalModelsError]) -> None:
    with pytest.raises(kind) as caught:
        chat(**fields)
    assert (type(caught.value), caught.value.param) == (kind, param)


@pytest.mark.parametrize(
    ("sent", "prompts"),
    [
        ("a", ("a",)),
        (["a"], ("a",)),
        ([1, 2], ((1, 2),)),
        ([[1, 2]], ((1, 2),)),
        ("", ("",)),
        (["a", "b"], ("a", "b")),
        (["a", [1]], ("a", (1,))),
        ([[1], [2, 3]], ((1,), (2, 3))),
    ],
)
def test_prompts(sent: object, prompts: object) -> None:
    assert complete(prompt=sent).every_prompt == prompts


@pytest.mark.parametrize(
    ("fields", "param", "kind"),
    [
        ({"prompt": None}, "prompt", InvalidRequest),
        ({"prompt": ["a", 1]}, "prompt", InvalidValue),
        ({"prompt": ["a"] * 33}, "prompt", InvalidValue),
        ({"prompt": ["a"] * 5, "n": 8}, "prompt", InvalidValue),
        ({"prompt": []}, "prompt", InvalidValue),
        ({"prompt": [1, "a"]}, "prompt", InvalidValue),
        ({"prompt": [-1]}, "prompt", InvalidValue),
        ({"prompt": [True]}, "prompt", InvalidValue),
        ({"prompt": [1], "echo": True}, "echo", Unsupported),
        ({"echo": True, "logprobs": 1}, "echo", Unsupported),
        ({"prompt": ["a", [1]], "echo": True}, "echo", Unsupported),
        ({"best_of": 2}, "best_of", Unsupported),
        ({"best_of": 4, "n": 3}, "best_of", Unsupported),
        ({"best_of": 2, "n": 3}, "best_of", InvalidValue),
        ({"logprobs": 99}, "logprobs", InvalidValue),
    ],
)
def test_what_a_completion_may_not_hold(fields: dict[str, Any], param: str, kind: type[LocalModelsError]) -> None:
    with pytest.raises(kind) as caught:
        complete(**fields)
    assert (type(caught.value), caught.value.param) == (kind, param)


def test_log_probabilities_of_a_completion_may_have_no_alternatives() -> None:
    assert (complete(logprobs=0).logprobs, complete(logprobs=0).top_logprobs) == (True, 0)
    assert (complete(logprobs=2).logprobs, complete(logprobs=2).top_logprobs) == (True, 2)
    assert complete(logprobs=False).logprobs is False


@pytest.mark.parametrize(
    ("sent", "inputs", "single"),
    [("a", ("a",), True), (["a", "b"], ("a", "b"), False), ([1, 2], ((1, 2),), True), ([[1], "b"], ((1,), "b"), False)],
)
def test_inputs(sent: object, inputs: object, single: bool) -> None:
    read = embed(input=sent)
    assert (read.inputs, read.single) == (inputs, single)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [1.5]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
    ],
)
def test_what_an_embedding_request_may_not_hold(fields: dict[str, Any], param: str) -> None:
    with pytest.raises((InvalidRequest, InvalidValue)) as caught:
        embed(**fields)
    assert caught.value.param == param


def test_a_streamed_chat_byte_for_byte() -> None:
    request = chat(stream=True, stream_options={"include_usage": True}, logprobs=True, top_logprobs=1)
    writer = DIALECT.chat_writer(STAMP, request)
    top = (TopLogprob("b", -0.5, (98,)), TopLogprob("c", -1.5))
    events: list[Event] = [
        Chunk(thinking="hm"),
        Chunk("b", logprobs=(TokenLogprob("b", -0.5, (98,), top),)),
        Chunk(tool_calls=(ToolCallDelta(0, "c1", "f", ""),)),
        Chunk(tool_calls=(ToolCallDelta(0, arguments="{}"),)),
        Done("tool_calls", Usage(10, 5, 4), Timings(9, 1, 3, 5), 2),
    ]
    assert [writer.write(event).decode() for event in events] == [
        (
            f'data: {HEAD}"choices":[{{"delta":{{"role":"assistant","reasoning_content":"hm"}},"index":0,'
            '"finish_reason":null}],"usage":null}\n\n'
        ),
        (
            f'data: {HEAD}"choices":[{{"delta":{{"content":"b"}},"index":0,"logprobs":{{"content":[{{"token":"b",'
            '"logprob":-0.5,"bytes":[98],"top_logprobs":[{"token":"b","logprob":-0.5,"bytes":[98]}]}]},'
            '"finish_reason":null}],"usage":null}\n\n'
        ),
        (
            f'data: {HEAD}"choices":[{{"delta":{{"tool_calls":[{{"index":0,"id":"c1","type":"function","function":'
            '{"name":"f","arguments":""}}]},"index":0,"finish_reason":null}],"usage":null}\n\n'
        ),
        (
            f'data: {HEAD}"choices":[{{"delta":{{"tool_calls":[{{"index":0,"function":{{"arguments":"{{}}"}}}}]}},'
            '"index":0,"finish_reason":null}],"usage":null}\n\n'
        ),
        (
            f'data: {HEAD}"choices":[{{"delta":{{}},"index":0,"finish_reason":"tool_calls"}}],"usage":null}}\n\n'
            f'data: {HEAD}"choices":[],"usage":{{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,'
            '"prompt_tokens_details":{"cached_tokens":4}},"timings":{"total_duration":9,"load_duration":1,'
            '"prompt_eval_duration":3,"eval_duration":5},"truncated_messages":2}\n\n'
            "data: [DONE]\n\n"
        ),
    ]


def test_a_stream_without_usage() -> None:
    assert DIALECT.chat_writer(STAMP, chat(stream=True)).write(Done("load", Usage(1, 1))).decode() == (
        f'data: {HEAD}"choices":[{{"delta":{{"role":"assistant"}},"index":0,"finish_reason":"stop"}}]}}\n\n'
        "data: [DONE]\n\n"
    )


def test_a_failure_is_the_last_event() -> None:
    for writer in (DIALECT.chat_writer(STAMP, chat()), DIALECT.generate_writer(STAMP, complete())):
        assert writer.fail(BackendError("gone\n")) == (
            b'data: {"error":{"message":"gone\\n","type":"server_error","param":null,"code":"backend_error"}}\n\n'
        )


def test_a_whole_chat_byte_for_byte() -> None:
    answer = Answer(Done("tool_calls", Usage(1, 2)), tool_calls=(ToolCall("c", "f", "{}"),))
    assert DIALECT.write_chat_answer(STAMP, chat(), answer).decode() == (
        '{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"m","choices":[{"message":'
        '{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f",'
        '"arguments":"{}"}}]},"index":0,"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":1,'
        '"completion_tokens":2,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":0}}}'
    )


def test_a_completion_with_columns_and_offsets() -> None:
    writer = DIALECT.generate_writer(STAMP, complete(stream=True, logprobs=1))
    head = '{"id":"chatcmpl-1","object":"text_completion","created":1700000000,"model":"m",'
    top = (TopLogprob("x", -0.5), TopLogprob("y", -1.5))
    assert writer.write(Chunk("ab", logprobs=(TokenLogprob("a", -1.0), TokenLogprob("b", -2.0)))).decode() == (
        f'data: {head}"choices":[{{"text":"ab","index":0,"logprobs":{{"tokens":["a","b"],"token_logprobs":[-1.0,-2.0],'
        '"top_logprobs":[{},{}],"text_offset":[0,1]},"finish_reason":null}]}\n\n'
    )
    assert b'"top_logprobs":[{"x":-0.5}],"text_offset":[2]' in writer.write(
        Chunk("c", logprobs=(TokenLogprob("c", -3.0, (), top),))
    )


def test_the_prompt_comes_back_before_the_answer() -> None:
    request = complete(echo=True)
    whole = DIALECT.write_generate_answer(STAMP, request, Answer(Done(), " there"))
    assert DIALECT.read_generate_answer(whole).text == "hi there"
    streams: list[list[Event]] = [[Chunk(" there"), Chunk("!"), Done()], [Done()]]
    for events in streams:
        writer, reader = DIALECT.generate_writer(STAMP, request), DIALECT.generate_reader()
        read = [event for written in events for event in reader.feed(writer.write(written))]
        text = "".join(event.text for event in read if isinstance(event, Chunk))
        assert text == "hi" + "".join(event.text for event in events if isinstance(event, Chunk))


def test_embeddings_in_base64_are_little_endian() -> None:
    found = Embeddings(((1.0, -2.0),), 5)
    assert DIALECT.write_embeddings(STAMP, embed(encoding_format="base64"), found) == (
        b'{"object":"list","data":[{"embedding":"AACAPwAAAMA=","index":0,"object":"embedding"}],"model":"m",'
        b'"usage":{"prompt_tokens":5,"total_tokens":5}}'
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (InvalidRequest, "invalid_request_error"),
        (InvalidValue, "invalid_request_error"),
        (BackendError, "server_error"),
    ],
)
def test_kinds_of_errors(status: type[LocalModelsError], kind: str) -> None:
    said = msgspec.json.decode(DIALECT.write_error(status("a", param="p")))["error"]
    assert said == {"message": "a", "type": kind, "param": "p", "code": status.code}


FINISHED = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'


def test_done_needs_both_a_reason_and_the_end() -> None:
    reader = DIALECT.chat_reader()
    assert reader.feed(FINISHED) == []
    assert reader.feed(b"data: [DONE]\n\n") == [Done()]
    for sent in (FINISHED, b"data: [DONE]\n\n", FINISHED + b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'):
        cut = DIALECT.chat_reader()
        assert cut.feed(sent) == []
        with pytest.raises(StreamCut):
            cut.close()


def test_a_whole_answer_needs_a_reason() -> None:
    with pytest.raises(StreamCut):
        DIALECT.read_chat_answer(b'{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":null}]}')


def test_whole_calls_without_index_are_counted() -> None:
    calls = b'[{"function":{"name":"f","arguments":{"a":1}}},{"function":{"name":"g"}}]'
    body = b'{"choices":[{"message":{"tool_calls":' + calls + b'},"finish_reason":"tool_calls"}]}'
    assert DIALECT.read_chat_answer(body).tool_calls == (ToolCall("", "f", '{"a":1}'), ToolCall("", "g", ""))


@pytest.mark.parametrize(
    "data",
    [b"nonsense", b"[]", b'{"choices":3}', b'{"choices":[{"delta":{"content":3}}]}', b'{"usage":"x"}', b"[" * 5000],
)
def test_garbage_is_garbled(data: bytes) -> None:
    with pytest.raises(Garbled):
        DIALECT.chat_reader().feed(b"data: " + data + b"\n\n")


def test_garbage_in_one_piece_is_garbled() -> None:
    for read in (DIALECT.read_chat_answer, DIALECT.read_embeddings, DIALECT.read_models):
        with pytest.raises(Garbled):
            read(b"<html>")
    for packed in (b"%%%", b"AAA="):
        with pytest.raises(Garbled):
            DIALECT.read_embeddings(b'{"data":[{"embedding":"' + packed + b'","index":0}]}')


def test_a_client_is_told_what_cannot_be_said() -> None:
    for request in (
        GenerateRequest("m", "a", system="s"),
        GenerateRequest("m", "a", context=(1,)),
        GenerateRequest("m", "a", images=(Image(b"x"),)),
    ):
        with pytest.raises(Unsupported):
            DIALECT.write_generate(request)


def test_the_penalty_on_what_was_said_goes_by_two_names() -> None:
    sent = msgspec.json.decode(DIALECT.write_chat(ChatRequest("m", (), options=Options(repeat_penalty=1.5))))
    assert (sent["repeat_penalty"], sent["repetition_penalty"]) == (1.5, 1.5)
    assert "repetition_penalty" not in msgspec.json.decode(DIALECT.write_chat(ChatRequest("m", ())))
    assert chat(repetition_penalty=1.5).options == Options(repeat_penalty=1.5)
    assert chat(repetition_penalty=1.5, repeat_penalty=1.2).options == Options(repeat_penalty=1.2)
    with pytest.raises(InvalidValue, match="repeat_penalty must be a number"):
        chat(repetition_penalty="much")


def test_no_limit_is_not_said_in_words_that_other_servers_refuse() -> None:
    sent = msgspec.json.decode(DIALECT.write_chat(ChatRequest("m", (), options=Options(num_predict=-1, num_ctx=64))))
    assert (sent["options"], "max_tokens" in sent) == ({"num_predict": -1, "num_ctx": 64}, False)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8", "image/webp"),
        (b"text", "application/octet-stream"),
    ],
)
def test_a_picture_says_what_it_is(data: bytes, kind: str) -> None:
    body = DIALECT.write_chat(ChatRequest("m", (Message("user", (Image(data),)),)))
    assert f"data:{kind};base64,".encode() in body
