"""A child that makes a file of another has nothing of its parent's environment but what is on the list (threat V-36).

A runner's is looked at in ``test_confinement`` and, with canaries, in ``tests/hostile/test_canaries``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tests.hostile.canaries import SECRETS, found_in

from localmodels.artifacts.worker import INHERITED

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the environment of a process")

# Starts each of the children that a server has, and tells its own environment and theirs. The files need not be there:
# a child has its environment before it looks at any. What has ended, or may not be looked into any more, is started
# again.
STARTS_EACH = """
import json
from contextlib import suppress
from pathlib import Path
from localmodels.artifacts import archive, convert, inspection, quantize

CHILDREN = {
    "quantizer": lambda module: quantize.Quantizer(quantize.Job("none", "Q4_0", 1), module=module),
    "converter": lambda module: convert.Converter(convert.Job({}, "", "none", 1), module=module),
    "extractor": lambda module: archive.Extractor(archive.Job("none", "none", 1), module=module),
    "inspector": lambda module: inspection.Inspector(inspection.Job("none", ()), module=module),
}

def environment(name):
    for _ in range(20):
        with CHILDREN[name](f"localmodels.engine.{name}") as child, suppress(PermissionError):
            if text := Path(f"/proc/{child.pid}/environ").read_text():
                return text
    raise SystemExit(f"no {name} could be looked into")

print(json.dumps({"parent": Path("/proc/self/environ").read_text(), **{name: environment(name) for name in CHILDREN}}))
"""
MADE_FOR_IT = {"GGML_NO_BACKTRACE", "OPENBLAS_NUM_THREADS"}


def test_a_child_has_what_is_on_the_list_and_no_secret() -> None:
    secrets = {f"SECRET_{number}": text for number, text in enumerate(SECRETS.values())}
    parent = {**os.environ, **secrets, "LANG": "C.UTF-8"}
    words = [sys.executable, "-c", STARTS_EACH]
    done = subprocess.run(words, env=parent, stdout=subprocess.PIPE, text=True, check=True)
    seen: dict[str, str] = json.loads(done.stdout)
    assert set(found_in(seen.pop("parent"))) == set(SECRETS)
    assert set(seen) == {"quantizer", "converter", "extractor", "inspector"}
    for child, text in seen.items():
        names = {line.partition("=")[0] for line in text.split("\0") if line}
        assert MADE_FOR_IT | {"LANG"} <= names <= MADE_FOR_IT | {*INHERITED}, child
        assert found_in(text) == [], child
