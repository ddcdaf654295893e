"""Stop is felt: from the command until the end of the turn is in the record, in each place where a turn can be."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from ml_intern.agent.compact import compaction_head
from ml_intern.base.clock import SystemClock
from ml_intern.base.errors import RateLimited
from ml_intern.base.ids import new_id
from ml_intern.model.port import Request, TextDelta
from ml_intern.record.asides import COMPACTION
from ml_intern.record.clearing import Compacted
from ml_intern.record.commands import Compact, Lift, Say, Stop
from ml_intern.record.events import (
    CapSet,
    LimitsSet,
    ModelAsked,
    ModelStopped,
    ModeSet,
    Paused,
    RetryPlanned,
    ToolFinished,
    ToolHeld,
    ToolStarted,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.messages import Asked
from ml_intern.record.next import Rest, Wait
from ml_intern.record.view import MAIN
from ml_intern.session.session import Session
from tests.agent.stage import PRICED, MemoryJournal, Note, Stage, call, calls, looking, says, set_stage
from tests.session.test_session import Hanging, held_stage, say

FELT_S = 0.5
PROSE = "Goal: what was said first. State: nothing is done yet."


async def first_token(_: Request) -> Any:
    await asyncio.Event().wait()
    yield TextDelta("never")


async def waits_for_the_first_token() -> Stage:
    return await set_stage(first_token, says("Went on."), clock=SystemClock())


async def is_in_mid_stream() -> Stage:
    return await set_stage(Hanging("half"), says("Went on."), clock=SystemClock())


async def sleeps_before_a_retry() -> Stage:
    limited = RateLimited("Too many requests.", "Wait.", retry_after_s=60)
    return await set_stage(limited, says("Went on."), clock=SystemClock())


async def runs_a_call() -> Stage:
    note = Note([], pause=asyncio.Event())
    return await set_stage(calls(call("note"), call("note")), says("Went on."), tools=(note,), clock=SystemClock())


async def looks_at_eight_things_at_once() -> Stage:
    look = looking([], pause=asyncio.Event())
    made = calls(*(call("look") for _ in range(8)))
    return await set_stage(made, says("Went on."), tools=(look,), clock=SystemClock())


async def compacts(aside: Any) -> Stage:
    """A turn that begins with a summary, which the model writes like this; the turn after it has one, too."""
    stage = await set_stage(aside, says(PROSE), says("Went on."), clock=SystemClock())
    asker = replace(stage.worker.asker, heads={**stage.worker.asker.heads, COMPACTION: compaction_head()})
    stage.session = Session(replace(stage.worker, asker=asker), stage.live)
    await say(stage, "first the data, then the model " * 400)
    assert await stage.session.send(Compact(new_id())) is None
    return stage


async def waits_for_the_first_token_of_a_summary() -> Stage:
    return await compacts(first_token)


async def is_in_the_middle_of_a_summary() -> Stage:
    return await compacts(Hanging("half"))


async def sleeps_before_it_asks_for_a_summary_again() -> Stage:
    return await compacts(RateLimited("Too many requests.", "Wait.", retry_after_s=60))


PLACES: dict[str, tuple[Callable[[], Any], type[Any]]] = {
    "first-token wait": (waits_for_the_first_token, ModelAsked),
    "mid-stream": (is_in_mid_stream, ModelAsked),
    "retry sleep": (sleeps_before_a_retry, RetryPlanned),
    "a call": (runs_a_call, ToolStarted),
    "calls side by side": (looks_at_eight_things_at_once, ToolStarted),
    "compaction: first-token wait": (waits_for_the_first_token_of_a_summary, ModelAsked),
    "compaction: mid-stream": (is_in_the_middle_of_a_summary, ModelAsked),
    "compaction: retry sleep": (sleeps_before_it_asks_for_a_summary_again, RetryPlanned),
}


async def until(true: Callable[[], Any], within_s: float = 5) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.005)


async def felt_s(stage: Stage) -> float:
    """From Stop until TurnEnded is recorded."""
    begun = time.perf_counter()
    assert await stage.session.send(Stop(new_id())) is None
    await until(lambda: stage.of(TurnEnded))
    return time.perf_counter() - begun


@pytest.mark.watch_loop
@pytest.mark.parametrize("place", PLACES)
async def test_stop_is_felt_at_once_and_the_session_goes_on(place: str):
    make, sign = PLACES[place]
    stage = await make()
    await say(stage, "go")
    running = asyncio.create_task(stage.session.run())
    await until(lambda: stage.of(sign))
    await asyncio.sleep(0.05)
    felt = await felt_s(stage)
    print(f"{place}: {felt * 1000:.0f} ms from Stop to TurnEnded")
    assert felt < FELT_S
    assert await asyncio.wait_for(running, FELT_S) == Rest()
    [ended] = stage.of(TurnEnded)
    assert ended.reason == "interrupted"
    assert stage.log.view.purse.reserved == {}
    assert {event.outcome for event in stage.of(ToolFinished)} <= {"stopped"}
    await say(stage, "go on")
    assert await asyncio.wait_for(stage.session.run(), 5) == Rest()
    assert [event.reason for event in stage.of(TurnEnded)] == ["interrupted", "done"]
    if place.startswith("compaction"):
        [made] = stage.of(Compacted)
        assert PROSE in made.summary, "it was begun anew"
        assert [event.role for event in stage.of(ModelAsked)] == [COMPACTION, COMPACTION, "main"]
        assert not any("half" in line.message.text for line in stage.log.view.lane(MAIN).transcript.lines)


@pytest.mark.watch_loop
async def test_a_turn_that_waits_for_an_approval_is_stopped_at_once():
    stage = await held_stage([], "a", clock=SystemClock())
    assert stage.of(ToolHeld)
    begun = time.perf_counter()
    await stage.session.send(Stop(new_id()))
    await stage.session.run()
    assert time.perf_counter() - begun < FELT_S
    assert [event.reason for event in stage.of(TurnEnded)] == ["interrupted"]


async def circling(*more: Any) -> Stage:
    """A turn in which the model goes in circles until a guard pauses it."""
    circle = [calls(call("note")) for _ in range(6)]
    stage = await set_stage(*circle, *more, tools=(Note([]),), clock=SystemClock())
    await say(stage, "go")
    assert await asyncio.wait_for(stage.session.run(), 5) == Wait("person")
    assert [event.guard for event in stage.of(Paused)] == ["repeats"]
    return stage


async def test_a_paused_turn_is_stopped_at_once():
    stage = await circling()
    await stage.session.send(Stop(new_id()))
    assert await asyncio.wait_for(stage.session.run(), FELT_S) == Rest()
    assert [event.reason for event in stage.of(TurnEnded)] == ["interrupted"]


async def test_a_paused_turn_goes_on_when_it_is_lifted_and_a_lift_counts_once():
    stage = await circling(says("Done."))
    lift = Lift(new_id())
    assert await stage.session.send(lift) is None
    assert await stage.session.send(lift) is None
    refusal = await stage.session.send(Lift(new_id()))
    assert refusal is not None
    assert refusal.what == "No turn is paused."
    await asyncio.wait_for(stage.session.run(), 5)
    assert [event.reason for event in stage.of(TurnEnded)] == ["done"]


async def test_what_is_said_to_a_paused_turn_lifts_it_and_is_heard():
    stage = await circling(says("Done."))
    await say(stage, "use the other file")
    await asyncio.wait_for(stage.session.run(), 5)
    assert stage.model.requests[-1].messages[-1] == Asked("use the other file")
    assert [event.reason for event in stage.of(TurnEnded)] == ["done"]


async def test_a_stop_ends_what_the_present_step_left_running_and_all_where_that_is_said():
    for commands, more in ((False, False), (True, True)):
        stage = await set_stage(
            calls(call("note", '{"text": "first"}')),
            calls(call("note", '{"text": "second"}')),
            first_token,
            tools=(Note([]),),
            clock=SystemClock(),
        )
        meant: list[frozenset[str] | None] = []

        async def halt(keys: frozenset[str] | None, meant: list[Any] = meant) -> None:
            meant.append(keys)

        session = Session(stage.worker, stage.live, halt)
        await session.send(Say(new_id(), "go"))
        running = asyncio.create_task(session.run())
        await until(lambda stage=stage: len(stage.of(ModelAsked)) == 3)
        await session.send(Stop(new_id(), commands=commands))
        await asyncio.wait_for(running, 5)
        [_, second] = stage.of(ToolFinished)
        assert meant == [None if more else frozenset({second.call})]


async def test_what_is_said_while_a_turn_runs_is_heard_at_the_next_step_and_a_follow_up_after_the_turn():
    pause = asyncio.Event()
    stage = await set_stage(
        calls(call("note")), says("Changed."), says("Followed."), tools=(Note([], pause=pause),), clock=SystemClock()
    )
    await say(stage, "go")
    running = asyncio.create_task(stage.session.run())
    await until(lambda: stage.of(ToolStarted))
    await say(stage, "then this", when="after")
    await say(stage, "no: use fewer epochs")
    pause.set()
    await asyncio.wait_for(running, 5)
    _, second, third = stage.model.requests
    assert second.messages[-1] == Asked("no: use fewer epochs")
    assert Asked("then this") not in second.messages
    assert third.messages[-1] == Asked("then this")
    assert [type(event) for event in stage.events if isinstance(event, UserSaid | TurnEnded)] == [
        UserSaid,
        UserSaid,
        UserSaid,
        TurnEnded,
        TurnEnded,
    ]


async def test_the_words_of_a_stopped_stream_are_kept_and_a_stop_between_tokens_loses_none():
    stage = await is_in_mid_stream()
    await say(stage, "go")
    running = asyncio.create_task(stage.session.run())
    await until(lambda: stage.of(ModelAsked))
    await asyncio.sleep(0.05)
    await felt_s(stage)
    await running
    assert [event.text for event in stage.of(ModelStopped)] == ["half"]


class Slow(MemoryJournal):
    """A journal that takes its time, as a disk does."""

    async def append(self, seq: int, line: bytes, *, flush: bool) -> None:
        await asyncio.sleep(0.002)
        await super().append(seq, line, flush=flush)


@pytest.mark.parametrize("stops", [1, 3])
async def test_each_call_that_a_stop_cuts_off_has_one_answer_however_slow_the_disk_is(stops: int):
    look = looking([], pause=asyncio.Event())
    stage = await set_stage(calls(*(call("look") for _ in range(8))), tools=(look,), journal=Slow())
    for event in (PRICED, CapSet(5_000_000, "user"), ModeSet("auto", "hold"), LimitsSet(50, None)):
        await stage.log.add(event)
    await say(stage, "go")
    running = asyncio.create_task(stage.session.run())
    await until(lambda: len(stage.of(ToolStarted)) == 8)
    await asyncio.gather(*(stage.session.send(Stop(new_id())) for _ in range(stops)))
    assert await asyncio.wait_for(running, 5) == Rest()
    answered = [event.call for event in stage.of(ToolFinished)]
    assert len(answered) == len(set(answered)) == 8


async def test_who_leaves_in_the_middle_of_a_stop_and_comes_back_finds_one_answer_to_each_call():
    look = looking([], pause=asyncio.Event())
    stage = await set_stage(calls(*(call("look") for _ in range(8))), tools=(look,), journal=Slow())
    for event in (PRICED, CapSet(5_000_000, "user"), ModeSet("auto", "hold"), LimitsSet(50, None)):
        await stage.log.add(event)
    await say(stage, "go")
    running = asyncio.create_task(stage.session.run())
    await until(lambda: len(stage.of(ToolStarted)) == 8)
    await stage.session.send(Stop(new_id()))
    await until(lambda: stage.of(ToolFinished))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await asyncio.wait_for(stage.session.run(), 5) == Rest()
    answered = [event.call for event in stage.of(ToolFinished)]
    assert len(answered) == len(set(answered)) == 8
