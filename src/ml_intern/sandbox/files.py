"""Reads and writes files below the roots: atomically, without following links, without blocking on what is no file.

Knows no tool and nothing of what a file means. All functions block: call them in a thread.
"""

import contextlib
import errno
import hashlib
import os
import stat as modes
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from ml_intern.base.errors import ToolFailed
from ml_intern.sandbox.opening import Opener, beneath, open_parent, open_place, refused_kind, worded
from ml_intern.sandbox.paths import Place

Kind = Literal["file", "folder", "link", "other"]
BESIDE = ".ml-intern-write-"
"""How the file begins that a write makes beside its target; one that is left was cut off by a kill."""
# Never block: opening a FIFO waits for its writer, opening a terminal may take it over.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY


class Facts(Struct, frozen=True):
    """What the file system says of a path; sizes in bytes, times in nanoseconds since 1970."""

    kind: Kind
    size: int
    mtime_ns: int
    mode: int


class Entry(Struct, frozen=True):
    """One name in a folder."""

    name: str
    facts: Facts


def stat(place: Place, *, opener: Opener = beneath) -> Facts | None:
    """What lies at `place`; None if nothing does.

    Raises:
        PathRefused: a link is, or lies on the way to, `place`.
        ToolFailed: it cannot be looked at.
    """
    try:
        descriptor = open_place(place, os.O_PATH, opener)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise worded(error, place) from error
    try:
        found = os.fstat(descriptor)
        if modes.S_ISLNK(found.st_mode):
            raise worded(OSError(errno.ELOOP, os.strerror(errno.ELOOP)), place)
        return _facts(found)
    finally:
        os.close(descriptor)


def read_bytes(place: Place, offset: int = 0, limit: int | None = None, *, opener: Opener = beneath) -> bytes:
    """At most `limit` bytes from `offset` on.

    Raises:
        PathRefused: a link or something that is no file.
        ToolFailed: missing (with the nearest names), a folder, not readable.
    """
    descriptor = _open_file(place, opener)
    try:
        with open(descriptor, "rb", closefd=False) as file:
            file.seek(offset)
            return file.read(-1 if limit is None else limit)
    except OSError as error:
        raise worded(error, place) from error
    finally:
        os.close(descriptor)


def sha256(place: Place, *, opener: Opener = beneath) -> str | None:
    """The hex SHA-256 of a file; None if it does not exist.

    Raises:
        PathRefused, ToolFailed: as `read_bytes`.
    """
    if stat(place, opener=opener) is None:
        return None
    descriptor = _open_file(place, opener)
    try:
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise worded(error, place) from error
    finally:
        os.close(descriptor)


def listing(place: Place, *, opener: Opener = beneath) -> tuple[Entry, ...]:
    """What a folder holds, by name.

    Raises:
        PathRefused, ToolFailed: as `read_bytes`; also where `place` is no folder.
    """
    try:
        descriptor = open_place(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK, opener)
        try:
            return tuple(sorted(_entries(descriptor), key=lambda entry: entry.name))
        finally:
            os.close(descriptor)
    except NotADirectoryError as error:
        found = stat(place, opener=opener)
        if found is not None and found.kind != "folder":
            raise ToolFailed(f"{place.inside} is no folder.", "Read it as a file.") from error
        raise worded(error, place) from error
    except OSError as error:
        raise worded(error, place) from error


def write_atomic(place: Place, data: bytes, *, opener: Opener = beneath) -> None:
    """Make `place` hold `data`, whole or not at all, and on disk when this returns. Missing folders are made.

    An existing file keeps its mode and, where permitted, its owner; its hard links keep the old content.

    Raises:
        PathRefused: a link, or something that is no file.
        ToolFailed: a folder, write-protected, no permission, disk full.
    """
    if not place.relative:
        raise ToolFailed(f"{place.inside} is a folder.", "Name a file in it.")
    try:
        folder = open_parent(place, opener, make=True)
        try:
            name = os.path.basename(place.relative)
            existing = _replaceable(folder, name, place)
            _replace(folder, name, data, existing)
        finally:
            os.close(folder)
    except OSError as error:
        raise worded(error, place) from error


