"""Control groups of commands: one each, where this process may make them; they count processes and memory.

Knows no command. Works with the unified hierarchy (v2) and the old ones (v1). Imports only the standard library.
Source: cgroups(7), the kernel's admin-guide/cgroup-v2 and cgroup-v1/{memory,pids}.
"""

import contextlib
import os
import signal
import time
from typing import NamedTuple

from ml_intern.sandbox.processes import send

_PREFIX = "ml-intern-"
_LEAVE_TRIES, _LEAVE_AGAIN_S = 100, 0.01
_CHUNK = 65_536


class Names(NamedTuple):
    """How one version of the kernel interface calls the files we use."""

    memory_limit: tuple[tuple[str, int], ...]
    """File and factor: the old swap limit counts memory too, the new one must be 0."""
    memory_events: str


OLD = Names((("memory.limit_in_bytes", 1), ("memory.memsw.limit_in_bytes", 1)), "memory.oom_control")
UNIFIED = Names((("memory.max", 1), ("memory.swap.max", 0)), "memory.events")


class Bases(NamedTuple):
    """The folders under which groups can be made; `None` where a controller is out of our reach."""

    memory: str | None
    processes: str | None
    names: Names


class Group(NamedTuple):
    """The groups of one command. With neither controller every method does nothing."""

    memory: str | None
    processes: str | None
    names: Names

    def folders(self) -> tuple[str, ...]:
        """The folders, each once."""
        return tuple(dict.fromkeys(folder for folder in (self.memory, self.processes) if folder))

    def enter(self) -> None:
        """Move this process in. Raises OSError."""
        for folder in self.folders():
            _write(f"{folder}/cgroup.procs", "0")

    def kill(self) -> None:
        """SIGKILL to whatever is still inside."""
        for folder in self.folders():
            with contextlib.suppress(OSError):
                send([int(pid) for pid in _read(f"{folder}/cgroup.procs").split()], signal.SIGKILL)

    def refuse_forks(self) -> None:
        """No new process inside from now on."""
        if self.processes:
            with contextlib.suppress(OSError):
                _write(f"{self.processes}/pids.max", "0")

    def memory_kills(self) -> int:
        """How many of its processes the kernel killed for memory."""
        return _counter(f"{self.memory}/{self.names.memory_events}", "oom_kill") if self.memory else 0

    def refused_forks(self) -> int:
        """How often the limit of processes was met."""
        return _counter(f"{self.processes}/pids.events", "max") if self.processes else 0

    def remove(self) -> bool:
        """Delete the groups; False while processes are still leaving."""
        for folder in self.folders():
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True


def find_bases() -> Bases:
    """Where groups can be made now; each place is tried by making one and removing it."""
    places = _places()
    unified = next(
        (base for base in _unified_candidates(places.get("")) if _try(base, ("memory.max", "pids.max"))), None
    )
    if unified:
        return Bases(unified, unified, UNIFIED)
    memory, processes = places.get("memory"), places.get("pids")
    return Bases(
        memory if memory and _try(memory, ("memory.limit_in_bytes",)) else None,
        processes if processes and _try(processes, ("pids.max",)) else None,
        OLD,
    )


def make(bases: Bases, name: str, *, processes: int, memory_bytes: int) -> Group:
    """Make the groups of one command and set their limits. Raises OSError."""
    memory = f"{bases.memory}/{_PREFIX}{name}" if bases.memory else None
    pids = f"{bases.processes}/{_PREFIX}{name}" if bases.processes else None
    group = Group(memory, pids, bases.names)
    try:
        for folder in group.folders():
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
        if pids:
            _write(f"{pids}/pids.max", str(processes))
        for file, factor in bases.names.memory_limit if memory else ():
            # Absent where the kernel does not count swap.
            with contextlib.suppress(FileNotFoundError):
                _write(f"{memory}/{file}", str(memory_bytes * factor))
    except OSError:
        group.remove()
        raise
    return group


def name_prefix(session_folder: str) -> str:
    """How the names of all groups of a session begin: short, and the same for every process that looks."""
    place = os.stat(session_folder)
    return f"{place.st_dev:x}-{place.st_ino:x}-"


def sweep(session_folder: str) -> None:
    """Remove what a supervisor that was killed left behind."""
    for group in leftovers(find_bases(), name_prefix(session_folder)):
        group.kill()
        for _ in range(_LEAVE_TRIES):
            if group.remove():
                break
            time.sleep(_LEAVE_AGAIN_S)


def leftovers(bases: Bases, prefix: str) -> list[Group]:
    """Groups of an earlier supervisor of the same session, which died without removing them."""
    found: list[Group] = []
    for base in {base for base in (bases.memory, bases.processes) if base}:
        for entry in os.listdir(base):
            if entry.startswith(_PREFIX + prefix):
                found.append(Group(f"{base}/{entry}", None, bases.names))
    return found


def memory_bound(bases: Bases) -> int | None:
    """The least memory limit, in bytes, of the groups this process already lives in; None if there is none."""
    bounds: list[int] = []
    folder = bases.memory
    while folder and os.path.exists(f"{folder}/cgroup.procs"):
        with contextlib.suppress(OSError, ValueError):
            bounds.append(int(_read(f"{folder}/{bases.names.memory_limit[0][0]}")))
        folder = os.path.dirname(folder)
    return min(bounds, default=None)


def _places() -> dict[str, str]:
    """Controller name ("" for the unified hierarchy) to the folder of the group this process is in."""
    mounts: dict[str, tuple[str, str]] = {}
    for line in _read("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        root, mountpoint = left.split(" ")[3:5]
        if kind == "cgroup2":
            mounts[""] = (root, mountpoint)
        elif kind == "cgroup":
            mounts |= dict.fromkeys(set(options.split(",")) & {"memory", "pids"}, (root, mountpoint))
    places: dict[str, str] = {}
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            if name in mounts:
                root, mountpoint = mounts[name]
                inner = os.path.relpath(path, root) if path.startswith(root) else "."
                places[name] = os.path.normpath(f"{mountpoint}/{inner}")
    return places


def _unified_candidates(own: str | None) -> tuple[str, ...]:
    # A group with processes cannot hand controllers to its children, so the one above it comes first.
    return (os.path.dirname(own), own) if own else ()


def _try(base: str, files: tuple[str, ...]) -> bool:
    trial = f"{base}/{_PREFIX}trial-{os.getpid()}"
    if not os.access(f"{base}/cgroup.procs", os.W_OK):
        return False
    try:
        if os.path.exists(f"{base}/cgroup.subtree_control"):
            with contextlib.suppress(OSError):
                _write(f"{base}/cgroup.subtree_control", "+memory +pids")
        os.mkdir(trial)
    except OSError:
        return False
    try:
        return all(os.access(f"{trial}/{file}", os.W_OK) for file in (*files, "cgroup.procs"))
    finally:
        os.rmdir(trial)


def _counter(path: str, name: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in _read(path).splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0


def _read(path: str) -> str:
    # Not `open`: its layers take longer than the reading, and who is told of an end waits for it.
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts: list[bytes] = []
        while part := os.read(number, _CHUNK):
            parts.append(part)
    finally:
        os.close(number)
    return b"".join(parts).decode()


def _write(path: str, text: str) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(number, text.encode())
    finally:
        os.close(number)
