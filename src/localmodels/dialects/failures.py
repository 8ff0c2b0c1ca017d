"""Errors of other servers as errors of ours.

One reader for every dialect, because every kind of server is met behind every address: proxies answer for Ollama in
OpenAI's form, and in HTML. The class is decided by the machine-readable code where there is one, then by the few
sentences whose figures we need, then by the status. Nothing of theirs is trusted beyond 1,000 characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from localmodels.core.errors import (
    BackendError,
    BackendTimeout,
    Conflict,
    ContextLengthExceeded,
    Forbidden,
    Garbled,
    HeadTooLarge,
    InvalidRequest,
    InvalidValue,
    LocalModelsError,
    LoopDetected,
    MethodNotAllowed,
    Misdirected,
    ModelNotFound,
    NotFound,
    OutOfMemory,
    RateLimited,
    TargetTooLong,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
    UnsupportedMedia,
)

MAX_MESSAGE = 1_000

_STATUS: Mapping[int, type[LocalModelsError]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    408: BackendTimeout,
    409: Conflict,
    413: TooLarge,
    415: UnsupportedMedia,
    421: Misdirected,
    422: InvalidValue,
    414: TargetTooLong,
    429: RateLimited,
    431: HeadTooLarge,
    501: Unsupported,
    503: Unavailable,
    504: BackendTimeout,
    508: LoopDetected,
    529: Unavailable,
}
# What OpenAI, llama.cpp, vLLM and Anthropic call kinds of errors, as the status that goes with each.
_TYPES: Mapping[str, int] = {
    "invalid_request_error": 400,
    "exceed_context_size_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "request_too_large": 413,
    "not_supported_error": 501,
    "unavailable_error": 503,
    "overloaded_error": 529,
    "timeout_error": 504,
}
# These need more than a message; without it the parent says what is known.
_NEEDY: Mapping[type[LocalModelsError], type[LocalModelsError]] = {
    ContextLengthExceeded: InvalidRequest,
    ModelNotFound: NotFound,
    OutOfMemory: Unavailable,
}
_TOO_LONG = frozenset(("context_length_exceeded", "exceed_context_size_error"))
_CONTEXT_FIRST = re.compile(r"maximum context length is (\d{1,12}) tokens(.*)", re.DOTALL)
# What was too much, in any of the sentences that follow it: OpenAI and every vLLM name the prompt, the answer and their
# sum, or some of them, in one order or another.
_FIGURES = re.compile(r"\b(\d{1,12}) (?:\w+ )?tokens")
_PROMPT_FIRST = re.compile(r"\((\d{1,12}) tokens\) exceeds the available context size \((\d{1,12})")
# vLLM 0.32: `max_tokens=99999 cannot be greater than max_model_len=2048.`
_LIMIT = re.compile(r"max_(?:completion_)?tokens\W.*greater than max_model_len")
_MEMORY = re.compile(
    r"requires more system memory \((\d{1,9}(?:\.\d+)?) GiB\) than is available \((\d{1,9}(?:\.\d+)?) GiB\)"
)
_NO_MODEL = re.compile(r"model ['\"`]([^'\"`]{1,300})['\"`] (?:was )?(?:not found|does not exist)", re.IGNORECASE)


class Complaint(Struct, frozen=True):
    """What a server said of its failure, as far as it said it."""

    message: str = ""
    code: str = ""
    status: int = 0
    param: str | None = None
    prompt_tokens: int = 0
    context_tokens: int = 0


def read_error(status: int, body: bytes, retry_after: float | None = None) -> LocalModelsError:
    """The error that an answer with this status and body means; never raises."""
    complaint = _complaint(body)
    if status == 404 and complaint.message.lower() == "not found":  # FastAPI's, of a path that it does not have
        complaint = Complaint("the server does not do this with its models: it answered 404 Not Found")
    if status < 400 and not complaint.message:
        return Garbled(f"the server answered {status} with what is no answer in its dialect")
    return mapped(complaint, status if status >= 400 else complaint.status, retry_after)


def refuses_limit(error: LocalModelsError) -> bool:
    """Does a server refuse a limit of tokens because its model has no room for so many?"""
    return _LIMIT.search(error.message) is not None


def status(error: LocalModelsError) -> int:
    """The error's own status, which most dialects use."""
    return error.status


