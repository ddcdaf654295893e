import re
import time

from ml_intern.base.clock import SystemClock, TestClock
from ml_intern.base.ids import new_id


def test_ids_are_unique_and_of_one_form():
    ids = [new_id() for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[0-7][0-9a-hjkmnp-tv-z]{25}", each) for each in ids)


def test_ids_of_later_milliseconds_sort_later():
    ids = []
    for _ in range(20):
        ids.append(new_id())
        time.sleep(0.002)
    assert ids == sorted(ids)


def test_an_id_holds_its_time():
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    before = SystemClock().now_ms()
    stamp = 0
    for sign in new_id()[:10]:
        stamp = stamp * 32 + alphabet.index(sign)
    assert before <= stamp <= SystemClock().now_ms()


async def test_a_test_clock_moves_only_when_told():
    clock = TestClock(1000)
    assert clock.now_ms() == 1000
    clock.tick(5)
    await clock.sleep(1.5)
    assert clock.now_ms() == 2505


async def test_the_systems_clock_sleeps():
    clock = SystemClock()
    before = time.monotonic()
    await clock.sleep(0.02)
    assert time.monotonic() - before >= 0.02
