"""Does for commands at level walls what Landlock does not see: changes modes and times, below writable folders only.

Where the kernel cannot scope signals it also says whom a command may signal: its own tree. Runs in the keeper, outside
the walls. Knows no rule but the folders it is given. Imports only the standard library.
Source: seccomp_unotify(2); what it says about races is why paths are read once and opened here.
"""

import contextlib
import errno
import fcntl
import os
import struct
import time
from typing import NamedTuple

_RECEIVE, _SEND, _IS_VALID = 0xC0502100, 0xC0182101, 0x40082102
_NOTICE, _ANSWER = "=QIIiIQ6Q", "=QqiI"
_CONTINUE = 1
_AT_FDCWD, _NO_FOLLOW, _EMPTY_PATH = -100, 0x100, 0x1000
_PATH_MAX = 4096
_NOW, _OMIT = (1 << 30) - 1, (1 << 30) - 2
_MODE_BITS = 0o7777
_SET_ID = 0o6000
_NAMES = {
    "x86_64": {90: "chmod", 91: "fchmod", 268: "fchmodat", 280: "utimensat", 62: "kill", 200: "tkill", 234: "tgkill"}
    | {92: "chown", 93: "fchown", 94: "lchown", 260: "fchownat"},
    "aarch64": {52: "fchmod", 53: "fchmodat", 88: "utimensat", 129: "kill", 130: "tkill", 131: "tgkill"}
    | {55: "fchown", 54: "fchownat"},
}
_FCHMODAT2 = 452


class Notice(NamedTuple):
    """One system call that waits for an answer: `pid` is the thread that made it."""

    id: int
    pid: int
    call: str
    arguments: tuple[int, ...]


