"""Every address that answers, in one table: method, path, dialect, what it is for, and who answers.

A feature is a row. The reference page is made from this table, so a route that is not in it does not exist. There are
no redirects between ``/path`` and ``/path/``: who takes one for the other is told of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct
from starlette.routing import compile_path
from starlette.types import ASGIApp

from localmodels.core.access import Grant
from localmodels.core.errors import MethodNotAllowed, NotFound
from localmodels.server.permissions import PERMISSIONS, Grants

OLLAMA_PREFIX = "/ollama"
MOST_SHOWN = 200  # characters of a path


class Row(Struct, frozen=True):
    """One address.

    Attributes:
        dialect: name of the codec in which its errors are written.
        operation: what it asks a model for, in the words of OpenTelemetry's GenAI conventions; empty for all else.
    """

    methods: tuple[str, ...]
    path: str
    dialect: str
    doc: str
    answers: ASGIApp
    operation: str = ""


class Match(Struct, frozen=True):
    """A row by one of its methods, and what that asks of the caller."""

    row: Row
    grant: Grant


class Directory:
    """Finds who answers: exact paths by one look into a dict, the few patterns after that, in order.

    Raises:
        LookupError: a row without an entry in the table of permissions, or an entry without a row.
    """

    def __init__(self, rows: Iterable[Row], permissions: Grants = PERMISSIONS) -> None:
        self._exact: dict[str, dict[str, Match]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Match]]] = []
        granted: set[tuple[str, str]] = set()
        for row in rows:
            pattern, _, parameters = compile_path(row.path)
            if parameters:
                methods: dict[str, Match] = {}
                self._patterns.append((pattern, methods))
            else:
                methods = self._exact.setdefault(row.path, {})
            for method in row.methods:
                path = row.path.removeprefix(OLLAMA_PREFIX)
                methods[method] = Match(row, _grant(permissions, path, method))
                granted.add((path, method))
        if idle := {(path, method) for path in permissions for method in permissions[path]} - granted:
            raise LookupError(f"permissions for routes that are not there: {sorted(idle)}")

    def find(self, method: str, path: str) -> tuple[Match, dict[str, str]]:
        """Who answers, and the parameters in the path.

        Raises:
            NotFound: nobody at this path.
            MethodNotAllowed: not this method; the message names those that are.
        """
        methods, parameters = self._methods(path)
        match = methods.get(method)
        if match is None:
            allowed = tuple(sorted(methods))
            raise MethodNotAllowed(f"{method} is not allowed here; {', '.join(allowed)} is", allowed=allowed)
        return match, parameters

    def _methods(self, path: str) -> tuple[dict[str, Match], dict[str, str]]:
        if found := self._at(path):
            return found
        other = path.removesuffix("/") if path.endswith("/") else f"{path}/"
        hint = f"; did you mean {other[:MOST_SHOWN]}?" if self._at(other) else ""
        raise NotFound(f"there is nothing at {path[:MOST_SHOWN]}{hint}")

    def _at(self, path: str) -> tuple[dict[str, Match], dict[str, str]] | None:
        if methods := self._exact.get(path):
            return methods, {}
        for pattern, methods in self._patterns:
            if match := pattern.match(path):
                return methods, match.groupdict()
        return None


def _grant(permissions: Grants, path: str, method: str) -> Grant:
    try:
        return permissions[path][method]
    except KeyError:
        raise LookupError(f"{method} {path} has no row in the table of permissions") from None
