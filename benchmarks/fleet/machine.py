"""A modelled host: models that come and go, a cache of prompts, one prompt read at a time, answers in a batch.

What it leaves out: reading a prompt does not slow the answers of others down, and a batch is all of one kind. What it
keeps is what routing can win or lose by: a prompt that is known costs nothing to read, a model that is not loaded costs
seconds and the place of another, and an answer is slower the more there are.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from benchmarks.fleet.clock import Clock
from localmodels.fleet.affinity import Prefix
from localmodels.fleet.hosts import Holding, Host, Loaded, Sight

# An 8B model at Q4 on a graphics card of the middle class, in round numbers: prompts at 2,500 tokens/s, one answer at
# 60 tokens/s, eight together at 270; from a local disk at 1.5 GB/s, after a second for the process.
READING = 2500.0
WRITING = 60.0
SHARING = 0.11  # by how much each further answer slows all of them down
LOADING = 1.5e9
STARTING = 1.0


@dataclass(eq=False)
class Request:
    """One request and what became of it; moments are seconds of the virtual clock, 0 for never.

    Attributes:
        prefix: marks of its prompt.
        tokens: of its prompt.
        answer: tokens of its answer.
        end: the mark of prompt and answer together, as the next prompt of the conversation has it.
        session: its conversation.
        turn: of the conversation, from 0.
        queued: when it began to wait for a place.
    """

    caller: str
    model: str
    prefix: Prefix
    tokens: int
    answer: int
    end: tuple[int, int]
    session: int = 0
    turn: int = 0
    arrived: float = 0.0
    queued: float = 0.0
    placed: float = 0.0
    first: float = 0.0
    ended: float = 0.0
    cached: int = 0
    tries: int = 0
    refused: str = ""


@dataclass
class Batch:
    """Answers that are written side by side, all at the same pace.

    Attributes:
        written: tokens that an answer would have which had been there from the beginning, as of ``at``.
        ends: requests by the ``written`` at which theirs is complete.
        version: raised by each change; what was foreseen before it does not come.
    """

    pace: float
    written: float = 0.0
    at: float = 0.0
    ends: list[tuple[float, int, Request]] = field(default_factory=list)
    version: int = 0

    def rate(self) -> float:
        """Tokens a second of each answer."""
        return self.pace / (1 + SHARING * max(0, len(self.ends) - 1))

    def advance(self, now: float) -> None:
        """To this moment."""
        self.written += (now - self.at) * self.rate()
        self.at = now


class Machine:
    """One host.

    Attributes:
        loads: how often it has loaded a model.

    Args:
        host: as the fleet knows it; its sight is renewed by :meth:`look`.
        models: bytes of each that it has; it begins with those of them loaded that have room, in this order.
        memory: bytes for models.
        cache: tokens of prompts that it remembers.
        speed: 1.0 is the machine above.
        clock: the time of the simulation.
        done: told of each request that was answered, and where.
    """

    def __init__(
        self,
        host: Host,
        models: Mapping[str, int],
        *,
        memory: int,
        cache: int,
        speed: float,
        clock: Clock,
        done: Callable[[Machine, Request], None],
    ) -> None:
        self.host = host
        self._models = models
        self._memory = memory
        self._most_cached = cache
        self._speed = speed
        self._clock = clock
        self._done = done
        self._holdings = {model: Holding(model, size=size) for model, size in models.items()}
        self._loaded: OrderedDict[str, None] = OrderedDict()  # from the one that was not used for longest
        self._loading: dict[str, list[Request]] = {}
        self._users: dict[str, int] = {}
        self._stuck: deque[Request] = deque()
        self._cached: OrderedDict[int, tuple[str, int]] = OrderedDict()
        self._tokens = 0
        self._reads_until = 0.0
        self._batch = Batch(WRITING * speed)
        self._inside: dict[Request, None] = {}
        self.loads = 0
        self._numbers = count()
        self._life = 0
        for model, size in models.items():
            if size <= self._free():
                self._loaded[model] = None

    def look(self) -> None:
        """What it tells who probes it. A model that is being loaded it does not list, as some servers do not."""
        loaded = {model: Loaded(model, size=self._models[model]) for model in self._loaded}
        self.host.sight = Sight(self._clock.now, "1", self._holdings, loaded, self._free(), len(self._inside))

    @property
    def inside(self) -> int:
        """Requests that have a place here and no answer yet, as it counts them itself."""
        return len(self._inside)

    def begin(self, request: Request) -> None:
        """A request has a place here."""
        self._inside[request] = None
        if self._stuck or not self._enter(request):
            self._stuck.append(request)

    def fail(self) -> list[Request]:
        """It stops and forgets everything; those whom it has not answered."""
        inside = list(self._inside)
        self._life += 1
        for kept in (self._inside, self._users, self._loaded, self._loading, self._cached, self._stuck):
            kept.clear()
        self._tokens, self._reads_until = 0, 0.0
        self._batch = Batch(WRITING * self._speed, at=self._clock.now)
        return inside

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        """Does this then, if it has not failed meanwhile."""
        life = self._life
        self._clock.after(seconds, lambda: what() if life == self._life else None)

    def _enter(self, request: Request) -> bool:
        """Reads its prompt if the model is there, else loads that; False where others who are busy leave no room."""
        model = request.model
        if model in self._loaded:
            self._loaded.move_to_end(model)
            self._read(request)
        elif model in self._loading:
            self._loading[model].append(request)
        elif self._make_room(self._models[model]):
            self._loading[model] = [request]
            self.loads += 1
            self._later(STARTING + self._models[model] / LOADING, lambda: self._ready(model))
        else:
            return False
        self._users[model] = self._users.get(model, 0) + 1
        return True

    def _make_room(self, size: int) -> bool:
        """Evicts models that nobody uses, those that were not used for longest first."""
        free = self._free()
        for model in [model for model in self._loaded if not self._users.get(model)]:
            if free >= size:
                break
            free += self._models[model]
            del self._loaded[model]
            for mark in [mark for mark, (of, _) in self._cached.items() if of == model]:
                self._tokens -= self._cached.pop(mark)[1]
        return free >= size

    def _free(self) -> int:
        return self._memory - sum(self._models[model] for model in (*self._loaded, *self._loading))

    def _ready(self, model: str) -> None:
        self._loaded[model] = None
        for request in self._loading.pop(model):
            self._read(request)

    def _unstick(self) -> None:
        """First come, first served: whose model fits does not overtake who waits for room."""
        while self._stuck and self._enter(self._stuck[0]):
            self._stuck.popleft()

    def _read(self, request: Request) -> None:
        """One prompt after the other."""
        request.cached = self._known(request.prefix)
        self._remember(request.model, request.prefix)
        begins = max(self._clock.now, self._reads_until)
        self._reads_until = begins + (request.tokens - request.cached) / (READING * self._speed)
        self._later(self._reads_until - self._clock.now, lambda: self._write(request))

    def _known(self, prefix: Prefix) -> int:
        """Tokens from the beginning; the last one of a prompt is always read."""
        known = 0
        for mark, tokens in prefix:
            if mark not in self._cached:
                break
            known = tokens
        return min(known, prefix[-1][1] - 1)

    def _remember(self, model: str, prefix: Prefix) -> None:
        """What is dropped first is the end of a prompt."""
        before = [0, *(tokens for _, tokens in prefix)]
        for (mark, tokens), start in zip(reversed(prefix), reversed(before[:-1]), strict=True):
            if mark in self._cached:
                self._cached.move_to_end(mark)
            else:
                self._cached[mark] = model, tokens - start
                self._tokens += tokens - start
        while self._tokens > self._most_cached:
            self._tokens -= self._cached.popitem(last=False)[1][1]

    def _write(self, request: Request) -> None:
        """The first token is there; the others come beside those of the batch."""
        request.first = self._clock.now
        batch = self._batch
        batch.advance(self._clock.now)
        heappush(batch.ends, (batch.written + request.answer, next(self._numbers), request))
        self._foresee()

    def _foresee(self) -> None:
        """When the next answer is complete, if nothing changes until then."""
        batch = self._batch
        batch.version += 1
        if batch.ends:
            version = batch.version
            seconds = max(0.0, batch.ends[0][0] - batch.written) / batch.rate()
            self._later(seconds, lambda: self._end() if version == batch.version else None)

    def _end(self) -> None:
        batch = self._batch
        batch.advance(self._clock.now)
        request = heappop(batch.ends)[2]
        self._foresee()
        request.ended = self._clock.now
        self._remember(request.model, (*request.prefix, request.end))
        del self._inside[request]
        self._users[request.model] -= 1
        self._unstick()
        self._done(self, request)
