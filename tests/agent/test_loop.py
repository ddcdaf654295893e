import asyncio
from typing import Any

import pytest

from ml_intern.agent.ask import MOST_PATIENT
from ml_intern.base.errors import NoServer, Overflow, RateLimited, Unauthorised, Unreachable
from ml_intern.base.ids import new_id
from ml_intern.model.port import Finished, TextDelta
from ml_intern.record.commands import Answer, Say, Stop
from ml_intern.record.effects import Notifies
from ml_intern.record.events import (
    BriefSet,
    LimitsSet,
    ModelAsked,
    ModelFailed,
    ModelReplied,
    ModelStopped,
    Nudged,
    RetryPlanned,
    ToolFinished,
    TurnEnded,
)
from ml_intern.record.messages import Answered, Asked, Reply, Usage
from ml_intern.record.next import MOST_FAILURES, Rest, Wait
from tests.agent.stage import Note, call, calls, looking, says, set_stage


async def say(stage: Any, text: str, **more: Any) -> None:
    assert await stage.session.send(Say(new_id(), text, **more)) is None


async def test_a_turn_asks_settles_its_calls_and_ends_with_the_answer() -> None:
    witness: list[str] = []
    stage = await set_stage(calls(call("note", '{"text": "a"}')), says("done"), tools=(Note(witness),))
    await say(stage, "do it")
    assert await stage.session.run() == Rest()
    assert witness == ["a"]
    assert stage.kinds()[6:] == [
        "user_said",
        "model_asked",
        "model_replied",
        "tool_started",
        "tool_finished",
        "model_asked",
        "model_replied",
        "turn_ended",
    ]
    assert stage.of(TurnEnded)[0].reason == "done"
    last = stage.model.requests[-1].messages[-1]
    assert isinstance(last, Answered)
    assert last.text.splitlines()[1:-1] == ["noted a"]


async def test_passing_failures_are_asked_again_and_change_nothing_in_the_result() -> None:
    faults = [RateLimited("slow down", retry_after_s=2.0), Unreachable("503"), Unreachable("cut", may_be_billed=True)]
    stage = await set_stage(*faults, says("done"))
    await say(stage, "hello")
    await stage.session.run()
    assert [event.reason for event in stage.of(TurnEnded)] == ["done"]
    assert len(stage.of(RetryPlanned)) == 3
    assert stage.of(RetryPlanned)[0].due >= 1_800_000_000_000 + 2_000
    booked = [event.cost for event in stage.of(ModelFailed)]
    assert booked[:2] == [0, 0]
    assert booked[2] == stage.of(ModelAsked)[2].reserved
    assert stage.log.view.purse.reserved == {}


async def test_failures_without_end_end_the_turn_in_one_sentence() -> None:
    stage = await set_stage(*[Unreachable("the server is away", "Start it.")] * 20)
    await say(stage, "hello")
    await stage.session.run()
    ended = stage.of(TurnEnded)[0]
    assert (ended.reason, ended.what, ended.remedy) == ("failed", "the server is away", "Start it.")
    assert len(stage.of(ModelAsked)) == 7


OUTAGE = [NoServer("its name is unknown"), Unreachable("no connection within 10 s"), Unreachable("503")] * 8


async def test_an_outage_of_a_quarter_of_an_hour_is_waited_for_where_the_model_has_answered_before() -> None:
    assert len(OUTAGE) == MOST_PATIENT
    stage = await set_stage(calls(call("look")), *OUTAGE, says("done"), tools=(looking([]),))
    await say(stage, "hello")
    begun = stage.clock.now_ms()
    await stage.session.run()
    assert [event.reason for event in stage.of(TurnEnded)] == ["done"]
    assert 10 * 60 < (stage.clock.now_ms() - begun) / 1000 < 20 * 60
    assert len(stage.of(RetryPlanned)) == MOST_PATIENT


