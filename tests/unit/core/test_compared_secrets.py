"""Nothing that is secret, and no digest of it, is compared byte by byte: how long that takes tells where it differs.

Threat V-27. Two :class:`~localmodels.core.secrets.Secret` are compared as they are, everything else by
``hmac.compare_digest``. What is said here of names holds for the whole package: a ``credential`` is what a request
shows, a ``password`` a text or a secret, an attribute ``hash`` the digest of a key.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import localmodels

MAKERS = {"reveal", "fingerprint"}  # what they give is secret, or its digest
NAMES = {"credential", "password"}
ATTRIBUTES = NAMES | {"hash", "_text"}  # the last is a Secret's own
TURNED = {"str", "bytes", "sha256"}  # what they make of a secret is one
BYTE_BY_BYTE = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def told_by_time(source: str) -> list[int]:
    """The lines of the comparisons that are forbidden."""
    tree = ast.parse(source)
    found = set(comparisons(tree, frozenset()))
    for function in (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)):
        found.update(comparisons(function, bound(function)))
    return sorted(found)


def comparisons(tree: ast.AST, names: frozenset[str]) -> Iterator[int]:
    """The lines of those in a piece of code where these names, too, are secret."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = (node.left, *node.comparators)
            for before, operator, after in zip(sides, node.ops, sides[1:], strict=False):
                if isinstance(operator, BYTE_BY_BYTE) and (secret(before, names) or secret(after, names)):
                    yield node.lineno


def bound(function: ast.AST) -> frozenset[str]:
    """The names that stand for something secret in a function, also by way of other names."""
    names: frozenset[str] = frozenset()
    while more := {name for name, value in bindings(function) if secret(value, names)} - names:
        names |= more
    return names


def bindings(function: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Every name that is given a value, with the value."""
    for node in ast.walk(function):
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts = (part for target in targets for part in ast.walk(target))
            yield from (
                (part.id, node.value)
                for part in parts
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
            )


def secret(value: ast.expr, names: frozenset[str]) -> bool:
    """Is it something secret, or a text or a choice with it in it?"""
    match value:
        case ast.Name(name):
            return name in NAMES | names
        case ast.Attribute(_, name):
            return name in ATTRIBUTES
        case ast.Call(ast.Name(name) | ast.Attribute(_, name)) if name in MAKERS:
            return True
        case ast.Call(ast.Name(name) | ast.Attribute(_, name), parts) if name in TURNED:
            pass
        case ast.Call(ast.Attribute(part)) | ast.Subscript(part):
            parts = [part]
        case ast.JoinedStr() | ast.FormattedValue() | ast.BinOp() | ast.BoolOp() | ast.IfExp() | ast.NamedExpr():
            parts = [part for part in ast.iter_child_nodes(value) if isinstance(part, ast.expr)]
        case ast.Tuple(parts) | ast.List(parts) | ast.Set(parts):
            pass
        case _:
            return False
    return any(secret(part, names) for part in parts)


BAD = {
    "text": "def f(a, b):\n    return a.reveal() == b",
    "turned": "def f(a, b):\n    return b != a.key.reveal().encode()[3:]",
    "one of several": "def f(a, b):\n    return a.reveal() in (b, '')",
    "built in": "def f(a, b):\n    return b == f'Bearer {a.reveal()}'",
    "by a name": "def f(a, b):\n    text = a.reveal()\n    said = text.strip()\n    return said not in b",
    "by a walrus": "def f(a, b):\n    return (text := a.reveal()) and b == text",
    "one by one": "def f(a, b):\n    return any(one.reveal() == b for one in a)",
    "hashed": "def f(a, b):\n    return sha256(a.reveal().encode()).hexdigest() == b",
    "digest": "def f(key, shown):\n    return key.hash == shown",
    "made digest": "def f(known, shown):\n    digest = keys.fingerprint(shown)\n    return known == digest",
    "shown": "async def f(credential, known):\n    return known == credential",
    "in a lambda": "same = lambda a, b: b and 0 < a < b == a.password",
}
GOOD = {
    "in constant time": "def f(key, digest):\n    return compare_digest(key.hash, digest)",
    "two secrets": "def f(spec, other):\n    return spec.key == other.key",
    "whether there is one": "def f(a):\n    return a.reveal() is None",
    "of what it was part": "def f(a):\n    answer = ask(a.reveal())\n    return answer.status == 401",
    "of who keeps it": "def f(self, a):\n    self.kept = a.reveal()\n    return self.status() == 401",
    "its length": "def f(credential):\n    return len(credential) == 46",
    "another's name": "def f(a):\n    text = a.reveal()\n    return text\n\n\ndef g(text):\n    return text == 'x'",
    "a hash table": "def f(text, known):\n    return hash(text) in known",
}


@pytest.mark.parametrize("source", BAD.values(), ids=BAD)
def test_one_that_time_tells_is_found(source: str) -> None:
    assert told_by_time(source) == [source.count("\n") + 1]


@pytest.mark.parametrize("source", GOOD.values(), ids=GOOD)
def test_what_time_does_not_tell_is_left_alone(source: str) -> None:
    assert told_by_time(source) == []


def test_no_secret_is_compared_byte_by_byte() -> None:
    root = Path(next(iter(localmodels.__path__)))
    sources = sorted(root.rglob("*.py"))
    assert any("compare_digest" in path.read_text() for path in sources)
    found = {str(path.relative_to(root)): lines for path in sources if (lines := told_by_time(path.read_text()))}
    assert found == {}
