"""The pod: a user and network namespace that a session's commands share, with a loopback and no route out.

Knows no command and no mount. Imports only the standard library; runs in the supervisor.
Source: user_namespaces(7), network_namespaces(7), netdevice(7).
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_SET_INTERFACE_FLAGS = 0x8914
_UP_AND_RUNNING = 0x1 | 0x40


def enter() -> None:
    """Move this process into a new pod; its user and group stay what they are, nobody else exists inside.

    Raises OSError where the kernel or a security module forbids user namespaces.
    """
    _unshare(_NEW_USER | _NEW_NETWORK)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, _SET_INTERFACE_FLAGS, struct.pack("16sh14x", b"lo", _UP_AND_RUNNING))


def dial(port: int, *, six: bool) -> socket.socket:
    """A connection to `port` at the pod's localhost, by IPv6 or 4, under way: who polls it sees whether it stands.

    Called by who is in the pod. Raises OSError.
    """
    dialled = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    code = dialled.connect_ex(("::1" if six else "127.0.0.1", port))
    if code not in {0, errno.EINPROGRESS}:
        dialled.close()
        raise OSError(code, os.strerror(code))
    return dialled


def count_apart() -> None:
    """Move this process, inside the pod, into a user namespace of its own: the kernel counts its processes there.

    Raises OSError.
    """
    _unshare(_NEW_USER)


def _unshare(kinds: int) -> None:
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(kinds) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"no new namespace: {os.strerror(error)}")
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid} {uid} 1")
    _write("/proc/self/gid_map", f"{gid} {gid} 1")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
