"""The system-call filters of walled commands, as the bytes of a BPF program.

Knows no process and no mount: bubblewrap, or `confine`, loads what this makes. Imports only the standard library.
Source: seccomp(2), linux/filter.h, linux/audit.h and the syscall tables of x86_64 and aarch64.
"""

import errno
import os
import struct

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN, _AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
_ALLOW, _KILL_PROCESS, _ERRNO, _ASK = 0x7FFF0000, 0x80000000, 0x00050000, 0x7FC00000
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

# What Landlock does not see, and namespaces made harmless: memory and queues that all processes of a user share, other
# files' owners and attributes, other processes' limits and signals, whom a watched folder tells what happens in it.
_DENIED_BY_WALLS = {
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "inotify_add_watch": (254, 27),
    "listen": (50, 201),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
}
_DENIED_BY_WALLS_EVERYWHERE = {"pidfd_send_signal": 424, "setxattrat": 463, "removexattrat": 466, "file_setattr": 469}
# Programs that copy attributes do without where a file system has none.
_UNSUPPORTED_BY_WALLS = {
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
}
# utime, utimes and futimesat, in whose place libraries use utimensat.
_DENIED_BY_WALLS_X86_64 = (132, 235, 261)
_CHMODS = {"x86_64": (90, 91, 268, _FCHMODAT2), "aarch64": (52, 53, _FCHMODAT2)}
_CHOWNS = {"x86_64": (92, 93, 94, 260), "aarch64": (55, 54)}
_UTIMENSAT, _PRLIMIT, _FCNTL, _SOCKETPAIR = (280, 88), (302, 261), (72, 25), (53, 199)
_SIGNALS = {"kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131)}
# Which argument holds the flags: data in the first packet connects without connect(2).
_SENDS = {"sendto": (44, 206, 3), "sendmsg": (46, 211, 2), "sendmmsg": (307, 269, 3)}
_FAST_OPEN = 0x20000000
_F_SETOWN, _F_SETOWN_EX, _FIOSETOWN, _SIOCSPGRP = 8, 15, 0x8901, 0x8902
_UNIX, _INTERNET, _STREAM, _TYPE_BITS, _TCP = 1, (2, 10), 1, 0xF, 6


def _step(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)


def _refuse(number: int, error: int) -> bytes:
    return _step(_JUMP_EQUAL, number, 0, 1) + _step(_RETURN, _ERRNO | error)


def _load(argument: int) -> bytes:
    """The low 32 bits: flags and modes have no more."""
    return _step(_LOAD, _ARGUMENT_0 + argument * _BYTES)


def _refuse_bits(number: int, mask: int, argument: int = 0, otherwise: int = _ALLOW) -> bytes:
    body = _load(argument) + _step(_JUMP_ANY_BIT, mask, 0, 1)
    body += _step(_RETURN, _ERRNO | errno.EPERM) + _step(_RETURN, otherwise)
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


def _refuse_values(number: int, argument: int, values: tuple[int, ...]) -> bytes:
    body = _load(argument)
    body += b"".join(_step(_JUMP_EQUAL, value, len(values) - at) for at, value in enumerate(values))
    body += _step(_RETURN, _ALLOW) + _step(_RETURN, _ERRNO | errno.EPERM)
    return _step(_JUMP_EQUAL, number, 0, len(body) // 8) + body


def _only_own(number: int) -> bytes:
    """The first argument, a process, must be 0: the caller itself."""
    body = _load(0) + _step(_JUMP_EQUAL, 0, 1) + _step(_RETURN, _ERRNO | errno.EPERM) + _step(_RETURN, _ALLOW)
    return _step(_JUMP_EQUAL, number, 0, len(body) // 8) + body


def _only_streams(number: int, families: tuple[int, ...]) -> bytes:
    """Streams of these families, and of the protocol that Landlock can refuse to connect."""
    refused = _step(_RETURN, _ERRNO | errno.EACCES)
    body = _load(0) + b"".join(_step(_JUMP_EQUAL, one, len(families) - at) for at, one in enumerate(families))
    body += _step(_RETURN, _ERRNO | errno.EAFNOSUPPORT)
    body += _load(1) + _step(_AND, _TYPE_BITS) + _step(_JUMP_EQUAL, _STREAM, 1) + refused
    body += _load(2) + _step(_JUMP_EQUAL, 0, 2) + _step(_JUMP_EQUAL, _TCP, 1) + refused + _step(_RETURN, _ALLOW)
    return _step(_JUMP_EQUAL, number, 0, len(body) // 8) + body


def _refuse_terminal_input(number: int) -> bytes:
    # The kernel looks at the low 32 bits of the request only, and so does this.
    body = _load(1) + _step(_JUMP_EQUAL, _TIOCSTI, 1) + _step(_JUMP_EQUAL, _TIOCLINUX, 0, 1)
    body += _step(_RETURN, _ERRNO | errno.EPERM) + _step(_RETURN, _ALLOW)
    return _step(_JUMP_EQUAL, number, 0, len(body) // 8) + body


def program(machine: str = "") -> bytes:
    """The filter for `machine` (`x86_64` or `aarch64`; default: this one). Raises KeyError for any other."""
    return _program(machine or os.uname().machine, [])


def walls_program(machine: str = "", *, asks_signals: bool = False) -> bytes:
    """The filter where there are no namespaces; the keeper is asked about modes, owners, times, maybe signals.

    Raises KeyError, as `program`.
    """
    machine = machine or os.uname().machine
    column = 0 if machine == "x86_64" else 1
    denied = [numbers[column] for numbers in _DENIED_BY_WALLS.values()] + list(_DENIED_BY_WALLS_EVERYWHERE.values())
    denied += _DENIED_BY_WALLS_X86_64 if column == 0 else ()
    steps = [_refuse(number, errno.EPERM) for number in denied]
    steps += [_refuse(numbers[column], errno.ENOTSUP) for numbers in _UNSUPPORTED_BY_WALLS.values()]
    modes = _MODES[machine]
    steps += [_refuse_bits(number, _SET_ID, modes[number], _ASK) for number in _CHMODS[machine]]
    asked = [
        _UTIMENSAT[column],
        *_CHOWNS[machine],
        *((numbers[column] for numbers in _SIGNALS.values()) if asks_signals else ()),
    ]
    steps += [_step(_JUMP_EQUAL, number, 0, 1) + _step(_RETURN, _ASK) for number in asked]
    steps.append(_only_own(_PRLIMIT[column]))
    steps.append(_refuse_values(_FCNTL[column], 1, (_F_SETOWN, _F_SETOWN_EX)))
    steps.append(_refuse_values(_IOCTL[column], 1, (_FIOSETOWN, _SIOCSPGRP, _TIOCSTI, _TIOCLINUX)))
    steps += [_refuse_bits(row[column], _FAST_OPEN, row[2]) for row in _SENDS.values()]
    steps.append(_only_streams(_SOCKET[column], _INTERNET))
    steps.append(_only_streams(_SOCKETPAIR[column], (_UNIX,)))
    return _program(machine, steps)


def _program(machine: str, first: list[bytes]) -> bytes:
    arch = _AUDIT_ARCH[machine]
    column = 0 if machine == "x86_64" else 1
    steps = [_step(_LOAD, _ARCH), _step(_JUMP_EQUAL, arch, 1, 0), _step(_RETURN, _KILL_PROCESS), _step(_LOAD, _NUMBER)]
    denied = [numbers[column] for numbers in _DENIED.values()] + list(_DENIED_EVERYWHERE.values())
    if machine == "x86_64":
        steps += [_step(_JUMP_AT_LEAST, _X32_BIT, 0, 1), _step(_RETURN, _KILL_PROCESS)]
        denied += _DENIED_X86_64.values()
    steps += first
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
