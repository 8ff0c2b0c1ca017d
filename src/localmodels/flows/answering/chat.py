"""Chat, generate and embed: from a request to a stream of events, whoever answers.

The one rule: another way is tried only before the first event has been handed over; a failure after it goes to the
caller as it is. Times are measured here, because only here is the whole of a request seen.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from time import monotonic_ns
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from localmodels.backends.protocol import Backend
from localmodels.core.access import Guarded, check_model
from localmodels.core.chat import (
    ChatRequest,
    Chunk,
    Done,
    Embeddings,
    EmbedRequest,
    Event,
    FinishReason,
    GenerateRequest,
    Image,
    Message,
    Text,
    Timings,
    Usage,
    is_early,
)
from localmodels.core.errors import ContextLengthExceeded, LocalModelsError, Unsupported
from localmodels.core.options import NO_OPTIONS, Options
from localmodels.core.rerank import Ranking, RerankRequest
from localmodels.flows.answering import custom_tools, single_tool_call
from localmodels.flows.answering.adapters import Asked, with_adapters
from localmodels.flows.answering.structured_output import kept
from localmodels.flows.answering.thinking_tokens import thoughts_counted
from localmodels.flows.answering.token_estimates import answer_tokens, prompt_tokens
from localmodels.flows.answering.truncation import prompt_room, turns, without_oldest
from localmodels.flows.visit import HERE, Visit

Stream = AsyncGenerator[list[Event], None]
Loading = ChatRequest | GenerateRequest | EmbedRequest
Request = Loading | RerankRequest


class Answerer(Backend, Protocol):
    """A backend with the model's own template and tokenizer at hand."""

    async def rank(self, request: RerankRequest) -> Ranking:
        """Puts texts in the order in which they answer a question."""
        ...

    async def count(self, request: ChatRequest) -> int:
        """Tokens of the prompt that this conversation makes."""
        ...

    async def render(self, request: ChatRequest) -> str:
        """The prompt that this conversation makes."""
        ...

    async def tokenize(self, text: str, *, special: bool = True) -> tuple[int, ...]:
        """Token ids of a text."""
        ...

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of token ids."""
        ...


class Defaults(Struct, frozen=True):
    """What a model brings along for requests that do not say otherwise."""

    system: str = ""
    messages: tuple[Message, ...] = ()
    options: Options = NO_OPTIONS


class Found(Protocol):
    """A model that a name stands for."""

    @property
    def name(self) -> str:
        """The name under which it is listed."""
        ...

    @property
    def listed(self) -> bool:
        """Is it known by this name to anybody but who asks for it?"""
        ...

    @property
    def defaults(self) -> Defaults:
        """What it brings along."""
        ...

    @property
    def capabilities(self) -> tuple[str, ...]:
        """In the words of ``core.catalog.Capability``."""
        ...

    @property
    def adapters(self) -> tuple[str, ...] | None:
        """Names of its LoRA adapters, by their places; None where only whoever answers knows them."""
        ...

    def ready(self, request: Request, visit: Visit) -> AbstractAsyncContextManager[Answerer]:
        """Waits until it can answer this request of this visit and keeps it so; leaving frees the place."""
        ...

    async def load(self, request: Loading, visit: Visit) -> None:
        """Has it in memory, where anybody can be told so; the request asks for nothing else."""
        ...

    async def unload(self) -> str:
        """Takes it out of memory as soon as it is idle; the name of the server, empty where it is in none of ours."""
        ...


class Finder(Protocol):
    """Finds models by name."""

    async def find(self, name: str) -> Found:
        """The model that this name stands for.

        Raises:
            ModelNotFound: there is none.
        """
        ...


class Budget(Protocol):
    """Knows how many tokens a caller may use."""

    def reserve(self, visit: Visit, prompt: int, answer: int) -> None:
        """Sets tokens aside for a request that is about to ask a model.

        Raises:
            RateLimited: there are not as many.
        """
        ...


class Boundless:
    """The budget of a server without limits."""

    def reserve(self, visit: Visit, prompt: int, answer: int) -> None:
        """Notes what may be charged if nobody counts."""
        visit.asked = prompt


class Answers:
    """The flows of one system; stateless but for where models are found and what callers may use."""

    def __init__(self, finder: Finder, budget: Budget | None = None) -> None:
        self._finder = finder
        self._budget = budget or Boundless()

    async def chat(self, request: ChatRequest, visit: Visit) -> Stream:
        """Goes on with a conversation, shortened where it must and may be.

        Raises:
            ModelNotFound, Unavailable, ContextLengthExceeded, Unsupported: before the first event.
            EngineError, BackendError: at any time.
        """
        started = monotonic_ns()
        model = await self._found(request.model, visit)
        if not request.messages:
            yield [await self._move(model, request, visit, started)]
            return
        self._budget.reserve(visit, prompt_tokens(request), answer_tokens(request))
        one_call, turned_back = single_tool_call.one_call(request), custom_tools.turned_back(request)
        request = custom_tools.as_functions(request)
        request = within_abilities(adapted(with_defaults(request, model), model), model, visit)
        async with model.ready(request, visit) as backend:
            visit.admitted = loaded = monotonic_ns()
            answer = fitting(backend, request, visit)
            # Dialects in which thinking is a wish tell how much was thought.
            async with aclosing(thoughts_counted(answer, backend) if request.think_wish else answer) as stream:
                async for events in stream:
                    if told := turned_back(one_call(events)):
                        yield seen(told, visit, started, loaded)

    async def generate(self, request: GenerateRequest, visit: Visit) -> Stream:
        """Goes on with a text; under the model's template unless the request is raw. Raises as :meth:`chat` does."""
        started = monotonic_ns()
        model = await self._found(request.model, visit)
        if not (request.prompt or request.suffix or request.images or request.context):
            yield [await self._move(model, request, visit, started)]
            return
        self._budget.reserve(visit, prompt_tokens(request), answer_tokens(request))
        request = adapted(request, model)
        raw = is_raw(request)
        conversation = with_defaults(as_conversation(request), model)
        if raw:
            check_raw(request, model)
        else:
            conversation = within_abilities(conversation, model, visit)
        async with model.ready(request, visit) as backend:
            visit.admitted = loaded = monotonic_ns()
            if raw:
                whole = replace(request, options=request.options.over(model.defaults.options))
                stream = backend.generate(whole)
            elif request.context:
                whole = await continued(backend, request, conversation)
                stream = remembered(backend.generate(whole), backend, whole, visit)
            else:
                stream = remembered(fitting(backend, conversation, visit), backend, conversation, visit)
            if request.format and (raw or request.context):
                stream = kept(stream)
            async with aclosing(stream):
                async for events in stream:
                    yield seen(events, visit, started, loaded)

    async def embed(self, request: EmbedRequest, visit: Visit) -> Embeddings:
        """Turns texts into vectors. Raises as :meth:`chat` does."""
        started = monotonic_ns()
        model = await self._found(request.model, visit)
        check_vectors(model)
        self._budget.reserve(visit, prompt_tokens(request), 0)
        if not request.inputs:
            return await self._nothing(model, request, visit, started)
        async with model.ready(request, visit) as backend:
            visit.admitted = loaded = monotonic_ns()
            embeddings = await backend.embed(request)
        visit.usage, visit.reason = prompt_of(embeddings.prompt_tokens), "stop"
        return replace(embeddings, timings=timed(embeddings.timings, started, loaded, monotonic_ns()))

    @staticmethod
    async def _nothing(model: Found, request: EmbedRequest, visit: Visit, started: int) -> Embeddings:
        """No vectors of no inputs: these only load the model, as in Ollama."""
        await model.load(request, visit)
        visit.admitted = now = monotonic_ns()
        visit.usage, visit.reason = Usage(), "stop"
        return Embeddings((), timings=Timings(total=now - started, load=now - started))

    async def tokenize(self, model: str, text: str, visit: Visit, *, special: bool) -> tuple[int, ...]:
        """Token ids of a text, by the model's own tokenizer."""
        found = await self._found(model, visit)
        async with found.ready(GenerateRequest(model), visit) as backend:
            return await backend.tokenize(text, special=special)

    async def detokenize(self, model: str, tokens: tuple[int, ...], visit: Visit) -> str:
        """The text of token ids, by the model's own tokenizer."""
        found = await self._found(model, visit)
        async with found.ready(GenerateRequest(model), visit) as backend:
            return await backend.detokenize(tokens)

    async def count(self, request: ChatRequest, visit: Visit) -> int:
        """Tokens of the prompt that this conversation makes under the model's template. Raises as :meth:`chat`."""
        model = await self._found(request.model, visit)
        request = within_abilities(with_defaults(custom_tools.as_functions(request), model), model, visit)
        async with model.ready(request, visit) as backend:
            return await backend.count(request)

    async def _found(self, name: str, visit: Visit) -> Found:
        return await permitted(self._finder, name, visit)

    @staticmethod
    async def _move(model: Found, request: ChatRequest | GenerateRequest, visit: Visit, started: int) -> Done:
        """Answers a request without content: it loads the model, or with ``keep_alive`` 0 unloads it."""
        reason: FinishReason = "load"
        if request.keep_alive == 0:
            visit.server = await model.unload() or HERE  # who finds it in no memory has answered, too
            reason = "unload"
        else:
            await model.load(request, visit)
        took = monotonic_ns() - started
        done = Done(reason=reason)
        return replace(done, timings=replace(done.timings, total=took, load=took if reason == "load" else 0))


