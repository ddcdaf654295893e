"""Level walls: from the one table of roots to what Landlock allows. Knows no system call."""

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from ml_intern.sandbox.confine import Rules
from ml_intern.sandbox.devices import Devices
from ml_intern.sandbox.paths import Root, Roots
from ml_intern.sandbox.profiles import Profile

_USED = ("/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero")
# Without a process-id namespace other processes are seen there, as in any `ps`; Landlock keeps their memory, files and
# environment shut.
_READ = ("/proc",)


def rules(roots: Roots, profile: Profile, devices: Devices | None = None) -> Rules:
    """What a command may do behind Landlock; `devices` are for profile `train` only."""
    explores = profile is Profile.EXPLORE
    read = [root.outside for root in roots.roots if explores or root.access == "read"]
    write = [] if explores else [root.outside for root in roots.roots if root.access == "write"]
    kept = () if explores else tuple(dict.fromkeys(path for path in roots.protected if not os.path.islink(path)))
    found = devices if devices and profile is Profile.TRAIN else Devices()
    return Rules((*read, *_READ, *found.shown), tuple(write), (*_USED, *found.nodes), kept)


def without_mounts(roots: Roots) -> Roots:
    """The table where no mount can show a folder elsewhere: everything under its real name, the machine's own /etc.

    The private /tmp is one of these; commands find it by TMPDIR.
    """
    table = tuple(root if root.copied else Root(root.outside, root.outside, root.access) for root in roots.roots)
    return replace(roots, roots=tuple(dict.fromkeys(table)), etc="")


def variables(folder: Path) -> Mapping[str, str]:
    """What the environment of commands says differently in the session's `folder`."""
    # Git ends where it cannot read a file of settings that exists.
    return {"TMPDIR": os.path.realpath(folder / "tmp"), "GIT_CONFIG_NOSYSTEM": "1"}
