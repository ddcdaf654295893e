"""The day's budget over all sessions of this machine: reserved in one transaction, so that two processes never reserve
the same money. Knows no session and no price.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import Any

from ml_intern.base.clock import Clock
from ml_intern.base.errors import StoreFailed
from ml_intern.base.money import Micro
from ml_intern.record.events import Entry, ModelFailed, ModelReplied, ModelStopped, ToolFinished
from ml_intern.store.sqlite import SqliteStore

KEPT_DAYS = 7

_SUM = "SELECT coalesce(sum(amount), 0) FROM day WHERE day = ?"
_KEEP = "INSERT INTO day (key, day, amount) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET amount = excluded.amount"
_BOOK = "UPDATE day SET amount = ? WHERE key = ?"
_FORGET = "DELETE FROM day WHERE day < ?"


class DayPurse:
    """Reserves before money is spent; as a reader of the record it books what was really spent. `cap` None: no cap,
    but what is spent counts for other sessions that have one. A day is this machine's own, from midnight to midnight.
    """

    def __init__(self, store: SqliteStore, clock: Clock, cap: Micro | None) -> None:
        self._store = store
        self._clock = clock
        self._open: set[str] = set()
        self._pending: set[Future[Any]] = set()
        self.cap = cap

    async def left(self) -> Micro | None:
        """What may still be reserved today; None without a cap.

        Raises:
            StoreFailed: the store cannot be read.
        """
        if self.cap is None:
            return None
        cap, day = self.cap, self._day()
        return await self._store.write(lambda db: Micro(max(0, cap - _spent(db, day))), flush=False)

    async def reserve(self, key: str, amount: int) -> bool:
        """Reserve the worst case of an attempt or a call; False where the day cannot pay it, and nothing is reserved.

        Raises:
            StoreFailed: the store cannot be written.
        """
        if amount == 0:
            return True
        reserved = True
        if self.cap is None:
            # Nothing can refuse it, and the store works in order: it is written before the attempt that it pays for.
            self._later(lambda db: self._reserve(db, key, amount))
        else:
            try:
                reserved = await self._store.write(lambda db: self._reserve(db, key, amount), flush=False)
            except asyncio.CancelledError:
                # It may stand there already, and nobody will make the attempt that would book it.
                self._later(lambda db: db.execute(_BOOK, (0, key)))
                raise
        if reserved:
            self._open.add(key)
        return reserved

    def read(self, entry: Entry) -> None:
        """Book what `entry` closes, in the background: what is not booked yet stays reserved at its worst case."""
        match entry.event:
            case ModelReplied(attempt=key, cost=cost) | ModelFailed(attempt=key, cost=cost):
                self.book(key, cost)
            case ModelStopped(attempt=key, cost=cost) | ToolFinished(call=key, cost=cost):
                self.book(key, cost)
            case _:
                pass

    def book(self, key: str, cost: int) -> None:
        """The reservation of `key` becomes what it really cost."""
        if key not in self._open:
            return
        self._open.remove(key)
        self._later(lambda db: db.execute(_BOOK, (cost, key)))

    async def settle(self) -> None:
        """Wait until everything is booked."""
        while self._pending:
            # A copy, made at once: the writer's thread takes out what is done.
            pending = tuple(self._pending)
            await asyncio.gather(*map(asyncio.wrap_future, pending), return_exceptions=True)

    def _later(self, work: Callable[[sqlite3.Connection], object]) -> None:
        # What cannot be booked stays reserved at its worst case.
        with contextlib.suppress(StoreFailed):
            future = self._store.writer.submit(work, flush=False)
            self._pending.add(future)
            future.add_done_callback(self._pending.discard)

    def _reserve(self, db: sqlite3.Connection, key: str, amount: int) -> bool:
        day = self._day()
        if self.cap is not None and _spent(db, day) + amount > self.cap:
            return False
        db.execute(_FORGET, (self._day(ago=KEPT_DAYS),))
        db.execute(_KEEP, (key, day, amount))
        return True

    def _day(self, ago: int = 0) -> str:
        return (datetime.fromtimestamp(self._clock.now_ms() / 1000) - timedelta(days=ago)).date().isoformat()


def _spent(db: sqlite3.Connection, day: str) -> int:
    total: int = db.execute(_SUM, (day,)).fetchone()[0]
    return total
