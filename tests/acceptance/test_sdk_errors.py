"""Every error of ours in every dialect, as the official SDKs raise it: a table, and no case by hand.

Each class of ``core.errors`` is raised by a model on the real HTTP stack: before the answer, in the middle of one that
is not streamed, and inside a stream. What has to come of it stands in the tables below, which were read in the SDKs and
know nothing of our dialects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import anthropic
import httpx2
import ollama
import openai
import pytest
from tests.acceptance.failing import CLASSES, failing, made
from tests.acceptance.sdk_calls import APIS, FORMS, STREAMED, WHOLE, Asked, Heard, ask

from localmodels.core.errors import InvalidValue, LocalModelsError, QuotaExceeded, RateLimited, Unavailable, unforeseen

OPENAI: Mapping[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}
OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}
ANTHROPIC: Mapping[int, type[anthropic.APIStatusError]] = {
    400: anthropic.BadRequestError,
    401: anthropic.AuthenticationError,
    403: anthropic.PermissionDeniedError,
    404: anthropic.NotFoundError,
    408: anthropic.RequestTimeoutError,
    409: anthropic.ConflictError,
    413: anthropic.ContentTooLargeError,
    429: anthropic.RateLimitError,
    431: anthropic.RequestHeaderFieldsTooLargeError,
    499: anthropic.ClientClosedRequestError,
    504: anthropic.GatewayTimeoutError,
    529: anthropic.OverloadedError,
}
ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


# A question can only fail later where there is more to come.
FAIL_LATER = [name for name in WHOLE if name in STREAMED]


def cases() -> Iterable[Asked]:
    """All of them."""
    for form in FORMS:
        for kind in CLASSES:
            yield from (("whole", name, f"before/{kind}", form) for name in WHOLE)
            yield from (("stream", name, f"before/{kind}", form) for name in STREAMED)
            yield from (("whole", name, f"after/{kind}", form) for name in FAIL_LATER)
            yield from (("stream", name, f"after/{kind}", form) for name in STREAMED)
        yield from (("stream", name, "defect/any", form) for name in STREAMED)


@pytest.fixture(scope="module")
def told() -> dict[Asked, Heard]:
    """What came of every call."""

    async def run() -> dict[Asked, Heard]:
        async with failing() as world:
            return await ask(world.url, cases())

    return asyncio.run(run())


def check_openai(error: openai.APIError, wanted: LocalModelsError) -> None:
    """Fields that a status and an event of a stream have in common."""
    assert isinstance(error.body, dict)
    assert error.body["message"] == wanted.message
    assert (error.code, error.param, error.type) == (wanted.code, wanted.param, openai_type(wanted))


def openai_type(error: LocalModelsError) -> str:
    if isinstance(error, QuotaExceeded):
        return "insufficient_quota"
    return OPENAI_TYPES.get(error.status) or ("server_error" if error.status >= 500 else "invalid_request_error")


def openai_status(error: Exception, wanted: LocalModelsError) -> None:
    others = openai.InternalServerError if wanted.status >= 500 else openai.APIStatusError
    assert type(error) is OPENAI.get(wanted.status, others)
    assert isinstance(error, openai.APIStatusError)
    assert error.status_code == wanted.status
    assert error.request_id == error.response.headers["x-request-id"] != ""
    check_openai(error, wanted)
    check_retrying(error.response.headers, wanted)


def openai_event(error: Exception, wanted: LocalModelsError) -> None:
    assert type(error) is openai.APIError
    assert error.message == wanted.message
    check_openai(error, wanted)


def anthropic_code(error: LocalModelsError) -> int:
    """Anthropic's API has no 422, and 529 where others have 503 or 507."""
    return 400 if isinstance(error, InvalidValue) else 529 if isinstance(error, Unavailable) else error.status


def anthropic_status(error: Exception, wanted: LocalModelsError) -> None:
    code = anthropic_code(wanted)
    others = anthropic.InternalServerError if code >= 500 else anthropic.APIStatusError
    assert type(error) is ANTHROPIC.get(code, others)
    assert isinstance(error, anthropic.APIStatusError)
    assert error.status_code == code
    check_anthropic(error, wanted)
    check_retrying(error.response.headers, wanted)


