"""LoRA adapters are switched by request: on a real runner, whatever was asked before in the same slot."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path

import pytest
from tests.adapters import write_adapter
from tests.awaited import awaited
from tools.random_model import write_random_model

from localmodels.artifacts.gguf import read_header
from localmodels.core.catalog import Model
from localmodels.core.chat import Answer, ChatRequest, GenerateRequest, Lora, Message, Text, fold
from localmodels.core.options import Options
from localmodels.engine.hardware import Hardware
from localmodels.engine.housing import Housing
from localmodels.engine.loadable import Load, Loadable, Loader
from localmodels.engine.pool import Build, Pool
from localmodels.engine.scheduler import Limits, Scheduler
from localmodels.flows.answering.adapters import with_adapters

GIB = 2**30
HARDWARE = Hardware(cpus=2, cores=2, memory_total=8 * GIB, memory_available=8 * GIB)
NAMES = ("style", "tone")
SCALES = tuple(product((0.0, 0.5, 1.0), (0.0, 0.5, 1.0)))
# Long enough for the engine to go on with what it has, and for prompts to be kept outside of the slots.
PROMPTS = ("the same long beginning of everything that is asked " * 24, "and another one, " * 70)

NEAR = 0.1  # of log-probability; two choices are 0.34 apart at least, the order of sums makes 0.02

Scales = tuple[float, float]


class Engine:
    """A pool, and the model with its adapters."""

    def __init__(self, pool: Pool, load: Load) -> None:
        self._pool = pool
        self._load = load
        self._names = NAMES[: len(load.loadable.adapters)]

    async def ask(self, prompt: str, scales: Scales | None, *, chat: bool = False) -> Answer:
        """The likeliest answer; ``scales`` None says nothing of adapters, as most callers do."""
        lora = None if scales is None else tuple(map(Lora, NAMES, scales))
        options = Options(num_predict=6, temperature=0.0)
        asked: ChatRequest | GenerateRequest
        if chat:
            messages = (Message("user", (Text(prompt),)),)
            asked = ChatRequest("m", messages, options=options, logprobs=True, top_logprobs=5, lora=lora)
            asked = with_adapters(asked, "m", self._names)
        else:
            asked = GenerateRequest("m", prompt, raw=True, options=options, logprobs=True, top_logprobs=5, lora=lora)
            asked = with_adapters(asked, "m", self._names)
        async with self._pool.lease(self._load, keep_alive=None, patience=60.0) as backend:
            return await fold(backend.chat(asked) if isinstance(asked, ChatRequest) else backend.generate(asked))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """The model, then its adapters."""
    place = tmp_path_factory.mktemp("models")
    model = write_random_model(place / "tiny.gguf", end_bias=-100.0)
    return model, *(write_adapter(place / f"{name}.gguf", seed=seed) for seed, name in enumerate(NAMES, 1))


@asynccontextmanager
async def engine(files: tuple[Path, ...], *, slots: int = 1) -> AsyncIterator[Engine]:
    model, *adapters = files
    loadable = Loadable(
        "m", Model("m:latest", 1, "d", ""), str(model), read_header(model), adapters=tuple(map(str, adapters))
    )
    housing = Housing()
    pool = Pool(Scheduler(Limits(memory=4 * GIB)), housing, Build(cache_ram=GIB))
    load = Loader(HARDWARE, Options(num_parallel=slots, num_ctx=4096)).load(loadable, "generate", Options())
    try:
        yield Engine(pool, load)
    finally:
        await pool.close()
        housing.close()


def far(one: Answer, other: Answer) -> float:
    """How differently two answers begin: the largest step between log-probabilities of the likeliest tokens."""
    mine, yours = (
        {top.token: top.logprob for token in answer.logprobs[:1] for top in token.top} for answer in (one, other)
    )
    common = mine.keys() & yours.keys()
    return max(abs(mine[token] - yours[token]) for token in common) if len(common) > 3 else 9.0


def same(one: Answer, other: Answer) -> bool:
    """Do both know the same? What is computed in batches of other sizes is summed up in another order."""
    return far(one, other) < NEAR


@awaited
async def test_each_choice_is_another_model(files: tuple[Path, ...]) -> None:
    async with engine(files[:1]) as bare, engine(files) as both:
        model = await bare.ask(PROMPTS[0], None)
        answers = {scales: await both.ask(PROMPTS[0], scales) for scales in SCALES}
        usual = await both.ask(PROMPTS[0], None)
    assert same(answers[0.0, 0.0], model)
    assert same(answers[1.0, 1.0], usual)
    for one, other in product(SCALES, SCALES):
        assert same(answers[one], answers[other]) is (one == other), (one, other)


@awaited
@pytest.mark.parametrize("chat", [False, True], ids=["text", "chat"])
@pytest.mark.parametrize("slots", [1, 3])
async def test_what_was_asked_before_does_not_matter(files: tuple[Path, ...], slots: int, *, chat: bool) -> None:
    choices: list[Scales | None] = [None, (0.0, 0.0), (1.0, 0.0), (0.5, 1.0)]
    asked = list(product(PROMPTS, choices))
    alone = {}
    for prompt, scales in asked:
        async with engine(files) as fresh:
            alone[prompt, scales] = await fresh.ask(prompt, scales, chat=chat)
    chance = random.Random(7)
    async with engine(files, slots=slots) as used:
        for _ in range(8):
            some = [chance.choice(asked) for _ in range(slots + 1)]
            answers = await asyncio.gather(*(used.ask(*one, chat=chat) for one in some))
            for one, answer in zip(some, answers, strict=True):
                assert same(answer, alone[one]), one[1]
