import asyncio
import threading
from datetime import datetime

import pytest

from ml_intern.base.clock import TestClock
from ml_intern.base.money import Micro
from ml_intern.record.display import TextDisplay
from ml_intern.record.events import Entry, ModelFailed, ToolFinished
from ml_intern.store.day import DayPurse
from ml_intern.store.sqlite import SqliteStore

NOON = round(datetime(2026, 3, 14, 12, 0).timestamp() * 1000)
DAY_S = 24 * 3600


@pytest.fixture
def clock():
    return TestClock(NOON)


@pytest.fixture
async def two(tmp_path):
    """The store as two processes have it open."""
    stores = [await SqliteStore.open(tmp_path), await SqliteStore.open(tmp_path)]
    yield stores
    for store in stores:
        await store.close()


def failed(key, cost):
    return Entry(1, NOON, "main", ModelFailed(key, "lost", "", "", transient=True, cost=cost))


async def test_what_all_sessions_reserve_never_passes_the_day(two, clock):
    purses = [DayPurse(store, clock, Micro(1_000)) for store in two]
    granted = await asyncio.gather(*(purses[n % 2].reserve(f"key{n}", 90) for n in range(40)))
    assert sum(granted) == 11
    assert [await purse.left() for purse in purses] == [10, 10]


async def test_what_was_not_spent_is_free_again(two, clock):
    mine, other = (DayPurse(store, clock, Micro(1_000)) for store in two)
    assert await mine.reserve("a", 900)
    assert not await other.reserve("b", 200)
    mine.read(failed("a", 100))
    await mine.settle()
    assert await other.left() == 900
    finished = ToolFinished("c", "ok", "", TextDisplay("t"), cost=5)
    mine.read(Entry(1, NOON, "main", finished))
    await mine.settle()
    assert await other.left() == 900


async def test_a_session_without_a_cap_counts_for_one_that_has_one(two, clock):
    free, capped = DayPurse(two[0], clock, None), DayPurse(two[1], clock, Micro(1_000))
    assert await free.left() is None
    assert await free.reserve("a", 5_000)
    await free.settle()
    assert await capped.left() == 0
    assert not await capped.reserve("b", 1)
    assert await capped.reserve("costs nothing", 0)


async def test_tomorrow_is_another_day(two, clock):
    purse = DayPurse(two[0], clock, Micro(1_000))
    assert await purse.reserve("a", Micro(1_000))
    clock.tick(DAY_S * 1000)
    assert await purse.left() == 1_000
    assert await purse.reserve("b", 400)
    clock.tick(-DAY_S * 1000)
    assert await purse.left() == 0


class Slow(TestClock):
    """Stands still, in the thread that asks, until it may go on."""

    def __init__(self) -> None:
        super().__init__(NOON)
        self.asked, self.may_go = threading.Event(), threading.Event()

    def now_ms(self) -> int:
        self.asked.set()
        assert self.may_go.wait(10)
        return super().now_ms()


async def test_an_attempt_that_was_cancelled_as_it_was_reserved_leaves_nothing_behind(two):
    slow = Slow()
    purse = DayPurse(two[0], slow, Micro(1_000))
    reserving = asyncio.create_task(purse.reserve("a", 900))
    assert await asyncio.to_thread(slow.asked.wait, 10)
    reserving.cancel()
    await asyncio.gather(reserving, return_exceptions=True)
    slow.may_go.set()
    await purse.settle()
    assert await purse.left() == 1_000


async def test_settling_waits_for_what_the_writer_takes_out_meanwhile(two, clock):
    purse = DayPurse(two[0], clock, None)
    for round_ in range(30):
        for number in range(100):
            assert await purse.reserve(f"{round_}-{number}", 100)
        await purse.settle()
    assert await DayPurse(two[1], clock, Micro(1_000_000)).left() == 1_000_000 - 30 * 100 * 100
