"""Who has answered, as the answer itself says: the model, and of a fleet its server. For ``run --verbose|--json``.

The values of a conversation do not hold it: what was asked for is the same whoever answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec
from msgspec import Struct

from localmodels.client._sync_calls import Carrier, Reply

SERVER_HEADER = "x-localmodels-server"
MOST = 2**20  # bytes of a first line in which the model is looked for


class Line(Struct):
    """What every line of an answer in Ollama's API has."""

    model: str = ""


class Heard:
    """The way to a server; remembers of the last answer who gave it.

    Attributes:
        model: empty where the answer does not say it.
        server: likewise.
    """

    def __init__(self, way: Carrier) -> None:
        self.url = way.url
        self.model = ""
        self.server = ""
        self._way = way

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None,
        *,
        size: int | None = None,
        content_type: str = "",
    ) -> Iterator[Reply]:
        """Sends a request."""
        with self._way.open(method, path, body, size=size, content_type=content_type) as reply:
            self.model, self.server = "", reply.headers.get(SERVER_HEADER, "")
            yield HeardReply(reply, self)

    def close(self) -> None:
        """Gives back every connection."""
        self._way.close()


class HeardReply:
    """An answer, of which the first line is looked at while it passes."""

    def __init__(self, reply: Reply, heard: Heard) -> None:
        self.status = reply.status
        self.headers: Mapping[str, str] = reply.headers
        self._reply = reply
        self._heard = heard

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes."""
        begun, looks = b"", True
        for piece in self._reply.pieces():
            if looks:
                begun += piece
                line, ended, _ = begun.partition(b"\n")
                if ended:
                    self._heard.model = model_in(line)
                looks = not ended and len(begun) < MOST
            yield piece
        if looks:  # an answer in one piece, whose line does not end
            self._heard.model = model_in(begun)


def model_in(line: bytes) -> str:
    """The model that a line names; empty where it names none."""
    try:
        return msgspec.json.decode(line, type=Line).model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
