"""What the client reads and writes beyond the dialects: small bodies and headers; and how long it waits.

No I/O here, so that the asynchronous client and the one generated from it share it as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from ssl import SSLCertVerificationError, SSLError
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from localmodels.core.errors import Garbled, LocalModelsError, Unreachable
from localmodels.dialects.strict_json import parsed

T = TypeVar("T")
_ENCODER = msgspec.json.Encoder()

# Seconds. A model may first have to be loaded and then think: as long as the contract lets a chat take.
CONNECT_TIMEOUT, READ_TIMEOUT = 5.0, 1800.0
# Steps from the error of a carrier down to that of TLS: httpx2 takes three. Chains of causes may have no end.
MOST_CAUSES = 8
# Bytes of an answer in one piece: vectors of a large batch have some tens of millions.
MAX_ANSWER = 256 * 2**20


class Health(Struct, frozen=True):
    """What a server says of itself; ``unhealthy`` is a server that would not answer a request now."""

    status: Literal["healthy", "degraded", "unhealthy"]
    model_ready: bool = False
    default_model: str = ""
    available_models: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Version(Struct, frozen=True):
    """``/api/version``."""

    version: str


class Tokens(Struct, frozen=True):
    """Token ids of a text."""

    tokens: tuple[int, ...]


class Content(Struct, frozen=True):
    """The text of token ids."""

    content: str


def nobody(url: str, why: BaseException | None = None) -> Unreachable:
    """No connection came about, or none in time; in both carriers' words.

    Args:
        url: of the server.
        why: what was raised; where TLS failed, somebody does answer there.
    """
    failed = _tls_failure(why) if url.startswith("https:") else None
    if failed is None:
        return Unreachable(f"no server answers at {url}")
    if isinstance(failed, SSLCertVerificationError):
        told = f"cannot be believed ({failed.verify_message}); SSL_CERT_FILE may name a file of authorities"
        return Unreachable(f"the certificate of the server at {url} {told}")
    plain = "if it speaks plain HTTP, its address begins with http://"
    return Unreachable(f"TLS with the server at {url} failed ({failed.reason or 'it was cut'}); {plain}")


def _tls_failure(error: BaseException | None) -> SSLError | None:
    """What went wrong below an error: its causes, and not what somebody was busy with when he asked."""
    for _ in range(MOST_CAUSES):
        if isinstance(error, SSLError) or error is None:
            return error
        error = error.__cause__ or error.__context__
        if isinstance(error, LocalModelsError):  # that of another request
            return None
    return None


def encode(body: Mapping[str, Any]) -> bytes:
    """A small JSON body."""
    return _ENCODER.encode(body)


def decode(body: bytes, shape: type[T]) -> T:
    """A small JSON answer.

    Raises:
        Garbled: it has another shape.
    """
    try:
        answer: T = parsed(body, shape)
        return answer
    except ValueError as error:
        raise Garbled(f"the server's answer is not what it should be: {error}") from error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds after which to ask again, as the server says."""
    text = headers.get("retry-after", "")
    return float(text) if text.isdecimal() and len(text) < 7 else None
