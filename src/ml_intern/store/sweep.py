"""Finds and removes what no session needs: folders without rows, outputs nobody names, old environments, free pages.

Nothing young is touched: what another process makes at this moment looks like litter until it is done.
"""

import contextlib
import fcntl
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from msgspec import Struct

from ml_intern.base.errors import SessionBusy
from ml_intern.store.failures import of_sqlite, of_system
from ml_intern.store.folder import DATABASE, session_folder
from ml_intern.store.lock import alone_in, kept_free
from ml_intern.store.removal import GONE, clear, hide, truncate_log
from ml_intern.store.space import taken_by
from ml_intern.store.sqlite import BUSY_S, SqliteStore

YOUNG_S = 3600.0
DAY_S = 86400.0
_WORTH_BYTES = 1024 * 1024
_NAME = re.compile(rb"[0-9a-f]{64}")

Kind = Literal["folder", "output", "environment", "database"]


class Litter(Struct, frozen=True):
    """Something that may go, and how many bytes of disk that frees. `session` is set where it lies inside one."""

    kind: Kind
    path: Path
    bytes: int
    session: str = ""


class Sweep(Struct, frozen=True):
    """One look at `store` and the `environments` beside it, at `now` (seconds since 1970)."""

    store: SqliteStore
    environments: Path
    now: float
    unused_days: float

    def find(self) -> list[Litter]:
        """What may go. Blocks, for as long as it takes to read every record once.

        Raises:
            StoreFailed: a record or a folder cannot be read.
        """
        try:
            return [*self._folders(), *self._outputs(), *self._environments(), *self._pages()]
        except OSError as error:
            raise of_system(error, self.store.data) from error

    def remove(self, litter: Litter) -> bool:
        """Remove it if it still may go. Blocks.

        Raises:
            StoreFailed: the disk refused.
        """
        try:
            match litter.kind:
                case "folder":
                    return self._remove_folder(litter.path)
                case "output":
                    return self._remove_output(litter)
                case "environment":
                    return self._remove_environment(litter.path)
                case "database":
                    return self._shrink(litter.path)
        except SessionBusy:
            return False
        except OSError as error:
            raise of_system(error, litter.path) from error

    def _sessions(self) -> set[str]:
        return self.store.writer.submit(_ids, flush=False).result()

    def _is_young(self, path: Path) -> bool:
        return self.now - path.lstat().st_mtime < YOUNG_S

    def _folders(self) -> Iterator[Litter]:
        known = self._sessions()
        for folder in sorted((self.store.data / "sessions").glob("*")):
            if folder.name in known or not folder.is_dir():
                continue
            if folder.name.startswith(GONE) or not self._is_young(folder):
                yield Litter("folder", folder, taken_by(folder))

    def _remove_folder(self, folder: Path) -> bool:
        if not folder.name.startswith(GONE):
            with alone_in(folder, "removing it"):
                if folder.name in self._sessions():
                    return False
                hide(folder)
        clear(self.store.data)
        return True

    def _outputs(self) -> Iterator[Litter]:
        for session in sorted(self._sessions()):
            # Where somebody owns it he may just be putting one there.
            with contextlib.suppress(SessionBusy), kept_free(self.store, session):
                yield from self._outputs_of(session)

    def _outputs_of(self, session: str) -> Iterator[Litter]:
        kept = sorted((session_folder(self.store.data, session) / "blobs").glob("??/*"))
        named = self._names(session) if kept else frozenset[str]()
        for path in kept:
            if path.parent.name + path.name not in named and not self._is_young(path):
                yield Litter("output", path, taken_by(path), session)

    def _names(self, session: str) -> frozenset[str]:
        def work(db: sqlite3.Connection) -> frozenset[str]:
            rows = db.execute("SELECT CAST(body AS BLOB) FROM events WHERE session = ?", (session,))
            return frozenset(found.decode() for (body,) in rows for found in _NAME.findall(body))

        return self.store.writer.submit(work, flush=False).result()

    def _remove_output(self, litter: Litter) -> bool:
        with kept_free(self.store, litter.session):
            if litter.path.parent.name + litter.path.name in self._names(litter.session):
                return False
            litter.path.unlink(missing_ok=True)
        return True

    def _environments(self) -> Iterator[Litter]:
        """The marker is touched at every use (see sandbox/environment.py)."""
        for folder in sorted(self.environments.glob("*")):
            if folder.is_dir() and self.now - _last_use(folder) > self._unused_s:
                yield Litter("environment", folder, taken_by(folder))

    @property
    def _unused_s(self) -> float:
        return max(1.0, self.unused_days) * DAY_S

    def _remove_environment(self, folder: Path) -> bool:
        """The marker first: what a kill leaves is built anew by whoever wants it next."""
        with (folder.with_name(f"{folder.name}.lock")).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if _is_used(folder.name) or self.now - _last_use(folder) <= self._unused_s:
                return False
            folder.with_name(f"{folder.name}.ready").unlink(missing_ok=True)
            shutil.rmtree(folder)
            folder.with_name(f"{folder.name}.txt").unlink(missing_ok=True)
        return True

    def _pages(self) -> Iterator[Litter]:
        free = self.store.writer.submit(_free_bytes, flush=False).result()
        if free >= _WORTH_BYTES:
            yield Litter("database", self.store.data / DATABASE, free)

    def _shrink(self, database: Path) -> bool:
        try:
            with contextlib.closing(sqlite3.connect(database, timeout=BUSY_S, isolation_level=None)) as db:
                db.execute("VACUUM")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                return False
            raise of_sqlite(error, database) from error
        truncate_log(self.store.data)
        return True


def _ids(db: sqlite3.Connection) -> set[str]:
    return {row[0] for row in db.execute("SELECT id FROM sessions")}


def _free_bytes(db: sqlite3.Connection) -> int:
    (pages,), (size,) = db.execute("PRAGMA freelist_count").fetchone(), db.execute("PRAGMA page_size").fetchone()
    return pages * size


def _last_use(folder: Path) -> float:
    """When the environment was used last; without a marker it was never finished."""
    try:
        facts = folder.with_name(f"{folder.name}.ready").lstat()
    except FileNotFoundError:
        return folder.lstat().st_mtime
    return facts.st_mtime


def _is_used(name: str) -> bool:
    """Whether a process of this user names the environment in its command line, as every Python of it does."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if name.encode() in (process / "cmdline").read_bytes() and int(process.name) != os.getpid():
                return True
    return False
