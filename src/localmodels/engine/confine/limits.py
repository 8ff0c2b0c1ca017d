"""What every Unix knows: limits on resources, the mask for new files, and no core that would hold a model's memory.

The one rule: limits are lowered for good (soft and hard), so the runner cannot raise them again. Where memory ends all
the same, a child goes before the server, or before anybody else's program.
"""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

from localmodels.engine.confine.policy import Policy

# RLIMIT_NPROC is not among them: it counts all processes of the user, so one runner would be stopped by another.
# RLIMIT_AS neither: it counts a mapped model file that costs no memory. RLIMIT_DATA does not (Linux since 4.7).
VICTIM = Path("/proc/self/oom_score_adj")
FIRST = b"1000"  # proc(5): of all processes the kernel ends this one first


def wanted(policy: Policy) -> dict[int, int]:
    """Limits by ``RLIMIT_…``."""
    return {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: policy.max_files,
        resource.RLIMIT_FSIZE: policy.max_file_size,
        **({resource.RLIMIT_DATA: policy.max_data} if policy.max_data else {}),
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
    with suppress(OSError):  # elsewhere than on Linux there is no such file
        VICTIM.write_bytes(FIRST)
    words = f"no core, {policy.max_files} open files, {policy.max_file_size >> 20} MiB a file"
    return f"{words}, {policy.max_data >> 20} MiB of memory" if policy.max_data else words


def mask_files() -> str:
    """New files and the socket are the owner's alone."""
    os.umask(0o077)
    return "077"
