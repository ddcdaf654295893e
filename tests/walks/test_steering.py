"""One process runs the session, another one says something to it, stops it, or sends it a signal."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ml_intern.record.events import (
    Entry,
    Lifted,
    ModelReplied,
    Nudged,
    Paused,
    StopAsked,
    ToolAnswered,
    ToolFinished,
    ToolHeld,
    ToolStarted,
    TurnEnded,
    UserSaid,
)
from tests.walks.test_interrupts import FELT_S, MOMENTS, THEN, Moment, commanding, crowd
from tests.walks.test_policy import own_settings
from tests.walks.walk import MODEL, Hearing, Running, Walk, bash, open_ends, step, story, until

LEFT = {"command": "echo up; sleep 600 # left", "background": True}


async def events(walk: Walk, kind: type[Any]) -> list[Any]:
    return [entry.event for entry in await walk.entries() if isinstance(entry.event, kind)]


async def test_a_message_from_another_process_is_heard_at_the_next_step_and_a_follow_up_after_the_turn(walk: Walk):
    script = [
        {"when": {"last_contains": "and a table"}, "reply": {"text": "The table."}},
        {"when": {"last_contains": "fewer epochs"}, "reply": {"text": "With fewer epochs."}},
        step(0, bash("touch began; until [ -e go ]; do sleep 0.05; done")),
    ]
    async with Hearing(script) as double:
        running = await walk.start("train it", *MODEL, "--base-url", double.url)
        await until((walk.workspace / "began").exists)
        told = await walk.run("say", "last", "and a table", "--after")
        assert told.code == 0, told.said
        assert "when the turn is over" in told.out
        for _ in range(2):
            told = await walk.run("say", "last", "-", "--id", "mine", stdin=b"use fewer epochs")
            assert told.code == 0, told.said
        assert "at the next step" in told.out
        (walk.workspace / "go").touch()
        done = await running.ended()
    assert (done.code, done.out) == (0, "The table.\n"), done.said
    assert [event.text for event in await events(walk, UserSaid)] == ["train it", "and a table", "use fewer epochs"]
    said = [event.reply.text for event in await events(walk, ModelReplied)]
    assert said[1:] == ["With fewer epochs.", "The table."]


async def test_nobody_who_runs_it_is_told_in_one_sentence_with_the_way(walk: Walk):
    async with Hearing([step(0, text="Done.")]) as double:
        await walk.say(double, "go")
    session = (await walk.view()).started
    assert session is not None
    for words, remedy in (
        (("say", "last", "hello"), f'Say it with: ml-intern resume {session.session} "TEXT"'),
        (
            ("stop", "last"),
            f"What it left running in the background ends with: ml-intern stop {session.session} --commands",
        ),
    ):
        done = await walk.run(*words)
        assert done.code == 2, done.said
        assert f"ml-intern: Session {session.session} is not running.\n{remedy}\n" in done.err
    done = await walk.run("say", "last", " ")
    assert (done.code, "There is nothing to say." in done.err) == (2, True)
    done = await walk.run("stop", "nope")
    assert (done.code, "There is no session 'nope'" in done.err) == (2, True)


async def in_lanes(walk: Walk, double: Hearing, running: Running) -> None:
    await until(lambda: len(double.exchanges) == 3)
    await asyncio.sleep(0.1)


LANES = [THEN, {"when": {"user_contains": "find"}, "fault": {"hang": True}}]
LANES += [step(0, ("research", {"task": "find A"}), ("research", {"task": "find B"}))]
PLACES = {**MOMENTS, "two sub-agents": Moment(LANES, in_lanes)}


@pytest.mark.parametrize("name", PLACES)
async def test_a_stop_from_another_process_is_felt_at_once(walk: Walk, name: str):
    moment = PLACES[name]
    async with Hearing(moment.script) as double:
        running = await walk.start("work", *MODEL, "--base-url", double.url)
        await moment.come(walk, double, running)
        stopped = await walk.run("stop")
        assert stopped.code == 0, stopped.said
        assert "stopped. Go on with: ml-intern resume" in stopped.out
        done = await running.ended()
        assert done.code == 130, done.said
        more = await walk.run("resume")
        assert (more.code, more.out) == (0, "Went on.\n"), more.said
    felt_ms = felt(await walk.entries())
    print(f"{name}: {felt_ms} ms from Stop to TurnEnded")
    assert felt_ms / 1000 < FELT_S * crowd()


def held(**second: Any) -> list[Mapping[str, Any]]:
    """Two sub-agents: a call of the first one waits for a person, while the model of the second one takes its time."""
    write = {"name": "write", "arguments": {"path": "one.txt", "content": "x"}}
    return [
        {"when": {"last_contains": "fewer epochs"}, "reply": {"text": "With fewer epochs."}},
        {"when": {"user_contains": "Make one", "step": 0}, "reply": {"calls": [write]}},
        {"when": {"user_contains": "Make one", "step": 1}, "reply": {"text": "One is made."}},
        {"when": {"user_contains": "Make two"}, **second},
        THEN,
        step(0, ("task", {"task": "Make one."}), ("task", {"task": "Make two."})),
    ]


async def start_held(walk: Walk, double: Hearing) -> Running:
    own_settings(walk, "[rules]\nask = ['write *.txt']\n")
    return await walk.start("train it", *MODEL, "--base-url", double.url, "--on-ask", "hold")


async def holding(walk: Walk, double: Hearing) -> ToolHeld:
    """The call that waits while the process works on."""
    await until(lambda: len(double.bodies) == 3)
    found: list[ToolHeld] = []
    async with asyncio.timeout(20):
        while not (found := await events(walk, ToolHeld)):
            await asyncio.sleep(0.05)
    return found[0]


async def test_what_another_process_says_never_answers_a_held_call_and_is_heard_at_the_next_step(walk: Walk):
    async with Hearing(held(reply={"text": "Two is made.", "first_delay_ms": 5_000})) as double:
        running = await start_held(walk, double)
        call = await holding(walk, double)
        told = await walk.run("say", "last", "use fewer epochs")
        assert told.code == 0, told.said
        assert "at the next step" in told.out
        for done in (await running.ended(), await walk.run("resume", "last", "--base-url", double.url)):
            assert (done.code, len(double.exchanges)) == (5, 3), done.said
        assert await events(walk, ToolAnswered) == []
        assert not (walk.workspace / "one.txt").exists()
        more = await walk.run("resume", "last", "--approve", call.call, "--base-url", double.url)
        assert (more.code, more.out) == (0, "With fewer epochs.\n"), more.said
    [answered] = await events(walk, ToolAnswered)
    assert (answered.call, answered.approve) == (call.call, True)
    assert (walk.workspace / "one.txt").exists()


async def test_a_stop_while_a_call_waits_for_an_approval_is_felt_at_once_and_answers_nothing(walk: Walk):
    async with Hearing(held(fault={"hang": True})) as double:
        running = await start_held(walk, double)
        await holding(walk, double)
        assert (await walk.run("stop")).code == 0
        done = await running.ended()
        assert done.code == 130, done.said
        more = await walk.run("resume", "last", "Go on", "--base-url", double.url)
        assert (more.code, more.out) == (0, "Went on.\n"), more.said
    assert await events(walk, ToolAnswered) == []
    assert not (walk.workspace / "one.txt").exists()
    felt_ms = felt(await walk.entries())
    print(f"approval: {felt_ms} ms from Stop to TurnEnded")
    assert felt_ms / 1000 < FELT_S * crowd()


def felt(entries: Sequence[Entry]) -> int:
    """From the stop to the end of the turn as the record has it, in milliseconds; nothing is left open."""
    asked = next(entry.at for entry in entries if isinstance(entry.event, StopAsked))
    ended = next(entry.at for entry in entries if isinstance(entry.event, TurnEnded) and entry.lane == "main")
    assert open_ends(entries) == []
    return ended - asked


STUBBORN = Moment(
    [THEN, step(0, bash("trap '' TERM INT HUP; sleep 333 & touch began; while :; do sleep 1; done"))], commanding
)


async def test_a_command_that_is_deaf_to_signals_ends_with_its_whole_tree(walk: Walk):
    async with Hearing(STUBBORN.script) as double:
        running = await walk.start("work", *MODEL, "--base-url", double.url)
        await STUBBORN.come(walk, double, running)
        assert (await walk.run("stop")).code == 0
        done = await running.ended()
        assert done.code == 130, done.said
    assert not [line for line in ps() if "sleep 333" in line]


def ps() -> list[str]:
    found: list[str] = []
    for number in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/cmdline", "rb") as file:
                found.append(file.read().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


async def test_what_an_earlier_step_left_running_outlives_a_stop_and_ends_when_told(walk: Walk):
    script = [
        step(0, ("bash", LEFT)),
        step(1, bash("echo on")),
        {**step(2, text="Hm."), "fault": {"hang": True}},
    ]
    async with Hearing(script) as double:
        running = await walk.start("start it", *MODEL, "--base-url", double.url)
        await until(lambda: len(double.bodies) == 3)
        running.interrupt()
        done = await running.ended()
    assert done.code == 130, done.said
    [key, _] = [event.call for event in await events(walk, ToolStarted)]
    assert f"background command {key} goes on until `ml-intern stop ID --commands`: echo up" in done.err
    [folder] = walk.data.glob("sessions/*")
    assert not (folder / "commands" / key / "exit.json").exists()
    script = [step(2, ("bash_output", {"id": key})), {**step(3, text="Hm."), "fault": {"hang": True}}]
    async with Hearing(script) as double:
        running = await walk.start("resume", "last", "and?", "--base-url", double.url)
        await until(lambda: len(double.bodies) == 2)
        running.interrupt()
        await running.ended()
    assert (await events(walk, ToolFinished))[-1].text.splitlines()[0] == "up"
    ended = await walk.run("stop", "last", "--commands")
    assert (ended.code, "1 command ended." in ended.out) == (0, True), ended.said
    assert (folder / "commands" / key / "exit.json").exists()
    ended = await walk.run("stop", "last", "--commands")
    assert (ended.code, "no commands ended." in ended.out) == (0, True), ended.said


def hear_hang_ups() -> None:
    """As a terminal starts a program: these tests themselves may have been started with nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("name", ["mid-stream", "mid-command"])
