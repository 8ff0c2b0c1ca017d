"""Streams of the Responses API: written in order, read back whole, and never taken for complete when they are not."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.dialects import carried_responses as carried
from tests.unit.dialects import responses_order as order
from tests.unit.dialects import strategies as some
from tests.unit.dialects.carried import folded

from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Done,
    Event,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    TopLogprob,
    Usage,
)
from localmodels.core.errors import (
    BackendError,
    ContextLengthExceeded,
    Garbled,
    LocalModelsError,
    NotFound,
    QuotaExceeded,
    RateLimited,
    RunnerDied,
    StreamCut,
)
from localmodels.dialects.protocol import EventReader, Stamp
from localmodels.dialects.responses import Responses
from localmodels.dialects.responses.answers import ResponseWriter
from localmodels.dialects.responses.items import opened
from localmodels.dialects.responses.replayed import replayed
from localmodels.dialects.responses.requests import Create, read_create
from localmodels.dialects.strict_json import encode

RESPONSES = Responses()
STAMP = Stamp("resp_1", "m", 1_700_000_000 * 10**9)
stamps = st.builds(Stamp, some.texts, some.words, st.integers(0, 2**60))

STREAMS: list[list[Event]] = [
    [Done()],
    [Chunk("a\r\u2028ж😀"), Chunk("", "hm\n"), Chunk("b"), Done("length", Usage(3, 2, 1, 1), Timings(4, 3, 2, 1), 1)],
    [
        Chunk("", "I should look.", (ToolCallDelta(0, "c1", "weather", '{"city":'),)),
        Chunk(tool_calls=(ToolCallDelta(0, arguments='"Paris"}'), ToolCallDelta(1, "c2", "patch", "*** Begin", True))),
        Done("tool_calls", Usage(30, 20)),
    ],
    [Chunk("x", logprobs=(TokenLogprob("x", -0.5, (120,), (TopLogprob("y", -1.5, (121,)),)),)), Done()],
]


def create(**fields: Any) -> Create:
    return read_create(json.dumps({"model": "m", "input": "hi", **fields}).encode())


def written(events: list[Event], asked: Create | None = None) -> bytes:
    writer = ResponseWriter(STAMP, asked or create(top_logprobs=20))
    return b"".join(map(writer.write, events))


def streamed(reader: EventReader, pieces: list[bytes]) -> list[Event]:
    seen = [event for piece in pieces for event in reader.feed(piece)]
    reader.close()
    return seen


@given(carried.chat_requests())
def test_requests_come_back(request: ChatRequest) -> None:
    assert RESPONSES.read_chat(RESPONSES.write_chat(request)) == carried.chat(request)


@given(stamps, carried.chat_requests(), carried.event_streams(), some.cuts)
def test_streams_come_back(stamp: Stamp, request: ChatRequest, events: list[Event], cuts: list[int]) -> None:
    writer = RESPONSES.chat_writer(stamp, request)
    data = b"".join(map(writer.write, events))
    order.check(order.parsed(data))
    pieces = some.cut(data, cuts)
    assert streamed(RESPONSES.chat_reader(), pieces) == carried.chat_events(events, request.top_logprobs)


@given(stamps, carried.chat_requests(), carried.event_streams())
def test_whole_answers_are_what_streams_end_with(stamp: Stamp, request: ChatRequest, events: list[Event]) -> None:
    writer = RESPONSES.chat_writer(stamp, request)
    last = order.parsed(b"".join(map(writer.write, events)))[-1]
    assert json.loads(encode(writer.response())) == last["response"]
    answer = folded(carried.chat_events(events, request.top_logprobs))
    assert RESPONSES.read_chat_answer(encode(writer.response())) == answer


@given(stamps, carried.chat_requests(), some.answers)
def test_whole_answers_come_back(stamp: Stamp, request: ChatRequest, answer: Answer) -> None:
    named = replace(answer, tool_calls=tuple(replace(call, id=call.id or "c") for call in answer.tool_calls))
    body = RESPONSES.write_chat_answer(stamp, request, named)
    assert RESPONSES.read_chat_answer(body) == carried.chat_answer(named, request.top_logprobs)


@given(carried.event_streams(), st.booleans(), st.booleans(), st.integers(-1, 30))
def test_a_kept_response_is_told_again_in_order(events: list[Event], summary: bool, sealed: bool, after: int) -> None:
    asked = create(
        reasoning={"summary": "auto"} if summary else None,
        include=["reasoning.encrypted_content"] if sealed else None,
        top_logprobs=20,
    )
    writer = ResponseWriter(STAMP, asked)
    live = order.parsed(b"".join(map(writer.write, events)))
    order.check(live)
    again = order.parsed(replayed(encode(writer.response())))
    order.check(again)
    assert again[-1]["response"] == live[-1]["response"]
    assert order.parsed(replayed(encode(writer.response()), after)) == again[after + 1 :]


@given(carried.event_streams(), some.cuts, some.texts)
def test_after_a_failure_there_is_no_success(events: list[Event], cuts: list[int], words: str) -> None:
    writer = ResponseWriter(STAMP, create())
    data = b"".join(map(writer.write, events[:-1])) + writer.fail(BackendError(words))
    told = order.parsed(data)
    order.check(told)
    assert [event["type"] for event in told[-2:]] == ["response.failed", "error"]
    assert told[-2]["response"]["status"] == "failed"
    assert "in_progress" not in {item["status"] for item in told[-2]["response"]["output"]}
    with pytest.raises(LocalModelsError):
        streamed(RESPONSES.chat_reader(), some.cut(data, cuts))
    order.check(order.parsed(replayed(encode(writer.response()))))


@pytest.mark.parametrize("events", STREAMS)
def test_every_cut_is_a_cut(events: list[Event]) -> None:
    data = written(events)
    whole = streamed(RESPONSES.chat_reader(), [data])
    for length in range(len(data)):
        reader = RESPONSES.chat_reader()
        seen = reader.feed(data[:length])
        assert seen == whole[: len(seen)]
        assert len(seen) < len(whole)
        with pytest.raises(StreamCut):
            reader.close()


class Played(httpx2.BaseTransport):
    """Answers with these bytes, without a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=self._data)


