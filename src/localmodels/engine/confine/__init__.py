"""The runner gives up every right it does not need, before it parses a file that a stranger made (threats V-37, V-40).

:func:`runner_policy` says what one runner may touch, :func:`apply` makes the kernel hold it to that. The one rule:
``apply`` never raises. A layer that the kernel lacks is reported with the reason, and ``/health?verbose=1`` shows it.
"""

from localmodels.engine.confine.layers import apply
from localmodels.engine.confine.policy import Layer, Policy, runner_policy

__all__ = ["Layer", "Policy", "apply", "runner_policy"]
