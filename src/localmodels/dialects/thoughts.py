"""A model's thought, taken off the beginning of what it says. The rule: only what stands first can be one."""

from __future__ import annotations

from collections.abc import Callable


class Thoughts:
    """Takes the thought off the beginning of a text. White space around it is nobody's."""

    def __init__(self, tags: tuple[str, str], *, inside: bool) -> None:
        self._opening, self._closing = tags
        self._held = ""
        first = self._begun if inside else self._before
        self._step: Callable[[], tuple[str, str]] = first if all(tags) else self._after

    @property
    def over(self) -> bool:
        """Has something come that is no thought?"""
        return self._step == self._after

    def feed(self, text: str) -> tuple[str, str]:
        """What is thought and what is said, as far as it is certain."""
        self._held += text
        thought, said = "", ""
        step = None
        while step != self._step:
            step = self._step
            more_thought, more_said = step()
            thought, said = thought + more_thought, said + more_said
        return thought, said

    def end(self) -> tuple[str, str]:
        """What was held back."""
        held, self._held = self._held, ""
        return (held.rstrip(), "") if self._step == self._inside else ("", held if self._step == self._before else "")

    def _before(self) -> tuple[str, str]:
        begun = self._held.lstrip()
        if begun.startswith(self._opening):
            self._held = begun[len(self._opening) :]
            self._step = self._begun
        elif not self._opening.startswith(begun):
            self._step = self._after
        return "", ""

    def _begun(self) -> tuple[str, str]:
        self._held = self._held.lstrip()
        if self._held:
            self._step = self._inside
        return "", ""

    def _inside(self) -> tuple[str, str]:
        thought, found, rest = self._held.partition(self._closing)
        if found:
            self._held = rest
            self._step = self._ended
            return thought.rstrip(), ""
        end = certain(self._held, (self._closing,))
        thought, self._held = self._held[:end], self._held[end:]
        return thought, ""

    def _ended(self) -> tuple[str, str]:
        self._held = self._held.lstrip()
        if self._held:
            self._step = self._after
        return "", ""

    def _after(self) -> tuple[str, str]:
        said, self._held = self._held, ""
        return "", said


def certain(text: str, tags: tuple[str, ...]) -> int:
    """How much of a text cannot be the white space before a tag, or the beginning of one."""
    for length in range(min(len(text), max(map(len, tags)) - 1), 0, -1):
        if any(tag.startswith(text[-length:]) for tag in tags):
            return len(text[:-length].rstrip())
    return len(text.rstrip())
