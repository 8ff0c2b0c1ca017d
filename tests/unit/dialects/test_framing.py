"""Messages come out whole, in order and unchanged, in whatever pieces their bytes come."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.dialects import strategies as some

from localmodels.core.chat import Chunk, Done, Event
from localmodels.core.errors import BackendError, Garbled, StreamCut
from localmodels.dialects.framing import (
    MAX_LINE,
    JsonLines,
    Lines,
    ServerSentEvents,
    StreamReader,
    json_line,
    sse_event,
)

lines = st.lists(st.binary(max_size=6).map(lambda line: line.translate(None, b"\r\n")), max_size=6)
ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(lines, st.data(), some.cuts)
def test_lines_end_in_any_way_and_come_in_any_pieces(wanted: list[bytes], data: st.DataObject, cuts: list[int]) -> None:
    # A CR before an empty line that ends in LF would be read as CR LF, and rightly.
    end = data.draw(ends)
    reader = Lines()
    seen = [line for piece in some.cut(b"".join(line + end for line in wanted), cuts) for line in reader.feed(piece)]
    assert seen == wanted


def test_a_line_end_that_is_split_is_one_line_end() -> None:
    reader = Lines()
    assert [reader.feed(piece) for piece in (b"a\r", b"\nb", b"", b"\r", b"\r\n")] == [[b"a"], [], [], [b"b"], [b""]]


def test_a_byte_order_mark_is_dropped_once() -> None:
    reader = Lines()
    assert reader.feed(b"\xef\xbb") + reader.feed(b"\xbf1\n\xef\xbb\xbf2\n") == [b"1", b"\xef\xbb\xbf2"]


def test_a_line_may_be_16_mib_and_no_longer() -> None:
    reader = Lines()
    assert reader.feed(b"a" * MAX_LINE) == []
    with pytest.raises(Garbled, match="longer than 16 MiB"):
        reader.feed(b"a")


def test_a_line_of_many_pieces_is_put_together_once() -> None:
    reader = Lines()
    for _ in range(100_000):
        assert reader.feed(b"ab") == []
    assert reader.feed(b"\n") == [b"ab" * 100_000]


def test_an_event_of_many_lines_has_the_same_limit() -> None:
    reader = ServerSentEvents()
    line = b"data: " + b"a" * 2**20 + b"\n"
    for _ in range(15):
        assert reader.feed(line) == []
    with pytest.raises(Garbled, match="longer than 16 MiB"):
        reader.feed(line)


def test_empty_lines_of_ndjson_mean_nothing() -> None:
    assert JsonLines().feed(b"\n{}\n  \n[]\n\n") == [b"{}", b"[]"]


@pytest.mark.parametrize(
    ("sent", "events"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b": ping\n\ndata: a\n: ping\n\n", [b"a"]),
        (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
        (b"event: x\n\n", []),
        (b"\xef\xbb\xbfdata: a\r\n\r\n", [b"a"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\n", []),
        (b"data: a", []),
        (b"database: a\n\n", []),
    ],
)
def test_server_sent_events(sent: bytes, events: list[bytes]) -> None:
    assert ServerSentEvents().feed(sent) == events
    reader = ServerSentEvents()
    assert [event for byte in sent for event in reader.feed(bytes([byte]))] == events


@given(some.texts, some.texts)
def test_no_text_can_add_a_frame(name: str, text: str) -> None:
    value = {name: text, "error": name + text}
    assert [msgspec.json.decode(line) for line in JsonLines().feed(json_line(value))] == [value]
    assert [msgspec.json.decode(data) for data in ServerSentEvents().feed(sse_event(value))] == [value]


def test_half_a_surrogate_pair_is_refused_and_not_sent() -> None:
    with pytest.raises(Garbled, match="surrogate"):
        sse_event({"text": "\ud800"})


def _read(frame: bytes) -> list[Event]:
    if frame == b"fail":
        raise BackendError("it said so")
    return [Done()] if frame == b"done" else [Chunk(frame.decode())]


def drain(reader: StreamReader, pieces: list[bytes], seen: list[Event]) -> None:
    for piece in pieces:
        seen += reader.feed(piece)
    reader.close()


@given(some.cuts)
def test_an_error_comes_after_the_events_before_it(cuts: list[int]) -> None:
    reader = StreamReader(JsonLines(), _read)
    seen: list[Event] = []
    with pytest.raises(BackendError, match="it said so"):
        drain(reader, some.cut(b"a\nb\nfail\ndone\n", cuts), seen)
    assert seen == [Chunk("a"), Chunk("b")]
    with pytest.raises(BackendError, match="it said so"):
        reader.feed(b"done\n")


def test_after_done_nothing_is_read() -> None:
    reader = StreamReader(JsonLines(), _read)
    assert reader.feed(b"a\ndone\nb\nfail\n") == [Chunk("a"), Done()]
    assert reader.feed(b"fail\n") == []
    reader.close()


def test_an_end_without_done_is_a_cut() -> None:
    reader = StreamReader(JsonLines(), _read)
    reader.feed(b"a\ndone")
    with pytest.raises(StreamCut):
        reader.close()
