"""Who runs a session at once, who leaves, and what a stop, a bug or the time cuts."""

import asyncio
from typing import Any

import pytest

from ml_intern.base.clock import SystemClock
from ml_intern.base.ids import new_id
from ml_intern.model.port import Request, TextDelta
from ml_intern.record.commands import Answer, Say, Stop
from ml_intern.record.display import TextDisplay
from ml_intern.record.effects import Notifies
from ml_intern.record.events import (
    LimitsSet,
    ModelAsked,
    ModelFailed,
    ModelReplied,
    ModelStopped,
    ToolHeld,
    ToolStarted,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.messages import Asked, Reply
from ml_intern.record.next import Rest, Wait
from ml_intern.record.view import MAIN
from tests.agent.stage import Note, Stage, call, calls, says, set_stage

WITHIN_S = 5


async def say(stage: Stage, text: str, **more: Any) -> None:
    assert await stage.session.send(Say(new_id(), text, **more)) is None


async def run(stage: Stage) -> Any:
    return await asyncio.wait_for(stage.session.run(), WITHIN_S)


def endings(stage: Stage) -> list[str]:
    return [event.reason for event in stage.of(TurnEnded)]


async def noting(*then: Any) -> tuple[Stage, Note]:
    """A turn whose one call goes on until its `pause` is set."""
    note = Note([], pause=asyncio.Event())
    stage = await set_stage(calls(call("note", '{"text": "a"}')), *then, tools=(note,))
    await say(stage, "go")
    return stage, note


async def running(stage: Stage, note: Note) -> "asyncio.Task[Any]":
    task = asyncio.create_task(stage.session.run())
    while not note.running:
        await asyncio.sleep(0)
    return task


def let_go(note: Note) -> None:
    assert note.pause is not None
    note.pause.set()


@pytest.mark.parametrize("late", [False, True])
async def test_two_runs_at_once_do_each_step_once(late: bool):
    stage, note = await noting(*[says("done")] * 4)
    first = await running(stage, note) if late else asyncio.create_task(stage.session.run())
    second = asyncio.create_task(stage.session.run())
    await asyncio.sleep(0.02)
    let_go(note)
    assert await asyncio.wait_for(asyncio.gather(first, second), WITHIN_S) == [Rest(), Rest()]
    assert (note.witness, len(stage.of(ToolStarted)), len(stage.of(ModelAsked))) == (["a"], 1, 2)
    assert endings(stage) == ["done"]


@pytest.mark.parametrize("leaver", [0, 1])
async def test_the_work_goes_on_while_one_of_its_callers_is_left(leaver: int):
    stage, note = await noting(says("done"))
    first = await running(stage, note)
    callers = [first, asyncio.create_task(stage.session.run())]
    await asyncio.sleep(0)
    callers[leaver].cancel()
    await asyncio.wait([callers[leaver]])
    assert callers[leaver].cancelled()
    let_go(note)
    assert await asyncio.wait_for(callers[1 - leaver], WITHIN_S) == Rest()
    assert (note.witness, endings(stage)) == (["a"], ["done"])


async def test_with_its_last_caller_the_work_ends_and_the_next_goes_on_from_there():
    stage, note = await noting(says("done"))
    first = await running(stage, note)
    first.cancel()
    await asyncio.sleep(0)
    # The old one is still about to end: the new one waits for that and then works itself.
    second = asyncio.create_task(stage.session.run())
    let_go(note)
    assert await asyncio.wait_for(second, WITHIN_S) == Rest()
    assert first.cancelled()
    assert (note.witness, endings(stage)) == (["a"], ["done"])


async def test_what_is_said_at_any_moment_is_answered_by_whoever_runs_next():
    for moment in range(30):
        stage = await set_stage(says("one"), says("two"))
        await say(stage, "one")
        first = asyncio.create_task(stage.session.run())
        for _ in range(moment):
            await asyncio.sleep(0)
        await say(stage, "two")
        await run(stage)
        await asyncio.wait_for(first, WITHIN_S)
        assert not stage.log.view.lane(MAIN).turn.open, moment
        assert any(message == Asked("two") for message in stage.model.requests[-1].messages), moment
        assert stage.kinds()[-1] == "turn_ended"


async def test_a_bug_in_mid_attempt_leaves_no_attempt_open_and_no_money_reserved():
    def broken(_: Request) -> Any:
        raise ZeroDivisionError("by zero")

    stage = await set_stage(broken, says("again"))
    await say(stage, "hello")
    await run(stage)
    [asked], [failed] = stage.of(ModelAsked), stage.of(ModelFailed)
    assert (failed.kind, failed.cost, failed.bound) == ("lost", asked.reserved, True)
    await say(stage, "more")
    await run(stage)
    assert stage.log.view.purse.reserved == {}
    assert stage.model.requests[1].messages[-1] == Asked("more")
    assert endings(stage) == ["failed", "done"]


async def test_a_stop_at_any_moment_of_a_turn_ends_the_run_without_an_error_and_leaves_nothing_open():
    for moment in range(30):
        stage = await set_stage(says("one"), says("two"), says("three"))
        await say(stage, "go")
        working = asyncio.create_task(stage.session.run())
        for _ in range(moment):
            await asyncio.sleep(0)
        await stage.session.send(Stop(new_id()))
        await asyncio.wait([working])
        assert not working.cancelled(), moment
        assert working.result() == Rest()
        assert len(stage.of(TurnEnded)) == 1
        assert stage.log.view.purse.reserved == {}, moment
        # Every attempt is closed, so what is said next is asked.
        await say(stage, "and now?")
        await run(stage)
        assert stage.model.requests[-1].messages[-1] == Asked("and now?"), moment


async def test_a_stop_at_any_moment_cuts_no_attempt_of_what_is_said_after_it():
    for moment in range(30):
        stage = await set_stage(says("one"), says("two"), says("three"))
        await say(stage, "one")
        # Stopping its lane as well takes a while: the turn may have ended by then.
        await stage.log.add(UserSaid("s", "a task"), "sub")
        working = asyncio.create_task(stage.session.run())
        for _ in range(moment):
            await asyncio.sleep(0)
        await asyncio.gather(stage.session.send(Stop(new_id())), say(stage, "two"))
        await asyncio.wait_for(working, WITHIN_S)
        await run(stage)
        assert len(stage.of(TurnEnded)) == 2, moment
        assert stage.of(ModelFailed) == [], moment
        assert stage.log.view.purse.reserved == {}


async def test_an_attempt_that_a_crash_left_open_in_a_turn_that_was_stopped_is_closed_before_its_end():
    before = await set_stage()
    await say(before, "go")
    await before.log.add(ModelAsked("a", "main", "test/model", 1_000, 1, 1, "head"))
    await before.session.send(Stop(new_id()))
    stage = await set_stage(says("done"), journal=before.journal)
    await run(stage)
    [stopped] = stage.of(ModelStopped)
    assert (stopped.text, stopped.cost, stopped.bound) == ("", 1_000, True)
    await say(stage, "and now?")
    await run(stage)
    assert (stage.log.view.purse.reserved, endings(stage)) == ({}, ["interrupted", "done"])


async def test_an_attempt_that_a_crash_left_open_is_closed_before_a_guard_ends_the_turn():
    before = await set_stage(limits=LimitsSet(None, 60.0))
    await say(before, "go")
    await before.log.add(ModelAsked("a", "main", "test/model", 1_000, 1, 1, "head"))
    before.clock.tick(61_000)
    stage = await set_stage(journal=before.journal, clock=before.clock)
    await run(stage)
    assert endings(stage) == ["limit"]
    assert (stage.log.view.purse.reserved, stage.log.view.purse.spent) == ({}, 1_000)


async def test_what_is_said_between_a_stop_and_the_end_it_brings_opens_the_next_turn():
    note = Note([], pause=asyncio.Event())
    stage = await set_stage(calls(call("note")), says("As you say."), tools=(note,))
    await say(stage, "go")
    working = await running(stage, note)
    await asyncio.gather(stage.session.send(Stop(new_id())), say(stage, "another way, please"))
    await asyncio.wait_for(working, WITHIN_S)
    assert endings(stage) == ["interrupted", "done"]
    assert stage.model.requests[-1].messages[-1] == Asked("another way, please")


async def test_a_follow_up_has_a_time_of_its_own():
    async def slow(_: Request) -> Any:
        await asyncio.sleep(0.6)
        yield says("done")

    stage = await set_stage(slow, slow, limits=LimitsSet(None, 1.0), clock=SystemClock())
    await say(stage, "one")
    await say(stage, "two", when="after")
    await run(stage)
    assert endings(stage) == ["done", "done"]


async def test_a_follow_up_that_takes_too_long_is_stopped_in_mid_stream():
    async def hang(_: Request) -> Any:
        yield TextDelta("so far")
        await asyncio.Event().wait()

    async def slow(_: Request) -> Any:
        await asyncio.sleep(0.5)
        yield says("done")

    stage = await set_stage(slow, hang, limits=LimitsSet(None, 0.8), clock=SystemClock())
    await say(stage, "one")
    await say(stage, "two", when="after")
    await run(stage)
    began, ended = stage.log.view.lane(MAIN).turn.started_ms, stage.clock.now_ms()
    assert endings(stage) == ["done", "limit"]
    assert ended - began >= 790


@pytest.mark.parametrize("again", [False, True])
async def test_a_call_that_waited_for_a_person_longer_than_the_turn_may_last_still_runs(again: bool):
    class Slow(Note):
        async def run(self, prepared: Any, context: Any) -> Any:
            await asyncio.sleep(0.05)
            return await super().run(prepared, context)

    more = {"tools": (Slow([], effects=(Notifies("boss"),)),), "limits": LimitsSet(None, 60.0)}
    stage = await set_stage(calls(call("note", '{"text": "a"}')), says("told"), **more)
    await say(stage, "tell the boss")
    assert await run(stage) == Wait("person")
    stage.clock.tick(3_600_000)
    if again:
        stage = await set_stage(says("told"), journal=stage.journal, clock=stage.clock, **more)
    assert await run(stage) == Wait("person")
    [held] = stage.of(ToolHeld)
    assert await stage.session.send(Answer(new_id(), held.call, held.binding, approve=True)) is None
    await run(stage)
    assert (more["tools"][0].witness, endings(stage)) == (["a"], ["done"])


async def test_what_a_turn_worked_before_and_after_it_waited_for_a_person_is_its_time():
    stage = await set_stage(
        calls(call("note")), tools=(Note([], effects=(Notifies("boss"),)),), limits=LimitsSet(None, 60.0)
    )
    await say(stage, "tell the boss")
    stage.clock.tick(40_000)
    await run(stage)
    stage.clock.tick(3_600_000)
    [held] = stage.of(ToolHeld)
    await stage.session.send(Answer(new_id(), held.call, held.binding, approve=True))
    stage.clock.tick(21_000)
    await run(stage)
    assert endings(stage) == ["limit"]


async def test_a_held_call_of_a_sub_agent_is_answered_in_its_lane():
    stage = await set_stage()
    await say(stage, "go")
    await stage.log.add(UserSaid("s", "a task"), "sub")
    made = call("note")
    await stage.log.add(ModelReplied("a", Reply((made,)), None, 0, "calls"), "sub")
    await stage.log.add(ToolHeld(made.id, "b", "asks", (Notifies("boss"),), 0, "", TextDisplay("t")), "sub")
    assert await stage.session.send(Answer(new_id(), made.id, "b", approve=True)) is None
    assert stage.log.view.lane("sub").calls[made.id].state == "approved"


async def test_a_stop_reaches_every_lane_that_works_and_none_that_rests():
    stage = await set_stage()
    await say(stage, "go")
    for lane in ("sub", "rested"):
        await stage.log.add(UserSaid(lane, "a task"), lane)
    await stage.log.add(TurnEnded("done"), "rested")
    assert await stage.session.send(Stop(new_id())) is None
    stopping = {name: lane.turn.stopping for name, lane in stage.log.view.lanes.items()}
    assert {name for name, each in stopping.items() if each is not None} == {MAIN, "sub"}
