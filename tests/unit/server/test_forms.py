"""Forms with a file: whole, in any pieces, and what is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodels.core.errors import InvalidRequest, TooLarge, UnsupportedMedia
from localmodels.server.forms import MOST_PARTS, MOST_TEXT, boundary_of, read_form

FILES = frozenset({"Model", "file"})
BOUNDARY = "x-x"


def part(name: str, data: bytes, filename: str = "") -> bytes:
    file = f'; filename="{filename}"' if filename else ""
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def read(body: bytes, step: int = 1 << 16, size: int | None = None) -> tuple[dict[str, str], list[tuple[str, bytes]]]:
    taken: list[tuple[str, bytes]] = []

    async def take(filename: str, _fields: Mapping[str, str], pieces: AsyncIterator[bytes]) -> None:
        taken.append((filename, b"".join([piece async for piece in pieces])))

    async def body_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), step):
            yield body[start : start + step]

    return asyncio.run(read_form(BOUNDARY, body_pieces(), size, FILES, take)), taken


@given(
    data=st.binary(max_size=300) | st.lists(st.sampled_from([b"\r\n", b"--x-x", b"-", b"\r", b"a"])).map(b"".join),
    step=st.integers(1, 400),
    first=st.booleans(),
)
def test_a_file_comes_as_it_was_sent_in_any_pieces(data: bytes, step: int, first: bool) -> None:
    if b"\r\n--x-x" in b"\r\n" + data:
        data = data.replace(b"x-x", b"y-y")
    parts = [part("Model", data, "a.zip"), part("base", b"tiny")]
    texts, taken = read(b"".join(parts if first else parts[::-1]) + END, step)
    assert taken == [("a.zip", data)]
    assert texts == {"base": "tiny"}


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        (END, InvalidRequest, "no file"),
        (part("base", b"tiny") + END, InvalidRequest, "no file"),
        (part("Model", b"abc") + END, InvalidRequest, "with a file name"),
        (part("weights", b"abc", "a.zip") + END, InvalidRequest, "'Model'"),
        (part("Model", b"a", "a.zip") + part("file", b"b", "b.zip") + END, InvalidRequest, "more than one file"),
        (part("base", b"a") + part("base", b"b") + END, InvalidRequest, "twice"),
        (part("base", b"\xff") + END, InvalidRequest, "UTF-8"),
        (part("Model", b"abc", "a.zip"), InvalidRequest, "not sound"),
        (part("Model", b"abc", "a.zip")[:-9], InvalidRequest, "not sound"),
        (b"nonsense", InvalidRequest, "not sound"),
        (b"", InvalidRequest, "not sound"),
        (part("base", b"a" * (MOST_TEXT + 1)) + END, TooLarge, "longer"),
        (part("a", b"") * (MOST_PARTS + 1), InvalidRequest, "twice"),
        (b"".join(part(f"a{n}", b"") for n in range(MOST_PARTS + 1)) + END, TooLarge, "at most"),
        (f"--{BOUNDARY}\r\nX: {'y' * 10_000}\r\n\r\n".encode(), TooLarge, "larger"),
        (f"--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\nabc\r\n".encode() + END, InvalidRequest, "not sound"),
    ],
)
def test_what_is_no_such_form_is_refused(body: bytes, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        read(body)


def test_a_million_parts_cost_no_more_than_a_few_dozen() -> None:
    body = b"".join(part(f"a{n}", b"") for n in range(100_000))
    begun = time.process_time()
    with pytest.raises(TooLarge):
        read(body)
    assert time.process_time() - begun < 1.0  # V-09


def test_more_than_was_announced_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        read(part("Model", b"abc", "a.zip") + END, size=20)


def test_whoever_takes_the_file_may_refuse_it() -> None:
    async def take(_name: str, _fields: Mapping[str, str], _pieces: AsyncIterator[bytes]) -> None:
        raise TooLarge("too much")

    async def pieces() -> AsyncIterator[bytes]:
        yield part("Model", b"abc", "a.zip") + END

    with pytest.raises(TooLarge, match="too much"):
        asyncio.run(read_form(BOUNDARY, pieces(), None, FILES, take))


@pytest.mark.parametrize("kind", ["application/json", "", "multipart/mixed; boundary=x"])
def test_other_bodies_are_no_forms(kind: str) -> None:
    with pytest.raises(UnsupportedMedia, match="multipart/form-data"):
        boundary_of(kind)


@pytest.mark.parametrize("rest", ["", "; boundary=", f"; boundary={'x' * 71}", "; boundary=é"])
def test_a_boundary_is_needed(rest: str) -> None:
    with pytest.raises(InvalidRequest, match="boundary"):
        boundary_of(f"multipart/form-data{rest}")


def test_a_boundary_may_stand_in_quotes() -> None:
    assert boundary_of('Multipart/Form-Data; boundary="a b"; charset=utf-8') == "a b"