def sayable(message: str) -> str:
    """The message as JSON can carry it: file names may hold bytes that are no text, and an error must not fail."""
    return message.encode("utf-8", "backslashreplace").decode()


def in_band(error: object) -> LocalModelsError:
    """The error that the ``error`` field in the middle of a stream means."""
    complaint = _told(error)
    return mapped(complaint, complaint.status or 500, None)


def mapped(complaint: Complaint, status: int, retry_after: float | None) -> LocalModelsError:
    """The error of ours."""
    message = complaint.message or f"the server answered {status}"
    if special := _special(complaint, message, status, retry_after):
        return special
    kind = _CODES.get(complaint.code) or _STATUS.get(status)
    if kind is None:
        kind = InvalidRequest if 400 <= status < 500 else BackendError
    kind = _NEEDY.get(kind, kind)
    return kind(message, param=complaint.param, retry_after=retry_after)


def _special(complaint: Complaint, message: str, status: int, retry_after: float | None) -> LocalModelsError | None:
    """Errors that carry figures or a name, when these can be had."""
    counts = _counts(complaint, message)
    if counts and (complaint.code in _TOO_LONG or status == 400):
        return ContextLengthExceeded(*counts)
    if found := _MEMORY.search(message):
        required, available = (round(float(text) * 2**30) for text in found.groups())
        return OutOfMemory(required, available, retry_after=retry_after)
    if (status == 404 or complaint.code == ModelNotFound.code) and (found := _NO_MODEL.search(message)):
        why = message[found.end() :]
        return ModelNotFound(found[1], why.removeprefix(": ") if why.startswith(": ") else "")
    return None


def _counts(complaint: Complaint, message: str) -> tuple[int, int] | None:
    """Tokens of the prompt (0 is not known) and of the context."""
    if complaint.context_tokens:
        return complaint.prompt_tokens, complaint.context_tokens
    if found := _PROMPT_FIRST.search(message):
        return int(found[1]), int(found[2])
    if found := _CONTEXT_FIRST.search(message):
        context, most = int(found[1]), max(map(int, _FIGURES.findall(found[2])), default=0)
        return most if most > context else 0, context
    return None


def _complaint(body: bytes) -> Complaint:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Complaint()  # a proxy's HTML page says nothing that the status does not
    if not isinstance(value, dict):
        return Complaint()
    return _told(value.get("error") or value.get("detail") or (value if "message" in value else None))


def _told(error: object) -> Complaint:
    if isinstance(error, str):
        return Complaint(message=_short(error))
    if not isinstance(error, dict):
        return Complaint(message="the server failed without saying why" if error is not None else "")
    kind, param, details = error.get("type"), error.get("param"), error.get("details")
    code = error.get("code") or (details.get("error_code") if isinstance(details, dict) else None)  # Anthropic's place
    status = _whole(code) or (_TYPES.get(kind, 0) if isinstance(kind, str) else 0)
    word = code if isinstance(code, str) else kind if isinstance(kind, str) else ""
    return Complaint(
        message=_short(error.get("message")) or "the server failed without saying why",
        code=word,
        status=status if 400 <= status < 600 else 0,
        param=param[:200] if isinstance(param, str) else None,
        prompt_tokens=_whole(error.get("n_prompt_tokens")),
        context_tokens=_whole(error.get("n_ctx")),
    )


def _short(message: Any) -> str:
    return message[:MAX_MESSAGE] if isinstance(message, str) else ""


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12 else 0


def _tree(kind: type[LocalModelsError]) -> Iterator[type[LocalModelsError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == LocalModelsError.__module__:  # what a room has for itself alone says nothing to clients
            yield from _tree(child)


# Parents first, so that a child that has its parent's code stands for it.
_CODES: Mapping[str, type[LocalModelsError]] = {kind.code: kind for kind in _tree(LocalModelsError)}
