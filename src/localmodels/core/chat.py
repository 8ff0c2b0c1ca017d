"""What is asked of a model and what comes back, free of any wire format.

One request value per kind of question, and one stream of events for every answer: any number of :class:`Chunk`, then
exactly one :class:`Done`. A stream that ends without ``Done`` was cut; nobody may pretend otherwise. The answer in one
piece is a fold of the same stream (:func:`fold`), so there is a single path. Several answers to one question (``n``)
are one stream as well: each chunk says of which it is, each of them ends with a chunk that says so, and only the end of
the last is ``Done``.

Streams are passed along as lists of the events that arrived together: written out in one go they cost a relay a tenth
of what they cost one by one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from localmodels.core.errors import StreamCut
from localmodels.core.options import NO_OPTIONS, Options

Role = Literal["system", "user", "assistant", "tool"]
ThinkLevel = Literal["low", "medium", "high", "max"]
# `load` and `unload` answer an empty request, which only moves a model in or out of memory (Ollama's convention).
FinishReason = Literal["stop", "length", "tool_calls", "load", "unload"]


class Text(Struct, frozen=True, tag="text"):
    """A piece of text in a message."""

    text: str


class Image(Struct, frozen=True, tag="image"):
    """A picture in a message. ``media_type`` is empty where the dialect does not carry one."""

    data: bytes
    media_type: str = ""


Part = Text | Image


class ToolCall(Struct, frozen=True):
    """A call that the model made. ``arguments`` is JSON text as the model wrote it; of a ``custom`` tool any text."""

    id: str
    name: str
    arguments: str
    custom: bool = False


class Message(Struct, frozen=True):
    """One turn. A ``tool`` message answers the call ``tool_call_id`` (in Ollama's dialect: the tool ``tool_name``)."""

    role: Role
    parts: tuple[Part, ...] = ()
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    tool_name: str = ""

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


class Tool(Struct, frozen=True):
    """A function that the model may call. ``parameters`` is a JSON schema.

    A ``custom`` tool takes one free text instead of JSON; ``grammar`` says, in words or in a notation of the caller's,
    what that text looks like.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    custom: bool = False
    grammar: str = ""


class ToolChoice(Struct, frozen=True):
    """``auto``, ``none``, ``required`` (any tool), or ``function`` with the ``name`` of the one tool to call."""

    mode: Literal["auto", "none", "required", "function"] = "auto"
    name: str = ""


class Format(Struct, frozen=True):
    """The answer must be JSON; with a schema, JSON of that shape."""

    schema: dict[str, Any] | None = None
    name: str = ""


class Lora(Struct, frozen=True):
    """How strongly one of a model's LoRA adapters counts: by its name, or by its place, of which the first is 0."""

    adapter: str | int
    scale: float = 1.0


class ChatRequest(Struct, frozen=True):
    """A conversation to go on with.

    Attributes:
        model: the name as the caller wrote it.
        think: False switches thinking off, True or a level on; None leaves it to the model.
        keep_alive: seconds that the model stays loaded after this request; negative is for ever; None is the default.
        truncate: may old turns be dropped when the conversation does not fit?
        shift: may the context shift when the answer reaches its end?
        logprobs: report the log-probability of each token, with ``top_logprobs`` alternatives.
        include_usage: the asking dialect wants usage in the stream.
        lora: the model's adapters that count, the others do not; None lets all of them count in full.
        think_wish: ``think`` is only a wish: a model that cannot think answers without. Clients of some dialects always
            ask for it.
        think_budget: most tokens of thinking; None leaves it to the model.
        early_prompt: the asking dialect tells the prompt's tokens before the first piece of the answer.
        n: how many answers, each of its own; only :mod:`localmodels.flows.answering.choices` sees more than one.
        include_thinking: the asking dialect wants to see the thoughts.
        ignored_tools: names of tools that were offered and that nobody here can run; the answer says so in a header.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool | None = None
    format: Format | None = None
    think: bool | ThinkLevel | None = None
    options: Options = NO_OPTIONS
    stream: bool = True
    keep_alive: float | None = None
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = 0
    include_usage: bool = True
    lora: tuple[Lora, ...] | None = None
    think_wish: bool = False
    think_budget: int | None = None
    early_prompt: bool = False
    n: int = 1
    include_thinking: bool = True
    ignored_tools: tuple[str, ...] = ()


class GenerateRequest(Struct, frozen=True):
    """A text to go on with.

    ``raw`` sends ``prompt`` to the model as it stands; otherwise it is one user message under the model's template,
    with ``system`` before it. ``prompt`` as token ids is always raw. ``suffix`` asks to fill the middle. ``template``
    takes the place of the model's own (Ollama's kind). In a raw prompt ``[img-0]`` and so on stand for ``images``.
    ``visible`` are control tokens that the answer shows as text. ``lora`` and ``n`` are as in :class:`ChatRequest`;
    ``prompts`` are to be gone on with as well, each ``n`` times, after ``prompt``.
    """

    model: str
    prompt: str | tuple[int, ...] = ""
    suffix: str = ""
    system: str | None = None
    template: str = ""
    visible: tuple[str, ...] = ()
    images: tuple[Image, ...] = ()
    raw: bool = False
    context: tuple[int, ...] = ()
    echo: bool = False
    format: Format | None = None
    think: bool | ThinkLevel | None = None
    options: Options = NO_OPTIONS
    stream: bool = True
    keep_alive: float | None = None
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = 0
    include_usage: bool = True
    lora: tuple[Lora, ...] | None = None
    n: int = 1
    prompts: tuple[str | tuple[int, ...], ...] = ()

    @property
    def every_prompt(self) -> tuple[str | tuple[int, ...], ...]:
        """All of them."""
        return (self.prompt, *self.prompts)


class EmbedRequest(Struct, frozen=True):
    """Texts (or token ids) to turn into vectors. ``single`` is set when the caller sent one input outside a list."""

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    single: bool = False
    dimensions: int | None = None
    encoding: Literal["float", "base64"] = "float"
    truncate: bool = True
    options: Options = NO_OPTIONS
    keep_alive: float | None = None


class TopLogprob(Struct, frozen=True):
    """A token that could have stood here, with its natural-log probability."""

    token: str
    logprob: float
    bytes: tuple[int, ...] = ()


class TokenLogprob(Struct, frozen=True):
    """A token that stands here, with its natural-log probability and the likeliest alternatives."""

    token: str
    logprob: float
    bytes: tuple[int, ...] = ()
    top: tuple[TopLogprob, ...] = ()


class ToolCallDelta(Struct, frozen=True):
    """A piece of the tool call number ``index``: ``id`` and ``name`` come first, ``arguments`` grow."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    custom: bool = False