async def permitted(finder: Finder, name: str, visit: Visit) -> Found:
    """The model of this name, if this caller may ask it.

    Raises:
        ModelNotFound: there is none of this name, and he might ask it if there were.
        Forbidden: his key is for other models; says neither whether there is one nor what the name stands for.
    """
    try:
        model = await finder.find(name)
    except Guarded as error:
        raise error.told_to(visit.caller) from None
    check_model(visit.caller, model.name, name)  # first: who may not ask it learns nothing from the headers either
    visit.model, visit.listed = model.name, model.listed
    return model


def with_defaults(request: ChatRequest, model: Found) -> ChatRequest:
    """The request as the model's author meant it: his system prompt unless it has one, his examples, his options."""
    defaults = model.defaults
    messages = request.messages
    if defaults.system and not any(message.role == "system" for message in messages):
        messages = (Message("system", (Text(defaults.system),)), *messages)
    # Templates want system messages first; the maker's examples come between them and the conversation.
    first = next((place for place, message in enumerate(messages) if message.role != "system"), len(messages))
    messages = (*messages[:first], *defaults.messages, *messages[first:])
    return replace(request, messages=messages, options=request.options.over(defaults.options))


def adapted(request: Asked, model: Found) -> Asked:
    """The request with a scale for each of the model's adapters. Raises as :func:`~.adapters.with_adapters`."""
    return request if model.adapters is None else with_adapters(request, model.name, model.adapters)


