"""Every error this program raises on purpose, as one tree (beside it only ``core.library.PartlyDone``).

The class says whose fault it is; the attributes say what a dialect needs to write it. An error is mapped to bytes
exactly once, by the dialect that was asked (``dialects.*.write_error``).

::

    LocalModelsError
    ├── CallerError                      the request is at fault; repeating it unchanged cannot help
    │   ├── InvalidRequest          400  not JSON, a field missing, fields that exclude each other
    │   │   ├── ContextLengthExceeded    the prompt does not fit and may not be shortened
    │   │   ├── ContentMismatch          bytes that are not what their digest or size says
    │   │   └── Unsupported              the model cannot do what was asked (images, tools, embeddings …)
    │   ├── InvalidValue            422  a field has the wrong type or lies outside its range
    │   ├── Unauthenticated         401
    │   ├── Forbidden               403
    │   ├── NotFound                404
    │   │   └── ModelNotFound
    │   ├── MethodNotAllowed        405
    │   ├── RequestTimeout          408  the request came too slowly
    │   ├── Conflict                409
    │   ├── TooLarge                413
    │   │   └── QuotaFull                what artifacts may take is taken; it fits when one of them is deleted
    │   ├── TargetTooLong           414
    │   ├── UnsupportedMedia        415
    │   ├── ExpectationFailed       417
    │   ├── Misdirected             421  the Host header names somebody else
    │   ├── RateLimited             429  more in a minute than this key, or a server behind us, allows
    │   │   └── QuotaExceeded            the key's tokens are used up
    │   ├── HeadTooLarge            431
    │   ├── Cancelled               499  somebody ended the work before it was done
    │   └── VersionNotSupported     505  of HTTP
    ├── Unavailable                 503  not now; ``retry_after`` says when to come back
    │   ├── OutOfMemory                  the model does not fit beside what is busy
    │   ├── DiskFull            507      the store has no room for it
    │   ├── DatabaseUnavailable          the database that gateways share cannot be asked; answers go on without it
    │   ├── QueueFull
    │   ├── ShuttingDown
    │   └── LoopDetected        508  the request has been here before; another way may lead on
    ├── EngineError                 500  our own engine is at fault
    │   ├── ModelDamaged                 a model file that cannot be read or loaded; names the file
    │   ├── StoreFailed                  the disk under the store refuses (read-only, broken, not ours)
    │   ├── LoadFailed                   the runner did not become ready
    │   └── RunnerDied                   the runner ended while it answered
    └── BackendError                502  what answers for us is at fault
        ├── Unreachable                  no connection, or none in time
        ├── BackendTimeout          504  connected, then silent for longer than allowed
        ├── StreamCut                    the answer ended before its end was said
        └── Garbled                      the answer is not in the dialect it should be in
"""

from __future__ import annotations

from typing import ClassVar, Self

MOST_NAME = 400  # characters of a model's name that is repeated; the longest that can be one has fewer


class LocalModelsError(Exception):
    """Root of the tree.

    Attributes:
        status: HTTP status for an answer that has not begun.
        code: stable machine-readable word, the same in every dialect that has room for one.
        param: the request field at fault, or None.
        retry_after: seconds after which asking again makes sense, or None.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.message

    def reworded(self, message: str, param: str | None) -> Self:
        """The same error in other words; this one stays as it is."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        LocalModelsError.__init__(other, message, param=param, retry_after=self.retry_after)
        return other


class CallerError(LocalModelsError):
    """The request is at fault."""

    status = 400
    code = "invalid_request"


class InvalidRequest(CallerError):
    """Not JSON, a required field missing, or fields that exclude each other."""


class ContextLengthExceeded(InvalidRequest):
    """The prompt does not fit the context and may not be shortened.

    Attributes:
        prompt_tokens: length of the prompt in tokens, as the model's own tokenizer counts; 0 where only its server
            knows it.
        context_tokens: tokens that fit.
    """

    code = "context_length_exceeded"

    def __init__(self, prompt_tokens: int, context_tokens: int) -> None:
        super().__init__(
            f"This model's maximum context length is {context_tokens} tokens, "
            + (f"but the prompt has {prompt_tokens} tokens. " if prompt_tokens else "and the request needs more. ")
            + "Shorten the messages or raise num_ctx.",
            param="messages",
        )
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens


class ContentMismatch(InvalidRequest):
    """The bytes are not what their digest or their size says; none of them was kept."""

    code = "content_mismatch"


class Unsupported(InvalidRequest):
    """The model cannot do what was asked."""

    code = "unsupported"


class InvalidValue(CallerError):
    """A field has the wrong type or lies outside its range."""

    status = 422
    code = "invalid_value"


class Unauthenticated(CallerError):
    """No key, or a wrong one."""

    status = 401
    code = "invalid_api_key"


class Forbidden(CallerError):
    """The key, origin or content type does not allow this."""

    status = 403
    code = "forbidden"


class NotFound(CallerError):
    """Nothing at this address."""

    status = 404
    code = "not_found"