async def test_a_signal_to_end_leaves_the_turn_to_be_resumed(walk: Walk, name: str, number: int, code: int):
    script: Mapping[str, Any] = step(0, bash("touch began; until [ -e go ]; do sleep 0.05; done; echo it was done"))
    answer = {"when": {"any_contains": "it was done"}, "reply": {"text": "Went on."}}
    moment = MOMENTS[name] if name == "mid-stream" else Moment([answer, script], commanding)
    async with Hearing(moment.script) as double:
        running = await walk.start("work", *MODEL, "--base-url", double.url, preexec_fn=hear_hang_ups)
        await moment.come(walk, double, running)
        begun = time.monotonic()
        os.kill(running.pid, number)
        done = await running.ended()
        assert time.monotonic() - begun < 2 * crowd()
        assert done.code == code, done.said
        assert "Leaving; the turn and its commands stay as they are." in done.err
        assert "Go on with: ml-intern resume " in done.err
        assert "Traceback" not in done.err
        assert await events(walk, TurnEnded) == []
        assert await events(walk, StopAsked) == []
        (walk.workspace / "go").touch()
        if name == "mid-command":
            more = await walk.run("resume")
            assert (more.code, more.out) == (0, "Went on.\n"), more.said
            assert len(await events(walk, ToolStarted)) == 1
            assert open_ends(await walk.entries()) == []


