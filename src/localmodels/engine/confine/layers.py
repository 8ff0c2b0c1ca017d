"""The layers in the order in which they must go on, each tried, each reported.

The one rule: a later layer goes on whatever became of an earlier one. The filter is last, because the others need calls
that it refuses.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
from collections.abc import Callable
from functools import partial

from localmodels.engine.confine import landlock, limits, seccomp
from localmodels.engine.confine.kernel import Machine, Syscall, this_machine
from localmodels.engine.confine.numbers import PROCESSORS, Processor
from localmodels.engine.confine.policy import Layer, Policy

GET_PDEATHSIG, SET_DUMPABLE, SET_NO_NEW_PRIVS = 2, 4, 38  # linux/prctl.h
CAPABILITY_VERSION = 0x20080522  # linux/capability.h
CAP_DAC_READ_SEARCH = 1 << 2  # kept where we have it: root may run another user's model

LINUX_ONLY = (
    "no_new_privs",
    "capabilities",
    "no_dump",
    "parent_death",
    "landlock",
    "landlock_tcp",
    "landlock_scopes",
    "seccomp",
)

REASONS = {errno.ENOSYS: "the kernel was built without it", errno.EOPNOTSUPP: "switched off when the kernel started"}


def apply(policy: Policy) -> tuple[Layer, ...]:
    """Holds this process to ``policy`` for good; call it before any thread is started. Never raises."""
    return (*everywhere(policy), *on_linux(policy, this_machine()))


def everywhere(policy: Policy) -> tuple[Layer, ...]:
    """The layers that every Unix has."""
    return tried("limits", partial(limits.lower, policy)), tried("umask", limits.mask_files)


def on_linux(policy: Policy, machine: Machine | None) -> tuple[Layer, ...]:
    """The layers of ``machine``; all inactive where there is none, or where its numbers are unknown."""
    if machine is None:
        return inactive(LINUX_ONLY, "not on this system")
    processor = PROCESSORS.get(machine.name)
    if processor is None:
        return inactive(LINUX_ONLY, f"system calls of {machine.name} are not in our table")
    prctl = partial(machine.syscall, processor.numbers["prctl"])
    return (
        tried("no_new_privs", partial(no_new_privs, prctl)),
        tried("capabilities", partial(drop_capabilities, machine.syscall, processor)),
        tried("no_dump", partial(no_dump, prctl)),
        tried("parent_death", partial(parent_death, prctl)),
        *landlock_layers(machine, policy),
        tried("seccomp", partial(filtered, machine.syscall, processor, policy)),
    )


def inactive(names: tuple[str, ...], reason: str) -> tuple[Layer, ...]:
    """``names``, all missing for one ``reason``."""
    return tuple(Layer(name, active=False, detail=reason) for name in names)


def tried(name: str, step: Callable[[], str]) -> Layer:
    """A layer as ``step`` leaves it: its words when it holds, the system's when it does not."""
    try:
        return Layer(name, active=True, detail=step())
    except OSError as error:
        return Layer(name, active=False, detail=told(error))
    except ValueError as error:
        return Layer(name, active=False, detail=str(error))


def told(error: OSError) -> str:
    """Why the kernel would not."""
    return REASONS.get(error.errno or 0, error.strerror or str(error))


def no_new_privs(prctl: Syscall) -> str:
    """No program that is run later gains rights (setuid); the kernel asks for it before it takes a filter."""
    prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return "programs gain no rights"


def drop_capabilities(syscall: Syscall, processor: Processor) -> str:
    """Root is an ordinary user afterwards, who may still read what is not his, as far as Landlock lets him."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", CAPABILITY_VERSION, 0), 8)
    held = ctypes.create_string_buffer(24)  # effective, permitted and inheritable; their upper halves follow
    syscall(processor.numbers["capget"], header, held)
    kept = struct.unpack_from("=I", held, 4)[0] & CAP_DAC_READ_SEARCH
    left = ctypes.create_string_buffer(struct.pack("=6I", kept, kept, 0, 0, 0, 0), 24)
    syscall(processor.numbers["capset"], header, left)
    return "only reading is left" if kept else "none left"


def no_dump(prctl: Syscall) -> str:
    """No core even where cores go to a program, which RLIMIT_CORE does not stop; no debugger of the same user."""
    prctl(SET_DUMPABLE, 0, 0, 0, 0)
    return "no core, no debugger"


def parent_death(prctl: Syscall) -> str:
    """Only looks: the runner asks for it first thing (``child.die_with_parent``)."""
    place = ctypes.create_string_buffer(4)
    prctl(GET_PDEATHSIG, place, 0, 0, 0)
    (number,) = struct.unpack("=i", place.raw)
    if number != signal.SIGKILL:
        raise ValueError("not asked for")
    return "killed when its parent ends"


def landlock_layers(machine: Machine, policy: Policy) -> tuple[Layer, ...]:
    """One ruleset, three layers, because kernels learned the parts at different times.

    It holds the thread that asks and those that this one starts later: with others about, no layer is complete.
    """
    names = ("landlock", "landlock_tcp", "landlock_scopes")
    try:
        outcome = landlock.restrict(machine.syscall, policy)
    except OSError as error:
        return inactive(names, told(error))
    if machine.threads > 1:
        return inactive(names, "threads that were there before it are free of it")
    rights = outcome.rights
    tcp = "no bind, no connect" if rights.tcp else "allowed by the policy" if policy.network else "needs Linux 6.7"
    scopes = "no signals, no abstract sockets to others" if rights.scopes else "needs Linux 6.12"
    return (
        Layer(names[0], active=True, detail=outcome.words),
        Layer(names[1], active=bool(rights.tcp), detail=tcp),
        Layer(names[2], active=bool(rights.scopes), detail=scopes),
    )


def filtered(syscall: Syscall, processor: Processor, policy: Policy) -> str:
    """Puts the filter on all threads."""
    return f"{seccomp.install(syscall, processor, policy, os.getpid())} instructions on every thread"