class ModelNotFound(NotFound):
    """No model of this name; ``why`` says what is wrong with the name, and what would be right."""

    code = "model_not_found"

    def __init__(self, name: str, why: str = "") -> None:
        super().__init__(f"model '{name[:MOST_NAME]}' not found{': ' if why else ''}{why}", param="model")
        self.name = name


class MethodNotAllowed(CallerError):
    """The address exists, the method does not; ``allowed`` are those that do."""

    status = 405
    code = "method_not_allowed"

    def __init__(
        self,
        message: str,
        *,
        allowed: tuple[str, ...] = (),
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)
        self.allowed = allowed


class RequestTimeout(CallerError):
    """The request came too slowly."""

    status = 408
    code = "request_timeout"


class Conflict(CallerError):
    """The state of things forbids it: taken, or in use."""

    status = 409
    code = "conflict"


class TooLarge(CallerError):
    """The body is larger than this route takes."""

    status = 413
    code = "request_too_large"


class QuotaFull(TooLarge):
    """It does not fit into what artifacts may take; deleting one, or a larger quota, helps."""

    code = "quota_full"


class TargetTooLong(CallerError):
    """The address is longer than any of ours."""

    status = 414
    code = "target_too_long"


class UnsupportedMedia(CallerError):
    """The content type or encoding is not one this route reads."""

    status = 415
    code = "unsupported_media_type"


class ExpectationFailed(CallerError):
    """The request expects what HTTP does not know."""

    status = 417
    code = "expectation_failed"


class Misdirected(CallerError):
    """The Host header names a host that is not us (DNS rebinding)."""

    status = 421
    code = "misdirected_request"


class RateLimited(CallerError):
    """More requests or tokens in a minute than this key, or a server behind us, allows; later it does."""

    status = 429
    code = "rate_limit_exceeded"


class QuotaExceeded(RateLimited):
    """The key's tokens are used up; asking again does not help before its period ends."""

    code = "insufficient_quota"


class HeadTooLarge(CallerError):
    """More headers, or larger ones, than a request may have."""

    status = 431
    code = "head_too_large"


class Cancelled(CallerError):
    """Somebody ended the work before it was done; nginx's status for a client that left, since HTTP has none."""

    status = 499
    code = "cancelled"


class VersionNotSupported(CallerError):
    """Another HTTP than 1.0 and 1.1."""

    status = 505
    code = "http_version_not_supported"


class Unavailable(LocalModelsError):
    """Not now."""

    status = 503
    code = "unavailable"


class OutOfMemory(Unavailable):
    """The model needs more memory than there is.

    Attributes:
        required: bytes that the model needs.
        available: bytes that could be had.
    """

    code = "out_of_memory"

    def __init__(self, required: int, available: int, *, retry_after: float | None = None) -> None:
        super().__init__(
            f"Model requires more system memory ({required / 2**30:.1f} GiB) "
            f"than is available ({available / 2**30:.1f} GiB)",
            retry_after=retry_after,
        )
        self.required = required
        self.available = available


class DiskFull(Unavailable):
    """The store has no room for it; the message says what is needed, what there is and what is kept free."""

    status = 507
    code = "disk_full"


class DatabaseUnavailable(Unavailable):
    """The database that gateways share does not answer; what needs it can be asked again when it does."""

    code = "database_unavailable"


class QueueFull(Unavailable):
    """More requests wait than the queue holds."""

    code = "queue_full"


class ShuttingDown(Unavailable):
    """The server is on its way out."""

    code = "shutting_down"


class LoopDetected(Unavailable):
    """Gateways lead to each other in a circle: the request was here before, or has passed too many of them."""

    status = 508
    code = "loop_detected"


class EngineError(LocalModelsError):
    """Our own engine is at fault."""

    code = "engine_error"


class ModelDamaged(EngineError):
    """A model file that cannot be read or loaded. The message names the file, never its directory."""

    code = "model_damaged"


class StoreFailed(EngineError):
    """The disk under the model store refuses: read-only, broken, or not ours. Names the file, never its directory."""

    code = "store_failed"


class LoadFailed(EngineError):
    """The runner did not become ready; the message ends with the engine's own reason."""

    code = "load_failed"


class RunnerDied(EngineError):
    """The runner ended while it answered."""

    code = "runner_died"


class BackendError(LocalModelsError):
    """What answers for us is at fault."""

    status = 502
    code = "backend_error"


class Unreachable(BackendError):
    """No connection, or none in time."""

    code = "backend_unreachable"


class BackendTimeout(BackendError):
    """Connected, then silent for longer than allowed."""

    status = 504
    code = "backend_timeout"


class StreamCut(BackendError):
    """The answer ended before its end was said."""

    code = "stream_cut"


class Garbled(BackendError):
    """The answer is not in the dialect it should be in."""

    code = "backend_garbled"


def unforeseen() -> LocalModelsError:
    """What a caller is told of a defect of ours; the trace is for the log."""
    return LocalModelsError("internal error; the server's log has the details")
