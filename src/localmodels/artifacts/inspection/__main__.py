"""``python -I -m localmodels.artifacts.inspection``: a job on standard input, what it is on standard output."""

from __future__ import annotations

import sys

from localmodels.artifacts.inspection.child import main

if __name__ == "__main__":
    sys.exit(main())