def sdk(data: bytes) -> openai.OpenAI:
    return openai.OpenAI(
        base_url="http://nobody/v1", api_key="any", max_retries=0, http_client=httpx2.Client(transport=Played(data))
    )


def final(data: bytes) -> Any:
    with sdk(data).responses.stream(model="m", input="hi") as stream:
        return stream.get_final_response()


@pytest.mark.parametrize("events", [STREAMS[0], STREAMS[2], STREAMS[3]])
def test_the_sdk_believes_the_whole_and_no_part_of_it(events: list[Event]) -> None:
    data = written(events)
    assert final(data).status == "completed"
    frames = [place + 2 for place in range(len(data)) if data.startswith(b"\n\n", place)][:-1]
    for length in (0, *frames, *range(1, len(data) - 1, 211), len(data) - 1):
        with pytest.raises((RuntimeError, openai.APIError, json.JSONDecodeError)):
            final(data[:length])


def test_the_sdk_does_not_take_a_cut_answer_for_complete() -> None:
    with pytest.raises(RuntimeError, match=r"response\.completed"):
        final(written([Chunk("a"), Done("length")]))


def test_the_sdk_raises_what_broke_a_stream() -> None:
    writer = ResponseWriter(STAMP, create())
    data = writer.write(Chunk("a")) + writer.fail(RunnerDied("it died"))
    with pytest.raises(openai.APIError, match="it died") as raised:
        list(sdk(data).responses.create(model="m", input="hi", stream=True))
    assert (raised.value.code, raised.value.type) == ("runner_died", "server_error")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RunnerDied("x"), "server_error"),
        (NotFound("x"), "invalid_prompt"),
        (ContextLengthExceeded(9, 8), "context_length_exceeded"),
        (RateLimited("x"), "rate_limit_exceeded"),
        (QuotaExceeded("x"), "insufficient_quota"),
    ],
)
def test_failures_have_the_words_that_clients_know(error: LocalModelsError, code: str) -> None:
    writer = ResponseWriter(STAMP, create())
    failed, last = order.parsed(writer.fail(error))[-2:]
    assert failed["response"]["error"]["code"] == code
    assert last["code"] == last["error"]["code"] == error.code
    reader = RESPONSES.chat_reader()
    with pytest.raises(LocalModelsError):
        reader.feed(ResponseWriter(STAMP, create()).fail(error))


def test_who_comes_back_by_itself_is_told_when() -> None:
    failed = order.parsed(ResponseWriter(STAMP, create()).fail(RateLimited("Too fast.", retry_after=2.5)))[-2]
    assert failed["response"]["error"]["message"] == "Too fast. Please try again in 3s."


def test_calls_that_come_in_turns_stay_apart() -> None:
    events: list[Event] = [
        Chunk(tool_calls=(ToolCallDelta(0, "c1", "f", '{"a"'), ToolCallDelta(1, "c2", "g", "{"))),
        Chunk("between", tool_calls=(ToolCallDelta(0, arguments=": 1}"),)),
        Chunk(tool_calls=(ToolCallDelta(1, arguments="}"),)),
        Done(),
    ]
    response = order.check(order.parsed(written(events)))
    said = [item.get("arguments") or item["content"][0]["text"] for item in response["output"]]
    assert said == ['{"a": 1}', "{}", "between"]


def test_one_item_after_the_other_where_calls_are_whole() -> None:
    calls = (ToolCallDelta(0, "c1", "f", "{}"), ToolCallDelta(1, "c2", "g", "{}"))
    told = order.parsed(written([Chunk(tool_calls=calls), Done()]))
    steps = [event["output_index"] for event in told if "output_index" in event]
    assert steps == sorted(steps)


