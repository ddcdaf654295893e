"""What happened outside reaches the model before its next request, through the record."""

import asyncio

from msgspec.structs import replace

from ml_intern.agent.loop import Tell, work
from ml_intern.base.ids import new_id
from ml_intern.model.port import Finished, Request
from ml_intern.record.commands import Say, Stop
from ml_intern.record.events import LimitsSet, ModelAsked, Nudged, StopAsked, TurnEnded
from ml_intern.record.messages import Asked
from ml_intern.session.session import Session
from tests.agent.stage import Note, call, calls, says, set_stage


class Outside:
    """Has something to tell before the requests whose numbers are given."""

    def __init__(self, *before: int) -> None:
        self.before = before
        self.looks = 0

    async def news(self, lane: str, tell: Tell) -> bool:
        self.looks += 1
        if self.looks not in self.before:
            return False
        await tell(f"It is over ({lane}).")
        return True


async def test_news_is_recorded_and_stands_last_in_the_next_request():
    stage = await set_stage(
        calls(call("note", '{"text": "a"}')), says("Done."), tools=(Note([], name="note", effects=()),)
    )
    outside = Outside(2)
    await stage.session.send(Say(new_id(), "go"))
    await work(replace(stage.worker, news=outside.news), "main")
    assert stage.of(Nudged) == [Nudged("background", "It is over (main).")]
    assert stage.model.requests[-1].messages[-1] == Asked("It is over (main).", by="product")
    assert (len(stage.of(ModelAsked)), outside.looks) == (2, 3)
    assert [each.reason for each in stage.of(TurnEnded)] == ["done"]


async def test_a_turn_that_a_guard_ends_is_not_told_anything_more():
    stage = await set_stage(
        calls(call("note", '{"text": "a"}')),
        tools=(Note([], name="note", effects=()),),
        limits=LimitsSet(1, None),
    )
    outside = Outside(2)
    await stage.session.send(Say(new_id(), "go"))
    await work(replace(stage.worker, news=outside.news), "main")
    assert (stage.of(Nudged), [each.reason for each in stage.of(TurnEnded)]) == ([], ["limit"])


async def test_a_stop_ends_what_was_left_running_and_a_refused_one_does_not():
    halted: list[str] = []

    async def halt(_: frozenset[str] | None) -> None:
        halted.append("all")

    pause = asyncio.Event()
    stage = await set_stage(
        calls(call("note", '{"text": "a"}')), tools=(Note([], name="note", effects=(), pause=pause),)
    )
    session = Session(stage.worker, stage.live, halt)
    assert await session.send(Stop(new_id())) is not None
    await session.send(Say(new_id(), "go"))
    running = asyncio.ensure_future(session.run())
    await asyncio.sleep(0.05)
    assert halted == []
    assert await session.send(Stop("s")) is None
    await asyncio.wait_for(running, 5)
    await session.send(Stop("s"))
    assert (halted, len(stage.of(StopAsked))) == (["all"], 1)


async def test_a_follow_up_waits_until_what_the_stop_ends_has_been_told_to_end():
    order: list[str] = []

    async def halt(_: frozenset[str] | None) -> None:
        await asyncio.sleep(0.1)
        order.append("halted")

    def asked(_request: Request) -> Finished:
        order.append("asked")
        return says("Done.")

    tools = (Note([], name="note", effects=(), pause=asyncio.Event()),)
    stage = await set_stage(calls(call("note", '{"text": "a"}')), asked, tools=tools)
    session = Session(stage.worker, stage.live, halt)
    await session.send(Say(new_id(), "go"))
    running = asyncio.ensure_future(session.run())
    await asyncio.sleep(0.05)
    sending = asyncio.gather(session.send(Stop("s")), session.send(Say(new_id(), "then this")))
    await asyncio.wait_for(running, 5)
    assert order == ["halted", "asked"]
    await sending


async def test_the_run_is_over_only_when_what_a_stop_ends_has_been_told_to_end():
    halted = asyncio.Event()

    async def halt(_: frozenset[str] | None) -> None:
        await asyncio.sleep(0.1)
        halted.set()

    tools = (Note([], name="note", effects=(), pause=asyncio.Event()),)
    stage = await set_stage(calls(call("note", '{"text": "a"}')), tools=tools)
    session = Session(stage.worker, stage.live, halt)
    await session.send(Say(new_id(), "go"))
    running = asyncio.ensure_future(session.run())
    await asyncio.sleep(0.05)
    sending = asyncio.ensure_future(session.send(Stop("s")))
    await asyncio.wait_for(running, 5)
    assert halted.is_set()
    await sending
