from __future__ import annotations

import pytest

from localmodels.core.errors import (
    BackendError,
    BackendTimeout,
    Conflict,
    Forbidden,
    Garbled,
    LocalModelsError,
    NotFound,
    StreamCut,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from localmodels.registry.verdicts import Head, judge, passes

LIES: dict[str, tuple[Head, type[LocalModelsError] | str]] = {
    "as asked": (Head(206, (10, 20, 100), 10), "part"),
    "no total": (Head(206, (10, 20, None), 10), "part"),
    "no length": (Head(206, (10, 20, 100)), "part"),
    "less": (Head(206, (10, 15, 100), 5), "part"),
    "whole": (Head(200, None, 100), "whole"),
    "whole without a length": (Head(200), "whole"),
    "whole of another size": (Head(200, None, 99), Garbled),
    "another start": (Head(206, (11, 20, 100), 9), Garbled),
    "an earlier start": (Head(206, (0, 20, 100), 20), Garbled),
    "more": (Head(206, (10, 21, 100), 11), Garbled),
    "nothing": (Head(206, (10, 10, 100), 0), Garbled),
    "backwards": (Head(206, (10, 5, 100), 0), Garbled),
    "another total": (Head(206, (10, 20, 101), 10), Garbled),
    "another length": (Head(206, (10, 20, 100), 9), Garbled),
    "no range": (Head(206, None, 10), Garbled),
    "416": (Head(416), Garbled),
    "401": (Head(401), Unauthenticated),
    "403": (Head(403), Forbidden),
    "403 of the storage": (Head(403, moved=True), Unavailable),
    "404": (Head(404), NotFound),
    "404 of the storage": (Head(404, moved=True), Unavailable),
    "410": (Head(410), NotFound),
    "408": (Head(408), Unavailable),
    "425": (Head(425), Unavailable),
    "429": (Head(429, retry_after=5), Unavailable),
    "500": (Head(500), Unavailable),
    "599": (Head(599), Unavailable),
    "204": (Head(204), BackendError),
    "302": (Head(302), BackendError),
    "400": (Head(400), BackendError),
    "400 of the storage": (Head(400, moved=True), Unavailable),
    "451": (Head(451), BackendError),
}


@pytest.mark.parametrize("name", LIES)
def test_an_answer_is_judged_by_what_it_says(name: str) -> None:
    """For bytes 10 to 19 of a blob of 100."""
    head, expected = LIES[name]
    verdict = judge(head, (10, 20), 100)
    if isinstance(expected, str):
        assert verdict == expected
    else:
        assert type(verdict) is expected


def test_when_to_come_back_is_handed_on() -> None:
    verdict = judge(Head(429, retry_after=5.0), (10, 20), 100)
    assert isinstance(verdict, LocalModelsError)
    assert verdict.retry_after == 5.0


@pytest.mark.parametrize("kind", [Unreachable, BackendTimeout, StreamCut, Garbled, Unavailable])
def test_what_may_be_otherwise_the_next_time(kind: type[LocalModelsError]) -> None:
    assert passes(kind("x"))


@pytest.mark.parametrize("kind", [NotFound, Forbidden, Unauthenticated, Conflict, BackendError])
def test_what_stays_as_it_is(kind: type[LocalModelsError]) -> None:
    assert not passes(kind("x"))