async def test_a_longer_one_ends_the_turn_and_so_do_six_attempts_that_may_have_been_billed() -> None:
    cut = Unreachable("cut", may_be_billed=True)
    for faults, most in (([*OUTAGE, *OUTAGE], MOST_PATIENT), ([cut] * 30, MOST_FAILURES)):
        stage = await set_stage(calls(call("look")), *faults, tools=(looking([]),))
        await say(stage, "hello")
        await stage.session.run()
        assert [event.reason for event in stage.of(TurnEnded)] == ["failed"]
        assert len(stage.of(ModelFailed)) == most + 1
        assert stage.log.view.purse.reserved == {}


async def test_a_server_that_never_answered_is_a_slip_and_one_that_did_may_come_back() -> None:
    stage = await set_stage(NoServer("nobody listens", "Start it."), says("done"), NoServer("gone"), says("again"))
    await say(stage, "hello")
    await stage.session.run()
    assert stage.of(TurnEnded)[0].reason == "failed"
    assert len(stage.of(ModelAsked)) == 1
    for text in ("it runs now", "more"):
        await say(stage, text)
        await stage.session.run()
    assert [event.reason for event in stage.of(TurnEnded)] == ["failed", "done", "done"]
    assert len(stage.of(RetryPlanned)) == 1


async def test_a_permanent_failure_ends_the_turn_at_once() -> None:
    stage = await set_stage(Unauthorised("the key is wrong", "Set HF_TOKEN."))
    await say(stage, "hello")
    await stage.session.run()
    assert stage.of(TurnEnded)[0].reason == "failed"
    assert len(stage.of(ModelAsked)) == 1


async def test_an_overflow_ends_the_turn_with_its_own_reason() -> None:
    stage = await set_stage(Overflow("too long"))
    await say(stage, "hello")
    await stage.session.run()
    assert stage.of(TurnEnded)[0].reason == "overflow"


async def test_a_provider_that_wants_an_hours_pause_ends_the_turn() -> None:
    stage = await set_stage(RateLimited("come back later", retry_after_s=3600.0))
    await say(stage, "hello")
    await stage.session.run()
    assert stage.of(TurnEnded)[0].reason == "failed"


async def test_steps_are_limited() -> None:
    outcomes = [calls(call("look")) for _ in range(5)]
    stage = await set_stage(*outcomes, tools=(looking([]),), limits=LimitsSet(3, None))
    await say(stage, "look about")
    await stage.session.run()
    assert len(stage.of(ModelReplied)) == 3
    assert stage.of(TurnEnded)[0].reason == "limit"


async def test_time_is_limited_between_steps() -> None:
    stage = await set_stage(*[calls(call("look"))] * 5, tools=(looking([]),), limits=LimitsSet(None, 10.0))
    await say(stage, "look about")
    stage.clock.tick(10_001)
    await stage.session.run()
    assert stage.of(TurnEnded)[0].reason == "limit"
    assert stage.of(ModelAsked) == []


async def test_time_is_limited_in_the_middle_of_a_call() -> None:
    note = Note([], pause=asyncio.Event())
    stage = await set_stage(calls(call("note")), tools=(note,), limits=LimitsSet(None, 0.05))
    await say(stage, "wait for ever")
    await asyncio.wait_for(stage.session.run(), 5)
    assert stage.of(TurnEnded)[0].reason == "limit"
    assert stage.of(ToolFinished)[0].outcome == "stopped"


async def test_an_attempt_that_a_dead_process_left_open_is_booked_and_asked_again() -> None:
    stage = await set_stage()
    await say(stage, "hello")
    reserved = 12_345
    await stage.log.add(ModelAsked("lost", "main", "test/model", reserved, 10, 10, "h"))
    again = await set_stage(says("done"), journal=stage.journal)
    await again.session.run()
    failed = again.of(ModelFailed)[0]
    assert (failed.kind, failed.cost, failed.bound) == ("lost", reserved, True)
    assert again.of(TurnEnded)[0].reason == "done"
    assert again.log.view.purse.reserved == {}


