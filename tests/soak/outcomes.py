"""What became of a request, in a few words: the status, and of a stream what it said of its own end.

The one rule: an answer that could be read in two ways has an outcome of its own, which nobody expects. So every request
can say beforehand all that may become of it, and whatever else comes is a defect: ``unexpected`` has no exceptions.
"""

from __future__ import annotations

from tests.hostile.attacker import Heard, unreadable

NOTHING = "nothing"  # the connection ended, or stayed silent, before a status came
LEFT = "left"  # by the client, which is what it wanted
DONE = "200 done"
FAILED = "200 failed"
STREAMS = frozenset({"text/event-stream", "application/x-ndjson"})

# How the streams of each dialect say that they are complete, and that they are not.
_WELL = (
    b'"done":true',
    b"data: [DONE]",
    b"event: message_stop",
    b"event: response.completed",
    b"event: response.incomplete",
)
_ILL = (b'{"error":', b"event: error", b"event: response.failed")


def outcome(heard: Heard) -> str:
    """The words: ``200``, ``200 done``, ``503``, ``200 cut`` …"""
    if not heard.status:
        return NOTHING
    if not heard.whole:
        return f"{heard.status} cut"
    if why := unreadable(heard):
        return f"{heard.status} unreadable: {why[:200]}"
    if heard.status != 200 or not _streamed(heard):
        return f"{heard.status} internal" if b"internal error" in heard.body else str(heard.status)
    ends = {"done": any(word in heard.body for word in _WELL), "failed": any(word in heard.body for word in _ILL)}
    return "200 " + ("+".join(word for word, said in ends.items() if said) or "open")


def _streamed(heard: Heard) -> bool:
    return dict(heard.headers).get("content-type", "").partition(";")[0] in STREAMS
