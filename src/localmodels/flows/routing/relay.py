"""A request whose asker and answerer speak one dialect: its bytes pass through as they are.

The one rule is that of every stream here: the first piece comes before anything is promised, and what breaks after it
is raised, so that whoever writes the answer ends it with an error and never with a sign of success. Nothing is copied
from the server's head; what its frames count is noted in the visit.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from time import monotonic_ns

from localmodels.backends.http import Outlet
from localmodels.core.access import check_model
from localmodels.core.errors import LocalModelsError
from localmodels.dialects.judges import Judge
from localmodels.dialects.passage import Passage
from localmodels.dialects.peek import Peek
from localmodels.dialects.protocol import Call
from localmodels.flows.answering.chat import Boundless, Budget
from localmodels.flows.answering.token_estimates import BYTES_A_TOKEN, TOKENS_A_PICTURE, USUAL_ANSWER
from localmodels.flows.routing.dispatch import Errand
from localmodels.flows.routing.name_resolution import Finders
from localmodels.flows.routing.plans import Hop
from localmodels.flows.routing.remote_model import RelayTo
from localmodels.flows.routing.routed_model import RoutedTarget
from localmodels.flows.visit import Visit

# Bytes; a text of this size without a blank is a picture.
LARGE = 2**14
# Ollama's reasons for an answer without content: the model is in memory now, or has been told to leave it.
LOADED = "load"
UNLOADED = "unload"


class Noted:
    """An :class:`~localmodels.backends.http.Outlet` that notes each piece in a visit."""

    def __init__(self, outlet: Outlet, visit: Visit) -> None:
        self._outlet = outlet
        self._visit = visit

    @property
    def on_resume(self) -> Callable[[], None] | None:
        """Called when it takes more."""
        return self._outlet.on_resume

    @on_resume.setter
    def on_resume(self, call: Callable[[], None] | None) -> None:
        self._outlet.on_resume = call

    @property
    def paused(self) -> bool:
        """Should it get no more for now?"""
        return self._outlet.paused

    def write(self, data: bytes) -> None:
        """A piece."""
        self._visit.piece(monotonic_ns())
        self._outlet.write(data)


class Relays:
    """Passes requests on.

    Args:
        finders: find who answers.
        budget: how much callers may use; None is without limits.
    """

    def __init__(self, finders: Finders, budget: Budget | None = None) -> None:
        self._finders = finders
        self._budget = budget or Boundless()

    @property
    def any(self) -> bool:
        """Is there any other server?"""
        return self._finders.remote

    def find(self, model: str, dialect: str, call: Call) -> RelayTo | RoutedTarget | None:
        """Where a request in this dialect can go as it is; None where it goes the usual way. Looks only into dicts.

        Where several hosts could answer, :meth:`aimed` says which, by the request.
        """
        target = self._finders.quick(model)
        if isinstance(target, RoutedTarget):
            return target if target.passes(dialect, call) else None
        return target.relay(dialect, call) if target else None

    def aimed(
        self, target: RelayTo | RoutedTarget, dialect: str, call: Call, asked: Peek, visit: Visit
    ) -> RelayTo | None:
        """Where this request can go as it is; None where the best of its hosts does not speak the dialect.

        Raises:
            Forbidden: the caller's key is for other models.
            Unavailable: none of the hosts answers.
        """
        if isinstance(target, RelayTo):
            return target
        check_model(visit.caller, target.name, asked.word("model"))
        visit.model = target.name
        visit.session = visit.session or asked.word("prompt_cache_key")
        return target.aimed(dialect, call, asked.fields, visit)

    async def open(
        self, to: RelayTo, path: str, asked: Peek, visit: Visit, outlet: Outlet | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The answer as a stream: whole frames as they arrive.

        Args:
            to: where the request goes.
            path: on that server.
            asked: the request.
            visit: is filled in on the way.
            outlet: may get the pieces after the first one as they come; what it gets is not yielded.

        Raises:
            Forbidden: the caller's key is for other models.
            RateLimited: his tokens are used up.
            LocalModelsError: what went wrong; once a piece has come, in the middle of the answer.
        """
        body = self._admitted(to, asked, visit)
        async with errand_of(to, visit) as errand:
            visit.admitted = monotonic_ns()
            while True:
                hop = errand.hop
                if hop is not to.hops[0]:
                    body = asked.addressed(hop.model)
                passage = Passage(to.way, hide_usage=not asked.counted)
                noted = Noted(outlet, visit) if outlet is not None else None
                said = hop.reached.far.http.relay(path, body, passage, noted)
                try:
                    async with aclosing(said) as pieces:
                        async for piece in pieces:
                            _begun(errand, visit)
                            yield piece
                    return
                except LocalModelsError as error:
                    await errand.after(error)
                finally:
                    visit.pieces = passage.messages
                    _ended(errand, hop, visit, passage.judge)

    async def whole(self, to: RelayTo, path: str, asked: Peek, visit: Visit) -> bytes:
        """The answer in one piece; who has answered to its end has a place for the next one. As :meth:`open`.

        Nothing of it is a generator: of a short answer these would take a tenth of the time.
        """
        body = self._admitted(to, asked, visit)
        async with errand_of(to, visit) as errand:
            visit.admitted = monotonic_ns()
            while True:
                hop, judge = errand.hop, to.way.judge()
                if hop is not to.hops[0]:
                    body = asked.addressed(hop.model)
                try:
                    answer = await hop.reached.far.http.post(path, body)
                    judge.see_whole(answer)
                    _begun(errand, visit)
                    return answer
                except LocalModelsError as error:
                    await errand.after(error)
                finally:
                    _ended(errand, hop, visit, judge)

    def _admitted(self, to: RelayTo, asked: Peek, visit: Visit) -> bytes:
        """The body for the first of the hosts, if the caller may use the model and has the tokens for it."""
        check_model(visit.caller, to.name, asked.word("model"))  # first: what is noted here stands in the answer's head
        visit.model, visit.listed, visit.listing = to.name, to.listed, to.listing
        body = asked.addressed(to.hops[0].model)
        if visit.operation:
            answer = 0 if visit.operation == "embeddings" else asked.most_tokens or USUAL_ANSWER
            self._budget.reserve(visit, asked_tokens(body), answer)
        return body


