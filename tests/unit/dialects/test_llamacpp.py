"""What llama.cpp's server is asked, field by field."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from localmodels.core.chat import (
    ChatRequest,
    Chunk,
    Done,
    EmbedRequest,
    Format,
    GenerateRequest,
    Image,
    Message,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    Usage,
)
from localmodels.core.errors import BackendError, Garbled, InvalidValue, StreamCut, Unsupported
from localmodels.core.options import Options
from localmodels.dialects.llamacpp import WHOLE_CONTEXT, LlamaCpp

DIALECT = LlamaCpp()
HELLO = (Message("user", (Text("hi"),)),)
TOOLS = (Tool("f"), Tool("g", "does g", {"type": "object"}))


def chat(*, id_slot: int | None = None, n_predict: int | None = None, **fields: Any) -> dict[str, Any]:
    body = DIALECT.write_chat(ChatRequest("m", HELLO, **fields), id_slot=id_slot, n_predict=n_predict)
    sent: dict[str, Any] = msgspec.json.decode(body)
    return sent


def complete(prompt: str | tuple[int, ...] = "hi", **fields: Any) -> dict[str, Any]:
    sent: dict[str, Any] = msgspec.json.decode(DIALECT.write_generate(GenerateRequest("m", prompt, **fields)))
    return sent


def test_the_least_that_is_said() -> None:
    assert chat() == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "cache_prompt": True,
        "reasoning_format": "auto",
    }
    assert complete() == {"prompt": "hi", "stream": True, "cache_prompt": True}


def test_progress_of_a_prompt_is_asked_for_and_passed_over() -> None:
    asked = DIALECT.write_chat(ChatRequest("m", HELLO), progress=True)
    assert msgspec.json.decode(asked)["return_progress"] is True
    assert "return_progress" not in chat()
    assert msgspec.json.decode(DIALECT.write_generate(GenerateRequest("m", "a"), progress=True))["return_progress"]
    figures = {"total": 900, "cache": 0, "processed": 512, "time_ms": 80}
    delta = {"choices": [{"index": 0, "finish_reason": None, "delta": {"role": "assistant", "content": None}}]}
    said = msgspec.json.encode({**delta, "object": "chat.completion.chunk", "prompt_progress": figures})
    assert DIALECT.chat_reader().feed(b"data: " + said + b"\n\n") == []
    said = msgspec.json.encode({"content": "", "tokens": [], "stop": False, "prompt_progress": figures})
    assert DIALECT.generate_reader().feed(b"data: " + said + b"\n\n") == []


def test_a_seat_and_a_limit_of_the_engine() -> None:
    sent = chat(id_slot=0, n_predict=0, options=Options(num_predict=99))
    assert (sent["id_slot"], sent["n_predict"]) == (0, 0)
    raw = DIALECT.write_generate(GenerateRequest("m", "a"), id_slot=3, n_predict=0)
    assert msgspec.json.decode(raw) == {
        "prompt": "a",
        "stream": True,
        "cache_prompt": True,
        "id_slot": 3,
        "n_predict": 0,
    }


def test_options_have_other_names_and_ranges() -> None:
    options = Options(
        temperature=0.5, typical_p=0.9, repeat_last_n=-1, num_predict=-2, num_keep=4, seed=-1, stop=("a",),
        logit_bias=((7, -1.5),), mirostat=2, num_ctx=2048, num_gpu=1, kv_cache_type="f16",
    )  # fmt: skip
    expected = {
        "temperature": 0.5,
        "typical_p": 0.9,
        "repeat_last_n": 2048,
        "n_predict": -1,
        "n_keep": 4,
        "stop": ["a"],
        "logit_bias": [[7, -1.5]],
        "mirostat": 2,
    }
    for sent in (chat(options=options), complete(options=options)):
        assert {name: value for name, value in sent.items() if name in expected} == expected
        assert not {"seed", "num_ctx", "num_gpu", "kv_cache_type", "num_predict", "num_keep"} & set(sent)
    assert chat(options=Options(repeat_last_n=-1))["repeat_last_n"] == WHOLE_CONTEXT


@pytest.mark.parametrize(
    ("choice", "word", "names"),
    [
        (ToolChoice(), "auto", ["f", "g"]),
        (ToolChoice("none"), "none", ["f", "g"]),
        (ToolChoice("required"), "none", ["f", "g"]),
        (ToolChoice("function", "g"), "none", ["g"]),
    ],
)
def test_a_named_tool_is_the_only_one_sent(choice: ToolChoice, word: str, names: list[str]) -> None:
    sent = chat(tools=TOOLS, tool_choice=choice, parallel_tool_calls=False)
    assert sent["tool_choice"] == word
    assert [tool["function"]["name"] for tool in sent["tools"]] == names
    assert sent["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    ("think", "switch", "effort"),
    [(None, None, None), (True, True, None), (False, False, None), ("low", True, "low"), ("max", True, "high")],
)
def test_think(think: Any, switch: bool | None, effort: str | None) -> None:
    sent = chat(think=think)
    assert sent.get("chat_template_kwargs") == (None if switch is None else {"enable_thinking": switch})
    assert sent.get("reasoning_effort") == effort


def test_formats() -> None:
    schema = {"type": "object"}
    assert chat(format=Format())["response_format"]["type"] == "json_schema"
    guidance = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    tight = {"type": "object", "x-guidance": guidance}
    assert chat(format=Format(schema))["response_format"]["json_schema"]["schema"] == tight
    assert complete(format=Format())["json_schema"] == tight
    assert complete(format=Format(schema))["json_schema"] == tight


def test_earlier_arguments_must_be_json() -> None:
    call = ToolCall("1", "f", "{broken")
    with pytest.raises(InvalidValue, match="not JSON"):
        DIALECT.write_chat(ChatRequest("m", (Message("assistant", tool_calls=(call,)),)))


def test_log_probabilities_without_alternatives_still_need_one() -> None:
    assert (chat(logprobs=True)["logprobs"], chat(logprobs=True)["top_logprobs"]) == (True, 1)
    assert chat(logprobs=True, top_logprobs=5)["top_logprobs"] == 5
    assert complete(logprobs=True)["n_probs"] == 1
    with pytest.raises(Unsupported, match="together with tools"):
        chat(logprobs=True, tools=TOOLS)


def test_prompts() -> None:
    assert complete((1, 2))["prompt"] == [1, 2]
    assert complete("a", context=(1, 2))["prompt"] == [1, 2, "a"]
    assert complete((3,), context=(1, 2))["prompt"] == [1, 2, 3]


def test_pictures_stand_where_their_marks_are() -> None:
    pictures = (Image(b"zero"), Image(b"one"), Image(b"two"))
    request = GenerateRequest("m", "a [img-2] <M> b [img-0] [img-0] [img-9] c", images=pictures)
    assert msgspec.json.decode(DIALECT.write_generate(request, marker="<M>"))["prompt"] == {
        "prompt_string": "<M>a <M>  b <M> [img-0] [img-9] c",
        "multimodal_data": ["b25l", "dHdv", "emVybw=="],
    }
    for more in ({"context": (1,)}, {"suffix": "z"}):
        with pytest.raises(Unsupported, match="images"):
            complete("a", images=pictures, **more)
    with pytest.raises(Unsupported, match="images"):
        complete((1, 2), images=pictures)


def test_control_tokens_are_shown_where_they_are_asked_for() -> None:
    assert complete("a", visible=("<tool_call>",))["preserved_tokens"] == ["<tool_call>"]
    assert "preserved_tokens" not in complete("a")


def test_a_gap_has_a_route_of_its_own() -> None:
    request = GenerateRequest("m", "def f(", suffix="return")
    assert (DIALECT.generate_path(request), DIALECT.generate_path(GenerateRequest("m"))) == ("/infill", "/completion")
    sent = complete("def f(", suffix="return")
    assert (sent["input_prefix"], sent["input_suffix"], "prompt" in sent) == ("def f(", "return", False)
    with pytest.raises(Unsupported):
        complete((1,), suffix="return")


def test_small_questions() -> None:
    assert DIALECT.write_tokenize("a") == b'{"content":"a","add_special":true,"parse_special":true}'
    assert DIALECT.write_detokenize((1, 2)) == b'{"tokens":[1,2]}'
    request = EmbedRequest("m", ("a", (1, 2)), single=False)
    assert DIALECT.write_embed(request) == b'{"input":["a",[1,2]],"encoding_format":"base64"}'


def test_a_text_ends_with_stop_and_not_before() -> None:
    piece = b'data: {"content":"a","tokens":[1],"stop":false}\n\n'
    last = b'data: {"content":"","stop":true,"stop_type":"%b","tokens_predicted":1,"tokens_evaluated":2}\n\n'
    for word, reason in ((b"eos", "stop"), (b"word", "stop"), (b"limit", "length")):
        reader = DIALECT.generate_reader()
        assert reader.feed(piece + last % word) == [Chunk("a"), Done(reason, Usage(2, 1))]  # type: ignore[arg-type]
        reader.close()
    cut = DIALECT.generate_reader()
    assert cut.feed(piece + b"data: [DONE]"[:3]) == [Chunk("a")]
    with pytest.raises(StreamCut):
        cut.close()
    failed = DIALECT.generate_reader()
    with pytest.raises(BackendError, match="boom"):
        failed.feed(b'data: {"error":{"code":500,"message":"boom","type":"server_error"}}\n\n')


def test_garbage_is_garbled() -> None:
    with pytest.raises(Garbled):
        DIALECT.generate_reader().feed(b"data: {\n\n")
    for read in (DIALECT.read_tokens, DIALECT.read_text, DIALECT.read_prompt, DIALECT.read_props, DIALECT.read_slots):
        with pytest.raises(Garbled):
            read(b'{"tokens":3}' if read != DIALECT.read_props else b"[]")
