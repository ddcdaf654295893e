"""Puts a whole session into the store at once: seen complete or not at all, wherever it is killed. Knows no event.

Files first, under the folder's lock, then one transaction that makes the session and its lines. What a kill leaves in
between is a folder without a session, which `sweep.py` takes away.
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Generator, Sequence
from pathlib import Path

from msgspec import Struct

from ml_intern.store.blobs import Blobs
from ml_intern.store.failures import of_system
from ml_intern.store.folder import make_private_folder, session_folder
from ml_intern.store.lock import alone_in
from ml_intern.store.sqlite import SUBFOLDERS, SqliteStore


class Making(Struct, frozen=True):
    """A session that nobody sees yet. `blobs` take what its lines will name."""

    store: SqliteStore
    session: str
    folder: Path
    blobs: Blobs

    def finish(self, lines: Sequence[bytes]) -> None:
        """From now on the session is there, with these lines, on disk. Blocks.

        Raises:
            StoreFailed: the store refused, or the id is in use.
        """

        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO sessions (id) VALUES (?)", (self.session,))
            rows = ((self.session, seq, line) for seq, line in enumerate(lines, start=1))
            db.executemany("INSERT INTO events (session, seq, body) VALUES (?, ?, CAST(? AS TEXT))", rows)

        self.store.writer.submit(work, flush=True).result()

    def take_over(self, original: Path, shas: frozenset[str]) -> None:
        """Keep those blobs of the session folder `original` too: by a second name where the disk can, else by a copy.

        Raises:
            StoreFailed: the disk refused.
        """
        for sha in sorted(shas):
            source, place = (folder / "blobs" / sha[:2] / sha[2:] for folder in (original, self.folder))
            if source.is_file():
                make_private_folder(place.parent)
                _second_name(source, place)


@contextlib.contextmanager
def making(store: SqliteStore, session: str, blobs: Blobs) -> Generator[Making]:
    """Make `session`; where that fails its folder is taken away again. Blocks.

    Raises:
        StoreFailed: the disk refused.
    """
    folder = session_folder(store.data, session)
    for name in SUBFOLDERS:
        make_private_folder(folder / name)
    with alone_in(folder, "making it"), contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        yield Making(store, session, folder, blobs)
        undo.pop_all()


def _second_name(source: Path, place: Path) -> None:
    try:
        try:
            os.link(source, place)
        except FileExistsError:
            return
        except OSError:
            beside = place.with_name(".new-copy")
            shutil.copyfile(source, beside)
            beside.chmod(0o600)
            beside.rename(place)
    except OSError as error:
        raise of_system(error, place) from error
