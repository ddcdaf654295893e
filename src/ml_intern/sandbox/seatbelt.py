"""The Seatbelt profile of macOS, as text, from the one table of roots. Knows no process and starts none.

Source: sandbox-exec(1), and the profiles in /System/Library/Sandbox/Profiles; of two rules that match the later holds.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ml_intern.sandbox.paths import Roots
from ml_intern.sandbox.profiles import Profile
from ml_intern.sandbox.protected import below

_SYSTEM = ("/System", "/Library/Frameworks", "/Library/Apple", "/private/var/db/dyld", "/private/var/db/timezone")
_DEVICES = ("/dev/null", "/dev/random", "/dev/urandom", "/dev/zero")
# Without these no program starts, or none finds its user, its clock or its preferred language.
_SERVICES = (
    "com.apple.system.notification_center",
    "com.apple.system.opendirectoryd.libinfo",
    "com.apple.cfprefsd.agent",
    "com.apple.logd",
)
_ACCELERATORS = ("AGXDeviceUserClient", "IOSurfaceRootUserClient", "AGXSharedUserClient")


def profile_text(roots: Roots, profile: Profile) -> str:
    """What `sandbox-exec -p` takes: all is forbidden but what follows. There is no network in any profile.

    Paths are the real ones of the machine: Seatbelt mounts nothing.
    """
    return "\n".join(_rules(roots, profile)) + "\n"


def _rules(roots: Roots, profile: Profile) -> Iterator[str]:
    yield from ("(version 1)", "(deny default)")
    yield from ("(allow process-fork)", "(allow process-exec*)", "(allow sysctl-read)")
    yield from ("(allow signal (target same-sandbox))", "(allow process-info* (target same-sandbox))")
    yield _rule("allow mach-lookup", "global-name", _SERVICES)
    if profile is Profile.TRAIN:
        yield _rule("allow iokit-open", "iokit-user-client-class", _ACCELERATORS)
    shown = tuple(dict.fromkeys([*_SYSTEM, *(root.outside for root in roots.roots)]))
    yield _rule(
        "allow file-read-metadata", "literal", sorted({str(path) for one in shown for path in Path(one).parents})
    )
    yield _rule("allow file-read*", "subpath", shown)
    yield _rule("allow file-read* file-write-data file-ioctl", "literal", _DEVICES)
    if profile is Profile.EXPLORE:
        return
    writable = [root.outside for root in roots.roots if root.access == "write"]
    yield _rule("allow file-write*", "subpath", writable)
    yield "(deny file-write-setugid)"
    kept = [path for path in roots.protected if any(below(path, one) for one in writable)]
    if kept:
        # A folder above one may not be moved away with it.
        pinned = {str(path) for one in kept for path in Path(one).parents if any(below(str(path), w) for w in writable)}
        if pinned:
            yield _rule("deny file-write-unlink", "literal", sorted(pinned))
        yield _rule("deny file-write*", "subpath", kept)


def _rule(head: str, kind: str, values: Iterable[str]) -> str:
    lines = "".join(f"\n  ({kind} {_quoted(value)})" for value in values)
    return f"({head}{lines})"


def _quoted(text: str) -> str:
    """A string of the profile's language. Raises ValueError for what it cannot hold."""
    if "\0" in text or os.fsencode(text).decode(errors="replace") != text:
        raise ValueError(f"{text!r} cannot stand in a Seatbelt profile")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
