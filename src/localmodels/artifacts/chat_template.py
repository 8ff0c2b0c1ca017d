"""A conversation as the text that a model goes on with, by the template it came with. The rule: Ollama's prompt.

There are two kinds of templates. One goes through ``.Messages`` by itself. An older one knows one exchange,
``.System``, ``.Prompt`` and ``.Response``, and is rendered once for each; the last time it ends where the answer goes,
so that an answer already begun is gone on with. Which kind it is, and what the model can do, shows in the names that a
template mentions (:mod:`.gotemplate.anatomy`).

A template is read once and kept; a rendering takes about half a millisecond for twenty messages, and what it may cost
grows with what the caller sent, never with what the template's maker wrote.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

from localmodels.artifacts.gotemplate import NAMES, Limits, Program, anatomy, conversation, parse
from localmodels.core.catalog import Capability
from localmodels.core.chat import Image, Message, Text, ThinkLevel, Tool
from localmodels.core.errors import Unsupported

Think = bool | ThinkLevel | None


class ChatTemplate(Struct, frozen=True):
    """A template that was read.

    Attributes:
        source: its text.
        names: the fields and variables that it mentions, in lower case.
        whole: renders all of it.
        opening: renders it up to the answer; for templates of one exchange.
        thinking_tags: what stands before and after the model's thoughts; both empty if the template shows none.
        tool_tag: with what a tool call of the model begins; ``{`` if calls are bare JSON.
        tool_texts: what the template puts before a tool call, and after it.
    """

    source: str
    names: frozenset[str]
    whole: Program
    opening: Program
    thinking_tags: tuple[str, str]
    tool_tag: str
    tool_texts: tuple[str, str]

    @property
    def reads_messages(self) -> bool:
        """It goes through the messages by itself."""
        return "messages" in self.names

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the model can do, as far as its template shows: tools, insert (a suffix), thinking."""
        shown: dict[Capability, bool] = {
            "tools": "tools" in self.names,
            "insert": "suffix" in self.names,
            "thinking": all(self.thinking_tags),
        }
        return frozenset(capability for capability, is_shown in shown.items() if is_shown)


class Prompt(Struct, frozen=True):
    """A prompt; ``[img-0]`` and so on in it stand for ``images``."""

    text: str
    images: tuple[Image, ...] = ()


def read_chat_template(source: str) -> ChatTemplate:
    """Reads a template of Ollama's kind.

    Raises:
        InvalidRequest: it cannot be rendered; names the line and what was expected there.
    """
    tree = parse(source, NAMES)
    names = anatomy.names(tree)
    if names.isdisjoint({"messages", "response"}):
        tree, names = anatomy.with_answer(tree), names | {"response"}
    return ChatTemplate(
        source=source,
        names=names,
        whole=Program(tree),
        opening=Program(anatomy.up_to_answer(tree)),
        thinking_tags=anatomy.thinking_tags(tree),
        tool_tag=anatomy.tool_tag(tree),
        tool_texts=anatomy.around_calls(tree),
    )


def render_chat(
    template: ChatTemplate,
    messages: Sequence[Message],
    *,
    tools: Sequence[Tool] = (),
    think: Think = None,
    today: datetime.date,
) -> Prompt:
    """The prompt for the next turn; an assistant's message at the end is gone on with, where the template can.

    ``think`` None is on where the template shows thoughts, as in Ollama.

    Raises:
        InvalidRequest: a tool call's arguments are no JSON.
        InvalidValue: a tool's schema says something that a prompt cannot.
        ModelDamaged: the template fails, or costs too much; names the line.
    """
    tagged, images = _tag_images(messages)
    system, turns = _collate(tagged)
    # To describe tools takes time, and most templates do not.
    described = tools if "tools" in template.names else ()
    limits = _limits(messages, described)
    common = _thinking(template, think)
    if not template.reads_messages:
        return Prompt(_exchanges(template, turns, common, today, limits), images)
    data = {
        "System": system,
        "Messages": conversation.Messages(conversation.message(turn, turn.text) for turn in turns),
        "Tools": conversation.tools(described),
        "Response": "",
        **common,
    }
    return Prompt(template.whole.render(data, today=today, limits=limits), images)


def render_insert(
    template: ChatTemplate, prompt: str, suffix: str, *, think: Think = None, today: datetime.date
) -> str:
    """The prompt for what belongs between ``prompt`` and ``suffix``.

    Raises:
        Unsupported: the template has no place for a suffix.
        ModelDamaged: the template fails, or costs too much; names the line.
    """
    if "insert" not in template.capabilities:
        raise Unsupported("this model cannot fill in: its template has no place for a suffix", param="suffix")
    data = {"Prompt": prompt, "Suffix": suffix, "Response": "", **_thinking(template, think)}
    limits = _limits((Message("user", (Text(prompt), Text(suffix))),))
    return template.whole.render(data, today=today, limits=limits)


def _thinking(template: ChatTemplate, think: Think) -> dict[str, bool | str]:
    asked: Think = True if think is None and "thinking" in template.capabilities else think
    level = asked if isinstance(asked, str) else "medium" if asked else ""
    return {"Think": bool(asked), "ThinkLevel": level, "IsThinkSet": asked is not None}


def _limits(messages: Sequence[Message], tools: Sequence[Tool] = ()) -> Limits:
    """What the rendering may cost: more for a longer conversation, since each of its texts is gone through."""
    texts = (part.text for message in messages for part in message.parts if isinstance(part, Text))
    calls = (call.arguments for message in messages for call in message.tool_calls)
    schemas = (msgspec.json.encode(tool.parameters) for tool in tools)
    size = sum(map(len, (*texts, *calls, *schemas, *(message.thinking for message in messages))))
    least = Limits()
    return Limits(
        steps=least.steps + 200 * (len(messages) + len(tools)) + size,
        output=least.output + 8 * size,  # four bytes a character, twice
    )


# Messages


def _tag_images(messages: Sequence[Message]) -> tuple[list[Message], tuple[Image, ...]]:
    """The messages with a mark for each picture: at the next ``[img]`` of its text, else in front of it."""
    images: list[Image] = []
    tagged = []
    for message in messages:
        own = [part for part in message.parts if isinstance(part, Image)]
        front, text = "", message.text
        for image in own:
            mark = f"[img-{len(images)}]"
            images.append(image)
            if "[img]" in text:
                text = text.replace("[img]", mark, 1)
            else:
                front += mark
        tagged.append(_replace_text(message, front + text) if own else message)
    return tagged, tuple(images)


def _replace_text(message: Message, text: str) -> Message:
    images = tuple(part for part in message.parts if isinstance(part, Image))
    return Message(
        message.role,
        (Text(text), *images),
        message.thinking,
        message.tool_calls,
        message.tool_call_id,
        message.tool_name,
    )


def _collate(messages: Sequence[Message]) -> tuple[str, list[Message]]:
    """All system messages as one text, and the messages, of which neighbours of one role are joined.

    Answers of tools stay apart. Ollama forgets the tool calls, thoughts and pictures of a message that it joins to
    another; here they are joined too.
    """
    system = "\n\n".join(message.text for message in messages if message.role == "system")
    turns: list[Message] = []
    for message in messages:
        if turns and turns[-1].role == message.role != "tool":
            turns[-1] = _joined(turns[-1], message)
        else:
            turns.append(message)
    return system, turns


def _joined(one: Message, other: Message) -> Message:
    images = (part for message in (one, other) for part in message.parts if isinstance(part, Image))
    return Message(
        one.role,
        (Text(f"{one.text}\n\n{other.text}"), *images),
        "\n\n".join(filter(None, (one.thinking, other.thinking))),
        one.tool_calls + other.tool_calls,
    )


# Templates of one exchange


class _Exchange(Struct, frozen=True):
    system: str = ""
    prompt: str = ""
    response: str = ""


def _exchanges(
    template: ChatTemplate,
    turns: Sequence[Message],
    common: dict[str, bool | str],
    today: datetime.date,
    limits: Limits,
) -> str:
    *finished, last = _folded(turns)
    parts = [
        program.render(
            {"System": exchange.system, "Prompt": exchange.prompt, "Response": exchange.response, **common},
            today=today,
            limits=limits,
        )
        for program, exchange in (*((template.whole, done) for done in finished), (template.opening, last))
    ]
    return "".join(parts)


def _folded(turns: Sequence[Message]) -> Iterator[_Exchange]:
    """The conversation as exchanges; the last is the one that is to be answered. Answers of tools have no place."""
    system = prompt = response = ""
    for turn in turns:
        if (turn.role == "user" and response) or (turn.role == "system" and (prompt or response)):
            yield _Exchange(system, prompt, response)
            system = prompt = response = ""
        if turn.role == "system":
            system = turn.text
        elif turn.role == "user":
            prompt = turn.text
        elif turn.role == "assistant":
            response = turn.text
    yield _Exchange(system, prompt, response)
