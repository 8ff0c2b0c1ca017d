"""Streams that pass through: byte for byte, whole frames only, and never a success that was not proven."""

from __future__ import annotations

import pytest

from localmodels.core.chat import Usage
from localmodels.core.errors import BackendError, Garbled, LocalModelsError, RateLimited, StreamCut
from localmodels.dialects.framing import MAX_LINE
from localmodels.dialects.passage import Passage
from localmodels.dialects.table import WAYS

OPENAI = (
    b": ping\n\n"
    b'data: {"id":"1","choices":[{"index":0,"delta":{"role":"assistant","content":"na"},"finish_reason":null}]}\n\n'
    b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"\xc3\xafve \\"error\\": [DONE]"}}],"usage":null}\n\n'
    b'data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3,'
    b'"prompt_tokens_details":{"cached_tokens":2}}}\n\n'
    b"data: [DONE]\n\n"
)
OLLAMA = (
    b'{"model":"m","message":{"role":"assistant","content":"na"},"done":false}\n'
    b"\n"
    b'{"model":"m","message":{"role":"assistant","content":"\xe6\x97\xa5 \\"done\\":true"},"done":false}\n'
    b'{"model":"m","done":true,"done_reason":"length","prompt_eval_count":5,"eval_count":3}\n'
)
ANTHROPIC = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","content":[],"stop_reason":null,'
    b'"usage":{"input_tokens":3,"cache_read_input_tokens":2,"output_tokens":1}}}\n\n'
    b'event: ping\ndata: {"type": "ping"}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"na"}}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":3}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)
STREAMS = {"openai": OPENAI, "ollama": OLLAMA, "anthropic": ANTHROPIC}
CRLF = {name: stream.replace(b"\n", b"\r\n") for name, stream in STREAMS.items()}
REASONS = {"openai": "stop", "ollama": "length", "anthropic": "end_turn"}


def passed(name: str, pieces: list[bytes], *, hide: bool = False) -> tuple[bytes, Passage, LocalModelsError | None]:
    passage, out = Passage(WAYS[name], hide_usage=hide), b""
    try:
        for piece in pieces:
            out += passage.feed(piece)
        passage.close()
    except LocalModelsError as error:
        return out, passage, error
    return out, passage, None


def split(stream: bytes, size: int) -> list[bytes]:
    return [stream[at : at + size] for at in range(0, len(stream), size)]


@pytest.mark.parametrize("streams", [STREAMS, CRLF], ids=["lf", "crlf"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
@pytest.mark.parametrize("name", STREAMS)
def test_every_split_gives_the_same_bytes_and_the_same_figures(name: str, size: int, streams: dict[str, bytes]) -> None:
    out, passage, error = passed(name, split(streams[name], size))
    assert (out, error) == (streams[name], None)
    assert (passage.judge.done, passage.judge.reason) == (True, REASONS[name])
    assert passage.judge.usage == Usage(5, 3, 0 if name == "ollama" else 2)


@pytest.mark.parametrize("streams", [STREAMS, CRLF], ids=["lf", "crlf"])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_is_cut_at_any_byte_is_a_cut_behind_a_whole_frame(name: str, streams: dict[str, bytes]) -> None:
    stream = streams[name]
    end = b"\r\n" if streams is CRLF else b"\n"
    for at in range(len(stream)):
        out, passage, error = passed(name, [stream[:at]])
        assert type(error) is StreamCut, at
        assert not passage.judge.done
        assert stream.startswith(out)
        assert not out or out.endswith(end if name == "ollama" else end * 2), at


@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_the_usage_that_only_we_asked_for_is_taken_out_and_nothing_else(size: int) -> None:
    out, passage, error = passed("openai", split(OPENAI, size), hide=True)
    at = OPENAI.index(b'data: {"id":"1","choices":[],')
    assert error is None
    assert out == OPENAI[:at] + b"data: [DONE]\n\n"
    assert passage.judge.usage == Usage(5, 3, 2)


@pytest.mark.parametrize("name", STREAMS)
def test_nothing_passes_behind_the_end(name: str) -> None:
    more = STREAMS[name] + STREAMS[name]
    assert passed(name, [more])[0] == STREAMS[name]
    assert passed(name, split(more, 9))[0] == STREAMS[name]


@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("openai", b'data: {"error":{"message":"slow down","code":429}}\n\n'),
        ("ollama", b'{"error":{"message":"slow down","code":429}}\n'),
        (
            "anthropic",
            b'event: error\ndata: {"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}\n\n',
        ),
    ],
)
def test_an_error_ends_the_passage_behind_the_frames_before_it(name: str, frame: bytes, size: int) -> None:
    mark = b"\n" if name == "ollama" else b"\n\n"
    begun = STREAMS[name].split(mark)[0] + mark
    out, _, error = passed(name, split(begun + frame + STREAMS[name], size))
    assert out == begun
    assert type(error) is RateLimited
    assert error.message == "slow down"


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize(
    "garbage", [b"\xff\xfe{]", b"<html>", b'{"a":', b'{"choices": 7, "done": 7, "type": 7}', b"[" * 9999]
)
def test_what_is_no_message_does_not_pass(name: str, garbage: bytes) -> None:
    frame = garbage + b"\n" if name == "ollama" else b"data: " + garbage + b"\n\n"
    out, _, error = passed(name, [frame + STREAMS[name]])
    assert out == b""
    assert isinstance(error, BackendError)


