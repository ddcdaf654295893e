import asyncio
import logging

import pytest

from ml_intern.base.clock import TestClock
from ml_intern.base.errors import StoreFailed
from ml_intern.record.codec import decode, encode
from ml_intern.record.display import TextDisplay
from ml_intern.record.events import (
    FLUSHED,
    CapSet,
    Entry,
    ModelAsked,
    Nudged,
    ToolAnswered,
    ToolHeld,
    ToolStarted,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.log import Log, Refusal, replay
from ml_intern.record.secrets import Secrets
from tests.record.legal import EVENT_TYPES

SECRET = "hunter2-hunter2"


class Memory:
    """A journal in memory; it can be slow, and it can refuse."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, bytes, bool]] = []
        self.refuses = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, seq: int, line: bytes, *, flush: bool) -> None:
        await self.gate.wait()
        if self.refuses:
            raise StoreFailed("The disk is full.")
        self.kept.append((seq, line, flush))

    async def lines(self, after: int = 0) -> list[bytes]:
        return [line for _, line, _ in self.kept[after:]]


@pytest.fixture
def journal():
    return Memory()


@pytest.fixture
async def log(journal):
    return await Log.open(journal, TestClock(5), Secrets({"TOKEN": SECRET}))


async def test_an_event_is_numbered_stored_folded_and_told(log, journal):
    told: list[Entry] = []
    log.read_with(told.append)
    entry = await log.add(CapSet(5, "user"))
    assert entry == Entry(1, 5, "main", CapSet(5, "user"))
    assert told == [entry]
    assert [decode(line) for line in await journal.lines()] == [entry]
    assert log.view.purse.cap == 5


async def test_a_proposal_sees_the_view_and_a_refusal_stores_nothing(log, journal):
    await log.add(CapSet(5, "user"))
    before = log.view
    told: list[Entry] = []
    log.read_with(told.append)
    refused = await log.add(lambda view: Refusal("too dear") if view.purse.cap == 5 else CapSet(6, "user"))
    assert refused == Refusal("too dear")
    assert (log.view, len(journal.kept), told) == (before, 1, [])


async def test_proposals_do_not_overlap(log):
    await log.add(CapSet(100, "user"))

    def reserve(view):
        number = view.seq
        return ModelAsked(f"a{number}", "main", "m", 40, 1, 1, "h") if view.purse.free >= 40 else Refusal("no")

    outcomes = await asyncio.gather(*(log.add(reserve) for _ in range(5)))
    assert [isinstance(each, Entry) for each in outcomes] == [True, True, False, False, False]
    assert log.view.purse.committed == 80


async def test_an_event_that_cannot_be_folded_is_not_stored(log, journal):
    before = log.view
    with pytest.raises(KeyError):
        await log.add(ToolHeld("unknown", "b", "r", (), 0, "", TextDisplay("t")))
    assert (log.view, journal.kept) == (before, [])
    assert isinstance(await log.add(CapSet(1, "user")), Entry)


async def test_a_proposal_that_raises_leaves_everything_as_it_was(log, journal):
    with pytest.raises(ZeroDivisionError):
        await log.add(lambda view: CapSet(1 // 0, "user"))
    assert journal.kept == []
    assert isinstance(await log.add(CapSet(1, "user")), Entry)


async def test_a_journal_that_refuses_leaves_the_view_and_tells_nobody(log, journal):
    before = log.view
    told: list[Entry] = []
    log.read_with(told.append)
    journal.refuses = True
    with pytest.raises(StoreFailed):
        await log.add(CapSet(5, "user"))
    assert (log.view, told) == (before, [])
    journal.refuses = False
    entry = await log.add(CapSet(6, "user"))
    assert isinstance(entry, Entry)
    assert entry.seq == 1


async def test_cancelling_the_caller_does_not_lose_the_addition(log, journal):
    journal.gate.clear()
    adding = asyncio.ensure_future(log.add(CapSet(5, "user")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    journal.gate.set()
    await log.add(CapSet(6, "user"))
    assert [decode(line).event for line in await journal.lines()] == [CapSet(5, "user"), CapSet(6, "user")]
    assert log.view.seq == 2


async def test_readers_are_told_in_order_and_may_leave(log):
    told: list[str] = []
    log.read_with(lambda entry: told.append("first"))
    leave = log.read_with(lambda entry: told.append("second"))
    log.read_with(lambda entry: told.append("third"))
    await log.add(CapSet(1, "user"))
    leave()
    leave()
    await log.add(CapSet(2, "user"))
    assert told == ["first", "second", "third", "first", "third"]


async def test_a_reader_that_raises_hurts_nobody(log, caplog):
    told: list[int] = []

    def broken(entry: Entry) -> None:
        raise RuntimeError("broken reader")

    log.read_with(broken)
    log.read_with(lambda entry: told.append(log.view.seq))
    with caplog.at_level(logging.ERROR):
        await log.add(CapSet(1, "user"))
    assert told == [1]
    assert "a reader of the record failed on entry 1" in caplog.text


async def test_secrets_are_replaced_before_anything_sees_the_event(log, journal):
    told: list[Entry] = []
    log.read_with(told.append)
    await log.add(UserSaid("c", f"the key is {SECRET}"))
    assert SECRET.encode() not in journal.kept[0][1]
    assert told[0].event == UserSaid("c", "the key is [secret:TOKEN]")
    assert replay([decode(line) for line in await journal.lines()]) == log.view


@pytest.mark.parametrize("value", ['päss"wörd-long', "back\\slash-is-long", "tab\tand\nline-long", "quote'\"\\mixed-é"])
async def test_a_secret_with_signs_that_json_escapes_is_found_too(journal, value):
    log = await Log.open(journal, TestClock(), Secrets({"KEY": value}))
    arguments = encode(Entry(1, 1, "main", Nudged("g", value))).decode()
    for text in (value, arguments):
        entry = await log.add(UserSaid("c", text))
        assert isinstance(entry, Entry)
        assert isinstance(entry.event, UserSaid)
        assert "[secret:KEY]" in entry.event.text


async def test_half_a_character_does_not_stop_the_record(log, journal):
    await log.add(UserSaid("c", "pair \ud83d\ude00 half \ud83d end \ude00"))
    assert log.view.lane("main").transcript.lines[0].message.text == "pair \U0001f600 half � end �"
    assert replay([decode(line) for line in await journal.lines()]) == log.view


@pytest.mark.parametrize("event", [CapSet(1, "u"), ModelAsked("a", "main", "m", 1, 1, 1, "h")])
async def test_what_something_outside_follows_from_is_flushed(log, journal, event):
    await log.add(event)
    assert journal.kept[0][2] is True
    assert {ToolStarted, ToolAnswered, ModelAsked, CapSet} <= set(FLUSHED)


async def test_the_rest_is_not_flushed(log, journal):
    await log.add(TurnEnded("done"))
    assert journal.kept[0][2] is False
    assert set(FLUSHED) < set(EVENT_TYPES)


async def test_a_record_with_a_gap_is_told(journal):
    for seq in (1, 3):
        await journal.append(seq, encode(Entry(seq, 1, "main", CapSet(1, "user"))), flush=False)
    with pytest.raises(StoreFailed, match="do not follow each other"):
        await Log.open(journal, TestClock(), Secrets({}))


async def test_a_record_with_an_impossible_entry_is_told(journal):
    entry = Entry(1, 1, "main", ToolHeld("unknown", "b", "r", (), 0, "", TextDisplay("t")))
    await journal.append(1, encode(entry), flush=False)
    with pytest.raises(StoreFailed):
        await Log.open(journal, TestClock(), Secrets({}))


@pytest.mark.watch_loop
async def test_opening_ten_thousand_entries_does_not_hold_up_the_loop(journal):
    line = encode(Entry(1, 1, "main", Nudged("guard", "x" * 300)))
    numbers = range(1, 10_001)
    journal.kept = [(seq, line.replace(b'"seq":1', b'"seq":%d' % seq, 1), False) for seq in numbers]
    log = await Log.open(journal, TestClock(), Secrets({}))
    assert log.view.seq == 10_000
