"""What is done to a whole session while nobody works in it: name, undo, fork, delete. Knows no door and no model."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from ml_intern.base.clock import Clock
from ml_intern.base.errors import BadSettings, SessionBusy
from ml_intern.base.ids import new_id
from ml_intern.record.codec import decode, encode
from ml_intern.record.commands import Compact, Rename, Undo
from ml_intern.record.copies import Copy, forked, imported, last_rest
from ml_intern.record.events import Entry, SessionStarted
from ml_intern.record.log import Log, Refusal
from ml_intern.record.secrets import Secrets
from ml_intern.record.view import View
from ml_intern.sandbox.commands import Commands
from ml_intern.sandbox.levels import Level
from ml_intern.session import parcel
from ml_intern.session.foreign import entries_of
from ml_intern.session.inbox import take_in
from ml_intern.store.blobs import Blobs
from ml_intern.store.copies import making
from ml_intern.store.folder import session_folder
from ml_intern.store.lock import Owner, take
from ml_intern.store.removal import remove
from ml_intern.store.sqlite import SqliteStore

DOOR = "sessions"

_AGAIN = "Export it again with `ml-intern sessions export`."


class Fork(Struct, frozen=True):
    """A new session and how many entries of the old one it holds."""

    session: str
    upto: int


class Brought(Struct, frozen=True):
    """A new session, the one that it was exported from, and how many entries it holds."""

    session: str
    original: str
    entries: int


class House(Struct, frozen=True):
    """The sessions of one store, whole. Where another process has one open it is told and nothing happens."""

    store: SqliteStore
    secrets: Secrets
    clock: Clock

    async def rename(self, session: str, title: str) -> str:
        """Give the session a title; returns it as it was kept.

        Raises:
            BadSettings: there are no words in it.
            SessionBusy: another process has the session open.
        """
        return (await self._tell(session, Rename(new_id(), title))).settings.title

    async def undo(self, session: str, turns: int) -> View:
        """Hide the last `turns` turns from the model; returns what the session then is.

        Raises:
            BadSettings: a turn is open, or there are not so many.
            SessionBusy: another process has the session open.
        """
        return await self._tell(session, Undo(new_id(), turns))

    async def compact(self, session: str) -> View:
        """Have what was said become a summary before the model is asked again; returns what the session then is.

        Raises:
            BadSettings: nothing was said yet, or it was asked for already.
            SessionBusy: another process has the session open.
        """
        return await self._tell(session, Compact(new_id()))

    async def fork(self, session: str, upto: int | None, cap: int) -> Fork:
        """A new session of the entries up to `upto` (None: all), as far as nothing was open there, under `cap`.

        The record may be open in another process: what is written of it stays as it is.

        Raises:
            BadSettings: there is no such entry, or nothing to fork.
            StoreFailed: the store refused.
        """
        entries = [decode(line) for line in await self.store.lines(session)]
        if upto is not None and not 1 <= upto <= len(entries):
            what = f"--upto {upto}: session {session} has entries 1 to {len(entries)}."
            raise BadSettings(what, "`ml-intern show --json` numbers them.")
        return await asyncio.to_thread(self._fork, session, entries, len(entries) if upto is None else upto, cap)

    async def delete(self, session: str) -> None:
        """End the session's commands, then remove its record and its files for good.

        Raises:
            SessionBusy: another process has it open.
            StoreFailed: the store or the disk refused.
        """
        async with self._owned(session) as owner:
            await Commands(session_folder(self.store.data, session), Level.FULL).close()
            await asyncio.to_thread(remove, self.store, session, owner)

    async def end_commands(self, session: str) -> int:
        """End what a session left running that nobody runs now; how many commands that were.

        Raises:
            SessionBusy: another process has it open.
            SandboxError: they cannot be reached.
        """
        async with self._owned(session):
            commands = Commands(session_folder(self.store.data, session), Level.FULL)
            running = await commands.running()
            await commands.close()
            return len(running)

    async def export(self, session: str, sink: BinaryIO) -> None:
        """Write the session to `sink` as one file (parcel.py), without secrets.

        Raises:
            StoreFailed: an entry or a kept output is damaged.
        """
        lines = await self.store.lines(session)
        folder = session_folder(self.store.data, session) / "blobs"

        def write() -> None:
            for line in parcel.pack(session, lines, Blobs(folder, self.secrets).find, self.secrets):
                sink.write(line)

        await asyncio.to_thread(write)

    async def bring_in(self, source: BinaryIO, workspace: Path) -> Brought:
        """A new session of what an exported file, or a log of huggingface/ml-intern, holds; it works in `workspace`.

        Raises:
            BadSettings: the file is not whole, or nothing of the kind.
            StoreFailed: an entry is damaged, or the store refused.
        """
        return await asyncio.to_thread(self._bring_in, source, workspace)

    async def _tell(self, session: str, command: Rename | Undo | Compact) -> View:
        async with self._owned(session) as owner:
            log = await Log.open(owner.journal, self.clock, self.secrets)
            told = await log.add(lambda view: take_in(view, command))
            if isinstance(told, Refusal):
                raise BadSettings(told.what, told.remedy)
            return log.view

    @asynccontextmanager
    async def _owned(self, session: str) -> AsyncGenerator[Owner]:
        try:
            owner = await take(self.store, session, DOOR)
        except SessionBusy as error:
            raise SessionBusy(error.what, "Nothing was changed. End it there, then try again.") from error
        try:
            yield owner
        finally:
            owner.release()

    def _fork(self, session: str, entries: list[Entry], upto: int, cap: int) -> Fork:
        point = last_rest(entries, upto)
        if not point:
            raise BadSettings(f"Session {session} holds nothing that could be forked.", "Name another session.")
        new = new_id()
        lines = [encode(entry) for entry in forked(entries, Copy(new, self.clock.now_ms()), point, cap)]
        blobs = Blobs(session_folder(self.store.data, new) / "blobs", self.secrets)
        with making(self.store, new, blobs) as made:
            made.take_over(session_folder(self.store.data, session), parcel.names_in(lines))
            made.finish(lines)
        return Fork(new, point)

    def _bring_in(self, source: BinaryIO, workspace: Path) -> Brought:
        new = new_id()
        blobs = Blobs(session_folder(self.store.data, new) / "blobs", self.secrets)
        names: dict[str, str] = {}
        told: list[Entry] = []
        with making(self.store, new, blobs) as made:
            for item in _items(source):
                if isinstance(item, Entry):
                    told.append(item)
                else:
                    names[item.sha] = blobs.keep(item.data)
            cleaned = list(parcel.renamed(told, names, self.secrets.clean))
            try:
                entries = imported(cleaned, Copy(new, self.clock.now_ms()), str(workspace))
            except (ValueError, KeyError) as error:
                raise BadSettings(f"The entries of the file do not follow each other: {error}.", _AGAIN) from error
            if not entries or not isinstance(entries[0].event, SessionStarted):
                raise BadSettings("The file does not begin as a session does.", _AGAIN)
            made.finish([encode(entry) for entry in entries])
        original = entries[0].event.forked_from or ""
        return Brought(new, original, len(entries))


def _items(source: BinaryIO) -> Iterable[Entry | parcel.Blob]:
    head = source.readline()
    if parcel.is_parcel(head):
        return parcel.unpack(head, source)
    try:
        log: object = json.loads(head + source.read())
    except (ValueError, RecursionError) as error:
        raise BadSettings("The file is no exported session: it holds no JSON.", _AGAIN) from error
    return entries_of(log)
