"""The models of the server behind ours, each a way to answer or to fail, and what a client of ours may hear then."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from tests.soak.outcomes import DONE, FAILED

from localmodels.backends.fake import Break, Failure, Script, Wire
from localmodels.core.chat import Chunk

PIECES = tuple(Chunk(f"piece {number} of what there is to say. ") for number in range(24))
# More than a socket and the server hold of it (`Bounds.write_high`), so that who reads slowly has the server wait. Not
# much more: the last events of the Responses API say all of it four times, and so much then waits for a slow reader.
LONG = tuple(Chunk("x" * 1000) for _ in range(400))
# Before any dialect's first event is whole, and in the middle of them.
EARLY, LATE = 40, 900

# A model that has failed five times in a row rests for some seconds; 529 is what Anthropic's clients know.
RESTS = frozenset({"503", "529"})
# These say nothing of who answers so, and nobody rests for them.
NEVER_REST = frozenset({"limits", "objects"})


class Behaviour(Struct, frozen=True):
    """One model.

    Attributes:
        script: what it does.
        whole: what may become of a request for a whole answer.
        stream: and of one for a stream.
    """

    script: Script
    whole: frozenset[str] = frozenset({"200"})
    stream: frozenset[str] = frozenset({DONE})


def breaking(how: Break | Wire, whole: str, stream: str = "") -> Behaviour:
    """One that fails like this, with these outcomes, each a text of words with `/` between them."""
    script = Script(PIECES, breaks=how) if isinstance(how, Break) else Script(PIECES, wire=how)
    return Behaviour(script, frozenset(whole.split("/")), frozenset((stream or whole).split("/")))


# A reset may overtake what was sent before it, so that the same answer fails before its first event or after some.
SOUND: Mapping[str, Behaviour] = {
    "good": Behaviour(Script(PIECES)),
    "slow": Behaviour(Script(PIECES, first=0.2, between=0.05)),
    "split": Behaviour(Script(PIECES, wire=Wire(write_size=7))),
    "measured": Behaviour(Script(PIECES, wire=Wire(framing="length"))),
    "closing": Behaviour(Script(PIECES, wire=Wire(framing="close"))),
}
FAULTS: Mapping[str, Behaviour] = {
    "fin-early": breaking(Wire(at=EARLY), "502"),
    "fin-late": breaking(Wire(at=LATE), "502", FAILED),
    "rst-early": breaking(Wire(at=EARLY, then="rst"), "502"),
    "rst-late": breaking(Wire(at=LATE, then="rst"), "502", f"502/{FAILED}"),
    "garbage-early": breaking(Wire(at=EARLY, then="garbage"), "502"),
    "garbage-late": breaking(Wire(at=LATE, then="garbage"), "502", FAILED),
    "stall-early": breaking(Wire(at=EARLY, then="stall"), "504"),
    "stall-late": breaking(Wire(at=LATE, then="stall"), "504", FAILED),
    "short": breaking(Wire(framing="length", length_error=9), "200/502", DONE),  # perhaps whole, whatever HTTP was told
    "no-head": breaking(Wire(head="none"), "502"),
    "no-http": breaking(Wire(head="garbage"), "502"),
    "refuses": breaking(Break("refuse"), "502"),
    "silent": breaking(Break("stall"), "504"),
    "unavailable": breaking(Break("fail", failure=Failure(status=503, retry_after=1)), "503"),
    "limits": breaking(Break("fail", failure=Failure(status=429, retry_after=1)), "429"),
    "broken": breaking(Break("fail", failure=Failure(status=500)), "502"),
    "objects": breaking(Break("fail", failure=Failure(status=400)), "400"),
    "fails-late": breaking(Break("fail", after=5), "502", FAILED),
    "ends-late": breaking(Break("cut", after=5), "502", FAILED),
}
LONGEST = Behaviour(Script(LONG))
BEHAVIOURS: Mapping[str, Behaviour] = {**SOUND, **FAULTS, "long": LONGEST}