def is_raw(request: GenerateRequest) -> bool:
    """Does the text go to the model as it is, under no template?"""
    return request.raw or bool(request.suffix) or not isinstance(request.prompt, str)


def check_raw(request: GenerateRequest, model: Found) -> None:
    """Looks whether a model goes on with a text as it is.

    Raises:
        Unsupported: it does not.
    """
    if "completion" not in model.capabilities:
        raise Unsupported(f"{model.name} does not write text", param="model")
    if request.images and "vision" not in model.capabilities:
        raise Unsupported(f"{model.name} does not support images", param="images")


def check_vectors(model: Found) -> None:
    """Looks whether a model turns texts into vectors.

    Raises:
        Unsupported: it does not.
    """
    if not {"completion", "embedding"}.intersection(model.capabilities):
        raise Unsupported(f"{model.name} does not make embeddings", param="model")


def within_abilities(request: ChatRequest, model: Found, visit: Visit) -> ChatRequest:
    """The request without what was only a wish; what the model cannot do otherwise is refused by name.

    An answer that ignores half of the question would be worse.

    Raises:
        Unsupported: tools for a model whose template has no place for them, thinking likewise, pictures without a
            projector.
    """
    if request.tools and "tools" not in model.capabilities:
        raise Unsupported(f"{model.name} does not support tools", param="tools")
    if "vision" not in model.capabilities and any(
        not isinstance(part, Text) for message in request.messages for part in message.parts
    ):
        raise Unsupported(f"{model.name} does not support images", param="messages")
    if "completion" not in model.capabilities:
        raise Unsupported(f"{model.name} does not support chat", param="model")
    if request.think and "thinking" not in model.capabilities:
        if request.think_wish:
            if "think" not in visit.ignored:
                visit.ignored += ("think",)
            return replace(request, think=None)
        raise Unsupported(f"{model.name} does not support thinking", param="think")
    return request


def as_conversation(request: GenerateRequest) -> ChatRequest:
    """The text as one user message."""
    system = (Message("system", (Text(request.system),)),) if request.system else ()
    prompt = request.prompt if isinstance(request.prompt, str) else ""
    return ChatRequest(
        model=request.model,
        messages=(*system, Message("user", (Text(prompt), *request.images))),
        format=request.format,
        think=request.think,
        options=request.options,
        stream=request.stream,
        keep_alive=request.keep_alive,
        truncate=request.truncate,
        shift=request.shift,
        logprobs=request.logprobs,
        top_logprobs=request.top_logprobs,
        include_usage=request.include_usage,
        lora=request.lora,
    )


