"""Lists of models in Anthropic's form, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from localmodels.core.catalog import Model
from localmodels.core.errors import InvalidRequest, InvalidValue
from localmodels.dialects.anthropic import wire
from localmodels.dialects.anthropic.reader import decoded
from localmodels.dialects.strict_json import encode

# Anthropic's own: a page where the request says nothing, and the largest.
PAGE, LARGEST_PAGE = 20, 1_000
# What this API says of a model whose day is not known.
_UNKNOWN_DAY = "1970-01-01T00:00:00Z"


class Page(Struct, frozen=True):
    """Which models of the list: at most ``limit`` after this one, or before that one."""

    limit: int = PAGE
    after: str = ""
    before: str = ""


FIRST = Page()


def read_page(query: Mapping[str, str]) -> Page:
    """The page that a query string asks for.

    Raises:
        InvalidValue: ``limit`` is not a number between 1 and 1,000.
        InvalidRequest: it is to lie after one model and before another.
    """
    limit = query.get("limit", str(PAGE))
    if not (limit.isdecimal() and len(limit) < 10 and 1 <= int(limit) <= LARGEST_PAGE):
        raise InvalidValue(f"limit must be a number between 1 and {LARGEST_PAGE:,}, not '{limit[:60]}'", param="limit")
    after, before = query.get("after_id", ""), query.get("before_id", "")
    if after and before:
        raise InvalidRequest("after_id and before_id exclude each other", param="before_id")
    return Page(int(limit), after, before)


def write_models(models: Sequence[Model], page: Page = FIRST) -> bytes:
    """``GET /v1/models``: a page of the list.

    Raises:
        InvalidRequest: the model at which it begins or ends is not in the list.
    """
    names = [model.name for model in models]
    if page.before:
        end = _place(names, page.before, "before_id")
        start = max(0, end - page.limit)
        more = start > 0
    else:
        start = _place(names, page.after, "after_id") + 1 if page.after else 0
        end = start + page.limit
        more = end < len(models)
    data = tuple(_model(model) for model in models[start:end])
    return encode(wire.Models(data, more, data[0].id if data else None, data[-1].id if data else None))


def _place(names: Sequence[str], name: str, param: str) -> int:
    try:
        return names.index(name)
    except ValueError:
        raise InvalidRequest(f"{param}: there is no model '{name[:60]}'", param=param) from None


def write_model(model: Model) -> bytes:
    """``GET /v1/models/{id}``."""
    return encode(_model(model))


def _model(model: Model) -> wire.Model:
    return wire.Model(
        id=model.name,
        display_name=model.name,
        created_at=model.modified_at or _UNKNOWN_DAY,
        max_input_tokens=model.context_length or None,
    )


_NAMES = msgspec.json.Decoder(wire.ReadModels)


def read_models(body: bytes) -> tuple[str, ...]:
    """The names in a page."""
    return tuple(model.id for model in decoded(body, _NAMES).data)
