"""Numbers of system calls, from the kernel's ``asm/unistd.h`` of x86_64 and ``asm-generic/unistd.h`` (aarch64).

The one rule: calls of one number everywhere (all since Linux 5.1) stand in ``SHARED``; ``NEWEST`` is the last that was
judged. :mod:`~localmodels.engine.confine.seccomp` refuses what is newer.
"""

from __future__ import annotations

from msgspec import Struct


class Processor(Struct, frozen=True):
    """How one architecture numbers its calls; ``audit`` is its AUDIT_ARCH in ``linux/audit.h``."""

    audit: int
    numbers: dict[str, int]


NEWEST = 469  # file_setattr, Linux 6.17

SHARED = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_open": 434, "clone3": 435, "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442,
    "quotactl_fd": 443, "process_mrelease": 448, "fchmodat2": 452, "statmount": 457, "listmount": 458,
    "lsm_set_self_attr": 460, "setxattrat": 463, "removexattrat": 466, "open_tree_attr": 467, "file_setattr": 469,
}  # fmt: skip

# x86_64, aarch64; None where a call does not exist.
_OWN: dict[str, tuple[int, int | None]] = {
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "socket": (41, 198), "connect": (42, 203),
    "socketpair": (53, 199), "clone": (56, 220), "fork": (57, None), "vfork": (58, None), "execve": (59, 221),
    "kill": (62, 129), "semget": (64, 190), "msgget": (68, 186), "truncate": (76, 45), "chmod": (90, None),
    "fchmod": (91, 52), "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "ptrace": (101, 117),
    "syslog": (103, 116), "capget": (125, 90), "capset": (126, 91), "rt_sigqueueinfo": (129, 138),
    "utime": (132, None), "mknod": (133, None), "uselib": (134, None), "personality": (135, 92),
    "setpriority": (141, 140), "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "vhangup": (153, 58),
    "modify_ldt": (154, None), "pivot_root": (155, 41), "prctl": (157, 167), "adjtimex": (159, 171),
    "setrlimit": (160, 164), "chroot": (161, 51), "acct": (163, 89), "settimeofday": (164, 170), "mount": (165, 40),
    "umount2": (166, 39), "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142), "sethostname": (170, 161),
    "setdomainname": (171, 162), "iopl": (172, None), "ioperm": (173, None), "init_module": (175, 105),
    "delete_module": (176, 106), "quotactl": (179, 60), "nfsservctl": (180, 42), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "tkill": (200, 130), "lookup_dcookie": (212, 18), "clock_settime": (227, 112),
    "tgkill": (234, 131), "utimes": (235, None), "mq_open": (240, 180), "kexec_load": (246, 104),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "ioprio_set": (251, 30),
    "migrate_pages": (256, 238), "mknodat": (259, 33), "fchownat": (260, 54), "futimesat": (261, None),
    "fchmodat": (268, 53), "unshare": (272, 97), "utimensat": (280, 88), "rt_tgsigqueueinfo": (297, 240),
    "perf_event_open": (298, 241), "fanotify_init": (300, 262), "prlimit64": (302, 261),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "clock_adjtime": (305, 266), "setns": (308, 268),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272), "finit_module": (313, 273),
    "sched_setattr": (314, 274), "seccomp": (317, 277), "kexec_file_load": (320, 294), "bpf": (321, 280),
    "execveat": (322, 281), "userfaultfd": (323, 282),
}  # fmt: skip

PROCESSORS = {
    "x86_64": Processor(0xC000003E, SHARED | {name: x86 for name, (x86, _) in _OWN.items()}),
    "aarch64": Processor(0xC00000B7, SHARED | {name: arm for name, (_, arm) in _OWN.items() if arm is not None}),
}