async def test_a_stop_in_mid_stream_keeps_the_text_and_books_the_worst_case() -> None:
    started = asyncio.Event()

    async def hang(_: object) -> Any:
        yield TextDelta("so far")
        started.set()
        await asyncio.Event().wait()

    stage = await set_stage(hang)
    await say(stage, "hello")
    running = asyncio.create_task(stage.session.run())
    await started.wait()
    await stage.session.send(Stop(new_id()))
    assert await asyncio.wait_for(running, 5) == Rest()
    stopped = stage.of(ModelStopped)[0]
    assert (stopped.text, stopped.cost) == ("so far", stage.of(ModelAsked)[0].reserved)
    assert stage.of(TurnEnded)[0].reason == "interrupted"


async def test_cancelling_the_run_itself_leaves_the_record_as_a_crash_would() -> None:
    started = asyncio.Event()

    async def hang(_: object) -> Any:
        started.set()
        await asyncio.Event().wait()
        yield TextDelta("never")

    stage = await set_stage(hang)
    await say(stage, "hello")
    running = asyncio.create_task(stage.session.run())
    await started.wait()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert stage.kinds()[-1] == "model_asked"


async def test_a_message_in_mid_turn_is_seen_at_the_next_step_and_never_between_a_call_and_its_answer() -> None:
    note = Note([], pause=asyncio.Event())
    stage = await set_stage(calls(call("note", '{"text": "a"}')), says("heard"), tools=(note,))
    await say(stage, "begin")
    running = asyncio.create_task(stage.session.run())
    while note.running == 0:
        await asyncio.sleep(0)
    await say(stage, "and also this")
    assert note.pause is not None
    note.pause.set()
    await running
    kinds = [type(message) for message in stage.model.requests[-1].messages]
    assert kinds == [Asked, Reply, Answered, Asked]


async def test_a_message_that_comes_while_the_last_reply_is_written_is_answered_before_the_turn_ends() -> None:
    gate = asyncio.Event()

    async def slow(_: object) -> Any:
        await gate.wait()
        yield says("first")

    stage = await set_stage(slow, says("second"))
    await say(stage, "one")
    running = asyncio.create_task(stage.session.run())
    await asyncio.sleep(0.01)
    await say(stage, "two")
    gate.set()
    await running
    assert [event.reply.text for event in stage.of(ModelReplied)] == ["first", "second"]
    assert len(stage.of(TurnEnded)) == 1


async def test_a_follow_up_opens_its_own_turn_after_the_first() -> None:
    stage = await set_stage(says("first"), says("second"))
    await say(stage, "one")
    await say(stage, "two", when="after")
    await stage.session.run()
    assert [event.reply.text for event in stage.of(ModelReplied)] == ["first", "second"]
    assert len(stage.of(TurnEnded)) == 2
    assert [type(message) for message in stage.model.requests[0].messages] == [Asked]


async def test_two_unreadable_calls_in_a_row_bring_one_nudge() -> None:
    bad = '{"text": "cut'
    stage = await set_stage(calls(call("note", bad)), calls(call("note", bad)), says("sorry"), tools=(Note([]),))
    await say(stage, "go")
    await stage.session.run()
    assert [event.guard for event in stage.of(Nudged)] == ["malformed"]
    assert all(event.outcome == "invalid" for event in stage.of(ToolFinished))


async def test_usage_beyond_the_reservation_is_booked_marked_and_ends_the_turn() -> None:
    witness: list[str] = []
    huge = Finished(calls(call("note")).reply, Usage(10_000_000, 10), "calls")
    stage = await set_stage(huge, tools=(Note(witness),))
    await say(stage, "go")
    await stage.session.run()
    assert stage.of(ModelReplied)[0].overrun
    assert stage.log.view.purse.spent == 10_000_040
    assert stage.of(TurnEnded)[0].reason == "budget"
    assert witness == []
    assert stage.of(ToolFinished)[0].outcome == "stopped"


