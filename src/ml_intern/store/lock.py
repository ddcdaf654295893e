"""Who owns a session on this host: a file lock that dies with its owner, and an epoch in the record. Knows no event.

Under `<session>/lock`, held for milliseconds, a taker reads epoch E, tries the lock of `owner.E`, writes epoch E + 1
to the record, locks `owner.E+1` and removes the older files. Whoever holds the lock of the record's epoch owns the
session; an owner under an older epoch (it was stopped, and somebody forced his way) cannot append. Process ids are only
told to people, never asked after.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Generator
from pathlib import Path

from msgspec import Struct
from msgspec.structs import asdict

from ml_intern.base.errors import SessionBusy
from ml_intern.store.failures import of_system
from ml_intern.store.folder import make_private_folder, session_folder
from ml_intern.store.sqlite import SqliteJournal, SqliteStore

MUTEX_S = 5.0
"""How long a hand-over that another process has begun is waited for."""


class Holder(Struct, frozen=True):
    """A process that owns a session: for messages only. `since` is milliseconds since 1970."""

    pid: int
    door: str
    host: str
    since: int

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since / 1000))
        return f"process {self.pid} ({self.door}) on {self.host}, since {since}"


class Owner:
    """This process's hold on a session, until `release` or its death."""

    def __init__(self, journal: SqliteJournal, epoch: int, holder: Holder, file: int) -> None:
        self.journal = journal
        self.epoch = epoch
        self.holder = holder
        self._file = file

    def release(self) -> None:
        """Let others take the session. May be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


async def take(store: SqliteStore, session: str, door: str, *, force: bool = False) -> Owner:
    """Become the owner of `session`, for the door named `door`. `force` takes it from a living owner, too.

    Raises:
        SessionNotFound: there is no such session.
        SessionBusy: another process owns it; the message names it.
        StoreFailed: the record or the lock files cannot be written.
    """
    holder = Holder(os.getpid(), door, socket.gethostname(), time.time_ns() // 1_000_000)
    taking = asyncio.ensure_future(asyncio.to_thread(_take, store, session, holder, force))
    try:
        return await asyncio.shield(taking)
    except asyncio.CancelledError:
        taking.add_done_callback(_let_go)
        raise


async def holder_of(store: SqliteStore, session: str) -> Holder | None:
    """Who owns `session` now, or None.

    Raises:
        SessionNotFound: there is no such session.
        SessionBusy: it is being taken at this moment.
        StoreFailed: the record or the lock files cannot be read.
    """
    return await asyncio.to_thread(_holder_of, store, session)


@contextlib.contextmanager
def alone_in(folder: Path, doing: str) -> Generator[None]:
    """Keep others out of the session folder, which exists, as long as it is made or removed. Blocks.

    Raises:
        SessionBusy: another process is at it.
    """
    with contextlib.ExitStack() as passing:
        _enter(folder, _asker(doing), passing)
        yield


@contextlib.contextmanager
def kept_free(store: SqliteStore, session: str) -> Generator[None]:
    """Nobody owns `session`, and nobody can take it until the block ends. Keep it short. Blocks.

    Raises:
        SessionBusy: another process owns it, or is taking it.
        SessionNotFound: it is gone.
    """
    folder = session_folder(store.data, session)
    store.epoch(session)
    make_private_folder(folder)
    with contextlib.ExitStack() as passing:
        _enter(folder, _asker("sweeping it"), passing)
        path = folder / f"owner.{store.epoch(session)}"
        if not _is_free(path, passing):
            raise _busy(session, _told(path))
        yield


def _let_go(taking: asyncio.Future[Owner]) -> None:
    if not taking.cancelled() and taking.exception() is None:
        taking.result().release()


def _take(store: SqliteStore, session: str, holder: Holder, force: bool) -> Owner:  # noqa: FBT001 - the door's own flag
    store.epoch(session)
    folder = session_folder(store.data, session)
    make_private_folder(folder)
    with contextlib.ExitStack() as passing, contextlib.ExitStack() as kept:
        _enter(folder, holder, passing)
        epoch = store.epoch(session)
        free = _try_lock(folder / f"owner.{epoch}", passing) is not None
        if not free and not force:
            raise _busy(session, _told(folder / f"owner.{epoch}"))
        store.set_epoch(session, epoch + 1)
        mine = folder / f"owner.{epoch + 1}"
        file = _try_lock(mine, kept)
        if file is None:
            raise _busy(session, _told(mine))
        _tell(mine, file, holder)
        _remove_older(folder, epoch + 1)
        kept.pop_all()
        return Owner(SqliteJournal(store, session, epoch + 1), epoch + 1, holder, file)


def _holder_of(store: SqliteStore, session: str) -> Holder | None:
    store.epoch(session)
    folder = session_folder(store.data, session)
    make_private_folder(folder)
    with contextlib.ExitStack() as passing:
        _enter(folder, _asker("asking who owns it"), passing)
        path = folder / f"owner.{store.epoch(session)}"
        return None if _is_free(path, passing) else _told(path)


def _asker(doing: str) -> Holder:
    return Holder(os.getpid(), doing, socket.gethostname(), time.time_ns() // 1_000_000)


def _is_free(path: Path, passing: contextlib.ExitStack) -> bool:
    return not path.exists() or _try_lock(path, passing) is not None


def _enter(folder: Path, holder: Holder, passing: contextlib.ExitStack) -> None:
    """Wait for the lock under which owners change; `passing` lets go of it."""
    path = folder / "lock"
    give_up = time.monotonic() + MUTEX_S
    while (file := _try_lock(path, passing)) is None:
        if time.monotonic() > give_up:
            raise _busy(folder.name, _told(path), "is being taken")
        time.sleep(0.005)
    _tell(path, file, holder)


def _try_lock(path: Path, held: contextlib.ExitStack) -> int | None:
    """Open and lock the file; `held` closes it. None: it is held already. Commands do not inherit it (PEP 446)."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with contextlib.ExitStack() as opened:
            opened.callback(os.close, file)
            os.fchmod(file, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held.push(opened.pop_all())
    except BlockingIOError:
        return None
    except OSError as error:
        raise of_system(error, path) from error
    return file


def _tell(path: Path, file: int, holder: Holder) -> None:
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(asdict(holder)).encode(), 0)
    except OSError as error:
        raise of_system(error, path) from error


def _told(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _remove_older(folder: Path, epoch: int) -> None:
    for file in folder.glob("owner.*"):
        if int(file.suffix[1:]) < epoch:
            file.unlink(missing_ok=True)


def _busy(session: str, holder: Holder | None, how: str = "is open") -> SessionBusy:
    who = f": {holder}" if holder is not None else ""
    what = f"Session {session} {how} in another process{who}."
    return SessionBusy(what, "End it there, or take it over with --take-over; `ml-intern show` reads it as it is.")
