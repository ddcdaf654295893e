"""Level walls around this very process: no rights, Landlock, the filter. The keeper's child does it before it executes.

Knows no table of roots and no command. Imports only the standard library.
Source: capabilities(7), prctl(2), seccomp(2), seccomp_unotify(2).
"""

import ctypes
import os
import struct
from typing import NamedTuple, cast

from ml_intern.sandbox import landlock, seccomp

_BOUNDING_DROP, _AMBIENT, _AMBIENT_CLEAR = 24, 47, 4
_CAPABILITIES_VERSION = 0x20080522
_LAST_CAPABILITY = 63
_SET_FILTER, _NEW_LISTENER = 1, 1 << 3
_SECCOMP = {"x86_64": 317, "aarch64": 277}


class Rules(NamedTuple):
    """What a command may read, write and use: paths of the host. `at_most`: as if Landlock here were older.

    `kept` must be as it was when the command has ended: Landlock cannot keep a part of a writable folder read-only.
    """

    read: tuple[str, ...]
    write: tuple[str, ...]
    use: tuple[str, ...]
    kept: tuple[str, ...] = ()
    at_most: int = 99

    @property
    def asks_signals(self) -> bool:
        """Whether the kernel cannot tell whom a command may signal, so that the keeper must."""
        return min(landlock.version(), self.at_most) < landlock.SIGNALS_VERSION


def to_rules(data: object) -> Rules:
    """Check what was read. Raises KeyError, TypeError, ValueError."""
    values = cast("dict[str, object]", data) if isinstance(data, dict) else {}
    parts = (tuple(str(path) for path in cast("list[object]", values[name])) for name in ("read", "write", "use"))
    read, write, use = parts
    kept = tuple(str(path) for path in cast("list[object]", values.get("kept", [])))
    return Rules(read, write, use, kept, int(str(values.get("at_most", 99))))


def confine(rules: Rules) -> int:
    """Put the walls around this process for good; the descriptor on which the filter asks. Raises OSError."""
    program = seccomp.walls_program(asks_signals=rules.asks_signals)
    _drop_capabilities()
    landlock.restrict(rules.read, rules.write, rules.use, at_most=rules.at_most)
    return _load(program)


def _drop_capabilities() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_AMBIENT, _AMBIENT_CLEAR, 0, 0, 0)
    for capability in range(_LAST_CAPABILITY + 1):
        # Refused to ordinary users, who have none to drop, and beyond the kernel's last one.
        libc.prctl(_BOUNDING_DROP, capability, 0, 0, 0)
    header, nothing = struct.pack("=Ii", _CAPABILITIES_VERSION, 0), bytes(24)
    if libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(nothing)):
        error = ctypes.get_errno()
        raise OSError(error, f"capabilities: {os.strerror(error)}")


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def _load(program: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = _Program(len(program) // 8, program)
    number = _SECCOMP[os.uname().machine]
    listener: int = libc.syscall(
        ctypes.c_long(number), ctypes.c_uint(_SET_FILTER), ctypes.c_uint(_NEW_LISTENER), ctypes.byref(wanted)
    )
    if listener < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"seccomp: {os.strerror(error)}")
    return listener
