"""Tries the walls once: a pod with bubblewrap and the filter, or Landlock and its filter. Runs in a process of its own.

Knows not what is tried inside. Imports only the standard library.
"""

import os
import sys
from pathlib import Path

from ml_intern.sandbox import confine, pod, seccomp


def main(arguments: list[str]) -> None:
    """`<bubblewrap> <its options and the command>`, or `walls <folder> <command>`.

    Raises OSError where the kernel says no.
    """
    if arguments[0] == "walls":
        _behind_landlock(arguments[1], arguments[2:])
    pod.enter()
    program = os.memfd_create("filter", 0)
    os.write(program, seccomp.program())
    os.lseek(program, 0, os.SEEK_SET)
    os.execve(arguments[0], [arguments[0], "--seccomp", str(program), *arguments[1:]], {})


def _behind_landlock(folder: str, command: list[str]) -> None:
    """Only `<folder>/open` can be written; the command is told where a neighbour lies that it must not reach."""
    Path(folder, "open").mkdir()
    Path(folder, "shut").mkdir()
    Path(folder, "shut", "secret").touch()
    system = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc", sys.base_prefix)
    listener = confine.confine(confine.Rules((*system, "/proc"), (f"{folder}/open",), ("/dev/null",)))
    os.close(listener)
    os.execve(command[0], [*command, f"{folder}/open", f"{folder}/shut"], {})
