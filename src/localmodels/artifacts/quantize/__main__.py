"""``python -I -m localmodels.artifacts.quantize``: a job on standard input, the new file on standard output."""

from __future__ import annotations

import sys

from localmodels.artifacts.quantize.child import main

if __name__ == "__main__":
    sys.exit(main())
