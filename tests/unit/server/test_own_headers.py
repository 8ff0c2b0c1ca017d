"""What callers say by our own headers."""

from __future__ import annotations

import pytest

from localmodels.core.errors import InvalidRequest
from localmodels.flows.visit import Visit
from localmodels.server.own_headers import MOST_SESSION, heed


def heard(*headers: tuple[bytes, bytes]) -> Visit:
    visit = Visit()
    heed({"type": "http", "headers": [(b"host", b"x"), *headers]}, visit)
    return visit


def test_nothing_is_said() -> None:
    assert (heard().session, heard().once) == ("", False)
    assert heard((b"x-localmodels-via", b"a"), (b"x-other-once", b"maybe")).once is False


@pytest.mark.parametrize(("said", "means"), [(b"true", True), (b" TRUE ", True), (b"1", True), (b"false", False)])
def test_once(said: bytes, means: bool) -> None:
    assert heard((b"x-localmodels-once", said)).once is means


def test_a_session_is_any_text_of_a_line() -> None:
    assert heard((b"x-localmodels-session", b" user 7/conversation 12 ")).session == "user 7/conversation 12"
    assert heard((b"x-localmodels-session", b"x" * MOST_SESSION)).session == "x" * MOST_SESSION


@pytest.mark.parametrize(
    "header",
    [
        (b"x-localmodels-once", b"perhaps"),
        (b"x-localmodels-once", b""),
        (b"x-localmodels-session", b"x" * (MOST_SESSION + 1)),
        (b"x-localmodels-session", b"a\x00b"),
    ],
)
def test_what_has_no_meaning_is_refused(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(InvalidRequest, match="X-LocalModels-"):
        heard(header)
