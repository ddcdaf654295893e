"""Reading sessions without owning them: the list, the entries, the blobs. Knows no door and no loop."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from ml_intern.app.places import find_places
from ml_intern.record.codec import decode
from ml_intern.record.events import Entry
from ml_intern.record.secrets import Secrets
from ml_intern.sandbox.egress import Crossing, crossings
from ml_intern.store.blobs import Blobs
from ml_intern.store.folder import session_folder
from ml_intern.store.lock import holder_of
from ml_intern.store.sessions import Summary, resolve, summaries
from ml_intern.store.sqlite import SqliteStore


class Reading(Struct, frozen=True):
    """The sessions of this machine, read only."""

    store: SqliteStore

    async def sessions(self) -> list[Summary]:
        """All of them, the one that changed last first."""
        return await summaries(self.store)

    async def resolve(self, text: str) -> str:
        """The id that `text` stands for.

        Raises:
            SessionNotFound: none or several.
        """
        return await resolve(self.store, text)

    def folder(self, session: str) -> Path:
        """Where the files of `session` lie."""
        return session_folder(self.store.data, session)

    async def entries(self, session: str) -> list[Entry]:
        """The whole record of `session`."""
        return [decode(line) for line in await self.store.lines(session)]

    async def owner(self, session: str) -> str:
        """The process that has the session open, in words; empty where none has."""
        holder = await holder_of(self.store, session)
        return str(holder) if holder is not None else ""

    async def egress(self, session: str) -> list[Crossing]:
        """What commands of the session asked for outside."""
        return await asyncio.to_thread(lambda: list(crossings(session_folder(self.store.data, session))))

    async def blob(self, session: str, sha: str) -> bytes:
        """A kept output.

        Raises:
            StoreFailed: there is none of this name.
        """
        blobs = Blobs(session_folder(self.store.data, session) / "blobs", Secrets({}))
        return await blobs.get(sha)


@asynccontextmanager
async def open_reading() -> AsyncGenerator[Reading]:
    """The store of this user, for as long as the block lasts."""
    store = await SqliteStore.open(find_places().data)
    try:
        yield Reading(store)
    finally:
        await store.close()
