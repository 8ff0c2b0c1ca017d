"""What every Unix knows: limits on resources, the mask for new files, and no core that would hold a model's memory.

The one rule: limits are lowered for good (soft and hard), so the runner cannot raise them again.
"""

from __future__ import annotations

import os
import resource

from localmodels.engine.confine.policy import Policy

# RLIMIT_NPROC is not among them: it counts all processes of the user, so one runner would be stopped by another.
# RLIMIT_AS neither: it counts a mapped model file that costs no memory.


def wanted(policy: Policy) -> dict[int, int]:
    """Limits by ``RLIMIT_…``."""
    return {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: policy.max_files,
        resource.RLIMIT_FSIZE: policy.max_file_size,
    }


def lower(policy: Policy) -> str:
    """Lowers the limits; a hard limit that is lower already stays. Gives them in words.

    Raises:
        OSError, ValueError: the system refuses one.
    """
    for kind, most in wanted(policy).items():
        _, hard = resource.getrlimit(kind)
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (value, value))
    return f"no core, {policy.max_files} open files, {policy.max_file_size >> 20} MiB a file"


def mask_files() -> str:
    """New files and the socket are the owner's alone."""
    os.umask(0o077)
    return "077"
