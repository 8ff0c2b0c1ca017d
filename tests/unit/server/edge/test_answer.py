"""How the end of an answer is told, for every client, and what no head may say."""

from __future__ import annotations

import pytest

from localmodels.server.edge.answer import CHUNKED, CLOSE, NONE, Opening, whole_answer

JSON = (b"content-type", b"application/json")


def opening(*headers: tuple[bytes, bytes], status: int = 200, bodiless: bool = False, last: bool = False) -> Opening:
    return Opening(status, headers, bodiless=bodiless, last=last)


def test_a_length_that_was_said_is_passed_on() -> None:
    one = opening(JSON, (b"content-length", b"5"))
    assert one.decide("1.1", None) == b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\n"
    assert one.ending == 5


def test_a_body_that_comes_at_once_has_a_length() -> None:
    one = opening(JSON)
    assert one.decide("1.0", 7).endswith(b"\r\ncontent-length: 7\r\n\r\n")
    assert not one.last


def test_a_body_that_comes_by_and_by_comes_in_chunks() -> None:
    one = opening(JSON)
    assert one.decide("1.1", None).endswith(b"\r\ntransfer-encoding: chunked\r\n\r\n")
    assert (one.ending, one.last) == (CHUNKED, False)


def test_who_knows_no_chunks_hears_the_end_by_the_end_of_the_connection() -> None:
    one = opening(JSON)
    assert one.decide("1.0", None).endswith(b"\r\nconnection: close\r\n\r\n")
    assert (one.ending, one.last) == (CLOSE, True)
    assert opening(JSON, last=True).decide("1.0", None).count(b"connection: close") == 1


@pytest.mark.parametrize(("status", "bodiless"), [(204, False), (304, False), (200, True)])
def test_what_has_no_body_says_nothing_of_its_framing(status: int, *, bodiless: bool) -> None:
    one = opening(JSON, status=status, bodiless=bodiless)
    head = one.decide("1.1", 3)
    assert one.ending == NONE
    assert b"length" not in head
    assert b"transfer" not in head
    assert one.measured(b"abc") == b""


def test_the_length_of_what_another_method_would_get_is_told_to_head_and_not_with_204() -> None:
    assert b"content-length: 5" in opening((b"content-length", b"5"), bodiless=True).decide("1.1", 0)
    assert b"content-length" not in opening((b"content-length", b"0"), status=204).decide("1.1", 0)


def test_the_framing_is_ours_to_say() -> None:
    head = opening((b"transfer-encoding", b"gzip"), (b"connection", b"keep-alive")).decide("1.1", None)
    assert head == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def test_an_application_can_end_the_connection() -> None:
    one = opening((b"connection", b"close"))
    assert one.last
    assert one.decide("1.1", 0).count(b"connection: close") == 1


@pytest.mark.parametrize("text", [b"a\r\nSet-Cookie: b", b"a\nb", b"a\rb", b"a\r\n"])
def test_no_value_begins_another_line(text: bytes) -> None:
    with pytest.raises(RuntimeError, match="line break"):
        opening((b"x", text))
    with pytest.raises(RuntimeError, match="line break"):
        opening((text, b"x"))


@pytest.mark.parametrize("status", [0, 100, 199, 600])
def test_only_final_statuses_begin_an_answer(status: int) -> None:
    with pytest.raises(RuntimeError, match="status"):
        opening(status=status)


def test_a_body_is_as_long_as_was_said() -> None:
    one = opening((b"content-length", b"5"))
    one.decide("1.1", None)
    assert one.measured(b"abc") == b"abc"
    with pytest.raises(RuntimeError, match="longer"):
        one.measured(b"def")


def test_a_refusal_is_the_last_answer() -> None:
    assert whole_answer(414, b"no", [JSON]) == (
        b"HTTP/1.1 414 Request-URI Too Long\r\ncontent-type: application/json\r\nconnection: close\r\n"
        b"content-length: 2\r\n\r\nno"
    )