async def test_the_budget_ends_the_turn_before_money_is_spent() -> None:
    stage = await set_stage(says("never"), cap=5_000)
    await say(stage, "go")
    await stage.session.run()
    assert stage.model.requests == []
    assert stage.of(TurnEnded)[0].reason == "budget"


async def test_a_held_call_waits_for_a_person_and_survives_a_new_process() -> None:
    witness: list[str] = []
    tool = Note(witness, effects=(Notifies("boss"),))
    stage = await set_stage(calls(call("note", '{"text": "hi"}')), tools=(tool,))
    await say(stage, "tell the boss")
    assert await stage.session.run() == Wait("person")
    assert witness == []
    again = await set_stage(says("told"), journal=stage.journal, tools=(tool,))
    assert await again.session.run() == Wait("person")
    held = next(iter(again.log.view.lane("main").calls.values())).held
    assert held is not None
    await again.session.send(Answer(new_id(), held.call, held.binding, approve=True))
    await again.session.run()
    assert witness == ["hi"]
    assert again.of(TurnEnded)[0].reason == "done"


@pytest.mark.parametrize(
    ("second", "reason", "kinds"),
    [('{"accuracy": 0.9}', "done", 1), ("Still words.", "failed", 1)],
    ids=["then it fits", "then it does not"],
)
async def test_an_answer_that_is_not_the_json_asked_for_is_asked_for_once_more(second: str, reason: str, kinds: int):
    stage = await set_stage(says("It is 0.9."), says(second))
    await stage.log.add(BriefSet("", '{"type": "object", "required": ["accuracy"]}'))
    await stage.session.send(Say(new_id(), "go"))
    await stage.session.run()
    [ended] = stage.of(TurnEnded)
    assert ended.reason == reason
    [nudged] = stage.of(Nudged)
    assert "is no JSON" in nudged.text
    assert stage.model.outcomes == []


async def test_an_answer_that_is_the_json_asked_for_ends_the_turn():
    stage = await set_stage(says('{"accuracy": 0.9}'))
    await stage.log.add(BriefSet("", '{"type": "object", "required": ["accuracy"]}'))
    await stage.session.send(Say(new_id(), "go"))
    await stage.session.run()
    assert stage.of(TurnEnded)[0].reason == "done"
    assert stage.of(Nudged) == []


@pytest.mark.parametrize("nothing", ["", " \n"])
async def test_a_reply_that_says_nothing_does_not_end_a_turn_and_the_model_is_told_so(nothing: str):
    stage = await set_stage(calls(call("note")), says(nothing), says("Done."), tools=(Note([]),))
    await stage.session.send(Say(new_id(), "go"))
    await stage.session.run()
    assert [event.guard for event in stage.of(Nudged)] == ["silence"]
    assert stage.of(TurnEnded)[0].reason == "done"
    assert stage.model.requests[-1].messages[-1] == Asked(stage.of(Nudged)[0].text, by="product")


async def test_a_model_that_says_nothing_three_times_fails_the_turn():
    stage = await set_stage(*(says("") for _ in range(3)))
    await stage.session.send(Say(new_id(), "go"))
    await stage.session.run()
    [ended] = stage.of(TurnEnded)
    assert (ended.reason, ended.what) == ("failed", "The model's reply was empty 3 times.")
    assert "--model" in ended.remedy
    assert len(stage.of(Nudged)) == 2


@pytest.mark.watch_loop(limit_s=1.0)
async def test_the_deadline_ends_a_turn_in_mid_command():
    stuck = Note([], pause=asyncio.Event())
    stage = await set_stage(calls(call("note")), tools=(stuck,))
    now = stage.clock.now_ms()
    await stage.log.add(LimitsSet(50, None, now + 200, now))
    await stage.session.send(Say(new_id(), "go"))
    async with asyncio.timeout(10):
        await stage.session.run()
    assert stage.of(TurnEnded)[0].reason == "limit"
