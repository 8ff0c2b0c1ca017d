"""A streamed answer: its head, its pieces as they come, and the error in-band if they break.

The one rule: until the first value is there nothing has been sent, and an error is an HTTP status, which the
application writes; after it an error is written in the form's own way, and no sign of success follows. So a route
takes the first value by itself, and hands over the rest::

    async with aclosing(flow(request)) as steps:
        first = await anext(steps)
        form = Form(dialect.stream_type, write_step, fail)
        await respond_stream(scope, send, first, steps, form)

A client that takes nothing is given up, and what fails is noted in the visit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from msgspec import Struct
from starlette.types import Message, Scope, Send

from localmodels.core.errors import LocalModelsError, unforeseen
from localmodels.server.pings import Pulse, awake
from localmodels.server.wire import MOST_BLOCKED, ClientStalled, Headers, begin, impatient, visit_of

T = TypeVar("T")


class Form(Struct, Generic[T], frozen=True):
    """What a stream of values looks like on the wire.

    Attributes:
        content_type: of the answer.
        write: the bytes of one value; ``bytes`` for values that are written already.
        fail: the bytes that end a stream which broke. None where the values tell of errors by themselves; an error that
            is raised all the same cuts the answer.
    """

    content_type: str
    write: Callable[[T], bytes]
    fail: Callable[[LocalModelsError], bytes] | None


async def respond_stream(
    scope: Scope,
    send: Send,
    first: T,
    rest: AsyncIterator[T],
    form: Form[T],
    *,
    headers: Headers = (),
    pulse: Pulse | None = None,
    most_blocked: float = MOST_BLOCKED,
) -> None:
    """Answers with values as they come. Who calls closes ``rest``.

    Args:
        scope: of the request.
        send: takes the answer.
        first: the first value.
        rest: the others.
        form: what they look like.
        headers: of the answer, beside its type.
        pulse: what is said when the stream has been silent for a while.
        most_blocked: seconds that a client may take nothing before it is given up.

    Raises:
        ClientStalled: it was.
        LocalModelsError: the form cannot tell it.
    """
    send = impatient(scope, send, most_blocked)
    await begin(send, 200, form.content_type, headers)
    last = b""
    async with awake(send, pulse) as say:
        try:
            await say(_piece(form.write(first)))
            async for value in rest:
                await say(_piece(form.write(value)))
        except LocalModelsError as error:
            if form.fail is None:
                raise
            visit_of(scope).error = error
            last = form.fail(error)
        except ClientStalled:
            raise
        except Exception:  # a defect of ours: told like any other error, before the application cuts the answer
            if form.fail is not None:
                await say(_piece(form.fail(unforeseen())))
            raise
    await send({"type": "http.response.body", "body": last})


def _piece(data: bytes) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": True}