async def test_who_started_it_with_nohup_wants_it_to_go_on(walk: Walk):
    script = story([bash("touch began; until [ -e go ]; do sleep 0.05; done")], end="Done.")
    async with Hearing(script) as double:
        running = await walk.start("work", *MODEL, "--base-url", double.url, before=("nohup",))
        await until((walk.workspace / "began").exists)
        os.kill(running.pid, signal.SIGHUP)
        await asyncio.sleep(0.2)
        (walk.workspace / "go").touch()
        done = await running.ended()
    assert (done.code, done.out) == (0, "Done.\n"), done.said


CIRCLE = [step(number, bash("echo same")) for number in range(6)]


async def test_a_model_that_goes_in_circles_is_told_then_paused_where_somebody_may_come_and_resume_lets_it_go_on(
    walk: Walk,
):
    async with Hearing([*CIRCLE, step(6, text="Done.")]) as double:
        done = await walk.say(double, "go", "--on-ask", "hold")
        assert done.code == 5, done.said
        assert "paused: The model made the same call (bash) 3 times with the same result" in done.err
        assert "Let it go on with: ml-intern resume " in done.err
        listed = await walk.run("sessions")
        assert " held " in listed.out
        more = await walk.run("resume", "last", "--base-url", double.url)
        assert (more.code, more.out) == (0, "Done.\n"), more.said
    assert [event.guard for event in await events(walk, Nudged)] == ["repeats"]
    assert len(await events(walk, Paused)) == len(await events(walk, Lifted)) == 1


