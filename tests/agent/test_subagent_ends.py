import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from ml_intern.base.ids import new_id
from ml_intern.model.port import Request
from ml_intern.record.codec import decode
from ml_intern.record.commands import Answer, Say, Stop
from ml_intern.record.effects import Writes
from ml_intern.record.events import (
    LaneClosed,
    LaneOpened,
    ToolFinished,
    ToolHeld,
    TurnEnded,
)
from ml_intern.record.next import Rest, Wait
from ml_intern.record.view import MAIN
from tests.agent.lanes import Reader, look, research, scene, task
from tests.agent.stage import MemoryJournal, Note, call, calls, looking, says

# Persons


async def test_a_call_held_in_a_lane_waits_for_a_person_and_the_parent_with_it(folder: Path) -> None:
    witness: list[str] = []
    outside = Note(witness, effects=(Writes("/etc/x", within=False),))
    late: list[str] = []
    voices: dict[str, list[Any]] = {
        "go": [
            calls(task("One."), task("Two."), call("late", '{"text": "after both"}')),
            says("ok"),
        ],
        "One.": [calls(call("note", '{"text": "x"}')), says("One is done.")],
        "Two.": [calls(look("a")), says("Two is done.")],
    }
    there = await scene(folder, voices, outside, looking([]), Note(late, name="late"))
    assert await there.play() == Wait("person")
    assert await there.session.run() == Wait("person")
    assert (witness, late) == ([], [])
    assert there.log.view.lane("task-2").closed is not None
    assert there.log.view.lane(MAIN).turn.waiting_ms is not None
    [held] = there.events(ToolHeld)
    await there.session.send(Answer(new_id(), held.call, held.binding, approve=True))
    assert isinstance(await there.session.run(), Rest)
    assert (witness, late) == (["x"], ["after both"])
    assert there.log.view.lane(MAIN).turn.ended == TurnEnded("done")


async def test_a_held_call_of_a_lane_is_answered_in_another_process(folder: Path) -> None:
    witness: list[str] = []
    outside = Note(witness, effects=(Writes("/etc/x", within=False),))
    voices: dict[str, list[Any]] = {
        "go": [calls(task("One.")), says("ok")],
        "One.": [calls(call("note", '{"text": "x"}')), says("One is done.")],
    }
    first = await scene(folder, voices, outside)
    assert await first.play() == Wait("person")
    again = await scene(folder, voices, outside, journal=first.journal)
    assert await again.session.run() == Wait("person")
    assert again.log.view.lane(MAIN).turn.waiting_ms is not None
    [held] = again.events(ToolHeld)
    await again.session.send(Answer(new_id(), held.call, held.binding, approve=True))
    await again.session.run()
    assert witness == ["x"]
    assert len(again.events(LaneOpened)) == 1


async def test_a_message_answers_no_to_what_was_held_in_a_lane(folder: Path) -> None:
    witness: list[str] = []
    outside = Note(witness, effects=(Writes("/etc/x", within=False),))
    voices: dict[str, list[Any]] = {
        "go": [calls(task("One.")), says("ok"), says("understood")],
        "One.": [calls(call("note", '{"text": "x"}')), says("Not allowed.")],
    }
    there = await scene(folder, voices, outside)
    await there.play()
    await there.session.send(Say(new_id(), "leave /etc alone", seen=there.log.view.seq))
    await there.session.run()
    assert witness == []
    assert there.events(ToolFinished, "task-1")[0].text == "Not run. The user said no and said: leave /etc alone"


# Stops and crashes


async def test_a_stop_ends_every_lane_at_once(folder: Path) -> None:
    begun: list[str] = []

    async def hangs(request: Request) -> AsyncGenerator[Any]:
        begun.append("")
        await asyncio.sleep(60)
        yield says("never")

    never = asyncio.Event()
    waiting = looking([], pause=never)
    voices: dict[str, list[Any]] = {
        "go": [calls(*(research(f"Q{number}") for number in range(10))), says("ok")],
        **{f"Q{number}": [hangs] for number in range(9)},
        "Q1": [calls(look("a"))],
    }
    there = await scene(folder, voices, waiting)
    running = asyncio.create_task(there.play())
    while len(begun) < 7 or not waiting.running:
        await asyncio.sleep(0.01)
    before = asyncio.get_running_loop().time()
    await there.session.send(Stop(new_id()))
    await running
    assert asyncio.get_running_loop().time() - before < 0.5
    view = there.log.view
    assert [event.outcome for event in there.events(ToolFinished, MAIN)] == ["stopped"] * 10
    ended = view.lane(MAIN).turn.ended
    assert ended is not None
    assert ended.reason == "interrupted"
    lanes = [lane for name, lane in view.lanes.items() if name != MAIN]
    assert len(lanes) == 8
    assert all(lane.closed == LaneClosed("stopped") and not lane.turn.open and not lane.calls for lane in lanes)
    assert view.purse.reserved == {}


async def test_killed_after_any_entry_the_lanes_go_on_where_they_stood(folder: Path) -> None:
    def voices() -> dict[str, list[Any]]:
        return {
            "go": [calls(research("A?"), task("B.")), says("ok")],
            "A?": [calls(look("a")), says("A.")],
            "B.": [calls(call("note", '{"text": "b"}')), says("B.")],
        }

    spoken = voices()
    whole = await scene(folder, spoken, Reader([]), Note([]))
    await whole.play()
    for kept in range(7, len(whole.journal.kept)):
        journal = MemoryJournal()
        journal.kept = whole.journal.kept[:kept]
        done = {
            event.call for event in (decode(line).event for line in journal.kept) if isinstance(event, ToolFinished)
        }
        witness: list[str] = []
        again = await scene(folder, spoken, Reader([]), Note(witness), journal=journal)
        await again.session.run()
        finished = [event.call for event in again.events(ToolFinished)]
        assert len(finished) == len(set(finished)) == 4, kept
        assert done <= set(finished)
        assert [event.outcome for event in again.events(ToolFinished)] == ["ok"] * 4
        assert len(again.events(LaneOpened)) == len(again.events(LaneClosed)) == 2
        assert again.log.view.lane(MAIN).turn.ended == TurnEnded("done")
        assert again.log.view.purse.reserved == {}


