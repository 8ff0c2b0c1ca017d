"""Kills the store at every system call that touches it, and looks at what is left.

    python -m tools.crash --points 1000            kill -9 before each call, and the order of the calls for power cuts
    python -m tools.crash --points 1000 --twice    and the repetition is killed as well
    python -m tools.crash --points 1000 --errors   ENOSPC, EIO, EMFILE … from each call instead
    python -m tools.crash --defects                implementations with a known defect: each must be caught
    python -m tools.crash --power --points 100     power cuts of an ext4 in a file (root)

What is tried are the store's own operations and, by names that begin with ``flow_``, the server's: upload, create,
copy, delete, pull and push, with a registry on loopback.

An operation is traced once to number its calls, then run again from the same scene for each of them, with ``strace``
killing the process at that call, or having it fail. After that the store is read by code that shares nothing with the
product (:mod:`tools.crash.witness`), the operation is repeated, and the store is read again. What a power cut would
lose is told from the order of the calls (:mod:`tools.crash.durable`). A violation is a sentence that begins with the
number of an invariant, which are listed in :mod:`tools.crash.witness`.
"""
