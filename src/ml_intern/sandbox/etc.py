"""A session's own /etc: copies of the few files without which programs fail, so that one mount shows them all.

Never the whole of /etc: it also holds password hashes, host keys, private TLS keys and tokens. Knows no mount.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator

COPIED = (
    "group",
    "hosts",
    "ld.so.cache",
    "ld.so.preload",
    "localtime",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "resolv.conf",
    "services",
    "ssl/cert.pem",
    "ssl/openssl.cnf",
)
BOUND = ("OpenCL", "alternatives", "crypto-policies", "fonts", "pki/ca-trust", "pki/tls/certs", "ssl/certs")
"""Folders of many entries: copying them costs a session more than their mounts do."""


def entries(names: tuple[str, ...]) -> Iterator[str]:
    """Those of the names that this machine has, as paths."""
    return (path for path in (f"/etc/{name}" for name in names) if os.path.exists(path))


def make(folder: str) -> None:
    """Bring the copies in `folder` up to date, with empty folders for what is bound. Blocks."""
    for path in ("", *entries(BOUND), "/etc/ssl"):
        os.makedirs(folder + path.removeprefix("/etc"), exist_ok=True)
    for name in COPIED:
        source, target = f"/etc/{name}", f"{folder}/{name}"
        # What we may not read, a command could not read either.
        with contextlib.suppress(OSError):
            if _mark(source) != _mark(target):
                _replace(source, target)


def _replace(source: str, target: str) -> None:
    if not os.path.exists(source):
        os.unlink(target)
        return
    fresh = f"{target}.{os.getpid()}"
    shutil.copyfile(source, fresh)
    os.utime(fresh, ns=(0, os.stat(source).st_mtime_ns))
    os.rename(fresh, target)


def _mark(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None
