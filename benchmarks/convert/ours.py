"""``python -m benchmarks.convert.ours FOLDER TARGET STORE``: what the server does with a folder.

A confined child converts; its bytes come through a pipe, are hashed, written into a store, and waited for until they
are on the disk. Prints the path of the blob.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from localmodels.artifacts.convert import Converter, Job
from localmodels.store.layout import Layout
from localmodels.store.model_store import ModelStore

CHILD = "localmodels.engine.converter"


def main() -> None:
    """The command line."""
    folder, target, place = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    files = {path.name: str(path) for path in folder.iterdir()}
    store = ModelStore(place)
    with Converter(Job(files, target, "half", threads=os.cpu_count() or 1), module=CHILD) as child:
        outline = child.outline()
        with store.lease("benchmark", reserve=outline.size) as lease:
            blob = store.write(lease, child.pieces(), size=outline.size)
            print(Layout(place).blob(blob.digest))


if __name__ == "__main__":
    main()
