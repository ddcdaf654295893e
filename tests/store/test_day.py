import asyncio
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
