"""What Anthropic's dialect asks of llama.cpp's server beyond the others: stop words, budgets, the prompt's tokens."""

from __future__ import annotations

from typing import Any

import msgspec

from localmodels.core.chat import ChatRequest, Chunk, Done, Event, Message, Text, Tool, ToolChoice, Usage, is_early
from localmodels.core.options import Options
from localmodels.dialects.llamacpp import LlamaCpp
from localmodels.flows.answering.chat import seen
from localmodels.flows.visit import Visit

DIALECT = LlamaCpp()
HELLO = (Message("user", (Text("hi"),)),)
PROGRESS = {"total": 900, "cache": 500, "processed": 512, "time_ms": 80}


def asked(**fields: Any) -> dict[str, Any]:
    sent: dict[str, Any] = msgspec.json.decode(DIALECT.write_chat(ChatRequest("m", HELLO, **fields)))
    return sent


def stream(*pieces: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % msgspec.json.encode(piece) for piece in pieces) + b"data: [DONE]\n\n"


def piece(content: str | None = None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": reason}], **more}


def read(request: ChatRequest, data: bytes) -> list[Event]:
    reader = DIALECT.chat_reader(request)
    events = reader.feed(data)
    reader.close()
    return events


def test_which_stop_text_it_was_is_asked_where_there_are_some() -> None:
    sent = asked(options=Options(stop=("END",)))
    assert (sent["verbose"], sent["response_fields"]) == (True, ["stopping_word"])
    assert not {"verbose", "response_fields"} & set(asked())


def test_a_stop_text_is_believed_if_the_request_named_it() -> None:
    data = stream(piece("a", __verbose={"stopping_word": "END"}), piece(reason="stop"))
    *_, done = read(ChatRequest("m", HELLO, options=Options(stop=("END", "x"))), data)
    assert done == Done("stop", stop="END")
    *_, done = read(ChatRequest("m", HELLO, options=Options(stop=("x",))), data)
    assert done == Done("stop")


def test_a_raw_text_names_its_stop_text_always() -> None:
    said = {"content": "", "stop": True, "stop_type": "word", "stopping_word": "END"}
    events = DIALECT.generate_reader().feed(b"data: %b\n\n" % msgspec.json.encode(said))
    assert events == [Done("stop", stop="END")]


def test_the_prompt_is_told_once_and_only_where_it_is_wanted() -> None:
    data = stream(
        piece(prompt_progress=PROGRESS), piece(prompt_progress={**PROGRESS, "processed": 900}), piece("a", "stop")
    )
    early = read(ChatRequest("m", HELLO, early_prompt=True), data)
    assert early == [Chunk(prompt=Usage(900, 0, 500)), Chunk("a"), Done("stop")]
    assert read(ChatRequest("m", HELLO), data) == [Chunk("a"), Done("stop")]


def test_the_prompt_of_a_forced_call_is_told_too() -> None:
    request = ChatRequest("m", HELLO, tools=(Tool("f"),), tool_choice=ToolChoice("required"), early_prompt=True)
    data = stream(piece(prompt_progress=PROGRESS), piece('{"name": "f", "arguments": {}}', "stop"))
    first, *rest = read(request, data)
    assert first == Chunk(prompt=Usage(900, 0, 500))
    assert [type(event) for event in rest] == [Chunk, Done]


def test_what_tells_of_the_prompt_alone_is_no_sign_that_it_was_read() -> None:
    assert is_early(Chunk(prompt=Usage(9)))
    assert not is_early(Chunk("a", prompt=Usage(9)))
    assert not is_early(Chunk("a"))
    assert not is_early(Done())


def test_a_budget_for_thoughts() -> None:
    assert asked(think=True, think_budget=2048)["thinking_budget_tokens"] == 2048
    assert "thinking_budget_tokens" not in asked(think=True)


def test_what_tells_of_the_prompt_alone_is_no_piece_of_the_answer() -> None:
    visit = Visit()
    seen([Chunk(prompt=Usage(9))], visit, 0, 0)
    assert (visit.pieces, visit.first) == (0, 0)
    seen([Chunk("a")], visit, 0, 0)
    assert visit.pieces == 1
    assert visit.first
