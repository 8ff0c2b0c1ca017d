"""What a model says, split by the tags that its template shows: what it thinks, what it says, which tools it calls.

A template tells how a model writes, and this is the other half of it: the way of writing is the model's dialect, so it
is read here, like every other one, without I/O. The rule: the same text gives the same events, however it was cut, and
nothing of it is lost. What can still become a tag waits, a call is handed on whole, and what turns out to be no call is
told as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from uuid import uuid4

from msgspec import Struct
from msgspec.structs import replace

from localmodels.core.chat import Chunk, Done, Event, ToolCallDelta
from localmodels.dialects.called import Call, Scanner, calls_in
from localmodels.dialects.thoughts import Thoughts, certain

BARE = "{"  # the tag of models whose calls are JSON and nothing else
LONGEST_LABEL = 200  # characters between a tag and its JSON; a name and a few tags
_CONTROL = re.compile(r"<[^<>]+>|\[[^][]+\]")
_JOINTS = re.compile(r"[\s,;\]})]*")
_FENCE = "```"
Step = Callable[[], str | None]


class Tags(Struct, frozen=True):
    """What stands around thoughts and calls.

    Attributes:
        thought: before and after a thought; both empty where the model has none.
        call: before a call; ``{`` where calls are bare JSON.
        call_start: what the template puts before a call, as it stands there.
        call_end: and after it.
    """

    thought: tuple[str, str] = ("", "")
    call: str = BARE
    call_start: str = ""
    call_end: str = ""

    @property
    def opening(self) -> str:
        """With what a call begins: the tag without the bracket of a list, and without a head that the prompt has."""
        tag = self.call.splitlines()[-1] if "assistant" in self.call else self.call
        return tag.strip().rstrip("[{").rstrip()

    @property
    def openings(self) -> tuple[str, ...]:
        """With what one of several calls may begin."""
        inner = _CONTROL.findall(self.call_start.partition("{")[0])
        return tuple(dict.fromkeys(filter(None, (self.opening, *inner))))

    @property
    def endings(self) -> tuple[str, ...]:
        """What may follow a call and says nothing: the tags that the template shows there, and the opening's twin."""
        tag = self.opening
        twin = f"{tag[0]}/{tag[1:]}" if _CONTROL.fullmatch(tag) else ""
        return tuple(dict.fromkeys(filter(None, (twin, *_CONTROL.findall(self.call_end), _FENCE))))

    def controls(self, *, calls: bool) -> tuple[str, ...]:
        """What may be a token that an engine does not show unless it is told to; around calls only if any may come."""
        opening = _CONTROL.match(self.opening)
        around = (opening[0] if opening else "", *self.openings[1:]) if calls else ()
        return tuple(dict.fromkeys(filter(None, (*self.thought, *around))))


def call_id() -> str:
    """A name for a call, since models give none."""
    return f"call_{uuid4().hex[:24]}"


class TaggedReader:
    """Splits the events of a raw answer.

    Args:
        tags: what to look for.
        offered: names of the tools that may be called; without any, calls are text.
        inside: does the answer begin in the middle of a thought, since the prompt ends with its tag?
        most: calls that are let through; None for all.
    """

    def __init__(
        self,
        tags: Tags,
        offered: Collection[str] = (),
        *,
        inside: bool = False,
        most: int | None = None,
        new_id: Callable[[], str] = call_id,
    ) -> None:
        self._thoughts = Thoughts(tags.thought, inside=inside)
        self._calls = Calls(tags, offered) if offered else None
        self._most = most
        self._new_id = new_id
        self._called = 0

    @property
    def is_thinking(self) -> bool:
        """Has nothing but thoughts come yet?"""
        return not self._thoughts.over

    def read(self, event: Event) -> list[Event]:
        """What is certain after this event; nothing while a tag is incomplete."""
        if isinstance(event, Done):
            last = self._chunk(Chunk(), *self._thoughts.end(), ending=True)
            done = replace(event, reason="tool_calls") if self._called and event.reason == "stop" else event
            return [*last, done]
        return self._chunk(event, *self._thoughts.feed(event.text))

    def _chunk(self, event: Chunk, thinking: str, said: str, *, ending: bool = False) -> list[Event]:
        text, calls = (said, []) if self._calls is None else self._calls.feed(said)
        if ending and self._calls is not None:
            rest, more = self._calls.end()
            text, calls = text + rest, [*calls, *more]
        deltas = tuple(map(self._delta, calls if self._most is None else calls[: self._most - self._called]))
        thinking = event.thinking + thinking
        if text or thinking or deltas or event.logprobs:
            return [Chunk(text, thinking, deltas, event.logprobs)]
        return []

    def _delta(self, call: Call) -> ToolCallDelta:
        delta = ToolCallDelta(self._called, self._new_id(), call.name, call.arguments)
        self._called += 1
        return delta


class Calls:
    """Takes the calls out of a text. White space around them is nobody's.

    Args:
        tags: of the model.
        offered: names of the tools that there are.
    """

    def __init__(self, tags: Tags, offered: Collection[str]) -> None:
        self._tag = tags.opening
        self._endings = tags.endings
        self._joints = sorted({*tags.openings, *self._endings}, key=len, reverse=True)
        self._offered = frozenset(offered)
        self._held = ""
        self._found: list[Call] = []
        self._scanner = Scanner(0)
        self._label = 0  # where in the held text the tag of a call ends
        self._begin: Step = self._talking if self._tag else self._bare
        self._step: Step = self._begin

    def feed(self, text: str) -> tuple[str, list[Call]]:
        """What is said and what is called, as far as it is certain."""
        self._held += text
        said = ""
        while (more := self._step()) is not None:
            said += more
        calls, self._found = self._found, []
        return said, calls

    def end(self) -> tuple[str, tuple[Call, ...]]:
        """What was held back. What would have ended a call says nothing, and a list may lack its bracket."""
        held, self._held = self._held, ""
        if self._step == self._joint and any(ending.startswith(held) for ending in self._endings):
            return "", ()
        if self._step == self._calling and self._scanner.is_open_list:
            label, written = held[self._label : self._scanner.start], held[self._scanner.start :]
            if calls := calls_in(written.rstrip(", \n") + "]", label, self._offered):
                return "", calls
        return held, ()

    # Steps. Each gives a text that is certain, or None when it must wait for more.

    def _talking(self) -> str | None:
        at = self._held.find(self._tag)
        if at >= 0:
            return self._call(len(self._held[:at].rstrip()), at + len(self._tag))
        end = certain(self._held, (self._tag,))
        said, self._held = self._held[:end], self._held[end:]
        return said or None

    def _bare(self) -> str | None:
        begun = self._held.lstrip()
        if not begun:
            return None
        if begun[0] in "{[":
            return self._call(0, 0)
        return self._give_up()

    def _calling(self) -> str | None:
        scanner = self._scanner
        complete = scanner.scan(self._held)
        known = scanner.known if scanner.start >= 0 else len(self._held) - 1
        if known - self._label >= LONGEST_LABEL:
            return self._no_call(self._label)
        if not complete:
            return None
        label = self._held[self._label : scanner.start]
        if label.strip() and not self._label:  # without a tag nothing may stand before the JSON
            return self._no_call(scanner.end)
        calls = calls_in(self._held[scanner.start : scanner.end], label, self._offered)
        if not calls:
            return self._no_call(scanner.end)
        self._found += calls
        self._held = self._held[scanner.end :]
        self._step = self._joint
        return ""

    def _joint(self) -> str | None:
        """After a call: what ends it, another one, or something that is said."""
        self._held = _JOINTS.sub("", self._held, count=1)
        if not self._held or any(joint.startswith(self._held) and joint != self._held for joint in self._joints):
            return None
        joint = next((joint for joint in self._joints if self._held.startswith(joint)), "")
        if joint and joint in self._endings:
            self._held = self._held[len(joint) :]
            return ""
        if joint or self._held[0] in "{[":
            return self._call(0, len(joint))
        self._step = self._begin
        return "" if self._tag else self._give_up()

    def _over(self) -> str | None:
        said, self._held = self._held, ""
        return said or None

    def _call(self, said: int, label: int) -> str:
        """Goes on to a call, after as many characters that are said; its tag ends at ``label``."""
        text, self._held = self._held[:said], self._held[said:]
        self._label = label - said
        self._scanner = Scanner(self._label)
        self._step = self._calling
        return text

    def _no_call(self, end: int) -> str:
        """The held text up to ``end`` is said."""
        text, self._held = self._held[:end], self._held[end:]
        self._step = self._begin
        return text if self._tag else text + self._give_up()

    def _give_up(self) -> str:
        """Bare calls stand alone: once something else was said, the rest is said as well."""
        self._step = self._over
        return ""