class Usage(Struct, frozen=True):
    """Tokens, as the model's tokenizer counts. ``cached`` of the prompt's tokens were not computed again.

    ``reasoning_tokens`` of the completion's were thoughts; None where nobody counted them. Where not ``counted``, a
    server told figures that cannot be true, and these are what is left of them: what is charged is estimated.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int | None = None
    counted: bool = True


class Chunk(Struct, frozen=True):
    """What arrived since the last chunk. ``prompt`` is what is known of the prompt before the first token.

    Of several answers it is the one of number ``choice``, from 0; ``ended`` says why that one is over, while others go
    on.
    """

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt: Usage | None = None
    choice: int = 0
    ended: FinishReason | None = None


class Timings(Struct, frozen=True):
    """Durations in nanoseconds: waiting and loading, reading the prompt, generating, and everything."""

    total: int = 0
    load: int = 0
    prompt_eval: int = 0
    eval: int = 0


class Done(Struct, frozen=True):
    """The model ended its answer. ``truncated_messages`` old messages were left out to make it fit.

    ``stop`` is the one of the request's stop texts that ended it, where that is known. Of several answers it is the end
    of number ``choice``, and the figures are those of all.
    """

    reason: FinishReason = "stop"
    usage: Usage = Usage()
    timings: Timings = Timings()
    truncated_messages: int = 0
    context: tuple[int, ...] = ()
    stop: str = ""
    choice: int = 0


Event = Chunk | Done


def is_early(event: Event) -> bool:
    """Does it tell of the prompt alone? Then nothing of the answer has come, and the prompt need not have been read."""
    return isinstance(event, Chunk) and event.prompt is not None and event == Chunk(prompt=event.prompt)


class Answer(Struct, frozen=True):
    """A whole answer in one piece. ``others`` are the further ones, where several were asked for."""

    done: Done
    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    others: tuple[Answer, ...] = ()


class Embeddings(Struct, frozen=True):
    """One vector an input, in the order asked."""

    vectors: tuple[tuple[float, ...], ...]
    prompt_tokens: int = 0
    timings: Timings = Timings()


class Fold:
    """Gathers events into an :class:`Answer`."""

    def __init__(self) -> None:
        self._choices = {0: _Gathered()}
        self._done: Done | None = None

    def add(self, event: Event) -> None:
        """Takes the next event."""
        gathered = self._choices.get(event.choice) or self._choices.setdefault(event.choice, _Gathered())
        if isinstance(event, Done):
            self._done = event
            gathered.reason = event.reason
        else:
            gathered.add(event)

    def answer(self) -> Answer:
        """The whole.

        Raises:
            StreamCut: no ``Done`` came, or one of several answers was not ended.
        """
        if self._done is None:
            raise StreamCut("the answer ended before its end was said")
        first, *others = (gathered for _, gathered in sorted(self._choices.items()))
        return replace(first.answer(self._done), others=tuple(other.answer(Done()) for other in others))


class _Gathered:
    """One of several answers, or the only one."""

    def __init__(self) -> None:
        self.reason: FinishReason | None = None
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._calls: dict[int, ToolCall] = {}
        self._logprobs: list[TokenLogprob] = []

    def add(self, event: Chunk) -> None:
        self.reason = event.ended or self.reason
        self._text.append(event.text)
        self._thinking.append(event.thinking)
        self._logprobs.extend(event.logprobs)
        for delta in event.tool_calls:
            known = self._calls.get(delta.index)
            self._calls[delta.index] = ToolCall(
                id=(known.id if known else "") or delta.id,
                name=(known.name if known else "") + delta.name,
                arguments=(known.arguments if known else "") + delta.arguments,
                custom=delta.custom or bool(known and known.custom),
            )

    def answer(self, done: Done) -> Answer:
        if self.reason is None:
            raise StreamCut("one of the answers ended before its end was said")
        return Answer(
            done=done if done.reason == self.reason else replace(done, reason=self.reason),
            text="".join(self._text),
            thinking="".join(self._thinking),
            tool_calls=tuple(call for _, call in sorted(self._calls.items())),
            logprobs=tuple(self._logprobs),
        )


async def fold(stream: AsyncIterator[list[Event]]) -> Answer:
    """The answer in one piece; raises what the stream raises, or ``StreamCut`` when it just stops."""
    folded = Fold()
    async for events in stream:
        for event in events:
            folded.add(event)
    return folded.answer()


def unfold(answer: Answer) -> Iterable[Event]:
    """The answer as the shortest stream that folds back to it; of several answers, the first ends last."""
    for choice, other in enumerate(answer.others, 1):
        yield replace(_chunk(other), choice=choice, ended=other.done.reason)
    if (chunk := _chunk(answer)) != _NOTHING:
        yield chunk
    yield answer.done


def _chunk(answer: Answer) -> Chunk:
    calls = tuple(
        ToolCallDelta(i, call.id, call.name, call.arguments, call.custom) for i, call in enumerate(answer.tool_calls)
    )
    return Chunk(answer.text, answer.thinking, calls, answer.logprobs)


_NOTHING = Chunk()
