"""The lock that says which process is a session's supervisor; the kernel frees it the instant that process dies.

Knows no protocol. Imports only the standard library.
Source: fcntl(2), record locks: unlike flock they are not held by forked children.
"""

import fcntl
import os
import struct

_NAME = "supervisor.lock"
_LAYOUT = "hhqqi"


def take() -> bool:
    """Take the lock of the session in whose folder we stand, until we die; False if another process has it."""
    number = os.open(_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holder(folder: str) -> int | None:
    """Process id of the session's supervisor; None if it has none. Raises OSError."""
    try:
        number = os.open(f"{folder}/{_NAME}", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        question = struct.pack(_LAYOUT, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_LAYOUT, fcntl.fcntl(number, fcntl.F_GETLK, question))
    finally:
        os.close(number)
    return None if kind == fcntl.F_UNLCK else int(pid)
