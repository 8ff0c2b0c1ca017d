"""Marks of a prompt: by them two prompts that begin alike are known, and how far they do.

The rule: the same beginning gives the same marks, whatever follows it. They mean something in this process only, since
hashes of texts differ from one to the next; and a request that passes as it came has others than one that was read.

A mark stands at the end of every message, and within long texts after every half thousand characters, later after
each eighth of what lies before. So one more turn of a conversation finds all the turns before it, and a prompt of 100
KB has forty marks.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, repeat

import msgspec

from localmodels.core.chat import ChatRequest, GenerateRequest, Text
from localmodels.fleet.affinity import Mark, Prefix

# Characters of the shortest piece of a text, some hundred tokens: what is shorter is read in a moment.
SHORTEST = 512
# A longer piece is this part of what lies before it, so that what is not seen as alike is at most as much.
PART = 8
# Marks of one prompt: those at its beginning, where system prompts are, and those at its end, where it goes on.
FIRST, LAST = 16, 48
# As the limits guess it: characters a token in English, and half of that where letters are not ASCII's.
CHARACTERS, OTHERS = 4, 2
TOKENS_A_PICTURE = 576
# Characters of JSON between quotation marks that without a blank are no text but a picture.
PICTURE = 2**14
_GLIMPSE = 256  # bytes at both ends of a picture, by which it is known beside its size

# What stands before the conversation in a model's template, and what the conversation is called, in all dialects.
_BEFORE = ("tools", "functions", "instructions", "system", "template", "context")
_PROMPTS = ("messages", "input", "prompt")
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


# Where texts are cut, up to some 200 MB.
_CUTS = tuple(accumulate(repeat(SHORTEST, 100), lambda at, _: at + max(SHORTEST, at // PART)))


class Marker:
    """Makes the marks of one prompt, which is told to it from its beginning.

    Args:
        seed: what two prompts must have in common to be alike at all.
    """

    def __init__(self, *seed: object) -> None:
        self._hash = hash(seed)
        self._tokens = 0
        self._marks: list[Mark] = []

    def note(self, *what: object) -> None:
        """Something that takes no tokens worth counting, such as whose turn it is."""
        self._hash = hash((self._hash, what))

    def text(self, text: str | bytes | tuple[int, ...]) -> None:
        """A text, or ids of tokens."""
        size = len(text)
        per = 1 if isinstance(text, tuple) else CHARACTERS if text.isascii() else OTHERS
        start, before = 0, self._tokens
        for cut in _CUTS:
            if cut >= size:
                break
            self._hash = hash((self._hash, text[start:cut]))
            self._marks.append((self._hash, before + cut // per))
            start = cut
        self._hash = hash((self._hash, text[start:]))
        self._tokens = before + size // per

    def picture(self, data: bytes) -> None:
        """A picture, known by its size and its ends."""
        self.note(len(data), data[:_GLIMPSE], data[-_GLIMPSE:])
        self._tokens += TOKENS_A_PICTURE

    def end(self) -> None:
        """Of a message, or of all."""
        self._marks.append((self._hash, max(1, self._tokens)))

    def prefix(self) -> Prefix:
        """The marks; the last one is that of the whole prompt."""
        marks = self._marks
        return tuple(marks if len(marks) <= FIRST + LAST else marks[:FIRST] + marks[-LAST:])


def marks_of(request: ChatRequest | GenerateRequest, model: str) -> Prefix:
    """The marks of a request to this model; the last one is that of the whole prompt, and tells its tokens."""
    marker = Marker(model, request.lora)
    if isinstance(request, GenerateRequest):
        _generate(request, marker)
    else:
        _chat(request, marker)
    return marker.prefix()


def marks_of_fields(fields: Mapping[str, msgspec.Raw], model: str) -> Prefix:
    """The marks of a request of any dialect that nobody has read, by its fields; none where it has no prompt."""
    marker = Marker(model)
    for name in _BEFORE:
        if (value := fields.get(name)) is not None:
            marker.note(name)
            marker.text(bytes(value))
    prompt = next((value for name in _PROMPTS if (value := fields.get(name)) is not None), None)
    if prompt is None:
        return ()
    for message in _messages(bytes(prompt)):
        _raw(message, marker)
        marker.end()
    return marker.prefix()


def _chat(request: ChatRequest, marker: Marker) -> None:
    if request.tools:
        marker.text(msgspec.json.encode(request.tools))
    for message in request.messages:
        marker.note(message.role, message.tool_name, message.tool_call_id)
        marker.text(message.thinking)
        for part in message.parts:
            if isinstance(part, Text):
                marker.text(part.text)
            else:
                marker.picture(part.data)
        for call in message.tool_calls:
            marker.note(call.id, call.name)
            marker.text(call.arguments)
        marker.end()


def _generate(request: GenerateRequest, marker: Marker) -> None:
    marker.note(request.raw, request.template)
    marker.text(request.system or "")
    marker.text(request.context)
    for image in request.images:
        marker.picture(image.data)
    marker.text(request.prompt)
    marker.end()


def _messages(prompt: bytes) -> list[bytes]:
    """The messages of a conversation; a prompt of another form is one piece."""
    if prompt[:1] != b"[":
        return [prompt]
    try:
        items = _ITEMS.decode(prompt)
    except msgspec.DecodeError:
        return [prompt]
    first = bytes(items[0])[:1] if items else b""
    return [bytes(item) for item in items] if first == b"{" else [prompt]


def _raw(message: bytes, marker: Marker) -> None:
    if len(message) < PICTURE:
        marker.text(message)
        return
    texts = message.split(b'"')
    if not any(map(_is_picture, texts)):
        marker.text(message)
        return
    for text in texts:
        if _is_picture(text):
            marker.picture(text)
        else:
            marker.text(text)


def _is_picture(text: bytes) -> bool:
    return len(text) > PICTURE and b" " not in text
