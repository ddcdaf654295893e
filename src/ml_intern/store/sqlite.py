"""The record in SQLite (WAL): one file for all sessions, one writer thread, one reader thread. Knows no event."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from ml_intern.base.errors import SessionNotFound, StaleOwner
from ml_intern.store.failures import of_sqlite
from ml_intern.store.folder import DATABASE, make_private_file, make_private_folder, refuse_network, session_folder
from ml_intern.store.migrations import migrate
from ml_intern.store.writer import Writer

T = TypeVar("T")

BUSY_S = 10.0
"""How long a transaction waits for those of other processes."""
_PAGE = 1000
SUBFOLDERS = ("blobs", "commands", "home", "tmp")

_APPEND = """
INSERT INTO events (session, seq, body)
SELECT :session, :seq, CAST(:line AS TEXT) WHERE (SELECT epoch FROM sessions WHERE id = :session) = :epoch
"""
_LINES = "SELECT seq, CAST(body AS BLOB) FROM events WHERE session = ? AND seq > ? ORDER BY seq LIMIT ?"


class SqliteStore:
    """All sessions under one data folder. Nothing blocks the event loop; `close` must be awaited at the end."""

    def __init__(self, data: Path, writer: Writer, reader: sqlite3.Connection) -> None:
        self.data = data
        self.writer = writer
        self._reader = reader
        self._reading = ThreadPoolExecutor(1, "store-reader")

    @classmethod
    async def open(cls, data: Path) -> "SqliteStore":
        """The store in folder `data`, made where it is missing.

        Raises:
            StoreFailed: it cannot be read and written there; the message says why.
        """
        return await asyncio.to_thread(cls._open, data)

    @classmethod
    def _open(cls, data: Path) -> "SqliteStore":
        make_private_folder(data)
        refuse_network(data, _mountinfo())
        database = data / DATABASE
        make_private_file(database)
        try:
            connection = _connect(database)
            migrate(connection)
            reader = _connect(database)
            reader.execute("PRAGMA query_only = TRUE")
        except sqlite3.Error as error:
            raise of_sqlite(error, database) from error
        return cls(data, Writer(connection, database), reader)

    async def close(self) -> None:
        """Write and flush what was asked for, then let the file go. May be called twice."""
        await asyncio.to_thread(self.writer.close)
        await asyncio.to_thread(self._reading.shutdown)
        self._reader.close()

    async def create(self, session: str) -> Path:
        """Make room for a new session and return its folder, with `blobs`, `commands`, `home` and `tmp` in it (0700).

        Raises:
            StoreFailed: the store refused, or the id is in use.
        """
        folder = session_folder(self.data, session)
        for name in SUBFOLDERS:
            await asyncio.to_thread(make_private_folder, folder / name)
        await self.write(lambda db: db.execute("INSERT INTO sessions (id) VALUES (?)", (session,)), flush=False)
        return folder

    async def write(self, work: Callable[[sqlite3.Connection], T], *, flush: bool) -> T:
        """What `work` returns, run inside a transaction of the writer: see `Writer.submit`."""
        return await asyncio.wrap_future(self.writer.submit(work, flush=flush))

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, run on the reader's connection in its thread.

        Raises:
            StoreFailed: the file cannot be read.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reading, work, self._reader)
        except sqlite3.Error as error:
            raise of_sqlite(error, self.data / DATABASE) from error

    async def lines(self, session: str, after: int = 0) -> list[bytes]:
        """All lines of `session` after number `after`, in order; of one moment."""
        rows = await self.read(lambda db: db.execute(_LINES, (session, after, -1)).fetchall())
        return [body for _, body in rows]

    async def pages(self, session: str, after: int = 0) -> AsyncIterator[list[bytes]]:
        """The same, a thousand lines at a time: for records that should not lie in memory whole."""
        while rows := await self.read(partial(_page, session=session, after=after)):
            after = rows[-1][0]
            yield [body for _, body in rows]

    def epoch(self, session: str) -> int:
        """The epoch of the present owner, 0 where there was none yet. Blocks: for the lock's thread.

        Raises:
            SessionNotFound: there is no such session.
        """
        return self.writer.submit(lambda db: _epoch(db, session), flush=False).result()

    def set_epoch(self, session: str, epoch: int) -> None:
        """From now on only the owner under `epoch` may append; on disk on return. Blocks: for the lock's thread."""
        query = "UPDATE sessions SET epoch = ? WHERE id = ?"
        self.writer.submit(lambda db: db.execute(query, (epoch, session)), flush=True).result()


class SqliteJournal:
    """The lines of one session for its owner under `epoch`: the `Journal` of record/log.py."""

    def __init__(self, store: SqliteStore, session: str, epoch: int) -> None:
        self._store = store
        self._session = session
        self._epoch = epoch

    async def append(self, seq: int, line: bytes, *, flush: bool) -> None:
        """Write line `seq`; with `flush` it is on disk on return, otherwise within a second.

        Raises:
            StaleOwner: the session has another owner by now; nothing was written.
            StoreFailed: the store refused; nothing was written.
        """
        await self._store.write(partial(self._append, seq=seq, line=line), flush=flush)

    async def lines(self, after: int = 0) -> list[bytes]:
        """The lines after sequence number `after`, in order."""
        return await self._store.lines(self._session, after)

    def _append(self, db: sqlite3.Connection, seq: int, line: bytes) -> None:
        values = {"session": self._session, "seq": seq, "line": line, "epoch": self._epoch}
        if db.execute(_APPEND, values).rowcount == 0:
            raise self._stale()

    def require_ours(self, db: sqlite3.Connection) -> None:
        """Inside a transaction: make sure that the session is still ours.

        Raises:
            StaleOwner: it has another owner by now.
        """
        if _epoch(db, self._session) != self._epoch:
            raise self._stale()

    def _stale(self) -> StaleOwner:
        what = f"Session {self._session} was taken over by another process; nothing more is written here."
        return StaleOwner(what, "Go on there, or resume it here with --take-over.")


def _page(db: sqlite3.Connection, session: str, after: int) -> list[tuple[int, bytes]]:
    return db.execute(_LINES, (session, after, _PAGE)).fetchall()


def _epoch(db: sqlite3.Connection, session: str) -> int:
    row = db.execute("SELECT epoch FROM sessions WHERE id = ?", (session,)).fetchone()
    if row is None:
        raise SessionNotFound(f"There is no session {session}.", "`ml-intern sessions` lists them.")
    return row[0]


def _connect(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(database, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    _use_wal(connection)
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turning a new file to WAL needs it alone, and SQLite does not wait for that by itself."""
    give_up = time.monotonic() + BUSY_S
    while not _is_wal(connection, give_up):
        time.sleep(0.01)


def _is_wal(connection: sqlite3.Connection, give_up: float) -> bool:
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
            raise
        return False
    return True


def _mountinfo() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
