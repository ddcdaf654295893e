import sqlite3
import time

import pytest

from ml_intern.base.clock import TestClock
from ml_intern.base.errors import SessionNotFound
from ml_intern.record.display import TextDisplay
from ml_intern.record.events import (
    ModelAsked,
    ModelChosen,
    ModelReplied,
    OwnerTook,
    Renamed,
    SessionClosed,
    SessionStarted,
    ToolAnswered,
    ToolFinished,
    ToolHeld,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.log import Log
from ml_intern.record.messages import Call, Reply, Text
from ml_intern.record.secrets import Secrets
from ml_intern.store.folder import DATABASE
from ml_intern.store.lock import take
from ml_intern.store.sessions import Summary, resolve, summaries


async def record(store, session, clock, *events):
    await store.create(session)
    owner = await take(store, session, "test")
    log = await Log.open(owner.journal, clock, Secrets({}))
    await log.add(SessionStarted(session, f"/work/{session}", "1"))
    for event in events:
        clock.tick(1000)
        await log.add(event)
    return log, owner


async def test_the_list_shows_what_changed_last_first(store):
    clock = TestClock(1_000_000)
    first, _ = await record(
        store,
        "01aaaa",
        clock,
        ModelChosen("main", "hf/org/name", 1000, 100, None, "hub"),
        ModelChosen("title", "hf/org/small", 1000, 100, None, "hub"),
        UserSaid("c1", "Train\n a   model. " + "please " * 50),
        UserSaid("c2", "another"),
        ModelAsked(attempt="a1", role="main", model="hf/org/name", reserved=500, bound=100, max_output=100, head=""),
        ModelReplied("a1", Reply((Text("hello"),)), None, 300, "stop"),
        ToolFinished("x", "ok", "done", TextDisplay("t"), cost=21),
    )
    await record(store, "01bbbb", clock, Renamed("A title", "user"))
    one, two = await summaries(store)
    assert (one.id, one.title, one.preview, one.model, one.spent) == ("01bbbb", "A title", "", "", 0)
    assert (two.id, two.workspace, two.model, two.spent) == ("01aaaa", "/work/01aaaa", "hf/org/name", 321)
    assert two.preview.startswith("Train a model. please please")
    assert len(two.preview) == 120
    assert (two.created, two.updated, two.state, two.folded) == (1_000_000, 1_007_000, "working", 8)
    clock.tick(1000)
    await first.add(SessionClosed())
    one, two = await summaries(store)
    assert (one.id, one.state, two.id) == ("01aaaa", "closed", "01bbbb")
    await first.add(OwnerTook(2, "cli", 1, "host"))
    assert (await summaries(store))[0].state == "open"


async def test_the_state_tells_what_a_session_waits_for_and_how_it_ended(store):
    log, _ = await record(store, "01aaaa", TestClock(1_000_000))

    async def state() -> str:
        return (await summaries(store))[0].state

    assert await state() == "open"
    await log.add(UserSaid("c1", "go"))
    assert await state() == "working"
    call = Call("k1", "w1", "tell", "{}")
    await log.add(ModelAsked("a1", "main", "m", 0, 0, 0, ""))
    await log.add(ModelReplied("a1", Reply((call,)), None, 0, "calls"))
    await log.add(ToolHeld("k1", "b", "asks", (), 0, "", TextDisplay("t")))
    assert await state() == "held"
    await log.add(ToolAnswered("c2", "k1", approve=False, text="", by="user"))
    assert await state() == "working"
    await log.add(ToolFinished("k1", "denied", "no", TextDisplay("t")))
    await log.add(TurnEnded("budget"))
    assert await state() == "budget"
    await log.add(OwnerTook(2, "cli", 1, "host"))
    assert await state() == "budget"


async def test_a_session_without_entries_is_not_listed(store):
    await store.create("01aaaa")
    assert await summaries(store) == []


async def test_the_cache_may_be_lost_at_any_time(store, data):
    clock = TestClock()
    for name in ("01aaaa", "01bbbb"):
        await record(store, name, clock, UserSaid("c", f"do {name}"), Renamed(name, "product"))
    known = await summaries(store)
    connection = sqlite3.connect(data / DATABASE)
    assert connection.execute("SELECT count(*) FROM sessions WHERE folded = 3").fetchone() == (2,)
    forget = "folded = 0, created = 0, updated = 0, title = '', workspace = '', preview = '', spent = 0, state = 'open'"
    connection.execute(f"UPDATE sessions SET {forget}")
    connection.commit()
    connection.close()
    assert await summaries(store) == known


async def test_one_damaged_record_does_not_close_the_list(store):
    clock = TestClock()
    await record(store, "01good", clock, UserSaid("c", "fine"))
    _, owner = await record(store, "01bad", clock)
    await owner.journal.append(2, b'{"seq":2', flush=True)
    assert {each.id: each.state for each in await summaries(store)} == {"01good": "working", "01bad": "damaged"}


async def test_ids_are_found_by_their_beginning(store):
    clock = TestClock()
    for name in ("01abcd", "01abce", "01xyzz"):
        await record(store, name, clock, UserSaid("c", f"work on {name}"))
        clock.tick(1000)
    assert await resolve(store, "01abcd") == "01abcd"
    assert await resolve(store, "01X") == "01xyzz"
    assert await resolve(store, "last") == "01xyzz"
    with pytest.raises(SessionNotFound, match=r"begins the ids of 2 sessions: 01abce \(work on 01abce\), 01abcd "):
        await resolve(store, "01ab")
    with pytest.raises(SessionNotFound, match="no session '01xyyz'; the nearest: 01xyzz"):
        await resolve(store, "01xyyz")
    with pytest.raises(SessionNotFound, match="no session 'qqqqqqq'; the nearest: 01xyzz"):
        await resolve(store, "qqqqqqq")
    with pytest.raises(SessionNotFound, match="no session ''"):
        await resolve(store, "")


async def test_an_id_that_begins_another_is_itself(store):
    for name in ("01ab", "01abcd"):
        await record(store, name, TestClock())
    assert await resolve(store, "01ab") == "01ab"


async def test_without_any_session_the_remedy_is_to_start_one(store):
    with pytest.raises(SessionNotFound, match="There is no session yet"):
        await resolve(store, "last")


async def test_a_list_of_many_sessions_is_quick_once_known(store):
    entry = '{"seq":%d,"at":%d,"lane":"main","event":{"command":"c","text":"hello","type":"user_said"},"v":1}'

    def fill(db: sqlite3.Connection) -> None:
        ids = [f"01{number:06}" for number in range(500)]
        db.executemany("INSERT INTO sessions (id) VALUES (?)", [(each,) for each in ids])
        rows = [(each, seq, entry % (seq, 1000 + seq)) for each in ids for seq in range(1, 21)]
        db.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)

    await store.write(fill, flush=False)
    assert len(await summaries(store)) == 500
    begin = time.perf_counter()
    listed = await summaries(store)
    print(f"500 sessions: {(time.perf_counter() - begin) * 1000:.1f} ms")
    assert time.perf_counter() - begin < 0.5
    assert listed[0] == Summary("01000499", 20, 0, 1020, title="hello", preview="hello", state="working")
