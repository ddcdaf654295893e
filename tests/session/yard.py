"""A session of two turns with a kept output, at rest, for tests of what is done to whole sessions."""

from ml_intern.base.clock import TestClock
from ml_intern.record.codec import decode
from ml_intern.record.display import TextDisplay
from ml_intern.record.events import (
    CapSet,
    ModelAsked,
    ModelChosen,
    ModelReplied,
    ModeSet,
    SessionStarted,
    ToolFinished,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.log import Log
from ml_intern.record.messages import Call, Prices, Reply, Text
from ml_intern.record.secrets import Secrets
from ml_intern.store.blobs import Blobs
from ml_intern.store.folder import session_folder
from ml_intern.store.lock import take
from ml_intern.store.sqlite import SqliteStore

FIRST = "01aaaaaaaaaaaaaaaaaaaaaaaa"
TEXT = "the very words that nobody else says"


async def record(store: SqliteStore, session: str = FIRST, output: bytes = b"", said: str = "") -> str:
    """Record it; the id. `output` is what is kept, `said` what else the person says."""
    await store.create(session)
    owner = await take(store, session, "test")
    log = await Log.open(owner.journal, TestClock(), Secrets({}))
    blobs = Blobs(session_folder(store.data, session) / "blobs", Secrets({}))
    blob = await blobs.put(output or f"long output {TEXT}".encode())
    for event in (
        SessionStarted(session, "/work", "1"),
        ModelChosen("main", "hf/org/name", 1000, 100, Prices(1, 2), "hub", "http://127.0.0.1:9/v1"),
        CapSet(5_000_000, "user"),
        ModeSet("yolo", "hold"),
        UserSaid("c1", f"train it: {TEXT}"),
        ModelAsked("a1", "main", "m", 500, 100, 100, "head"),
        ModelReplied("a1", Reply((Text("I look."), Call("k1", "w1", "tool", "{}"))), None, 300, "calls"),
        ToolFinished("k1", "ok", f"clipped; all is in blob:{blob}", TextDisplay("t"), blob=blob, cost=20),
        TurnEnded("done"),
        UserSaid("c2", said or "and again"),
        ModelAsked("a2", "main", "m", 500, 100, 100, "head"),
        ModelReplied("a2", Reply((Text("Done."),)), None, 7, "stop"),
        TurnEnded("done"),
    ):
        await log.add(event)
    owner.release()
    return session


async def kept_output(store: SqliteStore, session: str) -> tuple[ToolFinished, bytes]:
    """The one answer of the session, and what was kept of it."""
    events = (decode(line).event for line in await store.lines(session))
    (answer,) = (event for event in events if isinstance(event, ToolFinished))
    assert answer.blob is not None
    return answer, await Blobs(session_folder(store.data, session) / "blobs", Secrets({})).get(answer.blob)
