"""Opens a path below its root without following a link: openat2(2), or a walk by components where the kernel lacks it.

Knows no roots table and no tool; failures are worded for people here, once.
"""

import ctypes
import difflib
import errno
import functools
import os
import stat
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ml_intern.base.errors import MlInternError, PathRefused, ToolFailed
from ml_intern.sandbox.paths import Place

Opener = Callable[[int, str, int], int]
"""(descriptor of a folder, path below it, open flags) → descriptor."""

_OPENAT2 = 437  # the same number on every architecture
_BENEATH_WITHOUT_LINKS = 0x08 | 0x04 | 0x02  # RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS
_ATTEMPTS = 50
_AT_FDCWD = -100
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


_DENIED = (ToolFailed, "permission denied", "The person must change its permissions or owner.")
_FULL = (ToolFailed, "not written, the disk is full", "Delete what is not needed, then try again.")
_OUT = (PathRefused, "the path leads out of its root", "Name the file itself.")
_WORDS: Mapping[int, tuple[type[PathRefused | ToolFailed], str, str]] = {
    errno.EXDEV: _OUT,
    errno.ELOOP: _OUT,
    errno.EISDIR: (ToolFailed, "it is a folder", "Name a file in it."),
    errno.ENOTDIR: (ToolFailed, "a part of the path is a file, not a folder", "Check the path."),
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.ENAMETOOLONG: (ToolFailed, "the name is too long", "Use at most 255 bytes a name and 4 095 in all."),
    errno.EROFS: (PathRefused, "it lies on a read-only file system", "Write somewhere else in the workspace."),
}


