"""What tests of the store let other processes do. Each part prints what came of it."""

import asyncio
import json
import mmap
import os
import random
import resource
import signal
import socket
import sys
import time
from pathlib import Path

from ml_intern.base.errors import SessionError
from ml_intern.store.lock import Owner, take
from ml_intern.store.sqlite import SqliteStore

SESSION = "01jzzzzzzzzzzzzzzzzzzzzzzz"


def line(seq: int, epoch: int, size: int = 0) -> bytes:
    return json.dumps({"seq": seq, "epoch": epoch, "pid": os.getpid(), "fill": "x" * size}).encode()


async def own(data: Path, *, force: bool = False) -> tuple[SqliteStore, Owner]:
    store = await SqliteStore.open(data)
    try:
        return store, await take(store, SESSION, "actor", force=force)
    except SessionError:
        await store.close()
        raise


async def drive(data: Path, force: str) -> None:
    """Owns the session; appends a line for each line of its input."""
    try:
        store, owner = await own(data, force=force == "force")
    except SessionError as error:
        say(f"{type(error).__name__} {error}")
        return
    say(f"owner {owner.epoch}")
    seq = len(await owner.journal.lines())
    while await asyncio.to_thread(sys.stdin.readline):
        try:
            await owner.journal.append(seq + 1, line(seq + 1, owner.epoch), flush=False)
            seq += 1
            say(f"stored {seq}")
        except SessionError as error:
            say(f"{type(error).__name__} {error}")
    await store.close()


async def flushes(data: Path) -> None:
    """For strace: says what it does around each append."""
    store = await SqliteStore.open(data)
    await store.create(SESSION)
    owner = await take(store, SESSION, "actor")
    for seq, flush in enumerate((True, False, True), start=1):
        say(f"begin {seq}")
        await owner.journal.append(seq, line(seq, 1), flush=flush)
        say(f"end {seq}")
        await asyncio.sleep(1.2)
    for seq in range(4, 204):
        await owner.journal.append(seq, line(seq, 1), flush=False)
        await asyncio.sleep(0.01)
    say("stream ended")
    await store.close()


async def fill(data: Path, ballast: Path) -> None:
    """Appends until the disk is full, makes room, appends once more."""
    store = await SqliteStore.open(data)
    await store.create(SESSION)
    owner = await take(store, SESSION, "actor")
    ballast.write_bytes(b"x" * 100_000)
    stored = await until_refused(owner)
    ballast.unlink()
    await after_relief(store, owner, stored)


async def limit(data: Path) -> None:
    """The same with a limit on the size of files."""
    store = await SqliteStore.open(data)
    await store.create(SESSION)
    owner = await take(store, SESSION, "actor")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    stored = await until_refused(owner)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await after_relief(store, owner, stored)


async def until_refused(owner: Owner) -> int:
    stored = 0
    while stored < 1000:
        try:
            await owner.journal.append(stored + 1, line(stored + 1, 1, 5000), flush=False)
            stored += 1
        except SessionError as error:
            say(f"{type(error).__name__} {error}")
            break
    return stored


async def after_relief(store: SqliteStore, owner: Owner, stored: int) -> None:
    kept = [json.loads(each)["seq"] for each in await owner.journal.lines()]
    say(f"kept {kept == list(range(1, stored + 1))} of {stored}")
    await owner.journal.append(stored + 1, line(stored + 1, 1, 5000), flush=True)
    say(f"then {len(await owner.journal.lines()) - stored}")
    await store.close()


async def foreign(data: Path) -> None:
    """Opens the store as nobody."""
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    await opened(data)


async def opened(data: Path) -> None:
    try:
        store = await SqliteStore.open(data)
        await store.create("01" + os.urandom(5).hex())
        await store.close()
        say("opened")
    except SessionError as error:
        say(f"{type(error).__name__} {error}")


async def children(data: Path) -> None:
    """Owns the session, starts a child that outlives it, and waits to be killed."""
    _, owner = await own(data)
    child = await asyncio.create_subprocess_exec("sleep", "30")
    say(f"child {child.pid} of owner {owner.epoch}")
    await asyncio.sleep(30)


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


# --------------------------------------------------------------------------------- kills in the middle of a hand-over
OPENING, TAKING, OWNING, DONE = range(4)


def kills(data: Path, rounds: int, seed: int) -> None:
    """Two processes at once take the session and append; each is killed at a random instant of that."""
    chance = random.Random(seed)
    stages = mmap.mmap(-1, 2)
    killed = [0, 0, 0, 0]
    for _ in range(rounds):
        stages[:] = bytes(2)
        pids = [fork(data, stages, place, force=chance.random() < 0.5) for place in range(2)]
        for place in chance.sample(range(2), 2):
            give_up = time.monotonic() + 10
            while stages[place] < TAKING and time.monotonic() < give_up:
                time.sleep(0.0002)
            time.sleep(chance.random() * 0.006)
            os.kill(pids[place], signal.SIGKILL)
            os.waitpid(pids[place], 0)
            killed[stages[place]] += 1
    say(json.dumps(dict(zip(("opening", "taking", "owning", "done"), killed, strict=True))))


def fork(data: Path, stages: mmap.mmap, place: int, *, force: bool) -> int:
    pid = os.fork()
    if pid:
        return pid
    asyncio.run(taker(data, stages, place, force=force))
    stages[place] = DONE
    os._exit(0)


async def taker(data: Path, stages: mmap.mmap, place: int, *, force: bool) -> None:
    store = await SqliteStore.open(data)
    stages[place] = TAKING
    try:
        owner = await take(store, SESSION, "taker", force=force)
        stages[place] = OWNING
        seq = len(await owner.journal.lines())
        for number in range(seq + 1, seq + 4):
            await owner.journal.append(number, line(number, owner.epoch), flush=False)
    except SessionError:
        return


async def race(data: Path, sessions: int, appends: int, go: int) -> None:
    """One of many processes: appends to sessions of its own, all starting at the same moment."""
    ids = [f"01{socket.gethostname().lower()[:4]}{os.getpid()}n{each}" for each in range(sessions)]
    await asyncio.sleep(max(0.0, go - time.time()))
    store = await SqliteStore.open(data)
    owners: list[Owner] = []
    for each in ids:
        await store.create(each)
        owners.append(await take(store, each, "racer"))
    await asyncio.gather(*(write_all(owner, appends) for owner in owners))
    slow = [each for each in ids if len(await store.lines(each)) != appends]
    await store.close()
    say(f"short {len(slow)}")


async def write_all(owner: Owner, appends: int) -> None:
    for seq in range(1, appends + 1):
        await owner.journal.append(seq, line(seq, owner.epoch, 200), flush=seq % 10 == 0)


PARTS = {"drive": drive, "flushes": flushes, "foreign": foreign, "opened": opened, "limit": limit, "children": children}

if __name__ == "__main__":
    part, folder, *rest = sys.argv[1:]
    if part == "kills":
        kills(Path(folder), int(rest[0]), int(rest[1]))
    elif part == "race":
        asyncio.run(race(Path(folder), int(rest[0]), int(rest[1]), int(rest[2])))
    elif part == "fill":
        asyncio.run(fill(Path(folder), Path(rest[0])))
    else:
        asyncio.run(PARTS[part](Path(folder), *rest))