def anthropic_event(error: Exception, wanted: LocalModelsError) -> None:
    assert type(error) is anthropic.APIStatusError  # the status of the answer was 200
    assert error.status_code == 200
    assert error.body["request_id"] == error.request_id  # type: ignore[index]
    check_anthropic(error, wanted)


def check_anthropic(error: anthropic.APIStatusError, wanted: LocalModelsError) -> None:
    code = anthropic_code(wanted)
    assert error.type == ANTHROPIC_TYPES.get(code, "invalid_request_error" if code < 500 else "api_error")
    assert (error.api_message, error.error_code) == (wanted.message, wanted.code)
    assert error.request_id == error.response.headers["request-id"] != ""


def ollama_status(error: Exception, wanted: LocalModelsError) -> None:
    assert type(error) is ollama.ResponseError
    assert (error.status_code, error.error) == (wanted.status, wanted.message)


def ollama_event(error: Exception, wanted: LocalModelsError) -> None:
    assert type(error) is ollama.ResponseError
    assert error.error == wanted.message


def check_retrying(headers: httpx2.Headers, wanted: LocalModelsError) -> None:
    """Seconds are whole and rounded up; both SDKs look at milliseconds first, and at ``x-should-retry`` before all."""
    limited, used_up = isinstance(wanted, RateLimited), isinstance(wanted, QuotaExceeded)
    assert headers.get("retry-after") == (None if wanted.retry_after is None else "7")
    assert headers.get("retry-after-ms") == ("6500" if limited and not used_up else None)
    assert headers.get("x-should-retry") == ("false" if used_up else None)


STATUS = {"openai": openai_status, "anthropic": anthropic_status, "ollama": ollama_status}
EVENT = {"openai": openai_event, "anthropic": anthropic_event, "ollama": ollama_event}


@pytest.mark.parametrize("name", APIS)
@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_before_the_answer_is_the_class_of_its_status(told: dict[Asked, Heard], kind: str, name: str) -> None:
    api, wanted = APIS[name], made(CLASSES[kind])
    calls = [
        *([("whole", f"before/{kind}")] if api.ask else []),
        *([("stream", f"before/{kind}")] if api.stream else []),
        *([("whole", f"after/{kind}")] if name in FAIL_LATER else []),
    ]
    for form in FORMS:
        for how, model in calls:
            result = told[how, name, model, form]
            assert result.pieces == []
            assert result.error is not None, (how, model)
            STATUS[api.sdk](result.error, wanted)


@pytest.mark.parametrize("name", STREAMED)
@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_inside_a_stream_is_raised_and_nothing_looks_like_an_end(
    told: dict[Asked, Heard], kind: str, name: str
) -> None:
    api = APIS[name]
    for form in FORMS:
        result = told["stream", name, f"after/{kind}", form]
        assert result.error is not None
        assert "Hello" in str(result.pieces), "the piece before the error came"
        assert not any(map(api.ends, result.pieces))
        EVENT[api.sdk](result.error, made(CLASSES[kind]))


@pytest.mark.parametrize("name", STREAMED)
def test_a_defect_of_ours_inside_a_stream_is_told_like_any_other(told: dict[Asked, Heard], name: str) -> None:
    api = APIS[name]
    for form in FORMS:
        result = told["stream", name, "defect/any", form]
        assert result.error is not None
        assert not any(map(api.ends, result.pieces))
        EVENT[api.sdk](result.error, unforeseen())
        assert "nobody foresaw" not in str(result.error)


def test_no_word_of_ours_is_one_that_anthropics_sdk_has_a_class_for() -> None:
    """It looks for a class by the word before it does so by the status, and some of its words are plain."""
    special = {code for _, code in anthropic._error_classes.ERROR_CLASSES}
    assert special.isdisjoint(kind.code for kind in CLASSES.values())
