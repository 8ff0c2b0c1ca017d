"""The promises of a back end that need no script, kept by a real runner: our engine, a tiny random model, the pool."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import replace
from tests.awaited import awaited
from tests.contract.backends import chat, generate
from tools.random_model import TINY, write_random_model

from localmodels.artifacts.gguf import read_header
from localmodels.core.catalog import Model
from localmodels.core.chat import Done, EmbedRequest, Event, fold
from localmodels.core.errors import ContextLengthExceeded, InvalidValue, LocalModelsError, RunnerDied
from localmodels.core.options import Options
from localmodels.engine.hardware import Hardware
from localmodels.engine.housing import Housing
from localmodels.engine.llama import LlamaBackend
from localmodels.engine.loadable import Load, Loadable, Loader, Purpose
from localmodels.engine.pool import Build, Pool
from localmodels.engine.scheduler import Limits, Scheduler

GIB = 2**30
HARDWARE = Hardware(cpus=2, cores=2, memory_total=8 * GIB, memory_available=8 * GIB)
# Drawn with a fixed seed and without chance, so that the same question has the same answer.
STEADY = Options(num_predict=24, temperature=0.0, seed=1)


class Engine(Struct):
    """A pool and the one model that it can load."""

    pool: Pool
    load: Load

    @asynccontextmanager
    async def leased(self) -> AsyncIterator[LlamaBackend]:
        async with self.pool.lease(self.load, keep_alive=None, patience=60.0) as backend:
            yield backend

    async def gone(self) -> None:
        """Waits until the pool holds no runner."""
        while self.pool.runners():  # noqa: ASYNC110  the pool's own task is all that learns of an end
            await asyncio.sleep(0)

    @property
    def busy(self) -> int:
        return sum(view.busy for view in self.pool.snapshot().runners)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("models") / "tiny.gguf", shape=TINY, end_bias=-100.0)


@asynccontextmanager
async def engine(
    model: Path, build: Build | None = None, *, purpose: Purpose = "generate", slots: int = 2
) -> AsyncIterator[Engine]:
    loadable = Loadable("tiny", Model("tiny:latest", 1, "d", ""), str(model), read_header(model))
    housing = Housing()
    pool = Pool(Scheduler(Limits(memory=4 * GIB)), housing, build or Build())
    load = Loader(HARDWARE, Options(num_parallel=slots, num_ctx=512 if slots == 2 else 2048)).load(
        loadable, purpose, Options()
    )
    try:
        yield Engine(pool, load)
    finally:
        await pool.close()
        housing.close()


async def endless(here: Engine, talks: Callable[[], object]) -> None:
    """Has the model talk for ever; ``talks`` is called whenever it has said something."""
    async with (
        here.leased() as backend,
        aclosing(backend.chat(replace(chat(), options=Options(num_predict=-1, temperature=0.0)))) as stream,
    ):
        async for events in stream:
            assert not isinstance(events[-1], Done)
            talks()


async def heard(backend: LlamaBackend, text: str, options: Options = STEADY) -> list[Event]:
    async with aclosing(backend.chat(replace(chat(text), options=options))) as stream:
        return [event async for some in stream for event in some]


@awaited
async def test_chunks_and_then_done_once_with_real_figures(model: Path) -> None:
    async with engine(model) as here, here.leased() as backend:
        events = await heard(backend, "Hello?")
    assert [isinstance(event, Done) for event in events] == [False] * (len(events) - 1) + [True]
    done = events[-1]
    assert isinstance(done, Done)
    assert (done.reason, done.usage.completion_tokens) == ("length", 24)
    assert done.usage.prompt_tokens > 0
    assert done.timings.prompt_eval > 0
    assert done.timings.eval > 0


@awaited
async def test_a_text_is_gone_on_with_in_the_same_way(model: Path) -> None:
    async with engine(model) as here, here.leased() as backend:
        answer = await fold(backend.generate(replace(generate("Once", model="tiny"), raw=True, options=STEADY)))
    assert (answer.done.reason, answer.done.usage.completion_tokens) == ("length", 24)
    assert answer.text


@awaited
async def test_streams_at_once_do_not_mix(model: Path) -> None:
    questions = [f"{letter * 20}?" for letter in "abcd"]

    async def ask(here: Engine, question: str) -> list[str]:
        async with here.leased() as backend:
            answer = await fold(backend.chat(replace(chat(question), options=STEADY, logprobs=True)))
        return [token.token for token in answer.logprobs]

    async with engine(model) as here:
        alone = [await ask(here, question) for question in questions]
        together = await asyncio.gather(*(ask(here, question) for question in questions))
    assert len({tuple(answer) for answer in alone}) == len(questions)
    assert together == alone


@awaited
async def test_a_prompt_that_does_not_fit_is_refused_with_both_counts(model: Path) -> None:
    async with engine(model) as here, here.leased() as backend:
        with pytest.raises(ContextLengthExceeded) as caught:
            await heard(backend, "word " * 400)
        assert caught.value.prompt_tokens > caught.value.context_tokens == 512
        assert await heard(backend, "Hello?"), "and the next one is answered"


@awaited
async def test_a_stream_that_is_dropped_frees_its_place(model: Path) -> None:
    async with engine(model) as here:
        for _ in range(4):  # twice as often as there are places
            async with here.leased() as backend:
                stream = backend.chat(replace(chat(), options=Options(num_predict=-1)))
                assert await anext(stream)
                assert here.busy == 1
                await stream.aclose()
            assert here.busy == 0
        async with here.leased() as backend:
            assert isinstance((await heard(backend, "Hello?"))[-1], Done)


@awaited
async def test_a_runner_that_dies_in_the_middle_says_so_and_another_takes_over(model: Path) -> None:
    async with engine(model) as here:
        with pytest.raises(RunnerDied):
            await endless(here, lambda: os.kill(here.pool.runners()[0].pid, signal.SIGKILL))
        async with here.leased() as backend:
            assert isinstance((await heard(backend, "Hello?"))[-1], Done)


@awaited
async def test_closing_ends_open_streams_with_an_error(model: Path) -> None:
    async with engine(model) as here:
        talking = asyncio.Event()
        task = asyncio.ensure_future(endless(here, talking.set))
        await talking.wait()
        await here.pool.close()
        with pytest.raises(LocalModelsError):
            await task


@awaited
async def test_vectors_models_and_health(model: Path) -> None:
    async with engine(model, purpose="embed") as here, here.leased() as backend:
        embeddings = await backend.embed(EmbedRequest("tiny:latest", ("one", "two")))
        assert await backend.models() == ("tiny:latest",)
        assert (await backend.health()).ok
    first, second = embeddings.vectors
    assert (len(first), len(second)) == (TINY.width, TINY.width)
    assert first != pytest.approx(second, abs=1e-3)
    assert embeddings.prompt_tokens > 0


@awaited
async def test_a_vector_does_not_depend_on_what_else_was_asked(model: Path) -> None:
    async with engine(model, purpose="embed") as here, here.leased() as backend:
        together = (await backend.embed(EmbedRequest("tiny:latest", ("one", "abcdefgh")))).vectors
        alone = [(await backend.embed(EmbedRequest("tiny:latest", (text,)))).vectors[0] for text in ("one", "abcdefgh")]
    for vector, same in zip(together, alone, strict=True):
        assert vector == pytest.approx(same, abs=1e-3)


@awaited
async def test_health_of_a_runner_that_is_gone_tells_and_does_not_raise(model: Path) -> None:
    async with engine(model) as here:
        async with here.leased() as backend:
            pass
        await here.pool.close()
        health = await backend.health()
    assert not health.ok
    assert health.detail


@awaited
async def test_a_runner_that_falls_silent_is_ended_and_its_streams_are_told(model: Path) -> None:
    async with engine(model, Build(pulse=0.02, silence=0.2)) as here:

        def freeze() -> None:
            os.kill(here.pool.runners()[0].pid, signal.SIGSTOP)

        with pytest.raises(RunnerDied):
            await endless(here, freeze)
        async with here.leased() as backend:
            assert isinstance((await heard(backend, "Hello?"))[-1], Done)


@awaited
async def test_tokens_that_the_model_does_not_have_are_named(model: Path) -> None:
    async with engine(model) as here, here.leased() as backend:
        assert await backend.detokenize(await backend.tokenize("hello", special=False)) == "hello"
        for wrong in (-1, 2**31 - 1):
            with pytest.raises(InvalidValue, match=f"{wrong} is no token"):
                await backend.detokenize((wrong,))


@awaited
async def test_requests_that_begin_alike_share_what_was_computed(model: Path) -> None:
    """Four at once with the same new prefix: it is computed for one of them, and the others find it in the cache."""
    prefix = "the same long beginning of every question, " * 30

    async def ask(here: Engine, number: int) -> Done:
        async with here.leased() as backend:
            done = (await heard(backend, f"{prefix}{number}?"))[-1]
            assert isinstance(done, Done)
            return done

    async with engine(model, slots=4) as here:
        ends = await asyncio.gather(*(ask(here, number) for number in range(4)))
    first, *others = sorted(end.usage.cached_tokens for end in ends)
    assert first == 0
    assert min(others) > 0.9 * ends[0].usage.prompt_tokens


def victim(pid: int) -> bool:
    """Is this process the first that the kernel ends where memory does?"""
    return Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"


@awaited
async def test_a_template_that_takes_all_memory_costs_its_own_answer_and_nothing_else(tmp_path: Path) -> None:
    """Threat V-14: the engine renders Jinja without a bound of its own, so its memory has one."""
    greedy = "{% if messages[-1].content == 'boom' %}{{ 'a' * 99999999999 }}{% endif %}{{ messages[-1].content }}"
    greedy_model = write_random_model(tmp_path / "greedy.gguf", shape=TINY, end_bias=-100.0, template=greedy)
    async with engine(greedy_model) as here:
        async with here.leased() as backend:
            pid = here.pool.runners()[0].pid
            assert victim(pid)
            with pytest.raises(LocalModelsError, match="bad_alloc"):
                await heard(backend, "boom")
        async with here.leased() as backend:
            assert isinstance((await heard(backend, "Hello?"))[-1], Done)
        assert here.pool.runners()[0].pid == pid
