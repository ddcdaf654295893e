"""Which processes descend from a process. Knows nothing of commands. Imports only the standard library."""

import contextlib
import os


def descendants(root: int) -> list[int]:
    """Process ids below `root`, nearest first; a snapshot that may already be old. Source: proc_pid_stat(5)."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (parent := _parent(name)):
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    layer = children.get(root, [])
    while layer:
        found += layer
        layer = [child for pid in layer for child in children.get(pid, [])]
    return found


def send(pids: list[int], number: int) -> None:
    """Signal every process that still exists and may be signalled."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name stands in parentheses and may hold any byte; state and parent follow the last one.
            return int(file.read().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
