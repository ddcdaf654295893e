"""Tries the walls once: enters a pod and runs bubblewrap with the filter. Runs in a process of its own.

Knows not what is tried inside. Imports only the standard library.
"""

import os

from ml_intern.sandbox import pod, seccomp


def main(arguments: list[str]) -> None:
    """`<bubblewrap> <its options and the command>`. Raises OSError where the kernel says no."""
    pod.enter()
    program = os.memfd_create("filter", 0)
    os.write(program, seccomp.program())
    os.lseek(program, 0, os.SEEK_SET)
    os.execve(arguments[0], [arguments[0], "--seccomp", str(program), *arguments[1:]], {})
