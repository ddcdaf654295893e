"""Why the store refused, as one sentence and a remedy. Knows result codes of SQLite and the system, no schema."""

import errno
import os
import sqlite3
from pathlib import Path

from ml_intern.base.errors import StoreFailed

_ELSEWHERE = "or set ML_INTERN_DATA to another folder."
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_SPARE_BYTES = 256 * 1024


_SENTENCES = {
    sqlite3.SQLITE_CORRUPT: (
        "The record {database} is damaged ({error}).",
        "Move it aside and put a backup in its place, or save what can be read with `sqlite3 FILE .recover`.",
    ),
    sqlite3.SQLITE_BUSY: (
        "Another process has kept {database} locked for too long.",
        "Find it with `fuser FILE`; if it is stopped, continue it (kill -CONT) or end it, then try again.",
    ),
    sqlite3.SQLITE_IOERR: (
        "The disk under {database} refused ({error}).",
        f"Look for disk errors and size limits (`dmesg`, `ulimit -f`), {_ELSEWHERE}",
    ),
    sqlite3.SQLITE_CONSTRAINT: (
        "The record {database} holds that already ({error}).",
        "Resume the session to see how it stands.",
    ),
}
_SAME_AS = {sqlite3.SQLITE_NOTADB: sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_LOCKED: sqlite3.SQLITE_BUSY}
_OTHER = ("The record {database} cannot be used ({error}).", "Try again; report it if it stays.")


def of_sqlite(error: sqlite3.Error, database: Path) -> StoreFailed:
    """The failure behind an error of SQLite (https://www.sqlite.org/rescode.html), which names it by number."""
    # Errors that the module raises by itself, such as use after closing, carry no code.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(database.parent)):
        return _full(database)
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
        return _forbidden(database)
    what, remedy = _SENTENCES.get(_SAME_AS.get(code, code), _OTHER)
    return StoreFailed(what.format(database=database, error=error), remedy)


def of_system(error: OSError, path: Path) -> StoreFailed:
    """The failure behind an error of the operating system on `path`."""
    if error.errno in _FULL:
        return _full(path)
    if error.errno in _FORBIDDEN:
        return _forbidden(path)
    what = f"{path} cannot be used ({error.strerror or error})."
    return StoreFailed(what, f"Look at that path and its disk, {_ELSEWHERE}")


def _full(path: Path) -> StoreFailed:
    return StoreFailed(
        f"The disk under {path} is full.", f"Free some space there, then resume the session, {_ELSEWHERE}"
    )


def _forbidden(path: Path) -> StoreFailed:
    what = f"{path} cannot be written by this user (uid {os.getuid()})."
    return StoreFailed(what, f"Make the folder {path.parent} yours and writable, {_ELSEWHERE}")


def _is_full(folder: Path) -> bool:
    """Whether less is left than SQLite needs for its shared index: it then reports an input/output error."""
    try:
        state = os.statvfs(folder)
    except OSError:
        return False
    return state.f_bavail * state.f_frsize < _SPARE_BYTES
