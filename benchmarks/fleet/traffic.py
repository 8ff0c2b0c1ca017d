"""Who asks what, and when: conversations that begin by chance, and go on a while after each answer.

A conversation has a system prompt that others have too, a caller and a model. Each turn's prompt is all that was said
before and a new question, so its marks are those of the turn before and two more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random

from benchmarks.fleet.machine import Request
from localmodels.fleet.affinity import Prefix

BLOCK = 256  # tokens between two marks of a long system prompt


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """How much of what.

    Attributes:
        rate: conversations that begin, a second.
        turns: the least and the most of a conversation.
        think: seconds between an answer and the next question, in the mean.
        systems: system prompts of each model, and their tokens; the first are the more frequent the larger ``skew`` is.
        hot: the share of conversations that have one more system prompt, the same for all.
        models: by frequency, the more unequal the larger ``skew_models`` is.
        callers: by their share of all conversations.
        weights: of callers, where not 1.
        question, answer: tokens, in the mean.
    """

    rate: float
    turns: tuple[int, int] = (1, 1)
    think: float = 10.0
    systems: int = 1
    system: int = 1500
    skew: float = 1.0
    hot: float = 0.0
    models: tuple[str, ...] = ("m:1",)
    skew_models: float = 1.0
    callers: Mapping[str, float] = field(default_factory=lambda: {"": 1.0})
    weights: Mapping[str, int] = field(default_factory=dict)
    question: int = 80
    answer: int = 150


class Visits:
    """The requests of this traffic, by seed: the same for every policy, up to what an answer's moment changes."""

    def __init__(self, traffic: Traffic, seed: int) -> None:
        self.traffic = traffic
        self._seed = seed
        self._random = Random(seed)
        self._sessions = 0
        self._models = _cumulative(len(traffic.models), traffic.skew_models)
        self._systems = _cumulative(traffic.systems, traffic.skew)
        self._callers = list(accumulate(traffic.callers.values()))

    def arrivals(self) -> Iterator[tuple[float, Request]]:
        """Seconds after the one before, and the first request of each conversation; without an end."""
        traffic, random = self.traffic, self._random
        while True:
            wait = random.expovariate(traffic.rate)
            model = random.choices(traffic.models, cum_weights=self._models)[0]
            system = random.choices(range(traffic.systems), cum_weights=self._systems)[0]
            caller = random.choices(list(traffic.callers), cum_weights=self._callers)[0]
            which = "hot" if random.random() < traffic.hot else str(system)
            self._sessions += 1
            yield wait, self._asked(caller, model, _marks(model, which, traffic.system), self._sessions, 0)

    def follow(self, request: Request) -> tuple[float, Request] | None:
        """Seconds after this was answered, and the next request of its conversation; None if that was the last."""
        own = self._own(request.session, request.turn, "follow")  # not by what other conversations have done meanwhile
        least, most = self.traffic.turns
        if request.turn + 1 >= least and own.random() * (most - request.turn) < 1:
            return None
        prefix = (*request.prefix, request.end)
        following = self._asked(request.caller, request.model, prefix, request.session, request.turn + 1)
        return own.expovariate(1 / self.traffic.think), following

    def _asked(self, caller: str, model: str, before: Prefix, session: int, turn: int) -> Request:
        own = self._own(session, turn, "ask")
        question = 1 + round(own.expovariate(1 / self.traffic.question))
        answer = 1 + round(own.expovariate(1 / self.traffic.answer))
        tokens = before[-1][1] + question
        prefix = (*before, (own.getrandbits(61), tokens))
        return Request(
            caller=caller,
            model=model,
            prefix=prefix,
            tokens=tokens,
            answer=answer,
            end=(own.getrandbits(61), tokens + answer),
            session=session,
            turn=turn,
        )

    def _own(self, session: int, turn: int, what: str) -> Random:
        """Chance of this turn alone."""
        return Random(f"{self._seed} {session} {turn} {what}")


def _marks(model: str, system: str, tokens: int) -> Prefix:
    ends = [*range(BLOCK, tokens, BLOCK), tokens]
    return tuple((hash((model, system, end)), end) for end in ends)


def _cumulative(count: int, skew: float) -> list[float]:
    """Zipf's law: the n-th is as frequent as 1 / n to the power of the skew."""
    return list(accumulate(1 / (rank + 1) ** skew for rank in range(count)))
