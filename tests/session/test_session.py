import asyncio
from typing import Any, Literal

import pytest

from ml_intern.base.errors import StoreFailed
from ml_intern.base.ids import new_id
from ml_intern.model.port import Request, TextDelta
from ml_intern.record.commands import Answer, Command, Say, Stop
from ml_intern.record.effects import Notifies
from ml_intern.record.events import (
    LimitsSet,
    ModelAsked,
    ModelStopped,
    StopAsked,
    ToolAnswered,
    ToolFinished,
    ToolHeld,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.messages import Answered, Asked
from ml_intern.record.next import Rest, Wait
from tests.agent.stage import MemoryJournal, Note, Stage, call, calls, entries, says, set_stage

WITHIN_S = 5


def teller(witness: list[str]) -> Note:
    """A tool whose calls wait for a person."""
    return Note(witness, name="tell", effects=(Notifies("boss"),))


def tell(text: str) -> Any:
    return call("tell", f'{{"text": "{text}"}}')


async def accepted(stage: Stage, command: Command) -> None:
    assert await stage.session.send(command) is None


async def say(stage: Stage, text: str, **more: Any) -> None:
    await accepted(stage, Say(new_id(), text, **more))


async def run(stage: Stage) -> Wait | Rest:
    return await asyncio.wait_for(stage.session.run(), WITHIN_S)


def yes(held: ToolHeld) -> Answer:
    return Answer(new_id(), held.call, held.binding, approve=True)


def outcomes(stage: Stage) -> list[str]:
    return [event.outcome for event in stage.of(ToolFinished)]


def endings(stage: Stage) -> list[str]:
    return [event.reason for event in stage.of(TurnEnded)]


class Hanging:
    """A model's answer that begins and never ends."""

    def __init__(self, text: str = "so far") -> None:
        self.begun = asyncio.Event()
        self._text = text

    async def __call__(self, _: Request) -> Any:
        yield TextDelta(self._text)
        self.begun.set()
        await asyncio.Event().wait()


async def held_stage(witness: list[str], *texts: str, then: tuple[Any, ...] = (), **more: Any) -> Stage:
    """A turn that waits for a person, with a held call for each text."""
    stage = await set_stage(calls(*map(tell, texts)), *then, tools=(teller(witness), Note(witness)), **more)
    await say(stage, "tell the boss")
    assert await run(stage) == Wait("person")
    return stage


async def test_an_id_is_taken_in_once_however_often_it_comes():
    stage = await set_stage(says("done"))
    for text in ("hello", "hello", "other words"):
        await accepted(stage, Say("one", text))
    await run(stage)
    await accepted(stage, Say("one", "after the end"))
    assert [event.text for event in stage.of(UserSaid)] == ["hello"]
    assert stage.kinds()[-1] == "turn_ended"


async def test_the_same_id_sent_at_once_is_taken_in_once():
    stage = await set_stage(says("done"))
    sent = await asyncio.gather(*(stage.session.send(Say("one", f"hello {number}")) for number in range(20)))
    assert sent == [None] * 20
    assert [event.text for event in stage.of(UserSaid)] == ["hello 0"]


async def test_an_id_is_known_to_the_next_process():
    stage = await set_stage(says("done"))
    await accepted(stage, Say("one", "hello"))
    again = await set_stage(says("done"), journal=stage.journal)
    await accepted(again, Say("one", "hello"))
    assert len(again.of(UserSaid)) == 1


async def test_a_repeated_stop_does_not_stop_the_next_turn():
    hanging = Hanging()
    stage = await set_stage(hanging, says("done"))
    await say(stage, "go")
    running = asyncio.create_task(stage.session.run())
    await hanging.begun.wait()
    await accepted(stage, Stop("stop"))
    await asyncio.wait_for(running, WITHIN_S)
    await say(stage, "go on")
    await accepted(stage, Stop("stop"))
    await run(stage)
    assert endings(stage) == ["interrupted", "done"]


async def test_a_refused_command_leaves_no_trace():
    stage = await set_stage()
    before = len(stage.journal.kept)
    for command in (Say(new_id(), " "), Stop(new_id()), Answer(new_id(), "nobody", "b", approve=True)):
        refusal = await stage.session.send(command)
        assert refusal is not None
        assert refusal.what.endswith(".")
    assert len(stage.journal.kept) == before


async def test_a_stop_when_nothing_runs_is_refused_before_and_after_a_turn():
    stage = await set_stage(says("done"))
    for _ in range(2):
        refusal = await stage.session.send(Stop(new_id()))
        assert refusal is not None
        assert refusal.what == "Nothing runs that could be stopped."
        if not stage.of(UserSaid):
            await say(stage, "go")
            await run(stage)
    assert stage.of(StopAsked) == []


async def test_a_stop_of_a_turn_that_waits_ends_it_when_it_is_next_run():
    witness: list[str] = []
    stage = await held_stage(witness, "a")
    await accepted(stage, Stop(new_id()))
    assert await run(stage) == Rest()
    assert (witness, outcomes(stage), endings(stage)) == ([], ["stopped"], ["interrupted"])


async def test_a_second_stop_changes_nothing():
    note = Note([], pause=asyncio.Event())
    stage = await set_stage(calls(call("note"), call("note")), tools=(note,))
    await say(stage, "go")
    running = asyncio.create_task(stage.session.run())
    while not note.running:
        await asyncio.sleep(0)
    await asyncio.gather(*(accepted(stage, Stop(new_id())) for _ in range(3)))
    assert await asyncio.wait_for(running, WITHIN_S) == Rest()
    assert (outcomes(stage), endings(stage)) == (["stopped", "stopped"], ["interrupted"])


async def test_what_is_said_denies_the_call_its_writer_had_seen_and_none_that_is_held_later():
    witness: list[str] = []
    stage = await held_stage(witness, "a", "b", then=(says("Then not."),))
    [first] = stage.of(ToolHeld)
    await say(stage, "not the first", seen=seq_of(stage, first))
    assert await run(stage) == Wait("person")
    assert [(event.outcome, event.text) for event in stage.of(ToolFinished)] == [
        ("denied", "Not run. The user said no and said: not the first")
    ]
    await accepted(stage, yes(stage.of(ToolHeld)[1]))
    await run(stage)
    assert witness == ["b"]
    # The words are also a message, once nothing stands between them and the answers.
    kinds = [type(message) for message in stage.model.requests[-1].messages]
    assert kinds[-3:] == [Answered, Answered, Asked]


async def test_what_is_said_by_one_who_had_not_seen_the_call_denies_nothing():
    witness: list[str] = []
    stage = await held_stage(witness, "a", then=(says("Told."),))
    [held] = stage.of(ToolHeld)
    await say(stage, "how is it going?", seen=seq_of(stage, held) - 1)
    assert await run(stage) == Wait("person")
    await accepted(stage, yes(held))
    await run(stage)
    assert (witness, outcomes(stage)) == (["a"], ["ok"])


@pytest.mark.parametrize(("when", "seen"), [("after", 1_000_000), ("now", 0)])
async def test_a_follow_up_and_words_of_one_who_saw_nothing_answer_no_call(when: Literal["now", "after"], seen: int):
    witness: list[str] = []
    stage = await held_stage(witness, "a", then=(says("first"), says("second")))
    await say(stage, "and then this", when=when, seen=seen)
    assert await run(stage) == Wait("person")
    await accepted(stage, yes(stage.of(ToolHeld)[0]))
    await run(stage)
    assert (witness, outcomes(stage)) == (["a"], ["ok"])
    assert endings(stage) == (["done", "done"] if when == "after" else ["done"])


async def test_a_follow_up_to_a_session_at_rest_opens_a_turn_at_once():
    stage = await set_stage(says("done"))
    await say(stage, "go", when="after")
    await run(stage)
    assert endings(stage) == ["done"]
    assert stage.model.requests[0].messages[0] == Asked("go")


async def test_an_answer_with_another_binding_answers_nothing():
    witness: list[str] = []
    stage = await held_stage(witness, "a")
    held = stage.of(ToolHeld)[0]
    refusal = await stage.session.send(Answer(new_id(), held.call, "what was shown before", approve=True))
    assert refusal is not None
    assert refusal.what == "What this call would do has changed since it was shown."
    assert await run(stage) == Wait("person")
    assert (witness, stage.of(ToolAnswered)) == ([], [])


async def test_an_answer_to_a_call_that_does_not_wait_is_refused():
    witness: list[str] = []
    stage = await held_stage(witness, "a", then=(says("done"),))
    held = stage.of(ToolHeld)[0]
    await accepted(stage, yes(held))
    for _ in range(2):
        refusal = await stage.session.send(Answer(new_id(), held.call, held.binding, approve=False))
        assert refusal is not None
        assert refusal.what == f"No call {held.call} waits for an answer."
        await run(stage)
    assert witness == ["a"]
    assert [event.approve for event in stage.of(ToolAnswered)] == [True]


async def test_two_doors_that_answer_at_once_are_one_answer_and_one_refusal():
    witness: list[str] = []
    stage = await held_stage(witness, "a", then=(says("done"),))
    held = stage.of(ToolHeld)[0]
    answers = [Answer(new_id(), held.call, held.binding, approve) for approve in (False, True)]
    refusals = await asyncio.gather(*map(stage.session.send, answers))
    assert [refusal is None for refusal in refusals] == [True, False]
    await run(stage)
    assert (witness, outcomes(stage)) == ([], ["denied"])


async def test_calls_are_held_and_answered_one_after_the_other():
    witness: list[str] = []
    stage = await held_stage(witness, "a", "b", "c", then=(says("done"),))
    for number in range(1, 4):
        assert len(stage.of(ToolHeld)) == number
        assert len(witness) == number - 1
        await accepted(stage, yes(stage.of(ToolHeld)[-1]))
        assert await run(stage) == (Wait("person") if number < 3 else Rest())
    assert (witness, endings(stage)) == (["a", "b", "c"], ["done"])


async def test_a_second_run_after_the_first_has_nothing_to_do():
    stage = await set_stage(says("done"))
    await say(stage, "go")
    assert await run(stage) == Rest()
    before = len(stage.journal.kept)
    assert await run(stage) == Rest()
    assert len(stage.journal.kept) == before


async def test_a_session_in_which_nothing_was_said_rests():
    stage = await set_stage()
    assert await run(stage) == Rest()
    assert stage.model.requests == []


async def test_the_time_of_a_turn_ends_it_in_mid_stream_and_keeps_the_text():
    hanging = Hanging("half an answer")
    stage = await set_stage(hanging, limits=LimitsSet(None, 0.05))
    await say(stage, "go")
    assert await run(stage) == Rest()
    [stop], [stopped], [ended] = stage.of(StopAsked), stage.of(ModelStopped), stage.of(TurnEnded)
    assert (stop.reason, stopped.text, ended.reason) == ("limit", "half an answer", "limit")
    assert (ended.what, ended.remedy) == (
        "The time for this turn is up.",
        "Resume the session, with a longer --max-time or a later --until if needed.",
    )
    assert stage.log.view.purse.reserved == {}


async def test_the_time_of_a_turn_counts_from_its_beginning_whichever_process_runs_it():
    stage = await set_stage(limits=LimitsSet(None, 3_600.0))
    await say(stage, "go")
    stage.clock.tick(3_599_950)
    again = await set_stage(Hanging(), journal=stage.journal, clock=stage.clock)
    assert await run(again) == Rest()
    assert (len(again.of(ModelAsked)), endings(again)) == (1, ["limit"])


async def test_the_time_of_a_turn_that_is_over_does_not_stop_the_next():
    async def slow(_: Request) -> Any:
        await asyncio.sleep(0.6)
        yield says("two")

    stage = await set_stage(says("one"), slow, limits=LimitsSet(None, 1.0))
    await say(stage, "one")
    await run(stage)
    await asyncio.sleep(0.6)
    await say(stage, "two")
    await run(stage)
    assert (endings(stage), stage.of(StopAsked)) == (["done", "done"], [])


async def test_a_turn_without_a_limit_is_not_stopped_by_the_clock():
    stage = await set_stage(says("done"), limits=LimitsSet(None, None))
    await say(stage, "go")
    stage.clock.tick(10**9)
    await run(stage)
    assert endings(stage) == ["done"]


async def test_a_person_who_stops_as_the_time_runs_out_ends_the_turn_once():
    hanging = Hanging()
    stage = await set_stage(hanging, limits=LimitsSet(None, 0.05))
    await say(stage, "go")
    running = asyncio.create_task(stage.session.run())
    await hanging.begun.wait()
    await asyncio.sleep(0.04)
    await stage.session.send(Stop(new_id()))
    await asyncio.wait_for(running, WITHIN_S)
    await asyncio.sleep(0.05)
    assert len(stage.of(TurnEnded)) == 1


async def test_a_bug_of_ours_ends_the_turn_with_a_sentence_and_loses_nothing(caplog: pytest.LogCaptureFixture):
    def broken(_: Request) -> Any:
        raise ZeroDivisionError("by zero")

    stage = await set_stage(broken)
    await say(stage, "go")
    assert await run(stage) == Rest()
    [ended] = stage.of(TurnEnded)
    assert (ended.reason, ended.what) == ("failed", "ml-intern itself broke (ZeroDivisionError: by zero).")
    assert "resume the session" in ended.remedy
    assert "Traceback" in caplog.text


class Full(MemoryJournal):
    """A journal whose disk is full after `room` more entries."""

    def __init__(self, kept: list[bytes], room: int) -> None:
        super().__init__()
        self.kept = list(kept)
        self._most = len(kept) + room

    async def append(self, seq: int, line: bytes, *, flush: bool) -> None:
        if len(self.kept) >= self._most:
            raise StoreFailed("The disk is full.", "Free some space.")
        await super().append(seq, line, flush=flush)


async def test_a_record_that_can_no_longer_be_written_ends_the_run_and_refuses_commands_aloud(
    caplog: pytest.LogCaptureFixture,
):
    before = await set_stage()
    stage = await set_stage(says("never"), journal=Full(before.journal.kept, room=3))
    await say(stage, "go")
    with pytest.raises(StoreFailed, match="full"):
        await run(stage)
    with pytest.raises(StoreFailed, match="full"):
        await say(stage, "again")
    assert stage.kinds()[-3:] == ["owner_took", "user_said", "model_asked"]
    # It is no bug of ours: nothing is logged, and no end of the turn is written.
    assert caplog.text == ""


async def test_an_entry_reaches_every_reader_before_send_returns():
    stage = await set_stage()
    told: list[int] = []
    stage.log.read_with(lambda each: told.append(each.seq))
    await say(stage, "one")
    await say(stage, "two")
    assert told == [stage.log.view.seq - 1, stage.log.view.seq]


def seq_of(stage: Stage, event: Any) -> int:
    return next(each.seq for each in entries(stage) if each.event == event)