@pytest.mark.parametrize("frame", [b"<html>\n\n", b"hello\ndata: {}\n\n", b'{"choices":[]}\n\n'])
def test_what_is_no_event_does_not_pass(frame: bytes) -> None:
    out, _, error = passed("openai", [frame + OPENAI])
    assert (out, type(error)) == (b"", Garbled)


def test_done_without_a_finish_reason_is_no_end() -> None:
    begun = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n\n'
    out, _, error = passed("openai", [begun + b"data: [DONE]\n\n"])
    assert (out, type(error)) == (begun, StreamCut)


@pytest.mark.parametrize("word", ["abort", "error", "cancelled"])
def test_a_server_that_says_it_broke_off_is_believed(word: str) -> None:
    stream = b'data: {"choices":[{"delta":{},"finish_reason":"%b"}]}\n\ndata: [DONE]\n\n' % word.encode()
    assert type(passed("openai", [stream])[2]) is StreamCut


def test_a_message_without_an_end_is_refused_by_its_size() -> None:
    _, _, error = passed("ollama", [b"a" * 2**20] * (MAX_LINE // 2**20 + 1))
    assert type(error) is Garbled
    assert "16 MiB" in error.message


def test_data_in_several_lines_is_one_message() -> None:
    stream = b'event: x\nid: 1\ndata: {"choices":\ndata: [{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    assert passed("openai", split(stream, 3))[0] == stream


@pytest.mark.parametrize("name", STREAMS)
def test_a_broken_stream_ends_in_one_frame_of_its_own(name: str) -> None:
    frame = WAYS[name].broken(b'{"error":"x"}')
    assert frame.endswith(b"\n" if name == "ollama" else b"\n\n")
    assert b'{"error":"x"}' in frame


@pytest.mark.parametrize(
    ("name", "body", "usage"),
    [
        ("openai", b'{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":3}}', (5, 3)),
        ("openai", b'{"data":[{"embedding":[1]}],"usage":{"prompt_tokens":5}}', (5, 0)),
        ("ollama", b'{"done":true,"prompt_eval_count":5,"eval_count":3}', (5, 3)),
        ("ollama", b'{"embeddings":[[1]],"prompt_eval_count":5}', (5, 0)),
        ("anthropic", b'{"stop_reason":"end_turn","usage":{"input_tokens":5,"output_tokens":3}}', (5, 3)),
    ],
)
def test_answers_in_one_piece(name: str, body: bytes, usage: tuple[int, int]) -> None:
    judge = WAYS[name].judge()
    judge.see_whole(body)
    assert judge.done
    assert judge.usage == Usage(*usage)


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize(
    ("body", "kind"), [(b"{}", StreamCut), (b"<html>", Garbled), (b'{"error": "no"}', LocalModelsError), (b"", Garbled)]
)
def test_one_piece_that_is_no_answer(name: str, body: bytes, kind: type[LocalModelsError]) -> None:
    judge = WAYS[name].judge()
    with pytest.raises(kind):
        judge.see_whole(body)
    assert not judge.done