async def continued(backend: Answerer, request: GenerateRequest, conversation: ChatRequest) -> GenerateRequest:
    """The raw request that goes on from an earlier one's ``context`` (Ollama's deprecated way of remembering).

    The context stays where it is: the dialect puts it before the prompt.
    """
    tokens = await backend.tokenize(await backend.render(conversation))
    return replace(request, raw=True, prompt=tokens, options=conversation.options)


async def remembered(stream: Stream, backend: Answerer, request: ChatRequest | GenerateRequest, visit: Visit) -> Stream:
    """The answer, and at its end the token ids of all of it: the ``context`` from which Ollama's clients go on.

    There is none for pictures, which have no tokens, and none for what had to be shortened or was lost at the end.
    """
    said: list[str] = []
    async with aclosing(stream):
        async for events in stream:
            said += [event.text for event in events if isinstance(event, Chunk)]
            done = events[-1]
            if isinstance(done, Done) and not visit.truncated_messages:
                with suppress(LocalModelsError):
                    done = replace(done, context=await tokens_of(request, "".join(said), backend))
            yield [*events[:-1], done]


async def tokens_of(request: ChatRequest | GenerateRequest, answer: str, backend: Answerer) -> tuple[int, ...]:
    """Token ids of a question and its answer; none where there are pictures."""
    if isinstance(request, ChatRequest):
        if any(isinstance(part, Image) for message in request.messages for part in message.parts):
            return ()
        return await backend.tokenize(await backend.render(request) + answer)
    prompt = request.prompt if isinstance(request.prompt, tuple) else ()
    return (*request.context, *prompt, *await backend.tokenize(answer, special=False))


async def fitting(backend: Answerer, request: ChatRequest, visit: Visit) -> Stream:
    """The answer; when the conversation proves too long, the answer to a shortened one.

    Nothing is counted beforehand: nearly every conversation fits, and the engine refuses the others before it has
    computed anything.
    """
    begun = False
    try:
        async with aclosing(backend.chat(request)) as stream:
            async for events in stream:
                begun = True
                yield events
            return
    except ContextLengthExceeded as error:
        if begun or not request.truncate:
            raise
        try:
            request, visit.truncated_messages = await shortened(backend, request, error)
        except Unsupported:  # who answers counts no tokens for us, but has said what is wrong
            raise error from None
    async with aclosing(backend.chat(request)) as stream:
        async for events in stream:
            yield [
                replace(event, truncated_messages=visit.truncated_messages) if isinstance(event, Done) else event
                for event in events
            ]


async def shortened(backend: Answerer, request: ChatRequest, error: ContextLengthExceeded) -> tuple[ChatRequest, int]:
    """The request with the fewest turns left out that fits, found from the newest turn backwards, then by halving.

    So what is counted is never much longer than what fits: thousands of turns may come for a context of hundreds.

    Raises:
        ContextLengthExceeded: the newest turn does not fit even alone.
    """
    room = prompt_room(request, error.context_tokens)
    last = len(turns(request.messages)) - 1
    low, high, step = 1, last, 1
    while low < high:
        middle = max(low, high - step) if step else (low + high) // 2
        fits = await backend.count(without_oldest(request, middle)[0]) <= room
        low, high, step = (low, middle, 2 * step) if fits else (middle + 1, high, 0)
    if last < 1:
        raise error
    shorter, dropped = without_oldest(request, low)
    if low == last and await backend.count(shorter) >= error.context_tokens:
        raise error
    return shorter, dropped


def seen(events: list[Event], visit: Visit, started: int, loaded: int) -> list[Event]:
    """The events, noted; the last one with the times that only this side knows."""
    now = monotonic_ns()
    if not is_early(events[0]) or len(events) > 1:
        visit.piece(now)
    done = events[-1]
    if not isinstance(done, Done):
        return events
    visit.usage, visit.reason = done.usage if done.usage.counted else None, done.reason
    return [*events[:-1], replace(done, timings=timed(done.timings, started, loaded, now))]


def prompt_of(tokens: int) -> Usage | None:
    """What vectors and rankings used: their prompt; None where nobody has counted it."""
    return Usage(prompt_tokens=tokens) if tokens else None


def timed(told: Timings, started: int, loaded: int, now: int) -> Timings:
    """Times of an answer with those that only this side knows: the wait for its place is a part of the load.

    Args:
        told: by who answered; where that is another server, it may have loaded the model for this very answer.
        started: when the request came.
        loaded: when it had a place.
        now: when it was answered.
    """
    return replace(told, total=now - started, load=loaded - started + told.load)
