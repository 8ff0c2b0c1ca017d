"""What the client reads and writes beyond the dialects: small bodies and headers; and how long it waits.

No I/O here, so that the asynchronous client and the one generated from it share it as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from ssl import SSLCertVerificationError, SSLError
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from localmodels.core.errors import Garbled, Unreachable
from localmodels.dialects.strict_json import parsed

T = TypeVar("T")
_ENCODER = msgspec.json.Encoder()

# Seconds. A model may first have to be loaded and then think: as long as the contract lets a chat take.
CONNECT_TIMEOUT, READ_TIMEOUT = 5.0, 1800.0
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
    while why is not None and not isinstance(why, SSLError):
        why = why.__cause__ or why.__context__
    if why is None:
        return Unreachable(f"no server answers at {url}")
    if isinstance(why, SSLCertVerificationError):
        told = f"cannot be believed ({why.verify_message}); SSL_CERT_FILE may name a file of authorities"
        return Unreachable(f"the certificate of the server at {url} {told}")
    plain = "if it speaks plain HTTP, its address begins with http://"
    return Unreachable(f"TLS with the server at {url} failed ({why.reason or 'it was cut'}); {plain}")


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