class _OpenHow(ctypes.Structure):
    """`struct open_how` of openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def by_openat2(folder: int, relative: str, flags: int) -> int:
    """Open in one system call; the kernel checks each component while it walks.

    Raises:
        OSError: ELOOP where a link lies on the way, EXDEV where the path leaves the folder, ENOSYS before Linux 5.6.
    """
    how = _OpenHow(flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0, _BENEATH_WITHOUT_LINKS)
    for _ in range(_ATTEMPTS):
        opened: int = _libc().syscall(
            ctypes.c_long(_OPENAT2),
            folder,
            ctypes.c_char_p(os.fsencode(relative)),
            ctypes.byref(how),
            ctypes.sizeof(how),
        )
        if opened >= 0:
            return opened
        # EAGAIN: something was renamed while the kernel walked (openat2(2), "ERRORS").
        if ctypes.get_errno() not in {errno.EAGAIN, errno.EINTR}:
            break
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), relative)


def by_walk(folder: int, relative: str, flags: int) -> int:
    """Open component by component, each with O_NOFOLLOW, so that no link is ever crossed.

    Raises:
        OSError: ENOTDIR or ELOOP where a link lies on the way.
    """
    *parents, name = relative.split("/")
    if ".." in parents or name == "..":
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), relative)
    here = os.dup(folder)
    try:
        for part in parents:
            inner = os.open(part, _FOLDER, dir_fd=here)
            os.close(here)
            here = inner
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
    finally:
        os.close(here)


def beneath(folder: int, relative: str, flags: int) -> int:
    """Open with openat2 where the kernel has it, else by the walk."""
    return by_openat2(folder, relative, flags) if has_openat2() else by_walk(folder, relative, flags)


@functools.cache
def has_openat2() -> bool:
    """Whether openat2 works here; old kernels and some containers' seccomp filters lack it."""
    try:
        os.close(by_openat2(_AT_FDCWD, ".", os.O_PATH | os.O_DIRECTORY))
    except OSError:
        return False
    return True


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def open_place(place: Place, flags: int, opener: Opener) -> int:
    """A descriptor of `place`.

    Raises:
        OSError: as the opener.
    """
    if not place.relative:
        return os.open(place.root.outside, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    root = os.open(place.root.outside, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return opener(root, place.relative, flags)
    finally:
        os.close(root)


def open_parent(place: Place, opener: Opener, *, make: bool) -> int:
    """A descriptor of the folder that holds `place`; `make` creates missing folders below the root.

    Raises:
        OSError: as the opener.
    """
    parent = place._replace(relative=os.path.dirname(place.relative))
    flags = os.O_RDONLY | os.O_DIRECTORY
    try:
        return open_place(parent, flags, opener)
    except FileNotFoundError:
        if not make or not os.path.isdir(place.root.outside):
            raise
    here = os.open(place.root.outside, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    for part in parent.relative.split("/"):
        try:
            with_part = _enter_or_make(here, part)
        finally:
            os.close(here)
        here = with_part
    return here


def _enter_or_make(folder: int, name: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        try:
            os.mkdir(name, dir_fd=folder)
            os.fsync(folder)
        except FileExistsError:
            pass
        return os.open(name, flags, dir_fd=folder)


def worded(error: OSError, place: Place) -> MlInternError:
    """The failure as one sentence and a remedy."""
    link = _obstacle(place) if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EXDEV} else None
    if link is not None and link.target:
        return refused_link(link.path, link.target)
    if error.errno == errno.ENOENT:
        return _missing(place)
    kind, what, remedy = _WORDS.get(error.errno or 0, (ToolFailed, "", "Check the path and try again."))
    return kind(f"{place.inside}: {what or (error.strerror or str(error)).lower()}.", remedy)


def refused_link(name: str, target: str) -> PathRefused:
    """What is said of a link: file tools never follow one, since a command could turn it at any moment."""
    return PathRefused(f"{name} is a link to {target}, and file tools follow no links.", f"Name {target} itself.")


def refused_kind(place: Place, mode: int) -> MlInternError:
    """What is said of anything that is no regular file."""
    if stat.S_ISDIR(mode):
        return ToolFailed(f"{place.inside} is a folder.", "Name a file in it.")
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    kind = kinds.get(stat.S_IFMT(mode), "no regular file")
    return PathRefused(f"{place.inside} is {kind}.", "File tools open regular files only; use a command.")


class _Obstacle(NamedTuple):
    """The first part of a path that is a link (`target`) or does not exist (`names`: what does, beside it)."""

    folder: str
    name: str
    target: str
    names: list[str]

    @property
    def path(self) -> str:
        return os.path.join(self.folder, self.name)


def _obstacle(place: Place) -> _Obstacle | None:
    shown = place.root.inside
    try:
        here = os.open(place.root.outside, _FOLDER)
    except OSError:
        return None
    try:
        for part in place.relative.split("/"):
            if part not in (names := _names(here)):
                return _Obstacle(shown, part, "", names)
            if stat.S_ISLNK(os.stat(part, dir_fd=here, follow_symlinks=False).st_mode):
                target = os.path.normpath(os.path.join(shown, os.readlink(part, dir_fd=here)))
                return _Obstacle(shown, part, target, [])
            inner = os.open(part, _FOLDER, dir_fd=here)
            os.close(here)
            here, shown = inner, os.path.join(shown, part)
    except OSError:
        return None
    finally:
        os.close(here)
    return None


def _names(folder: int) -> list[str]:
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.listdir(readable)
    finally:
        os.close(readable)


def _missing(place: Place) -> ToolFailed:
    lacking = _obstacle(place)
    if lacking is None:
        return ToolFailed(f"{place.inside} does not exist.", "List the folder to see what there is.")
    # A name that is no UTF-8 could not stand in the record.
    names = [os.fsencode(name).decode(errors="replace") for name in lacking.names]
    near = difflib.get_close_matches(lacking.name, names, 3, 0.5)
    what = "" if lacking.path == place.inside else f": there is no folder {lacking.path}"
    remedy = f"Nearest in {lacking.folder}:" if near else "List the folder to see what there is."
    return ToolFailed(f"{place.inside} does not exist{what}.", remedy, quoted=", ".join(near))
