"""Landlock: from folders that may be read or written to a wall around this process and all it starts.

Knows no table of roots and no filter. Imports only the standard library.
Source: landlock(7), linux/landlock.h.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

LEAST_VERSION = 4
"""The first that keeps a process from TCP; the first that scopes signals is `SIGNALS_VERSION`."""
SIGNALS_VERSION = 6

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_ASK_VERSION, _PATH_BENEATH = 1, 1
_NO_NEW_PRIVILEGES = 38
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_FOLDER = 1, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _DEVICE_CONTROL = 1 << 14, 1 << 15
_MAKE_DEVICES = 1 << 6 | 1 << 11
_UP_TO_TRUNCATE = (1 << 15) - 1
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _DEVICE_CONTROL
_READ = _EXECUTE | _READ_FILE | _READ_FOLDER
_WRITE = _UP_TO_TRUNCATE & ~_MAKE_DEVICES
_USE = _READ_FILE | _WRITE_FILE | _DEVICE_CONTROL
_BIND_AND_CONNECT = 1 | 1 << 1
_SOCKETS_AND_SIGNALS = 1 | 1 << 1


def version() -> int:
    """The kernel's version of Landlock; 0 where it has none, or has it switched off."""
    found: int = _libc().syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION))
    return max(found, 0)


def restrict(read: Iterable[str], write: Iterable[str], use: Iterable[str], *, at_most: int = 99) -> None:
    """Allow this process to read (and execute) below `read`, to change what is below `write`, to use devices of `use`.

    Nothing else of the disk, no TCP; from version 6 on no signal and no abstract socket of other processes. What does
    not exist is left out. `at_most` takes the kernel for an older one. Cannot be undone. Raises OSError.
    """
    known = min(version(), at_most)
    handled = _UP_TO_TRUNCATE | (_DEVICE_CONTROL if known >= 5 else 0)
    scoped = struct.pack("=Q", _SOCKETS_AND_SIGNALS) if known >= SIGNALS_VERSION else b""
    wanted = struct.pack("=QQ", handled, _BIND_AND_CONNECT) + scoped
    ruleset = _call(_CREATE, ctypes.c_char_p(wanted), ctypes.c_size_t(len(wanted)), ctypes.c_uint32(0))
    try:
        for paths, access in ((read, _READ), (write, _WRITE), (use, _USE)):
            for path in paths:
                _allow(ruleset, path, access & handled)
        if _libc().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "no_new_privs")
        _call(_RESTRICT, ruleset, ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        number = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        # What we cannot even look up, a command of ours could not either.
        return
    try:
        is_folder = stat.S_ISDIR(os.fstat(number).st_mode)
        rule = struct.pack("=Qi", access if is_folder else access & _OF_FILES, number)
        _call(_ADD_RULE, ruleset, ctypes.c_int(_PATH_BENEATH), ctypes.c_char_p(rule), ctypes.c_uint32(0))
    finally:
        os.close(number)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc().syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"Landlock: {os.strerror(error)}")
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
