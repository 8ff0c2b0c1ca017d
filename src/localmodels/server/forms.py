"""Forms with a file in them (RFC 7578), taken piece by piece: nothing of the file is ever held.

The rule: what a form may have beside its file is bounded before it is read, so that a million parts cost as much as a
few dozen (threat V-09).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header

from localmodels.core.errors import InvalidRequest, TooLarge, UnsupportedMedia

FORM_TYPE = "multipart/form-data"
MOST_PARTS = 32
MOST_TEXT = 2**20  # bytes of one field
LONGEST_BOUNDARY = 70  # RFC 2046

Take = Callable[[str, Mapping[str, str], AsyncIterator[bytes]], Awaitable[None]]
"""Is given the file's name, the fields that came before it, and its pieces, all of which it takes."""

_Events = AsyncGenerator[MultipartSegment | bytes | bytearray | None, None]


def boundary_of(content_type: str) -> str:
    """What stands between the parts.

    Raises:
        UnsupportedMedia: the body is no form.
        InvalidRequest: the boundary is missing, or none that can be one.
    """
    kind, options = parse_options_header(content_type)
    if kind.lower() != FORM_TYPE:
        raise UnsupportedMedia(f"the body must be a form, {FORM_TYPE}, not '{kind[:60]}'")
    boundary: str = options.get("boundary", "")
    if not 0 < len(boundary) <= LONGEST_BOUNDARY or not boundary.isascii():
        raise InvalidRequest(f"the boundary of {FORM_TYPE} must be 1 to {LONGEST_BOUNDARY} ASCII characters")
    return boundary


async def read_form(
    boundary: str, pieces: AsyncIterator[bytes], size: int | None, files: Collection[str], take: Take
) -> dict[str, str]:
    """The texts of a form by the names of their fields; its one file goes to ``take`` as it comes.

    Args:
        boundary: see :func:`boundary_of`.
        pieces: the body.
        size: of it, as the request says.
        files: names under which the file may come.
        take: whoever takes it; awaited before the fields that come after it are read.

    Raises:
        InvalidRequest: this is no sound form, has no file or more than one, or a field twice.
        TooLarge: it has too many fields, or a text is too long.
    """
    # Not strict: that would refuse a body whose very last line break comes by itself.
    parser = PushMultipartParser(boundary, -1 if size is None else size, max_segment_count=MOST_PARTS)
    texts: dict[str, str] = {}
    taken = False
    events = _events(parser, pieces)
    async with aclosing(events):
        async for part in events:
            if not isinstance(part, MultipartSegment):
                raise InvalidRequest("the form is not sound")
            if part.filename:
                if part.name not in files:
                    raise InvalidRequest(f"the file must come as the field {_either(files)}, not '{part.name[:60]}'")
                if taken:
                    raise InvalidRequest("the form has more than one file; pack them as .zip or .tar")
                taken = True
                await take(part.filename, texts, _body(events))
            elif part.name in texts:
                raise InvalidRequest(f"the field '{part.name[:60]}' comes twice", param=part.name[:60])
            else:
                texts[part.name] = await _text(part.name, events)
    if not taken:
        raise InvalidRequest(f"the form has no file; it must come as the field {_either(files)}, with a file name")
    return texts


def _either(names: Collection[str]) -> str:
    return " or ".join(f"'{name}'" for name in sorted(names))


async def _events(parser: PushMultipartParser, pieces: AsyncIterator[bytes]) -> _Events:
    try:
        async for piece in pieces:
            for event in parser.parse(piece):
                yield event
        parser.close()
    except ParserLimitReached as error:
        raise TooLarge(f"the form is larger than one may be: at most {MOST_PARTS} fields ({error})") from error
    except MultipartError as error:
        raise InvalidRequest(f"the form is not sound: {error}") from error


async def _body(events: _Events) -> AsyncIterator[bytes]:
    """The bytes of one part."""
    async for event in events:
        if event is None:
            return
        if isinstance(event, bytes | bytearray):
            yield bytes(event)


async def _text(name: str, events: _Events) -> str:
    data = bytearray()
    async for piece in _body(events):
        data += piece
        if len(data) > MOST_TEXT:
            raise TooLarge(f"the field '{name[:60]}' is longer than {MOST_TEXT >> 20} MiB", param=name[:60])
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the field '{name[:60]}' is not UTF-8", param=name[:60]) from error