def errand_of(to: RelayTo, visit: Visit) -> Errand:
    """A request on its way to one of these hosts."""
    return Errand(to.hops, visit, to.hops[0].reached.traffic, to.answers, to.further, to.suits)


def _begun(errand: Errand, visit: Visit) -> None:
    """A piece of the answer is there."""
    visit.piece(monotonic_ns())
    errand.answered()
    hop = errand.hop
    visit.listed = visit.listed or hop.reached.confirm(hop.model)


def _ended(errand: Errand, hop: Hop, visit: Visit, judge: Judge) -> None:
    """One host has said all that it says, well or not."""
    _note(visit, judge)
    if visit.reason in (LOADED, UNLOADED):
        errand.empty()
    if visit.reason == UNLOADED:
        hop.reached.traffic.fleet.memory_changed(hop.host)


def _note(visit: Visit, judge: Judge) -> None:
    """What was counted; of an answer that was cut or left only the prompt, the rest is guessed from its pieces."""
    if judge.done:
        visit.usage, visit.reason = judge.usage, judge.reason or "stop"
    elif judge.usage is not None:
        visit.asked = judge.usage.prompt_tokens or visit.asked


def asked_tokens(body: bytes) -> int:
    """Tokens of a request that nobody reads, as far as one can guess from its size."""
    if len(body) < LARGE:
        return len(body) // BYTES_A_TOKEN + 1
    pictures = [text for text in body.split(b'"') if len(text) > LARGE and b" " not in text]
    return (len(body) - sum(map(len, pictures))) // BYTES_A_TOKEN + 1 + len(pictures) * TOKENS_A_PICTURE