async def test_where_nobody_is_there_it_ends_with_its_reason_and_deny_all_ends_a_paused_turn(walk: Walk):
    async with Hearing([*CIRCLE, step(6, text="Done.")]) as double:
        done = await walk.say(double, "go")
        assert done.code == 4, done.said
        assert "limit: The model made the same call (bash) 3 times" in done.err
    async with Hearing([*CIRCLE, step(6, text="Done.")]) as double:
        assert (await walk.say(double, "again", "--on-ask", "hold")).code == 5
        done = await walk.run("resume", "last", "--deny", "all", "--base-url", double.url)
        assert done.code == 130, done.said


async def test_the_guards_can_be_tuned_and_switched_off(walk: Walk):
    async with Hearing([*CIRCLE, step(6, text="Done.")]) as double:
        done = await walk.say(double, "go", "--guard-repeats", "off", "--guard-stall", "off", "--guard-plan", "off")
        assert (done.code, done.out) == (0, "Done.\n"), done.said
    assert await events(walk, Nudged) == []
    shown = await walk.run("settings", env={"ML_INTERN_GUARD_STALL": "12"})
    rows = {line.split()[0]: line.split()[1] for line in shown.out.splitlines() if line.startswith("guards.")}
    assert rows == {"guards.repeats": "3", "guards.stall": "12", "guards.plan": "on"}
    done = await walk.run("go", "--guard-repeats", "1")
    assert done.code == 2
    assert "--guard-repeats 1 is neither a number of 2 or more nor off." in done.err


async def test_a_stop_puts_off_what_was_to_follow_until_a_person_goes_on(walk: Walk):
    script = [
        {"when": {"last_contains": "and a table"}, "reply": {"text": "The table."}},
        {"when": {"last_contains": "Go on"}, "reply": {"text": "Went on."}},
        step(0, bash("touch began; sleep 60")),
    ]
    async with Hearing(script) as double:
        running = await walk.start("train it", *MODEL, "--base-url", double.url)
        await until((walk.workspace / "began").exists)
        told = await walk.run("say", "last", "and a table", "--after")
        assert told.code == 0, told.said
        stopped = await walk.run("stop")
        assert "1 follow-up said before: heard after that.\n" in stopped.out, stopped.said
        done = await running.ended()
        assert (done.code, "1 follow-up said before: heard after that.\n" in done.err) == (130, True), done.said
        asked = len(double.bodies)
        more = await walk.run("resume")
        assert (more.code, more.out) == (0, "The table.\n"), more.said
        assert "1 follow-up said before the stop: heard when this turn is over.\n" in more.err
    assert asked == 1
    assert [event.reply.text for event in await events(walk, ModelReplied)][1:] == ["Went on.", "The table."]
