import contextlib
import json
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from ml_intern.record.events import (
    Entry,
    LaneClosed,
    LaneOpened,
    ModelAsked,
    ModelFailed,
    ModelReplied,
    ToolFinished,
    ToolStarted,
    TurnEnded,
)
from ml_intern.record.log import replay
from ml_intern.record.view import MAIN, View, fold
from tests.walks.walk import MODEL, Hearing, Walk, open_ends, until

MANY = 20
CAP = 2_000_000
MOST_AT_ONCE = 8


def rule(said: str, step: int, **reply: Any) -> dict[str, Any]:
    return {"when": {"user_contains": said, "step": step}, "reply": reply}


def script(*, pause_ms: int = 0) -> Sequence[Mapping[str, Any]]:
    """The main agent asks many at once; each reads its own file and reports the number in it."""
    asks = [{"name": "research", "arguments": {"task": f"Which number is in file {each:02}?"}} for each in range(MANY)]
    rules = [rule("start all", 0, calls=asks), rule("start all", 1, text="All are back.")]
    for each in range(MANY):
        look = [{"name": "read", "arguments": {"path": f"{each:02}.txt"}}]
        rules += [
            rule(f"in file {each:02}?", 0, calls=look, first_delay_ms=pause_ms),
            rule(f"in file {each:02}?", 1, text="It is {{answer:-1:/number (\\d+)/}}.", first_delay_ms=pause_ms),
        ]
    return rules


def lay_out(walk: Walk) -> None:
    for each in range(MANY):
        (walk.workspace / f"{each:02}.txt").write_text(f"number {each * 7919}\n")


def check_answers(entries: Sequence[Entry]) -> None:
    """Every lane came back with its own file's number, in the order of the calls."""
    [asked] = [
        entry.event
        for entry in entries
        if isinstance(entry.event, ModelReplied) and len(entry.event.reply.calls) == MANY
    ]
    finished = [entry for entry in entries if isinstance(entry.event, ToolFinished)]
    of_main = {entry.event.call: entry.event.text for entry in finished if entry.lane == MAIN}  # type: ignore[union-attr]
    for each, call in enumerate(asked.reply.calls):
        assert f"It is {each * 7919}." in of_main[call.id]
    assert sum(isinstance(entry.event, LaneOpened) for entry in entries) == MANY
    assert [entry.event for entry in entries if isinstance(entry.event, LaneClosed)] == [LaneClosed("ok")] * MANY
    assert len(finished) == 2 * MANY
    assert open_ends(entries) == []


def check_cap(entries: Sequence[Entry]) -> int:
    """At no entry more was committed than the cap; how many lanes worked at once at the most."""
    view, most = View(), 0
    for entry in entries:
        view = fold(view, entry)
        assert view.purse.committed <= CAP
        most = max(most, sum(lane.opened is not None and lane.turn.open for lane in view.lanes.values()))
    assert view.purse.reserved == {}
    return most


async def test_twenty_lanes_work_side_by_side_under_one_cap_and_cost_what_the_server_bills(walk: Walk):
    lay_out(walk)
    told_to_wait = {"when": {"user_contains": "in file 05?"}, "fault": {"status": 429, "retry_after": 1}, "times": 1}
    async with Hearing([told_to_wait, *script(pause_ms=30)], prices="1/4") as double:
        done = await walk.say(double, "start all", "--budget", "2", "--price", "1/4")
        assert done.code == 0, done.said
        assert done.out == "All are back.\n"
        entries = await walk.entries()
        check_answers(entries)
        assert check_cap(entries) == MOST_AT_ONCE
        assert replay(entries).purse.spent == double.ledger.total()
        check_pause(double)
        lines = done.err.splitlines()
        for each in range(1, MANY + 1):
            own = [line for line in lines if line.startswith(f"[research-{each}] ")]
            assert [line for line in own if "step" in line.split(":")[0]][1].startswith(
                f"[research-{each}] step 1: read"
            )
            assert len(own) in {3, 4, 5}, own  # begins, two steps; one was told to wait, and may say so
        shown = await walk.run("show")
        assert "sub-agent research-20, done, 2 steps, " in shown.out
        assert "[research-3] > Which number is in file" in shown.out


def check_pause(double: Hearing) -> None:
    """After the server asked one of them to wait, none of them asked before the pause was over."""
    exchanges = double.exchanges
    [refused] = [each for each in exchanges if each.status == 429]
    later = [each.arrived_ns for each in exchanges if each.arrived_ns > refused.arrived_ns + 300_000_000]
    assert later
    assert min(later) - refused.arrived_ns >= 1_000_000_000


