"""The system-call filter of walled commands, as the bytes of a BPF program.

Knows no process and no mount: bubblewrap loads what this makes. Imports only the standard library.
Source: seccomp(2), linux/filter.h, linux/audit.h and the syscall tables of x86_64 and aarch64.
"""

import errno
import platform
import struct

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCH, _ARGUMENT_0, _BYTES = 0, 4, 16, 8
_X32_BIT = 0x40000000
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_NEW_NAMESPACE = 0x7E020000
_NEW_TIME_NAMESPACE = 0x80
_FAMILIES = (1, 2, 10, 16)
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

# Same number on every architecture: syscalls added since Linux 5.1 share one table.
_DENIED_EVERYWHERE = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "open_tree_attr": 467,
}
# Numbers on x86_64 and on aarch64.
_DENIED = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "setns": (308, 268),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "open_by_handle_at": (304, 265),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "fanotify_init": (300, 262),
    "vhangup": (153, 58),
}
_DENIED_X86_64 = {"iopl": 172, "ioperm": 173, "uselib": 134}
_CLONE, _UNSHARE, _SOCKET, _IOCTL = (56, 220), (272, 97), (41, 198), (16, 29)
_CLONE3, _OPENAT2, _FCHMODAT2 = 435, 437, 452
# A file of the workspace that runs as its owner does so outside the walls too. Which argument is the mode; the flags.
_SET_ID = 0o6000
_CREATES = 0o100 | 0o20000000
_MODES = {
    "x86_64": {90: 1, 91: 1, 268: 2, 85: 1, 133: 1, 259: 2, _FCHMODAT2: 2},
    "aarch64": {52: 1, 53: 2, 33: 2, _FCHMODAT2: 2},
}
_OPENS = {"x86_64": {2: 1, 257: 2}, "aarch64": {56: 2}}


def _step(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)


def _refuse(number: int, error: int) -> bytes:
    return _step(_JUMP_EQUAL, number, 0, 1) + _step(_RETURN, _ERRNO | error)


def _load(argument: int) -> bytes:
    """The low 32 bits: flags and modes have no more."""
    return _step(_LOAD, _ARGUMENT_0 + argument * _BYTES)


def _refuse_bits(number: int, mask: int, argument: int = 0) -> bytes:
    body = _load(argument) + _step(_JUMP_ANY_BIT, mask, 0, 1)
    body += _step(_RETURN, _ERRNO | errno.EPERM) + _step(_RETURN, _ALLOW)
    return _step(_JUMP_EQUAL, number, 0, 4) + body


def _refuse_set_id(number: int, flags: int) -> bytes:
    """For opens: without these flags the argument after them means nothing."""
    body = _load(flags) + _step(_JUMP_ANY_BIT, _CREATES, 0, 3) + _load(flags + 1) + _step(_JUMP_ANY_BIT, _SET_ID, 0, 1)
    body += _step(_RETURN, _ERRNO | errno.EPERM) + _step(_RETURN, _ALLOW)
    return _step(_JUMP_EQUAL, number, 0, len(body) // 8) + body


def _only_families(number: int) -> bytes:
    checks = b"".join(_step(_JUMP_EQUAL, family, len(_FAMILIES) - at) for at, family in enumerate(_FAMILIES))
    body = _load(0) + checks + _step(_RETURN, _ERRNO | errno.EAFNOSUPPORT) + _step(_RETURN, _ALLOW)
    return _step(_JUMP_EQUAL, number, 0, len(body) // 8) + body


def _refuse_terminal_input(number: int) -> bytes:
    # The kernel looks at the low 32 bits of the request only, and so does this.
    body = _load(1) + _step(_JUMP_EQUAL, _TIOCSTI, 1) + _step(_JUMP_EQUAL, _TIOCLINUX, 0, 1)
    body += _step(_RETURN, _ERRNO | errno.EPERM) + _step(_RETURN, _ALLOW)
    return _step(_JUMP_EQUAL, number, 0, len(body) // 8) + body


def program(machine: str = "") -> bytes:
    """The filter for `machine` (`x86_64` or `aarch64`; default: this one). Raises KeyError for any other."""
    machine = machine or platform.machine()
    arch = _AUDIT_ARCH[machine]
    column = 0 if machine == "x86_64" else 1
    steps = [_step(_LOAD, _ARCH), _step(_JUMP_EQUAL, arch, 1, 0), _step(_RETURN, _KILL_PROCESS), _step(_LOAD, _NUMBER)]
    denied = [numbers[column] for numbers in _DENIED.values()] + list(_DENIED_EVERYWHERE.values())
    if machine == "x86_64":
        steps += [_step(_JUMP_AT_LEAST, _X32_BIT, 0, 1), _step(_RETURN, _KILL_PROCESS)]
        denied += _DENIED_X86_64.values()
    steps += [_refuse(number, errno.EPERM) for number in denied]
    # Their arguments lie behind a pointer that a filter cannot read; callers fall back to clone and openat.
    steps += [_refuse(number, errno.ENOSYS) for number in (_CLONE3, _OPENAT2)]
    steps += [_refuse_bits(number, _SET_ID, argument) for number, argument in _MODES[machine].items()]
    steps += [_refuse_set_id(number, flags) for number, flags in _OPENS[machine].items()]
    steps.append(_refuse_bits(_CLONE[column], _NEW_NAMESPACE))
    steps.append(_refuse_bits(_UNSHARE[column], _NEW_NAMESPACE | _NEW_TIME_NAMESPACE))
    steps.append(_only_families(_SOCKET[column]))
    steps.append(_refuse_terminal_input(_IOCTL[column]))
    steps.append(_step(_RETURN, _ALLOW))
    return b"".join(steps)
