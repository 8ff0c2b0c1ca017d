"""``python -I -m localmodels.artifacts.archive``: a job on standard input, the files on standard output."""

from __future__ import annotations

import sys

from localmodels.artifacts.archive.child import main

if __name__ == "__main__":
    sys.exit(main())
