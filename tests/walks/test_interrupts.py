import asyncio
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ml_intern.record.clearing import Compacted
from ml_intern.record.events import ModelAsked, ModelStopped, StopAsked, TurnEnded
from tests.walks.long_story import SUMMING
from tests.walks.walk import MODEL, Hearing, Running, Walk, bash, open_ends, step, until

FELT_S, AT_ONCE_S = 0.5, 0.3
PRESSED = {130, -signal.SIGINT}
"""Both are 130 to a shell; the second is Python's own way out when its work was already over."""
TRIES = 3
"""A machine that others use, too, may be slow by chance, but hardly three times."""


def crowd() -> float:
    """How many processes want each core: on a crowded machine everything takes so many times longer."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@dataclass(frozen=True)
class Moment:
    """When Ctrl+C is pressed: what the model does first, and how that shows."""

    script: Sequence[Mapping[str, Any]]
    come: Callable[[Walk, Hearing, Running], Awaitable[None]]


async def streaming(walk: Walk, double: Hearing, running: Running) -> None:
    await until(lambda: len(double.exchanges) == 1)
    await asyncio.sleep(0.4)


async def commanding(walk: Walk, double: Hearing, running: Running) -> None:
    await until((walk.workspace / "began").exists)


async def retrying(walk: Walk, double: Hearing, running: Running) -> None:
    await running.until_said("asking again")


async def waiting(walk: Walk, double: Hearing, running: Running) -> None:
    await until(lambda: len(double.exchanges) == 1)
    await asyncio.sleep(0.1)


async def summing(walk: Walk, double: Hearing, running: Running) -> None:
    await until(lambda: sum(SUMMING.encode() in body for body in double.bodies) == 1)
    await asyncio.sleep(0.4)


THEN = {"when": {"any_contains": "Go on"}, "reply": {"text": "Went on."}}


def compacting(**first: Any) -> list[Mapping[str, Any]]:
    """A turn whose fifth request is too long, so that a summary is made; `first` is what the first one comes to."""
    when = {"system_contains": SUMMING}
    told = {"when": when, "reply": {"text": "Goal: to go on. State: it was begun."}}
    long = {"when": {"step": 4}, "fault": {"overflow": True}, "times": 2}
    return [
        {"when": when, "times": 1, **first},
        told,
        long,
        THEN,
        *(step(at, bash(f"seq {at} 300")) for at in range(5)),
    ]


MOMENTS = {
    "mid-stream": Moment([THEN, step(0, text="and so on ", repeat=500, chunk_delay_ms=20)], streaming),
    "mid-command": Moment([THEN, step(0, bash("touch began; sleep 50"))], commanding),
    "retry sleep": Moment([THEN, {"fault": {"status": 429, "retry_after": 40}}], retrying),
    "first-token wait": Moment([THEN, {"fault": {"hang": True}}], waiting),
    "compaction: first-token wait": Moment(compacting(fault={"hang": True}), summing),
    "compaction: mid-stream": Moment(compacting(reply={"text": "on ", "repeat": 500, "chunk_delay_ms": 20}), summing),
    "compaction: retry sleep": Moment(compacting(fault={"status": 429, "retry_after": 12}), retrying),
}


async def pressed(walk: Walk, moment: Moment) -> float:
    """One interrupted run, with all it must leave behind; after how many seconds it was over."""
    (walk.workspace / "began").unlink(missing_ok=True)
    async with Hearing(moment.script) as double:
        running = await walk.start("work", *MODEL, "--base-url", double.url)
        await moment.come(walk, double, running)
        begun = running.interrupt()
        await running.process.wait()
        felt_s = time.monotonic() - begun
        done = await running.ended()
        assert done.code == 130, done.said
        assert "Stopping; Ctrl+C again leaves at once." in done.err
        assert "Go on with: ml-intern resume " in done.err
        assert "Traceback" not in done.err
        entries = await walk.entries()
        assert open_ends(entries) == []
        assert isinstance(entries[-1].event, TurnEnded)
        assert entries[-1].event.reason == "interrupted"
        assert [type(entry.event) for entry in entries].count(StopAsked) == 1
        more = await walk.run("resume")
        assert (more.code, more.out) == (0, "Went on.\n"), more.said
    return felt_s


@pytest.mark.parametrize("name", MOMENTS)
async def test_ctrl_c_is_felt_at_once_and_resume_goes_on(walk: Walk, name: str):
    felt_s: list[float] = []
    while len(felt_s) < TRIES and min(felt_s, default=FELT_S) >= FELT_S:
        felt_s.append(await pressed(walk, MOMENTS[name]))
    print(f"{name}: {min(felt_s) * 1000:.0f} ms from Ctrl+C to the end of the process")
    assert min(felt_s) < FELT_S * crowd()
    if name == "mid-stream":
        [stopped] = [entry.event for entry in await walk.entries() if isinstance(entry.event, ModelStopped)]
        assert stopped.text.startswith("and so on and so on")
        assert stopped.cost == 0
    if name.startswith("compaction"):
        events = [entry.event for entry in await walk.entries()]
        roles = [event.role for event in events if isinstance(event, ModelAsked)]
        assert roles[-3:] == ["main", "compaction", "main"], "it was begun anew"
        [made] = [event for event in events if isinstance(event, Compacted)]
        assert "> Goal: to go on." in made.summary


@pytest.mark.parametrize("name", MOMENTS)
async def test_ctrl_c_twice_leaves_at_once_and_resume_goes_on(walk: Walk, name: str):
    stubborn = Moment([THEN, step(0, bash("trap '' TERM INT; touch began; while :; do sleep 1; done"))], commanding)
    moment = stubborn if name == "mid-command" else MOMENTS[name]
    async with Hearing(moment.script) as double:
        running = await walk.start("work", *MODEL, "--base-url", double.url)
        await moment.come(walk, double, running)
        running.interrupt()
        await asyncio.sleep(0.05)
        if running.process.returncode is None:
            begun = running.interrupt()
            await running.process.wait()
            assert time.monotonic() - begun < AT_ONCE_S * crowd()
        done = await running.ended()
        assert done.code in PRESSED, done.said
        assert "Traceback" not in done.err
        more = await walk.run("resume")
        if more.code == 130:
            # The stop was in the record: resume ended that turn first.
            more = await walk.run("resume")
        assert (more.code, more.out) == (0, "Went on.\n"), more.said
    entries = await walk.entries()
    assert open_ends(entries) == []


def loaded(name: str) -> Callable[[Walk, Running], bool]:
    return lambda walk, running: name in Path(f"/proc/{running.pid}/maps").read_text()


STARTS: Mapping[str, Callable[[Walk, Running], bool]] = {
    "imports": loaded("msgspec"),
    "the store": lambda walk, _: walk.data.exists(),
    "the session's folder": lambda walk, _: any(walk.data.glob("sessions/*")),
    "the wire": loaded("_ssl"),
}


@pytest.mark.parametrize("name", STARTS)
async def test_ctrl_c_while_starting_leaves_without_a_traceback(walk: Walk, name: str):
    async with Hearing([{"fault": {"hang": True}}]) as double:
        running = await walk.start("work", *MODEL, "--base-url", double.url)
        await until(lambda: STARTS[name](walk, running))
        running.interrupt()
        begun = time.monotonic()
        done = await running.ended(10)
    assert not {"Traceback", "Exception"} & set(re.findall(r"\w+", done.err)), done.said
    assert done.code in PRESSED, done.said
    assert time.monotonic() - begun < 2
    assert (await walk.run("sessions")).code == 0
