"""What schemathesis makes of our own description: requests that are as described, and such that are not quite.

All are drawn before the first is sent, from one seed, and no failure is shrunk: what the server does is what counts.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any
from urllib.parse import quote, urlencode

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from tests.hostile.attack import Attack, request
from tests.hostile.sound import SOUND

from localmodels.server.routes import OLLAMA_PREFIX

MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


def attacks(document: dict[str, Any], port: int, many: int, draw: random.Random) -> list[Attack]:
    """About so many of them: the cases of its coverage phase, and drawn ones for the rest."""
    schema = schemathesis.openapi.from_dict(document)
    every: list[Any] = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]
    operations = [operation for operation in every if not operation.path.startswith(OLLAMA_PREFIX)]  # the same rows
    each = max(1, many // (2 * len(operations)))
    made = []
    for operation in operations:
        config = operation.schema.config.generation_for(operation=operation)
        covering = operation.schema.iter_coverage_cases(
            operation, generation_modes=list(MODES), generation_config=config
        )
        made += [_attack("schemathesis coverage", port, case, draw) for case in islice(covering, each)]
        for mode in MODES:
            cases = _drawn(operation, mode, max(1, each // 2), draw.randrange(2**32))
            made += [_attack(f"schemathesis {mode.value}", port, case, draw) for case in cases]
    draw.shuffle(made)
    return made


def _drawn(operation: Any, mode: GenerationMode, many: int, number: int) -> list[Case[Any]]:
    """Cases of one operation; none where its description leaves nothing to draw."""
    cases: list[Case[Any]] = []

    @seed(number)
    @settings(
        max_examples=many,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def gather(case: Case[Any]) -> None:
        cases.append(case)

    try:
        gather()
    except Unsatisfiable:
        return []
    return cases


def _attack(kind: str, port: int, case: Case[Any], draw: random.Random) -> Attack:
    target = case.path
    for name, value in (case.path_parameters or {}).items():
        target = target.replace(f"{{{name}}}", quote(str(value), safe="%"))
    if case.query:
        target += "?" + "&".join(_query(case.query))
    headers = [(_sayable(name), _sayable(value)) for name, value in (case.headers or {}).items()]
    body = _body(case, draw)
    return Attack(
        kind, f"{case.method} {target[:200]}", request(port, case.method, target[:8_000], body, headers=headers)
    )


def _query(query: Any) -> Iterator[str]:
    for name, value in query.items():
        yield urlencode(
            {name: value if isinstance(value, (str, list)) else json.dumps(value)}, doseq=True, errors="replace"
        )


def _sayable(text: object) -> bytes:
    return str(text).encode("latin-1", "replace").translate(None, b"\r\n")


def _body(case: Case[Any], draw: random.Random) -> bytes | None:
    """The bytes of its body. Half of those that are objects ask for a model that is there, else few would come far."""
    body = case.body
    if isinstance(body, bytes):
        return body
    if not isinstance(body, (dict, list, str, int, float, bool, type(None))):
        return None
    if isinstance(body, dict) and draw.random() < 0.5:
        body = {**body, **{name: SOUND[case.path][name] for name in ("model",) if name in SOUND.get(case.path, {})}}
    return json.dumps(body).encode()