class Mediator(NamedTuple):
    """`listener` is the filter's descriptor, `writable` the real paths of the folders or files a command may change."""

    listener: int
    writable: tuple[str, ...]

    def answer_one(self) -> None:
        """Take one notice and answer it. Blocks where there is none."""
        buffer = bytearray(struct.calcsize(_NOTICE))
        try:
            fcntl.ioctl(self.listener, _RECEIVE, buffer)
        except (FileNotFoundError, InterruptedError):
            # Whoever asked was killed meanwhile.
            return
        number, pid, _, call, _, _, *arguments = struct.unpack(_NOTICE, buffer)
        names = _NAMES[os.uname().machine] | {_FCHMODAT2: "fchmodat2"}
        flags = 0
        try:
            flags = self._do(Notice(number, pid, names.get(call, ""), tuple(arguments)))
            failed = 0
        except OSError as error:
            failed = error.errno or errno.EPERM
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.listener, _SEND, struct.pack(_ANSWER, number, 0, -failed, flags))

    def _do(self, notice: Notice) -> int:
        """The flags of a good answer. Raises OSError: the error that the command gets."""
        first, second, third, fourth, fifth, *_ = notice.arguments
        match notice.call:
            case "chown" | "lchown":
                follow = 0 if notice.call == "chown" else _NO_FOLLOW
                self._keep_owner(self._open(notice, _AT_FDCWD, first, follow), second, third)
            case "fchown":
                self._keep_owner(_open_number(notice.pid, _signed(first)), second, third)
            case "fchownat":
                self._keep_owner(self._open(notice, _signed(first), second, fifth), third, fourth)
            case "chmod":
                self._change_mode(self._open(notice, _AT_FDCWD, first), second)
            case "fchmod":
                self._change_mode(_open_number(notice.pid, _signed(first)), second)
            case "fchmodat" | "fchmodat2":
                # The older call has no flags: what stands in their place is whatever the register held.
                flags = fourth if notice.call == "fchmodat2" else 0
                self._change_mode(self._open(notice, _signed(first), second, flags), third)
            case "utimensat":
                self._change_times(notice)
            case "kill" | "tgkill" | "tkill" if _may_signal(notice.call, _signed(first)):
                return _CONTINUE
            case _:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        return 0

    def _change_mode(self, opened: int, mode: int) -> None:
        try:
            # The filter has let no set-id bit through; what it cannot see is checked again.
            os.chmod(self._checked(opened), mode & _MODE_BITS & ~_SET_ID)
        finally:
            os.close(opened)

    def _keep_owner(self, opened: int, user: int, group: int) -> None:
        """Archivers of root set owners that are so already; anything else takes a right that nobody has here."""
        try:
            facts = os.stat(self._checked(opened))
            if _signed(user) not in {-1, facts.st_uid} or _signed(group) not in {-1, facts.st_gid}:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        finally:
            os.close(opened)

    def _change_times(self, notice: Notice) -> None:
        folder, path, times, flags, *_ = notice.arguments
        wanted = _times(notice.pid, times) if times else ((0, _NOW), (0, _NOW))
        opened = self._open(notice, _signed(folder), path, flags) if path else _open_number(notice.pid, _signed(folder))
        try:
            name = self._checked(opened)
            facts, now = os.stat(name), time.time_ns()
            both = zip(wanted, (facts.st_atime_ns, facts.st_mtime_ns), strict=True)
            access, change = (_chosen(seconds, part, had, now) for (seconds, part), had in both)
            os.utime(name, ns=(access, change))
        finally:
            os.close(opened)

    def _open(self, notice: Notice, folder: int, address: int, flags: int = 0) -> int:
        """The file that the caller's path names, from the caller's own folder. The path is read once."""
        path = _text(notice.pid, address)
        # Ours now: the caller must still be the one whose memory was read.
        fcntl.ioctl(self.listener, _IS_VALID, struct.pack("=Q", notice.id))
        if not path and flags & _EMPTY_PATH:
            return _open_number(notice.pid, folder)
        how = os.O_PATH | os.O_CLOEXEC | (os.O_NOFOLLOW if flags & _NO_FOLLOW else 0)
        if os.path.isabs(path):
            return os.open(path, how)
        base = f"/proc/{notice.pid}/cwd" if folder == _AT_FDCWD else f"/proc/{notice.pid}/fd/{folder}"
        here = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return os.open(path, how, dir_fd=here)
        finally:
            os.close(here)

    def _checked(self, opened: int) -> str:
        """A name of what was opened, if it lies in a writable folder; it stays that file whatever is renamed."""
        name = f"/proc/self/fd/{opened}"
        real = os.readlink(name)
        if any(real == root or real.startswith(f"{root}/") for root in self.writable):
            return name
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _may_signal(call: str, target: int) -> bool:
    if target == 0:
        # Its own group: the command began a session of its own, so nobody else is in it.
        return True
    if target == -1:
        return False
    process = _process_of(abs(target)) if call == "tkill" else abs(target)
    return process != os.getpid() and _descends(process)


def _descends(pid: int) -> bool:
    while pid > 1 and pid != os.getpid():
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                pid = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError):
            return False
    return pid == os.getpid()


def _process_of(thread: int) -> int:
    with open(f"/proc/{thread}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Tgid:"))


def _open_number(pid: int, number: int) -> int:
    try:
        return os.open(f"/proc/{pid}/fd/{number}", os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None


def _text(pid: int, address: int) -> str:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        found = b""
        while b"\0" not in found and len(found) < _PATH_MAX:
            at = address + len(found)
            # A page at a time: the next one may not be there.
            found += _read(memory.fileno(), _PATH_MAX - at % _PATH_MAX, at)
    text, end, _ = found.partition(b"\0")
    if not end:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    return os.fsdecode(text)


def _times(pid: int, address: int) -> tuple[tuple[int, int], tuple[int, int]]:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        data = _read(memory.fileno(), 32, address)
    a, b, c, d = struct.unpack("=4q", data)
    return (a, b), (c, d)


def _read(memory: int, size: int, address: int) -> bytes:
    try:
        data = os.pread(memory, size, address)
    except (OSError, OverflowError):
        data = b""
    if not data:
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
    return data


def _chosen(seconds: int, part: int, had: int, now: int) -> int:
    if part == _OMIT:
        return had
    return now if part == _NOW else seconds * 1_000_000_000 + part


def _signed(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value
