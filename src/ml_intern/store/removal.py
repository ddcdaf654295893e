"""Takes sessions away for good: rows, then the folder under a name that says so. Knows no event.

Killed in between, the session is gone from every list; what is left of its folder goes with the next removal or sweep.
"""

import contextlib
import shutil
import sqlite3
from pathlib import Path

from ml_intern.store.failures import of_sqlite, of_system
from ml_intern.store.folder import DATABASE, session_folder
from ml_intern.store.lock import Owner
from ml_intern.store.sqlite import BUSY_S, SqliteStore

GONE = ".gone-"
"""How the name of a folder begins whose session was removed."""


def remove(store: SqliteStore, session: str, owner: Owner) -> None:
    """Remove the rows and the files of `session`, which we own. Blocks.

    Raises:
        StaleOwner: somebody took it over; nothing was removed.
        StoreFailed: the store or the disk refused.
    """
    store.writer.submit(lambda db: _delete(db, session, owner), flush=True).result()
    hide(session_folder(store.data, session))
    clear(store.data)
    truncate_log(store.data)


def hide(folder: Path) -> None:
    """Give the folder a name under which nobody looks for a session."""
    try:
        folder.rename(folder.with_name(f"{GONE}{folder.name}"))
    except FileNotFoundError:
        return
    except OSError as error:
        raise of_system(error, folder) from error


def clear(data: Path) -> None:
    """Remove every folder that was hidden, also by a process that was killed over it."""
    for folder in (data / "sessions").glob(f"{GONE}*"):
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise of_system(error, folder) from error


def truncate_log(data: Path) -> None:
    """Bring SQLite's log into the database and empty it: what was deleted stands in it still.

    Where another process reads just now it stays until that one's last checkpoint.
    """
    database = data / DATABASE
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=min(1.0, BUSY_S), isolation_level=None)) as db:
            db.execute("PRAGMA secure_delete = ON")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise of_sqlite(error, database) from error


def _delete(db: sqlite3.Connection, session: str, owner: Owner) -> None:
    # Overwrites what it frees: a person who deletes a session means its text, too.
    db.execute("PRAGMA secure_delete = ON")
    owner.journal.require_ours(db)
    db.execute("DELETE FROM events WHERE session = ?", (session,))
    db.execute("DELETE FROM sessions WHERE id = ?", (session,))
