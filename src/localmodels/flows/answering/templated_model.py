"""A model that answers by a Go template: prompts are made here, and what the model says is split here.

The engine is only asked to go on with a text, so everything that its own route for chats does is done on this side: the
conversation is rendered, thoughts and tool calls are found by the template's tags, calls that must be made and shapes
are asked for as JSON. The rule: for whoever asks, such a model is like any other.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol, TypeVar

from msgspec.structs import replace

from localmodels.artifacts.chat_template import ChatTemplate, Prompt, render_chat, render_insert
from localmodels.backends.protocol import Health
from localmodels.core.chat import (
    ChatRequest,
    Chunk,
    Done,
    Embeddings,
    EmbedRequest,
    Event,
    Format,
    GenerateRequest,
    Tool,
    Usage,
)
from localmodels.core.errors import InvalidRequest, LocalModelsError, ModelDamaged
from localmodels.core.rerank import Ranking, RerankRequest
from localmodels.dialects.forced import ForcedCall, forced
from localmodels.dialects.forced import shape as forced_shape
from localmodels.dialects.tagged import TaggedReader, Tags
from localmodels.flows.answering.chat import Answerer
from localmodels.flows.answering.structured_output import kept

T = TypeVar("T")
Stream = AsyncGenerator[list[Event], None]
Read = Callable[[Event], list[Event]]
AFTER_THOUGHT = "\n\n"


class Engine(Answerer, Protocol):
    """An answerer that goes on with raw texts."""

    async def beginning(self) -> str:
        """The text that the tokenizer itself puts before every prompt."""
        ...


class Templated:
    """An :class:`~localmodels.flows.answering.chat.Answerer` that makes prompts by a template.

    Args:
        engine: goes on with the prompts.
        template: was read.
        owner: the model whose template it is; empty where it came with the request.
        today: for templates that tell the date.
    """

    def __init__(
        self,
        engine: Engine,
        template: ChatTemplate,
        owner: str,
        today: Callable[[], datetime.date] = datetime.date.today,
    ) -> None:
        self._engine = engine
        self._template = template
        self._owner = owner
        self._today = today
        self._tags = Tags(template.thinking_tags, template.tool_tag, *template.tool_texts)

    async def chat(self, request: ChatRequest) -> Stream:
        """Goes on with a conversation."""
        must_call = forced(request)
        prompt = await self._prompt(request)
        asked = GenerateRequest(
            model=request.model,
            prompt=prompt.text,
            visible=self._tags.controls(calls=bool(offered(request))),
            images=prompt.images,
            raw=True,
            options=request.options,
            keep_alive=request.keep_alive,
            truncate=request.truncate,
            shift=request.shift,
            logprobs=request.logprobs,
            top_logprobs=request.top_logprobs,
            lora=request.lora,
        )
        if must_call:
            stream = self._shaped(asked, forced_shape(must_call), ForcedCall().read, thinks=request.think is not False)
        elif request.format:
            stream = kept(self._shaped(asked, request.format, _as_it_is, thinks=request.think is not False))
        else:
            stream = split(self._engine.generate(asked), self._reader(request, prompt.text).read)
        async with aclosing(stream):
            async for events in stream:
                yield events

    def generate(self, request: GenerateRequest) -> Stream:
        """Goes on with a text, as it stands; a gap is filled by the template where it has a place for one."""
        if request.suffix and not request.raw and "insert" in self._template.capabilities:
            return self._insert(request)
        return self._engine.generate(request)

    async def count(self, request: ChatRequest) -> int:
        """Tokens of the prompt that this conversation makes."""
        return len(await self.tokenize(await self.render(request)))

    async def render(self, request: ChatRequest) -> str:
        """The prompt that this conversation makes, as the tokenizer is to have it."""
        return (await self._prompt(request)).text

    async def tokenize(self, text: str, *, special: bool = True) -> tuple[int, ...]:
        """Token ids of a text."""
        return await self._engine.tokenize(text, special=special)

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of token ids."""
        return await self._engine.detokenize(tokens)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Turns texts into vectors, which is no matter of templates."""
        return await self._engine.embed(request)

    async def rank(self, request: RerankRequest) -> Ranking:
        """Puts texts in order, likewise."""
        return await self._engine.rank(request)

    async def models(self) -> tuple[str, ...]:
        """The engine's."""
        return await self._engine.models()

    async def health(self) -> Health:
        """The engine's."""
        return await self._engine.health()

    async def close(self) -> None:
        """Closes the engine."""
        await self._engine.close()

    async def _prompt(self, request: ChatRequest) -> Prompt:
        tools = forced(request) or offered(request)
        prompt = await self._made(
            lambda: render_chat(self._template, request.messages, tools=tools, think=request.think, today=self._today())
        )
        return replace(prompt, text=await self._without_beginning(prompt.text))

    async def _insert(self, request: GenerateRequest) -> Stream:
        text = request.prompt if isinstance(request.prompt, str) else ""
        prompt = await self._made(
            lambda: render_insert(self._template, text, request.suffix, think=request.think, today=self._today())
        )
        raw = replace(request, prompt=await self._without_beginning(prompt), suffix="", raw=True)
        async with aclosing(self._engine.generate(raw)) as stream:
            async for events in stream:
                yield events

    async def _made(self, render: Callable[[], T]) -> T:
        """A rendering, in a thread: somebody else wrote the template, and its costs are bounded, but not tiny.

        Raises:
            ModelDamaged: the model's template fails or costs too much.
            InvalidRequest: the request's own does.
        """
        try:
            return await asyncio.to_thread(render)
        except ModelDamaged as error:
            raise self._blamed(error) from error

    def _blamed(self, error: ModelDamaged) -> LocalModelsError:
        if self._owner:
            return ModelDamaged(f"model '{self._owner}' cannot be used: {error.message}")
        return InvalidRequest(error.message, param="template")

    async def _without_beginning(self, text: str) -> str:
        """The prompt without the token that the tokenizer adds anyway: twice, it makes models worse."""
        return text.removeprefix(await self._engine.beginning())

    def _reader(self, request: ChatRequest, prompt: str) -> TaggedReader:
        names = tuple(tool.name for tool in offered(request))
        most = 1 if request.parallel_tool_calls is False else None
        return TaggedReader(self._tags, names, inside=self._ends_in_thought(prompt), most=most)

    def _ends_in_thought(self, prompt: str) -> bool:
        opening = self._tags.thought[0]
        return bool(opening) and prompt.rstrip().endswith(opening)

    async def _shaped(self, asked: GenerateRequest, shape: Format, read: Read, *, thinks: bool) -> Stream:
        """An answer of a shape. A model that thinks does so first and freely: the shape would forbid it to."""
        thought = Thought(asked, self._tags.thought, inside=self._ends_in_thought(str(asked.prompt)))
        if thinks and all(self._tags.thought):
            async with aclosing(self._engine.generate(thought.question)) as stream:
                async for events in stream:
                    if told := [one for event in events for one in thought.read(event)]:
                        yield told
                    if thought.over:
                        break
            if thought.done.reason == "length":
                yield [thought.done]
                return
        whole = replace(thought.continuation, format=shape)
        async with aclosing(split(self._engine.generate(whole), read)) as stream:
            async for events in stream:
                yield [thought.added(event) if isinstance(event, Done) else event for event in events]