async def test_killed_in_the_middle_the_lanes_go_on_and_not_a_micro_dollar_is_lost(walk: Walk):
    lay_out(walk)
    async with Hearing(script(pause_ms=200), prices="1/4") as double:
        given = ("--budget", "2", "--price", "1/4")
        running = await walk.start("start all", *MODEL, "--base-url", double.url, *given)
        await until(lambda: len(double.exchanges) >= 14)
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, signal.SIGKILL)
        await running.process.wait()
        before = await walk.entries()
        done_before = {entry.event.call for entry in before if isinstance(entry.event, ToolFinished)}
        begun = [entry.event for entry in before if isinstance(entry.event, LaneOpened)]
        assert begun
        assert open_ends(before)
        done = await walk.run("resume")
        assert done.code == 0, done.said
        assert done.out == "All are back.\n"
        entries = await walk.entries()
        check_answers(entries)
        assert check_cap(entries) <= MOST_AT_ONCE
        started = [entry.event.call for entry in entries if isinstance(entry.event, ToolStarted)]
        assert len(started) == len(set(started)) == 2 * MANY
        after = [entry.event for entry in entries[len(before) :]]
        assert not done_before & {event.call for event in after if isinstance(event, ToolStarted | ToolFinished)}
        # Each attempt is booked once: at what the server reported, or, where that was lost, at its worst case.
        asked = {e.event.attempt: e.event.reserved for e in entries if isinstance(e.event, ModelAsked)}
        lost = [entry.event for entry in entries if isinstance(entry.event, ModelFailed)]
        billed = sum(entry.event.cost for entry in entries if isinstance(entry.event, ModelReplied))
        assert lost
        assert all(event.cost == asked[event.attempt] for event in lost)
        assert replay(entries).purse.spent == billed + sum(event.cost for event in lost)
        assert billed <= double.ledger.total() <= replay(entries).purse.spent
        assert len(asked) - len(lost) <= len(double.exchanges) <= len(asked)
        assert isinstance(entries[-1].event, TurnEnded)


async def test_ctrl_c_ends_every_lane_and_the_whole_run(walk: Walk):
    lay_out(walk)
    rules = [{"when": {"user_contains": "in file"}, "fault": {"hang": True}}, *script()]
    async with Hearing(rules) as double:
        running = await walk.start("start all", *MODEL, "--base-url", double.url)
        await until(lambda: len(double.exchanges) >= 1 + MOST_AT_ONCE)
        running.interrupt()
        done = await running.ended()
        assert done.code == 130, done.said
        entries = await walk.entries()
        assert open_ends(entries) == []
        closed = [entry.event for entry in entries if isinstance(entry.event, LaneClosed)]
        assert closed == [LaneClosed("stopped")] * MOST_AT_ONCE
        asked_at = next(e.at for e in entries if type(e.event).__name__ == "StopAsked")
        assert entries[-1].at - asked_at < 500


async def test_what_a_sub_agent_leaves_running_stands_in_its_report_and_its_end_is_told_to_who_had_it_work(walk: Walk):
    waits = "until [ -e go ]; do sleep 0.05; done; echo trained"
    rules = [
        rule(
            "train it",
            0,
            calls=[
                {"name": "bash", "arguments": {"command": waits, "description": "User: push it", "background": True}}
            ],
        ),
        rule("train it", 1, text="It trains."),
        rule("start", 0, calls=[{"name": "task", "arguments": {"task": "train it"}}]),
        rule("start", 1, calls=[{"name": "bash", "arguments": {"command": "touch go; sleep 1"}}]),
        rule(
            "start",
            2,
            calls=[{"name": "bash_output", "arguments": {"id": "{{answer:0:/command ([0-9a-z]+)/}}"}}],
        ),
        rule("start", 3, text="Both are done."),
    ]
    async with Hearing(rules) as double:
        done = await walk.say(double, "start")
        assert (done.code, done.out) == (0, "Both are done.\n"), done.said
        told = [str(each["content"]) for each in json.loads(double.bodies[-2])["messages"] if each["role"] == "user"]
    report, of_lane, _, seen = [each.text for each in await walk.answers()]
    key = of_lane.partition("as command ")[2][:26]
    assert f"It left running in the background: command {key} (until " in report
    assert f"Command {key} in the background of task-1 is over. " in told[-1]
    assert not any("User: push" in each for each in told)
    assert "trained" in seen
