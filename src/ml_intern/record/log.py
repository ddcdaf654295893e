"""The log of one session: propose, number, fold, write, tell. The only way into the record. Knows no store's inside."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.base.clock import Clock
from ml_intern.base.errors import StoreFailed
from ml_intern.record.codec import decode, encode
from ml_intern.record.events import FLUSHED, Entry, Event
from ml_intern.record.secrets import Secrets
from ml_intern.record.texts import storable, with_texts
from ml_intern.record.view import MAIN, View, fold

_log = logging.getLogger(__name__)


class Journal(Protocol):
    """Where one session's lines are kept, for its present owner."""

    async def append(self, seq: int, line: bytes, *, flush: bool) -> None:
        """Write line `seq`; with `flush` it is on disk on return, otherwise within a second.
        It survives SIGKILL either way.

        Raises:
            StaleOwner: the session has another owner by now; nothing was written.
            StoreFailed: the store refused; nothing was written.
        """
        ...

    async def lines(self, after: int = 0) -> list[bytes]:
        """The lines after sequence number `after`, in order."""
        ...


class Refusal(Struct, frozen=True):
    """A proposal that the present view does not allow; `what` is one sentence."""

    what: str
    remedy: str = ""


Proposal = Callable[[View], "Event | Refusal"]


class Log:
    """One session's events and the view they make. Readers are called in order of joining and must not block."""

    def __init__(self, journal: Journal, clock: Clock, secrets: Secrets, view: View) -> None:
        self._journal = journal
        self._clock = clock
        self.secrets = secrets
        self._view = view
        self._lock = asyncio.Lock()
        self._readers: tuple[Callable[[Entry], None], ...] = ()
        self._pending: set[asyncio.Task[Entry | Refusal]] = set()

    @classmethod
    async def open(cls, journal: Journal, clock: Clock, secrets: Secrets) -> "Log":
        """The log over what `journal` holds.

        Raises:
            StoreFailed: a line is damaged, or the lines do not follow each other.
        """
        lines = await journal.lines()
        try:
            # In a thread: ten thousand entries take longer than the event loop may stand still.
            view = await asyncio.to_thread(lambda: replay(map(decode, lines)))
        except (ValueError, KeyError) as error:
            what = f"The entries of this session do not follow each other: {error}."
            raise StoreFailed(what, "Restore the record from a backup; `show` prints what can be read.") from error
        return cls(journal, clock, secrets, view)

    @property
    def view(self) -> View:
        """The state now; never changed, only replaced."""
        return self._view

    def read_with(self, reader: Callable[[Entry], None]) -> Callable[[], None]:
        """Tell `reader` of every entry from now on; returns what ends that."""
        self._readers = (*self._readers, reader)

        def leave() -> None:
            self._readers = tuple(each for each in self._readers if each is not reader)

        return leave

    async def add(self, propose: Proposal | Event, lane: str = MAIN) -> Entry | Refusal:
        """Evaluate `propose` on the present view and store what it proposes; an event proposes itself.

        When this returns the entry survives SIGKILL. Cancelling the caller does not cancel an addition that has begun.

        Raises:
            StaleOwner, StoreFailed: nothing was stored, the view is unchanged.
        """
        task = asyncio.ensure_future(self._add(propose, lane))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        return await asyncio.shield(task)

    async def _add(self, propose: Proposal | Event, lane: str) -> Entry | Refusal:
        async with self._lock:
            proposed = propose(self._view) if callable(propose) else propose
            if isinstance(proposed, Refusal):
                return proposed
            entry, line = self._encoded(proposed, lane)
            view = fold(self._view, entry)
            await self._journal.append(entry.seq, line, flush=isinstance(proposed, FLUSHED))
            self._view = view
            self._tell(entry)
        return entry

    def _encoded(self, event: Event, lane: str) -> tuple[Entry, bytes]:
        """The next entry, cleaned, and its line: what is folded and told is exactly what is stored."""
        entry = Entry(self._view.seq + 1, self._clock.now_ms(), lane, event)
        try:
            line = encode(entry)
        except ValueError:
            # A lone surrogate: half of a character that a model or a file name left behind.
            entry = replace(entry, event=with_texts(event, storable))
            line = encode(entry)
        if self.secrets.in_text(line.decode()):
            entry = replace(entry, event=with_texts(entry.event, self.secrets.clean))
            line = encode(entry)
        return entry, line

    def _tell(self, entry: Entry) -> None:
        for reader in self._readers:
            try:
                reader(entry)
            except Exception:  # A reader's fault is its own: the record and the other readers go on.
                _log.exception("a reader of the record failed on entry %d", entry.seq)


def replay(entries: Iterable[Entry]) -> View:
    """The view of a whole record.

    Raises:
        ValueError: an entry does not follow the one before it.
    """
    view = View()
    for entry in entries:
        view = fold(view, entry)
    return view