class Thought:
    """The thought before an answer of a shape, which is an answer of its own.

    Attributes:
        done: how it ended.
        over: has something come that is no thought? It does not count; the shaped answer says it again.
    """

    def __init__(self, asked: GenerateRequest, tags: tuple[str, str], *, inside: bool) -> None:
        self._asked = asked
        self._opening, self._closing = tags
        self._inside = inside
        self._reader = TaggedReader(Tags(tags), inside=inside)
        self._said = ""
        self.done = Done()
        self.over = False

    @property
    def question(self) -> GenerateRequest:
        """Asks for the thought alone."""
        options = self._asked.options
        return replace(self._asked, options=replace(options, stop=(*(options.stop or ()), self._closing)))

    def read(self, event: Event) -> list[Event]:
        """What is thought."""
        if isinstance(event, Done):
            self.done = event
        else:
            self._said += event.text
        chunks = [one for one in self._reader.read(event) if isinstance(one, Chunk)]
        self.over = self.over or not self._reader.is_thinking
        return [Chunk(thinking=one.thinking, logprobs=one.logprobs) for one in chunks if one.thinking]

    @property
    def _begun(self) -> bool:
        return not self.over and (self._inside or self._said.lstrip().startswith(self._opening))

    @property
    def continuation(self) -> GenerateRequest:
        """Asks for the answer after it, with as many tokens as are left."""
        if not self._begun:
            return self._asked
        options, prompt = self._asked.options, f"{self._asked.prompt}{self._said}{self._closing}{AFTER_THOUGHT}"
        if options.num_predict is not None and options.num_predict > 0:
            left = max(1, options.num_predict - self.done.usage.completion_tokens)
            options = replace(options, num_predict=left)
        return replace(self._asked, prompt=prompt, options=options)

    def added(self, done: Done) -> Done:
        """The end of the whole answer."""
        if not self._begun:
            return done
        first, then = self.done, done.usage
        usage = Usage(
            first.usage.prompt_tokens,
            first.usage.completion_tokens + then.completion_tokens,
            first.usage.cached_tokens,
            counted=first.usage.counted and then.counted,
        )
        timings = replace(
            done.timings, prompt_eval=first.timings.prompt_eval, eval=first.timings.eval + done.timings.eval
        )
        return replace(done, usage=usage, timings=timings)


def offered(request: ChatRequest) -> tuple[Tool, ...]:
    """The tools that may be called."""
    return () if request.tool_choice.mode == "none" else request.tools


async def split(stream: Stream, read: Read) -> Stream:
    """The events that ``read`` makes of a stream's."""
    async with aclosing(stream):
        async for events in stream:
            if told := [one for event in events for one in read(event)]:
                yield told


def _as_it_is(event: Event) -> list[Event]:
    return [event]
