"""How much a session's commands may use: the numbers, and those that the kernel keeps per process.

Knows no cgroup and no command. Imports only the standard library.
Source: getrlimit(2).
"""

import os
import resource
from typing import NamedTuple

MEBIBYTE = 1024 * 1024


class Limits(NamedTuple):
    """Of one command, except `idle_s`. `memory_bytes` 0 means 90 % of what the machine or our cgroup has.

    Output beyond `output_bytes` is read and dropped. Between SIGTERM and SIGKILL lie `grace_s`; a supervisor without
    commands and clients ends after `idle_s`.
    """

    processes: int = 4096
    memory_bytes: int = 0
    files: int = 65_536
    output_bytes: int = 64 * MEBIBYTE
    grace_s: float = 2.0
    idle_s: float = 300.0


def machine_memory_bytes() -> int:
    """Physical memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def apply(limits: Limits, *, memory_bytes: int | None) -> None:
    """Set this process's limits, which its commands inherit; `memory_bytes` only where no cgroup counts memory."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, limits.files)
    if memory_bytes is not None:
        # Not RLIMIT_AS: accelerator libraries reserve far more addresses than they ever use.
        _lower(resource.RLIMIT_DATA, memory_bytes)


def apply_processes(count: int) -> None:
    """Set this process's limit of processes of its user; in a command only, so that the supervisor can still fork.

    Since Linux 5.14 it counts per user namespace, before that over all processes of the user.
    """
    _lower(resource.RLIMIT_NPROC, count)


def _lower(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (bound, bound))
