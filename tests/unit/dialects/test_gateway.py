"""The gateway's own API: what it takes, its exact bytes, and the law that what it writes it reads back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.dialects import strategies as some

from localmodels.core.catalog import Details, Model
from localmodels.core.chat import (
    Answer,
    ChatRequest,
    Chunk,
    Done,
    Event,
    Fold,
    Format,
    Image,
    Message,
    Text,
    Tool,
    Usage,
)
from localmodels.core.errors import (
    BackendError,
    Garbled,
    InvalidRequest,
    InvalidValue,
    LocalModelsError,
    OutOfMemory,
    StreamCut,
    Unsupported,
)
from localmodels.core.options import Options
from localmodels.dialects import gateway
from localmodels.dialects.gateway import Gateway
from localmodels.dialects.protocol import Stamp

DIALECT = Gateway()
STAMP = Stamp("", "gpt-oss:20b", 0)


def chat(**fields: Any) -> ChatRequest:
    return DIALECT.read_chat(msgspec.json.encode({"message": "Hola", **fields}))


def test_what_is_left_out_is_as_the_seed_says() -> None:
    assert chat() == ChatRequest(
        "",
        (Message("user", (Text("Hola"),)),),
        options=Options(num_predict=512),
        think="medium",
        think_wish=True,
        stream=False,
    )


def test_all_fields() -> None:
    request = chat(
        model="devstral", max_tokens=300, temperature=0.8, reasoning="high", stream=True, system="Be brief.",
        options={"top_k": 3, "temperature": 0.1}, keep_alive="5m",
    )  # fmt: skip
    assert request == ChatRequest(
        "devstral",
        (Message("system", (Text("Be brief."),)), Message("user", (Text("Hola"),))),
        options=Options(num_predict=300, temperature=0.1, top_k=3),
        think="high",
        think_wish=True,
        stream=True,
        keep_alive=300.0,
    )


def test_a_limit_among_the_options_is_one() -> None:
    assert chat(options={"num_predict": 7}).options.num_predict == 7


@pytest.mark.parametrize(
    ("word", "think"), [("none", False), ("minimal", "low"), ("low", "low"), ("medium", "medium"), ("max", "max")]
)
def test_efforts(word: str, think: object) -> None:
    assert chat(reasoning=word).think == think


@pytest.mark.parametrize(
    ("fields", "param", "kind"),
    [
        ({"message": None}, "message", InvalidRequest),
        ({"message": ""}, "message", InvalidRequest),
        ({"message": 3}, "message", InvalidValue),
        ({"max_tokens": "many"}, "max_tokens", InvalidValue),
        ({"temperature": 9}, "temperature", InvalidValue),
        ({"reasoning": "lots"}, "reasoning", InvalidValue),
        ({"stream": "yes"}, "stream", InvalidValue),
        ({"options": {"top_k": "x"}}, "options.top_k", InvalidValue),
        ({"keep_alive": "soon"}, "keep_alive", InvalidValue),
    ],
)
def test_what_a_question_may_not_hold(fields: dict[str, Any], param: str, kind: type[LocalModelsError]) -> None:
    with pytest.raises(kind) as caught:
        chat(**fields)
    assert (type(caught.value), caught.value.param) == (kind, param)


def test_the_address_names_the_model() -> None:
    assert gateway.at_address(chat(), "hf.co/a/b:c").model == "hf.co/a/b:c"
    assert gateway.at_address(chat(model="m"), "m").model == "m"
    with pytest.raises(InvalidRequest, match="the address names the model 'm', the body 'other'"):
        gateway.at_address(chat(model="other"), "m")


def test_a_streamed_answer_byte_for_byte() -> None:
    writer = DIALECT.chat_writer(STAMP, chat(stream=True))
    events: list[Event] = [Chunk("Ho", "hm"), Chunk("la\n"), Chunk(), Done("length", Usage(12, 45, 3))]
    assert [writer.write(event).decode() for event in events] == [
        (
            'data: {"model":"gpt-oss:20b","reasoning":"hm"}\n\n'
            'data: {"response":"Ho","model":"gpt-oss:20b"}\n\n'
        ),
        'data: {"response":"la\\n","model":"gpt-oss:20b"}\n\n',
        "",
        (
            'data: {"response":"","model":"gpt-oss:20b","finish_reason":"length",'
            '"usage":{"prompt_tokens":12,"completion_tokens":45,"total_tokens":57}}\n\n'
            "data: [DONE]\n\n"
        ),
    ]  # fmt: skip


def test_a_broken_stream_ends_with_the_error() -> None:
    writer = DIALECT.chat_writer(STAMP, chat(stream=True))
    assert writer.fail(BackendError("it broke")) == b'data: {"detail":"it broke"}\n\n'


def test_a_whole_answer_byte_for_byte() -> None:
    body = DIALECT.write_chat_answer(STAMP, chat(), Answer(Done("stop", Usage(12, 45)), "La"))
    assert body == (
        b'{"response":"La","model":"gpt-oss:20b","finish_reason":"stop",'
        b'"usage":{"prompt_tokens":12,"completion_tokens":45,"total_tokens":57}}'
    )
    thought = msgspec.json.decode(DIALECT.write_chat_answer(STAMP, chat(), Answer(Done(), "", "hm")))
    assert (thought["response"], thought["reasoning"]) == ("", "hm")


def test_too_little_memory_is_said_in_the_seeds_words() -> None:
    body = DIALECT.write_error(OutOfMemory(19_756_849_562, 18_253_611_008))
    assert body == b'{"detail":"Model requires more system memory (18.4 GiB) than is available (17.0 GiB)"}'


def carried(request: ChatRequest) -> ChatRequest:
    """What this API carries: one question, perhaps a system prompt, an effort in words."""
    limit = request.options.num_predict
    options = replace(request.options, num_predict=512 if limit is None else limit)
    think = "medium" if request.think in {None, True} else request.think
    return ChatRequest(
        request.model,
        tuple(Message(message.role, (Text(message.text),)) for message in request.messages),
        options=options,
        think=think,
        think_wish=True,
        stream=request.stream,
        keep_alive=request.keep_alive,
    )


questions = st.builds(
    ChatRequest,
    some.texts,
    st.tuples(some.words, some.words).flatmap(
        lambda pair: st.sampled_from([
            (Message("user", (Text(pair[1]),)),),
            (Message("system", (Text(pair[0]),)), Message("user", (Text(pair[1]),))),
        ])
    ),
    options=some.options,
    think=some.thinks,
    stream=st.booleans(),
    keep_alive=some.keep_alives,
)  # fmt: skip


@given(questions)
def test_requests(request: ChatRequest) -> None:
    assert DIALECT.read_chat(DIALECT.write_chat(request)) == carried(request)


@pytest.mark.parametrize(
    "request_",
    [
        ChatRequest("m", (Message("user", (Text("a"),)), Message("assistant", (Text("b"),)))),
        ChatRequest("m", tuple(Message("user", (Text("a"),)) for _ in range(2))),
        ChatRequest("m", (Message("user", (Image(b"x"),)),)),
        ChatRequest("m", (Message("user", (Text("a"),)),), tools=(Tool("t"),)),
        ChatRequest("m", (Message("user", (Text("a"),)),), format=Format()),
    ],
    ids=["an answer last", "two questions", "a picture", "a tool", "a format"],
)
def test_what_this_api_cannot_say_is_not_said_in_part(request_: ChatRequest) -> None:
    with pytest.raises(Unsupported):
        DIALECT.write_chat(request_)


def told(events: list[Event]) -> list[Event]:
    """What this API carries of a stream: text and thought of each piece, apart; the end."""
    parts: list[Event] = []
    for event in events:
        if isinstance(event, Done):
            reason = event.reason if event.reason in {"stop", "length", "tool_calls"} else "stop"
            parts.append(Done(reason, Usage(event.usage.prompt_tokens, event.usage.completion_tokens)))
            continue
        parts += [Chunk(thinking=event.thinking)] if event.thinking else []
        parts += [Chunk(event.text)] if event.text else []
    return parts


@given(some.event_streams(), some.cuts)
def test_streams(events: list[Event], cuts: list[int]) -> None:
    writer, reader = DIALECT.chat_writer(STAMP, chat()), DIALECT.chat_reader()
    data = b"".join(map(writer.write, events))
    seen = [event for piece in some.cut(data, cuts) for event in reader.feed(piece)]
    reader.close()
    assert seen == told(events)


@given(some.answers)
def test_whole_answers(answer: Answer) -> None:
    fold = Fold()
    for event in told([Chunk(answer.text, answer.thinking), answer.done]):
        fold.add(event)
    assert DIALECT.read_chat_answer(DIALECT.write_chat_answer(STAMP, chat(), answer)) == fold.answer()


def test_every_cut_is_a_cut() -> None:
    writer = DIALECT.chat_writer(STAMP, chat())
    events: list[Event] = [Chunk("a\r\u2028ж😀", "hm"), Done("length", Usage(3, 2))]
    data = b"".join(map(writer.write, events))
    for length in range(len(data)):
        reader = DIALECT.chat_reader()
        assert not any(isinstance(event, Done) for event in reader.feed(data[:length]))
        with pytest.raises(StreamCut):
            reader.close()


def test_an_end_that_says_nothing_of_how_it_came_is_none() -> None:
    reader = DIALECT.chat_reader()
    assert reader.feed(b'data: {"response": "a"}\n\ndata: [DONE]\n\n') == [Chunk("a")]
    with pytest.raises(StreamCut):
        reader.close()


def test_after_a_failure_there_is_no_success() -> None:
    writer, reader = DIALECT.chat_writer(STAMP, chat()), DIALECT.chat_reader()
    assert reader.feed(writer.write(Chunk("a"))) == [Chunk("a")]
    with pytest.raises(BackendError, match="it broke"):
        reader.feed(writer.fail(BackendError("it broke")))


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"response": 3}'])
def test_what_is_no_answer_of_this_api_is_garbled(body: bytes) -> None:
    with pytest.raises(Garbled):
        DIALECT.read_chat_answer(body)
    with pytest.raises(Garbled):
        DIALECT.read_models(b'{"models": 3}')


def test_the_list_of_models() -> None:
    digest = "b112e727c6f18875636c56a779790a590d705aec9e1c0eb5a97d51fc2a778583"
    details = Details("gguf", "gptoss", ("gptoss",), "20.8B", "Q4_K_M")
    models = (Model("gpt-oss:20b", 17_280_000_000, digest, "2025-09-10T17:15:32.123Z", details),)
    body = gateway.write_models(models)
    assert msgspec.json.decode(body) == {
        "models": [
            {
                "name": "gpt-oss:20b",
                "model": "gpt-oss:20b",
                "modified_at": "2025-09-10T17:15:32.123Z",
                "size": 17_280_000_000,
                "digest": f"sha256-{digest}",
                "details": {
                    "parent_model": "",
                    "format": "gguf",
                    "family": "gptoss",
                    "families": ["gptoss"],
                    "parameter_size": "20.8B",
                    "quantization_level": "Q4_K_M",
                },
            }
        ]
    }
    assert DIALECT.read_models(body) == ("gpt-oss:20b",)