async def test_killed_after_any_entry_and_resumed_without_the_tools_for_it_no_lane_stays_open(folder: Path) -> None:
    outside = Note([], effects=(Writes("/etc/x", within=False),))
    voices: dict[str, list[Any]] = {
        "go": [calls(research("A?"), task("B."), task("C.")), says("ok")],
        "A?": [calls(look("a")), says("A.")],
        "B.": [calls(call("note", '{"text": "b"}')), says("B.")],
        "C.": [calls(look("c"), look("d")), says("C.")],
    }
    first = await scene(folder, voices, Reader([]), outside)
    assert await first.play() == Wait("person")
    lost = set[str]()
    for kept in range(7, len(first.journal.kept) + 1):
        journal = MemoryJournal()
        journal.kept = first.journal.kept[:kept]
        again = await scene(folder, voices, Reader([]), outside, journal=journal, spawning=False)
        assert isinstance(await again.session.run(), Rest)
        view = again.log.view
        assert view.lane(MAIN).turn.ended == TurnEnded("done")
        assert all(not lane.turn.open and not lane.calls for lane in view.lanes.values()), kept
        assert len(again.events(LaneOpened)) == len(again.events(LaneClosed))
        assert view.purse.reserved == {}
        lost |= {name for name, lane in view.lanes.items() if lane.closed == LaneClosed("lost")}
    assert lost == {"research-1", "task-1", "task-2"}


async def test_killed_while_it_was_being_stopped_the_lanes_end_and_ask_nobody(folder: Path) -> None:
    async def hangs(request: Request) -> AsyncGenerator[Any]:
        await asyncio.sleep(60)
        yield says("never")

    voices: dict[str, list[Any]] = {"go": [calls(research("A?")), says("ok")], "A?": [hangs]}
    first = await scene(folder, voices, looking([]))
    running = asyncio.create_task(first.play())
    while len(first.choir.requests) < 2:
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    again = await scene(folder, voices, looking([]), journal=first.journal)
    await again.session.send(Stop(new_id()))
    await again.session.run()
    assert again.choir.requests == []
    assert again.events(LaneClosed) == [LaneClosed("stopped")]
    assert again.events(ToolFinished, MAIN)[0].outcome == "stopped"
    assert again.log.view.purse.reserved == {}


class Interrupting(MemoryJournal):
    """Calls `stop` as the entry of this number is written; like a disk it takes its time."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.stop: Callable[[], Any] = list
        self.stopping: list[asyncio.Task[Any]] = []

    async def append(self, seq: int, line: bytes, *, flush: bool) -> None:
        if seq == self.at:
            self.stopping.append(asyncio.create_task(self.stop()))
        await asyncio.sleep(0)
        await super().append(seq, line, flush=flush)


@pytest.mark.parametrize("at", range(10, 34))
async def test_a_stop_at_any_entry_leaves_no_lane_open(folder: Path, at: int) -> None:
    async def hangs(request: Request) -> AsyncGenerator[Any]:
        await asyncio.sleep(60)
        yield says("never")

    asked = [research(f"{number}?") for number in range(6)]
    voices: dict[str, list[Any]] = {"go": [calls(*asked), says("ok")], **{f"{n}?": [hangs] for n in range(6)}}
    journal = Interrupting(at)
    there = await scene(folder, voices, looking([]), journal=journal)
    journal.stop = lambda: there.session.send(Stop(new_id()))
    await there.play()
    await asyncio.gather(*journal.stopping)
    lanes = {name: lane for name, lane in there.log.view.lanes.items() if name != MAIN}
    assert [name for name, lane in lanes.items() if lane.closed is None or lane.turn.open] == []
    assert {lane.closed.outcome for lane in lanes.values() if lane.closed is not None} <= {"stopped"}
    assert [each.outcome for each in there.events(ToolFinished, MAIN)] == ["stopped"] * 6
    assert there.log.view.lane(MAIN).turn.ended is not None
    assert there.log.view.purse.reserved == {}


async def test_a_bug_in_a_lane_leaves_nothing_of_it_open(folder: Path) -> None:
    async def breaks(request: Request) -> AsyncGenerator[Any]:
        raise ZeroDivisionError("by zero")
        yield

    voices: dict[str, list[Any]] = {"go": [calls(research("A?")), says("ok")], "A?": [breaks]}
    there = await scene(folder, voices, looking([]))
    await there.play()
    assert there.events(ToolFinished, MAIN)[0].outcome == "failed"
    assert there.events(LaneClosed) == [LaneClosed("failed")]
    assert there.log.view.purse.reserved == {}
    assert there.log.view.lane(MAIN).turn.ended == TurnEnded("done")


async def test_what_is_live_carries_its_lane(folder: Path) -> None:
    seen: list[tuple[str, str]] = []
    voices: dict[str, list[Any]] = {"go": [calls(research("A?")), says("ok")], "A?": [calls(look("a")), says("A.")]}
    there = await scene(folder, voices, looking([]))
    there.live.read_with(lambda item: seen.append((item.lane, item.kind)))
    await there.play()
    assert ("research-1", "output") in seen
