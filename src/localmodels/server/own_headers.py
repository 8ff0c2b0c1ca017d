"""The headers that are our own: what each is called, and what callers say by those of requests.

The one rule: a caller's words become nothing but a key in a memory. What is not good as one is refused by name.
"""

from __future__ import annotations

from starlette.types import Scope

from localmodels.core.errors import InvalidRequest
from localmodels.flows.visit import Visit

PREFIX = b"x-localmodels-"

# Of requests: ties the requests of a conversation together, so that they go where it was read before; forbids that a
# second host is asked when a first may have begun to answer.
SESSION = PREFIX + b"session"
ONCE = PREFIX + b"once"
ASKED = (SESSION, ONCE)

# Of answers: who answered, and why he; what of the request was left out or not heeded.
SERVER = PREFIX + b"server"
ROUTE = PREFIX + b"route"
TRUNCATED = PREFIX + b"truncated"
IGNORED_OPTIONS = PREFIX + b"ignored-options"
IGNORED_TOOLS = PREFIX + b"ignored-tools"
IGNORED_ITEMS = PREFIX + b"ignored-items"

MOST_SESSION = 256  # characters
_SWITCH = {b"true": True, b"1": True, b"false": False, b"0": False}


def heed(scope: Scope, visit: Visit) -> None:
    """Notes what a request says by these headers.

    Raises:
        InvalidRequest: it says something that has no meaning.
    """
    for name, value in scope["headers"]:
        if not name.startswith(PREFIX):
            continue
        if name == SESSION:
            visit.session = _session(value)
        elif name == ONCE:
            visit.once = _switch(value)


def _session(value: bytes) -> str:
    text = value.decode("latin-1").strip()
    if len(text) > MOST_SESSION or not text.isprintable():
        raise InvalidRequest(f"X-LocalModels-Session must be a text of at most {MOST_SESSION} characters")
    return text


def _switch(value: bytes) -> bool:
    try:
        return _SWITCH[value.strip().lower()]
    except KeyError:
        raise InvalidRequest("X-LocalModels-Once must be true or false") from None
