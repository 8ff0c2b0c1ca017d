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
from localmodels.dialects.judges import Judge
from localmodels.dialects.passage import Passage
from localmodels.dialects.peek import Peek
from localmodels.dialects.protocol import Call
from localmodels.flows.chat import Boundless, Budget
from localmodels.flows.estimates import BYTES_A_TOKEN, TOKENS_A_PICTURE, USUAL_ANSWER
from localmodels.flows.finding import Finders, RelayTo
from localmodels.flows.visit import Visit

# Bytes; a text of this size without a blank is a picture.
LARGE = 2**14


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

    def find(self, model: str, dialect: str, call: Call) -> RelayTo | None:
        """Where a request in this dialect can go as it is; None where it goes the usual way. Looks only into dicts."""
        target = self._finders.quick(model)
        return target.relay(dialect, call) if target else None

    async def open(
        self, to: RelayTo, path: str, asked: Peek, visit: Visit, outlet: Outlet | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The answer: one piece, or whole frames as they arrive.

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
        server = to.server
        visit.model, visit.server = f"{server.name}/{to.model}", server.name
        visit.listed = server.knows(to.model)
        check_model(visit.caller, visit.model)
        body = asked.addressed(to.model)
        if visit.operation:
            answer = 0 if visit.operation == "embeddings" else asked.most_tokens or USUAL_ANSWER
            self._budget.reserve(visit, asked_tokens(body), answer)
        async with server.place(visit, to.model):
            visit.admitted = monotonic_ns()
            if not asked.stream:
                whole = await _whole(to, path, body, visit)
                visit.listed = visit.listed or server.confirm(to.model)
                yield whole
                return
            passage = Passage(to.way, hide_usage=not asked.counted)
            noted = Noted(outlet, visit) if outlet is not None else None
            try:
                async with aclosing(server.far.http.relay(path, body, passage, noted)) as stream:
                    async for frames in stream:
                        visit.piece(monotonic_ns())
                        visit.listed = visit.listed or server.confirm(to.model)
                        yield frames
            finally:
                visit.pieces = passage.messages
                _note(visit, passage.judge)


async def _whole(to: RelayTo, path: str, body: bytes, visit: Visit) -> bytes:
    answer = await to.server.far.http.post(path, body)
    judge = to.way.judge()
    judge.see_whole(answer)
    visit.piece(monotonic_ns())
    _note(visit, judge)
    return answer


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