def sweep(place: Place, *, opener: Opener = beneath) -> None:
    """Remove what writes of `place` left beside it when a kill cut them off.

    Raises:
        PathRefused, ToolFailed: the folder cannot be looked at.
    """
    try:
        folder = open_parent(place, opener, make=False)
        try:
            _sweep(folder, _beside(os.path.basename(place.relative)))
        finally:
            os.close(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise worded(error, place) from error


def _sweep(folder: int, left: str) -> None:
    # The folder may be open as a mere place (O_PATH), which cannot be listed.
    listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        for name in os.listdir(listed):
            if name.startswith(left):
                _unlink(name, folder)
    finally:
        os.close(listed)


def _beside(name: str) -> str:
    """How the file begins that a write of `name` makes beside it: names of others' files are not swept with it."""
    return f"{BESIDE}{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}-"


def _replaceable(folder: int, name: str, place: Place) -> os.stat_result | None:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if modes.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if not modes.S_ISREG(found.st_mode):
        raise refused_kind(place, found.st_mode)
    if not found.st_mode & 0o222:
        raise ToolFailed(
            f"{place.inside} is write-protected.", f"If it should change, run: chmod u+w '{place.inside}'."
        )
    return found


def _replace(folder: int, name: str, data: bytes, existing: os.stat_result | None) -> None:
    """Write beside, flush, rename over, flush the folder. rename(2) replaces a name that became a link meanwhile."""
    beside = f"{_beside(name)}{os.urandom(8).hex()}.tmp"
    mode = 0o666 if existing is None else 0o600
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.ExitStack() as undo:
        descriptor = os.open(beside, flags, mode, dir_fd=folder)
        undo.callback(_unlink, beside, folder)
        with open(descriptor, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            if existing is not None:
                _dress(descriptor, existing)
            os.fsync(descriptor)
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
        undo.pop_all()
    os.fsync(folder)


def _dress(descriptor: int, existing: os.stat_result) -> None:
    made = os.fstat(descriptor)
    if (made.st_uid, made.st_gid) != (existing.st_uid, existing.st_gid):
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, existing.st_uid, existing.st_gid)
    os.fchmod(descriptor, existing.st_mode & 0o777)


def _unlink(name: str, folder: int) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)


def _open_file(place: Place, opener: Opener) -> int:
    try:
        descriptor = open_place(place, _READ, opener)
    except OSError as error:
        found = None if place.relative == "" else _kind_of(place, opener)
        if found is not None and not modes.S_ISREG(found):
            raise refused_kind(place, found) from error
        raise worded(error, place) from error
    mode = os.fstat(descriptor).st_mode
    if modes.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    raise refused_kind(place, mode)


def _kind_of(place: Place, opener: Opener) -> int | None:
    """The mode of what could not be opened for reading (a socket, for example); None for links and nothing."""
    try:
        descriptor = open_place(place, os.O_PATH, opener)
    except OSError:
        return None
    try:
        mode = os.fstat(descriptor).st_mode
    finally:
        os.close(descriptor)
    return None if modes.S_ISLNK(mode) else mode


def _entries(folder: int) -> Iterator[Entry]:
    with os.scandir(folder) as found:
        for entry in found:
            with contextlib.suppress(FileNotFoundError):
                yield Entry(entry.name, _facts(entry.stat(follow_symlinks=False)))


def _facts(found: os.stat_result) -> Facts:
    kinds: dict[int, Kind] = {modes.S_IFREG: "file", modes.S_IFDIR: "folder", modes.S_IFLNK: "link"}
    kind = kinds.get(modes.S_IFMT(found.st_mode), "other")
    return Facts(kind, found.st_size, found.st_mtime_ns, modes.S_IMODE(found.st_mode))
