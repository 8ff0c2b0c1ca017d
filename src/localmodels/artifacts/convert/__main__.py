"""``python -I -m localmodels.artifacts.convert``: a job on standard input, the file on standard output."""

from __future__ import annotations

import sys

from localmodels.artifacts.convert.child import main

if __name__ == "__main__":
    sys.exit(main())
