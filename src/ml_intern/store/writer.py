"""The one thread that writes: takes jobs in order, commits them in batches, flushes in time. Knows no table."""

import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct, field

from ml_intern.base.errors import SessionError, StoreFailed
from ml_intern.store.failures import of_sqlite, of_system

T = TypeVar("T")

UNFLUSHED_S = 0.5
"""The longest that a commit waits for its flush; DESIGN promises a second."""
_MOST_AT_ONCE = 64


class _Job(Struct, frozen=True):
    """`work` runs inside a transaction; where it raises a SessionError it must have changed nothing."""

    work: Callable[[sqlite3.Connection], Any]
    flush: bool
    done: Future[Any] = field(default_factory=Future[Any])


class Writer:
    """Owns `connection` (autocommit, any thread) from now on. Jobs of one submitter are done in their order."""

    def __init__(self, connection: sqlite3.Connection, database: Path) -> None:
        self._connection = connection
        self._database = database
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._ended: StoreFailed | None = None
        self._flush_at: float | None = None
        self._level = ""
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[sqlite3.Connection], T], *, flush: bool) -> Future[T]:
        """Run `work` in a transaction; the future is done when it is committed, with `flush` when it is on disk.

        The future raises what `work` raises (SessionError) or StoreFailed; nothing was written then. A bug in `work`
        ends the thread, and with it the store: all who wait are told so.
        """
        job = _Job(work, flush)
        with self._gate:
            if self._ended is not None:
                raise self._ended
            self._jobs.put(job)
        return job.done

    def close(self) -> None:
        """Do what was submitted, flush, and close the connection. May be called twice."""
        with self._gate:
            if self._ended is None:
                self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        batch, closing = list[_Job](), False
        try:
            while not closing and self._ended is None:
                batch, closing = self._take()
                if batch:
                    self._commit(batch)
                if self._flush_at is not None and (closing or time.monotonic() >= self._flush_at):
                    self._flush()
        finally:
            self._end(batch)

    def _take(self) -> tuple[list[_Job], bool]:
        """What waits, in order, and whether the end was asked for. Returns empty when a flush falls due."""
        batch: list[_Job] = []
        wait = None if self._flush_at is None else max(0.0, self._flush_at - time.monotonic())
        try:
            job = self._jobs.get(timeout=wait)
            while job is not None:
                # A job that its submitter gave up before it began is left out.
                if job.done.set_running_or_notify_cancel():
                    batch.append(job)
                if len(batch) == _MOST_AT_ONCE:
                    return batch, False
                job = self._jobs.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _commit(self, batch: list[_Job]) -> None:
        flush = any(job.flush for job in batch)
        try:
            self._flush_commits(flush)
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [_outcome(job, self._connection) for job in batch]
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            self._failed(batch, error)
            return
        if flush:
            self._flush_at = None
        elif self._flush_at is None:
            self._flush_at = time.monotonic() + UNFLUSHED_S
        for job, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, SessionError):
                job.done.set_exception(outcome)
            else:
                job.done.set_result(outcome)

    def _failed(self, batch: list[_Job], error: sqlite3.Error) -> None:
        """Where a batch failed each job is tried alone: one's fault is not the others'."""
        if len(batch) > 1:
            for job in batch:
                self._commit([job])
            return
        failure = of_sqlite(error, self._database)
        failure.__cause__ = error
        batch[0].done.set_exception(failure)

    def _flush_commits(self, flush: bool) -> None:  # noqa: FBT001 - a step of its own only to be read
        level = "FULL" if flush else "NORMAL"
        if level != self._level:
            self._connection.execute(f"PRAGMA synchronous = {level}")
            self._level = level

    def _roll_back(self) -> None:
        # Some errors have ended the transaction by themselves (https://www.sqlite.org/lang_transaction.html, 2.3).
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _flush(self) -> None:
        """Bring the log of unflushed commits to disk. It holds no locks, so opening and closing it is harmless."""
        self._flush_at = None
        log = Path(f"{self._database}-wal")
        try:
            file = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(file)
            finally:
                os.close(file)
        except OSError as error:
            # After a failed flush nobody knows what is on disk (fsync(2), EIO): nothing more is promised.
            with self._gate:
                self._ended = of_system(error, log)

    def _end(self, batch: list[_Job]) -> None:
        """Tell everybody who waits for one of `batch`, or for a later job."""
        with self._gate:
            self._ended = self._ended or StoreFailed("The store is closed.", "Open the session again.")
        for job in batch:
            if not job.done.done():
                job.done.set_exception(self._ended)
        while not self._jobs.empty():
            job = self._jobs.get_nowait()
            if job is not None and job.done.set_running_or_notify_cancel():
                job.done.set_exception(self._ended)
        self._connection.close()


def _outcome(job: _Job, connection: sqlite3.Connection) -> object:
    try:
        return job.work(connection)
    except SessionError as error:
        return error
