"""What one request was and what became of it: filled in on the way, read once at its end.

One owner: the server makes it and hands it to the flow that answers; ledger, metrics and the access line read it when
nothing changes any more. Times are monotonic nanoseconds.
"""

from __future__ import annotations

from time import monotonic_ns

from localmodels.core.access import STRANGER, Caller
from localmodels.core.chat import Usage
from localmodels.core.errors import LocalModelsError

HERE = "local"
UNKNOWN = "unknown"  # a model whose name nobody but a caller has said


class Visit:
    """One request.

    Attributes:
        id: of the request, in its answer's headers and in the log.
        caller: who asks.
        operation: ``chat``, ``text_completion``, ``embeddings``, ``rerank``; empty for all that asks no model.
        dialect: in which it was asked.
        model: the name under which the model is listed; empty before it was found.
        chosen: was it ours to choose which? Then answers name it, whatever the request said.
        listed: is it? Until its server has listed it or answered by it, a name may be any word that a caller wrote.
        listing: the name under which lists of all models have it, where that is not ``model``: a server's own name for
            one that several servers may have.
        server: who answers, ``local`` for our own engine; empty before anybody has had a place for it.
        truncated_messages: old messages that were left out to make the conversation fit.
        ignored: what the request asked for and nobody heeded, in the caller's words.
        admitted: when the model took it; 0 before, and again when it is known that none did.
        first, last: when the first and the latest piece of the answer came; 0 before.
        pieces: of the answer so far.
        asked: tokens of the prompt, as far as one could guess before it was counted.
        reserved: tokens of the caller's minute that are set aside for this request.
        usage: tokens, when they are known.
        estimated: was ``usage`` guessed, because the answer was cut or left?
        reason: why the answer ended; empty when it did not.
        error: what went wrong.
        trace: the ``traceparent`` that came with it, of the trace that it is a part of; empty without.
        session: what ties the requests of one conversation together, in the caller's words; empty without.
        tried: copies that have failed it, before it had to be translated to be asked elsewhere: ids of hosts, and of
            each the model as ``same_name`` spells it, or nothing where the host itself has failed.
        repeated: may one of them have begun to answer it?
        once: is the request to be given to no second host when a first may have begun to answer it?
        route: why this server answers, for people; empty where there was nothing to choose.
    """

    __slots__ = (
        "admitted",
        "asked",
        "caller",
        "chosen",
        "dialect",
        "error",
        "estimated",
        "first",
        "id",
        "ignored",
        "last",
        "listed",
        "listing",
        "model",
        "once",
        "operation",
        "pieces",
        "reason",
        "repeated",
        "reserved",
        "route",
        "server",
        "session",
        "started",
        "trace",
        "tried",
        "truncated_messages",
        "usage",
    )

    def __init__(self, id: str = "", caller: Caller = STRANGER, *, started: int | None = None) -> None:  # noqa: A002
        self.id = id
        self.caller = caller
        self.operation = ""
        self.dialect = ""
        self.model = ""
        self.chosen = False
        self.listed = True
        self.listing = ""
        self.server = ""
        self.truncated_messages = 0
        self.ignored: tuple[str, ...] = ()
        self.started = monotonic_ns() if started is None else started
        self.admitted = 0
        self.first = 0
        self.last = 0
        self.pieces = 0
        self.asked = 0
        self.reserved = 0
        self.usage: Usage | None = None
        self.estimated = False
        self.reason = ""
        self.error: LocalModelsError | None = None
        self.trace = ""
        self.tried: tuple[tuple[str, str], ...] = ()
        self.repeated = False
        self.session = ""
        self.once = False
        self.route = ""

    def another(self) -> Visit:
        """A further one for the same request: what its caller said, and whom it has tried; nothing of its answer."""
        other = Visit(self.id, self.caller)
        other.operation, other.dialect = self.operation, self.dialect
        other.session, other.once = self.session, self.once
        other.tried, other.repeated = self.tried, self.repeated
        return other

    def piece(self, now: int) -> None:
        """A piece of the answer came."""
        self.first = self.first or now
        self.last = now
        self.pieces += 1

    def named(self, asked: str) -> str:
        """The model as its answer names it: in the words of the request, unless these left the choice to us."""
        return self.model if self.chosen or not asked else asked

    @property
    def label(self) -> str:
        """The model as figures, books and logs name it: callers cannot make up names that are kept for ever."""
        return self.listing or (self.model if self.listed or not self.model else UNKNOWN)

    @property
    def charged(self) -> Usage:
        """What was delivered: as counted, else as far as one can guess; nothing if no model took the request."""
        if self.usage is not None:
            return self.usage
        return Usage(prompt_tokens=self.asked, completion_tokens=self.pieces) if self.admitted else Usage()

    @property
    def tokens(self) -> int:
        """Of what was delivered, prompt and answer together."""
        charged = self.charged
        return charged.prompt_tokens + charged.completion_tokens
