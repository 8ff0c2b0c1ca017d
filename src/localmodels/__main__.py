"""``python -m localmodels`` is the command line."""

import sys

from localmodels.cli import main

sys.exit(main())
