"""Pictures as requests carry them: in base64, in an address that holds them."""

from __future__ import annotations

from base64 import b64encode

from localmodels.core.chat import Image
from localmodels.core.errors import InvalidRequest
from localmodels.dialects import asked

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)


def read_data_url(url: str, name: str) -> Image:
    """The picture that is in an address itself; ``name`` is where it stands in the request."""
    head, separator, data = url.partition(";base64,")
    if not separator or not head.startswith("data:"):
        raise InvalidRequest(
            f"{name} must be a data: URL in base64; this server fetches nothing from other places", param=name
        )
    return Image(asked.read_image(data, name), head.removeprefix("data:")[:100])


def data_url(image: Image) -> str:
    """The picture as an address that holds it."""
    data = b64encode(image.data).decode("ascii")
    return f"data:{image.media_type or media_type(image.data)};base64,{data}"


def media_type(data: bytes) -> str:
    """What the first bytes of a picture say that it is."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), "application/octet-stream")