def test_a_limit_leaves_the_last_item_incomplete() -> None:
    events: list[Event] = [Chunk("a", "hm"), Chunk(tool_calls=(ToolCallDelta(0, "c", "f", '{"a'),)), Done("length")]
    response = order.check(order.parsed(written(events)))
    assert [item["status"] for item in response["output"]] == ["completed", "completed", "incomplete"]
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


def test_thoughts_are_told_as_a_summary_to_those_who_ask_and_sealed_for_those_who_keep_them() -> None:
    asked = create(reasoning={"effort": "low", "summary": "auto"}, include=["reasoning.encrypted_content"])
    told = order.parsed(written([Chunk("a", "hm"), Done()], asked))
    names = [event["type"] for event in told if event.get("output_index") == 0]
    assert names == [
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
    ]
    item = told[-1]["response"]["output"][0]
    assert (item["content"], item["summary"]) == ([], [{"type": "summary_text", "text": "hm"}])
    assert opened(item["encrypted_content"]) == "hm"


def test_tools_in_a_namespace_are_called_by_both_names() -> None:
    function = {"type": "function", "name": "read", "parameters": {}}
    asked = create(tools=[{"type": "namespace", "name": "files", "description": "", "tools": [function]}])
    events: list[Event] = [Chunk(tool_calls=(ToolCallDelta(0, "c", "files.read", "{}"),)), Done()]
    data = written(events, asked)
    item = order.check(order.parsed(data))["output"][0]
    assert (item["name"], item["namespace"]) == ("read", "files")
    assert streamed(RESPONSES.chat_reader(), [data])[0] == Chunk(tool_calls=(ToolCallDelta(0, "c", "files.read"),))


def test_what_is_cancelled_ends_in_an_error() -> None:
    writer = ResponseWriter(STAMP, create())
    told = order.parsed(writer.write(Chunk("a")) + writer.cancel())
    response = writer.response()
    assert (told[-1]["type"], response.status, response.output[0].status) == ("error", "cancelled", "incomplete")
    assert order.parsed(replayed(encode(response)))[-1]["error"]["code"] == "response_cancelled"


# What other servers leave out, and what they add.
SPARSE = (
    '{"type":"response.created","response":{"id":"r"}}',
    '{"type":"response.output_item.added","item":{"type":"reasoning","id":"rs"}}',
    '{"type":"response.reasoning_text.delta","item_id":"rs","delta":"hm"}',
    '{"type":"response.reasoning_summary_text.delta","item_id":"rs","delta":"hm"}',
    '{"type":"response.output_item.added","item":{"type":"message","id":"msg"}}',
    '{"type":"response.output_text.delta","item_id":"msg","delta":"Hi"}',
    '{"type":"response.output_item.done","item":{"type":"message","id":"msg","content":[{"text":"Hi"}]}}',
    '{"type":"response.output_item.done","item":{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}}',
    '{"type":"response.output_item.done","item":{"type":"web_search_call","id":"ws","content":7}}',
    '{"type":"response.completed","response":{"usage":{"input_tokens":3,"output_tokens":2}}}',
    "[DONE]",
)


def test_a_sparse_stream_is_read() -> None:
    assert streamed(RESPONSES.chat_reader(), [f"data: {data}\n\n".encode() for data in SPARSE]) == [
        Chunk(thinking="hm"),
        Chunk("Hi"),
        Chunk(tool_calls=(ToolCallDelta(0, "c", "f"),)),
        Chunk(tool_calls=(ToolCallDelta(0, arguments="{}"),)),
        Done("tool_calls", Usage(3, 2)),
    ]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'{"type":"error","code":"rate_limit_exceeded","message":"slow down"}', RateLimited),
        (b'{"type":"error","error":{"code":"insufficient_quota","message":"no"}}', QuotaExceeded),
        (b'{"type":"response.failed","response":{"error":{"code":"server_error","message":"no"}}}', BackendError),
        (b'{"type":"response.cancelled","response":{"status":"cancelled"}}', StreamCut),
        (b"<html>", Garbled),
        (b'{"type":"response.output_item.done","item":{"type":"message","content":7}}', Garbled),
    ],
)
def test_what_broke_elsewhere_is_an_error_of_ours(data: bytes, kind: type[LocalModelsError]) -> None:
    reader = RESPONSES.chat_reader()
    with pytest.raises(kind):
        reader.feed(b"data: " + data + b"\n\n")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"status":"in_progress","output":[]}', StreamCut),
        (b'{"status":"failed","error":{"code":"server_error","message":"no"}}', BackendError),
        (b'{"error":{"message":"no","code":"model_not_found"}}', NotFound),
        (b"[]", Garbled),
        (b"{}", Garbled),
    ],
)
def test_a_whole_answer_that_is_none(body: bytes, kind: type[LocalModelsError]) -> None:
    with pytest.raises(kind):
        RESPONSES.read_chat_answer(body)
