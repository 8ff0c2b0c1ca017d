"""Which server a client speaks to, and with which key: argument, else environment, else this machine.

The default is port 8000 and not 11434: both are ours by default, but where there is an Ollama the second one is his.
"""

from __future__ import annotations

from collections.abc import Mapping

from localmodels.core.address import Address, Site
from localmodels.core.errors import InvalidValue

DEFAULT = Site(Address("127.0.0.1", 8000))
HOST_NAMES = ("LOCALMODELS_HOST", "OLLAMA_HOST")
OPENAI = "/v1"  # what their clients want at the end of an address; ours go by paths of Ollama's
KEY_NAMES = ("LOCALMODELS_API_KEY", "OLLAMA_API_KEY")


def find_site(host: str | None, environ: Mapping[str, str]) -> Site:
    """The server at ``host``, else in ``LOCALMODELS_HOST`` or ``OLLAMA_HOST``, else ``http://127.0.0.1:8000``.

    Raises:
        InvalidValue: what stands there is no address, or the one that OpenAI's clients take.
    """
    text = host or named_in(environ, HOST_NAMES)
    site = Site.parse(text) if text else DEFAULT
    if f"/{site.path}".endswith(OPENAI):
        raise InvalidValue(f"'{text[:120]}' is an address for clients of OpenAI; drop {OPENAI}")
    return site


def headers(api_key: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """What goes with every request: the key, where there is one; an empty ``api_key`` sends none."""
    key = named_in(environ, KEY_NAMES) if api_key is None else api_key
    return {"Accept-Encoding": "identity", **({"Authorization": f"Bearer {key}"} if key else {})}


def body_headers(body: object, size: int | None, content_type: str = "") -> dict[str, str]:
    """What a request says of its body: JSON, or ``size`` bytes in pieces."""
    if body is None:
        return {}
    if size is None:
        return {"Content-Type": "application/json"}
    return {"Content-Type": content_type or "application/octet-stream", "Content-Length": str(size)}


def named_in(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    """The first of these variables that is set; empty when none is."""
    return next((environ[name].strip() for name in names if environ.get(name, "").strip()), "")
