import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ml_intern.base.errors import SessionBusy, SessionNotFound, StaleOwner
from ml_intern.store.lock import holder_of, take
from ml_intern.store.sqlite import SqliteStore
from tests.store.conftest import ACTOR, SESSION


class Driver:
    """A process that tries to own the session."""

    def __init__(self, part: str, *arguments: object) -> None:
        command = [sys.executable, str(ACTOR), part, *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, **pipes)

    def hears(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def appends(self) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.hears()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def drivers(data: Path):
    started: list[Driver] = []

    def start(part: str, *arguments: object) -> Driver:
        started.append(Driver(part, data, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def rows(data: Path) -> list[dict[str, int]]:
    """The witness: what lies in the file, read by SQLite itself."""
    connection = sqlite3.connect(data / "sessions.db")
    found = connection.execute("SELECT body FROM events WHERE session = ? ORDER BY seq", (SESSION,)).fetchall()
    connection.close()
    return [json.loads(row[0]) for row in found]


async def test_of_ten_processes_one_drives_and_nine_say_who_does(store, data, drivers):
    await store.create(SESSION)
    ten = [drivers("drive", "polite") for _ in range(10)]
    said = [await asyncio.to_thread(each.hears) for each in ten]
    (winner,) = [each for each, words in zip(ten, said, strict=True) if words == "owner 1"]
    others = [words for words in said if words != "owner 1"]
    assert len(others) == 9
    expected = rf"SessionBusy Session {SESSION} is open in another process: process {winner.process.pid} \(actor\) on "
    assert [words for words in others if not re.match(expected + r"\S+, since 20\d\d-", words)] == []
    assert all("--take-over" in words for words in others)
    assert winner.appends() == "stored 1"
    assert [row["pid"] for row in rows(data)] == [winner.process.pid]


async def test_a_killed_owner_frees_the_session_at_once(store, drivers):
    await store.create(SESSION)
    for _ in range(5):
        driver = drivers("drive", "polite")
        assert (await asyncio.to_thread(driver.hears)).startswith("owner")
        with pytest.raises(SessionBusy):
            await take(store, SESSION, "test")
        driver.kill()
        (await take(store, SESSION, "test")).release()


async def test_the_lock_does_not_live_on_in_children_of_the_owner(store, drivers):
    await store.create(SESSION)
    driver = drivers("children")
    child = int((await asyncio.to_thread(driver.hears)).split()[1])
    driver.kill()
    try:
        os.kill(child, 0)
        (await take(store, SESSION, "test")).release()
    finally:
        os.kill(child, signal.SIGKILL)


async def test_a_stopped_owner_that_wakes_writes_nothing(store, data, drivers):
    await store.create(SESSION)
    driver = drivers("drive", "polite")
    assert await asyncio.to_thread(driver.hears) == "owner 1"
    assert driver.appends() == "stored 1"
    os.kill(driver.process.pid, signal.SIGSTOP)
    with pytest.raises(SessionBusy, match=f"process {driver.process.pid}"):
        await take(store, SESSION, "test")
    owner = await take(store, SESSION, "test", force=True)
    before = rows(data)
    os.kill(driver.process.pid, signal.SIGCONT)
    assert (await asyncio.to_thread(driver.appends)).startswith(f"StaleOwner Session {SESSION} was taken over")
    assert rows(data) == before
    await owner.journal.append(2, b'{"by": "the new owner"}', flush=True)
    assert (await asyncio.to_thread(driver.appends)).startswith("StaleOwner")
    assert rows(data) == [*before, {"by": "the new owner"}]
    with pytest.raises(SessionBusy, match=f"process {os.getpid()}"):
        await take(store, SESSION, "second")
    owner.release()


@pytest.mark.timeout(120)
async def test_kills_at_any_instant_of_a_hand_over_leave_one_writer_and_a_free_session(store, data, act):
    await store.create(SESSION)
    done = await asyncio.to_thread(act, "kills", data, 120, 7)
    assert done.returncode == 0, done.stderr
    killed = json.loads(done.stdout)
    print(f"killed while {killed}")
    assert killed["taking"] >= 20
    owner = await asyncio.wait_for(take(store, SESSION, "test"), 5)
    found = rows(data)
    assert [row["seq"] for row in found] == list(range(1, len(found) + 1))
    epochs = [row["epoch"] for row in found]
    assert epochs == sorted(epochs)
    assert len({(row["epoch"], row["pid"]) for row in found}) == len(set(epochs)), "two processes wrote in one epoch"
    assert owner.epoch > max(epochs)
    owner.release()


async def test_the_epoch_grows_with_every_owner_and_old_files_go(store, data):
    await store.create(SESSION)
    for expected in (1, 2, 3):
        owner = await take(store, SESSION, "test")
        assert owner.epoch == expected
        owner.release()
    files = {path.name for path in (data / "sessions" / SESSION).iterdir() if path.is_file()}
    assert files == {"lock", "owner.3"}


async def test_the_holder_is_told_without_being_disturbed(store):
    await store.create(SESSION)
    assert await holder_of(store, SESSION) is None
    owner = await take(store, SESSION, "cli")
    assert await holder_of(store, SESSION) == owner.holder
    assert (owner.holder.pid, owner.holder.door) == (os.getpid(), "cli")
    owner.release()
    owner.release()
    assert await holder_of(store, SESSION) is None


async def test_a_reused_process_id_in_an_old_lock_file_does_not_matter(store, data):
    await store.create(SESSION)
    (await take(store, SESSION, "test")).release()
    told = data / "sessions" / SESSION / "owner.1"
    assert json.loads(told.read_text())["pid"] == os.getpid()
    (await take(store, SESSION, "test")).release()


async def test_an_unknown_session_cannot_be_taken(store, data):
    with pytest.raises(SessionNotFound):
        await take(store, "01nosuch", "test")
    assert not (data / "sessions" / "01nosuch").exists()
    with pytest.raises(SessionNotFound):
        await take(store, "../../etc", "test")


async def test_two_stores_in_one_process_exclude_each_other_too(store, data):
    await store.create(SESSION)
    owner = await take(store, SESSION, "first")
    other = await SqliteStore.open(data)
    with pytest.raises(SessionBusy, match="first"):
        await take(other, SESSION, "second")
    taken = await take(other, SESSION, "second", force=True)
    with pytest.raises(StaleOwner):
        await owner.journal.append(1, b"{}", flush=False)
    await taken.journal.append(1, b"{}", flush=False)
    taken.release()
    owner.release()
    await other.close()


async def test_a_take_that_is_cancelled_lets_go(store):
    await store.create(SESSION)
    for delay in (0, 0.0005, 0.001, 0.002, 0.004):
        taking = asyncio.ensure_future(take(store, SESSION, "test"))
        await asyncio.sleep(delay)
        if not taking.cancel():
            (await taking).release()
            continue
        with pytest.raises(asyncio.CancelledError):
            await taking
        for _ in range(100):
            if await holder_of(store, SESSION) is None:
                break
            await asyncio.sleep(0.01)
        (await take(store, SESSION, "test")).release()
