"""A session's own /etc: copies of the few files without which programs fail, so that one mount shows them all.

Never the whole of /etc: it also holds password hashes, host keys, private TLS keys and tokens. Knows no mount.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator

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


def make(folder: str, more: Iterable[str]) -> None:
    """Bring the copies in `folder` up to date, with empty folders for what is bound. Blocks.

    `more` are further paths of /etc that the person named: files are copied, folders bound.
    """
    files = [f"/etc/{name}" for name in COPIED] + [path for path in more if not os.path.isdir(path)]
    folders = [path for path in more if os.path.isdir(path)]
    for path in ("/etc", *entries(BOUND), *folders, *(os.path.dirname(path) for path in files if os.path.exists(path))):
        os.makedirs(folder + path.removeprefix("/etc"), exist_ok=True)
    for source in files:
        target = folder + source.removeprefix("/etc")
        # What we may not read, a command could not read either.
        with contextlib.suppress(OSError):
            if (mark := _mark(source)) != _mark(target):
                _replace(source, target, mark)


def _replace(source: str, target: str, mark: int | None) -> None:
    if mark is None:
        os.unlink(target)
        return
    fresh = f"{target}.{os.getpid()}"
    shutil.copyfile(source, fresh)
    # Taken before the copy: what changed meanwhile is copied again next time.
    os.utime(fresh, ns=(0, mark))
    os.rename(fresh, target)


def _mark(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None
