import asyncio
import contextlib
import io
import json
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ml_intern.app.wire import Opened
from ml_intern.base.errors import (
    BadSettings,
    LevelTooLow,
    MlInternError,
    Overflow,
    SessionBusy,
    SessionNotFound,
    StaleOwner,
    StoreFailed,
    SupervisorLost,
    Unauthorised,
)
from ml_intern.base.ids import new_id
from ml_intern.headless.exits import Exit
from ml_intern.headless.run import CONTINUE, Answers, Run, run_to_exit
from ml_intern.model.port import Request, TextDelta
from ml_intern.record.codec import decode
from ml_intern.record.commands import Say
from ml_intern.record.effects import Notifies
from ml_intern.record.events import (
    LimitsSet,
    ModelStopped,
    ModeSet,
    ToolAnswered,
    ToolFinished,
    ToolHeld,
    TurnEnded,
    UserSaid,
)
from tests.agent.stage import Note, call, calls, says, set_stage
from tests.headless.door import SUMMARY, Door
from tests.headless.made import NASTY, SPELLED, UNSEEN


def teller(witness: list[str]) -> Note:
    """A tool whose calls wait for a person."""
    return Note(witness, effects=(Notifies("boss"),))


def tell(*texts: str) -> Any:
    return calls(*(call("note", json.dumps({"text": text})) for text in texts))


async def interrupted(_: Request) -> Any:
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.Event().wait()
    yield says("never")


async def found_in_mid_turn(door: Door, *said: str) -> None:
    """A session whose process died after these messages were said."""
    door.stages.append(await set_stage(**door.more))
    for text in said:
        assert await door.stage.session.send(Say(new_id(), text)) is None


def said(door: Door) -> list[str]:
    return [event.text for event in door.stage.of(UserSaid)]


def held_calls(door: Door) -> list[str]:
    return [event.call for event in door.stage.of(ToolHeld)]


@pytest.mark.parametrize(("answer", "out"), [("It is 42.", "It is 42.\n"), ("It is\n42.\n", "It is\n42.\n")])
def test_the_answer_goes_to_stdout_with_one_line_end(capsys: pytest.CaptureFixture[str], answer: str, out: str):
    assert Door().run("what is it?", says(answer)) is Exit.DONE
    told = capsys.readouterr()
    assert told.out == out
    first, step, last = told.err.splitlines()
    assert first == SUMMARY
    assert step.startswith("step 1: ")
    assert last.startswith("1 step, ")
    assert last.endswith("100+10 tokens, $0.0001 of $5.00 spent; session s1")


def test_what_is_said_before_calls_does_not_reach_stdout(capsys: pytest.CaptureFixture[str]):
    door = Door({"tools": (Note([]),)})
    assert door.run("go", tell("a"), says("Done.")) is Exit.DONE
    assert capsys.readouterr().out == "Done.\n"


def test_a_run_without_an_answer_leaves_stdout_empty(capsys: pytest.CaptureFixture[str]):
    door = Door()
    door.run("what is it?", says("It is 42."))
    capsys.readouterr()
    assert door.run("and now?", Unauthorised("The key is wrong.", "Set HF_TOKEN.")) is Exit.FAILED
    assert capsys.readouterr().out == ""


def test_a_stopped_stream_is_no_answer(capsys: pytest.CaptureFixture[str]):
    async def cut(_: Request) -> Any:
        yield TextDelta("half an ans")
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    door = Door()
    assert door.run("go", cut) is Exit.INTERRUPTED
    assert [event.text for event in door.stage.of(ModelStopped)] == ["half an ans"]
    assert capsys.readouterr().out == ""


def test_progress_goes_to_the_stderr_of_the_run():
    with contextlib.redirect_stderr(io.StringIO()) as stream:
        Door().run("go", says("Hi."))
    assert "step 1: Hi." in stream.getvalue()


def test_quiet_spells_control_characters_out_as_well(capsys: pytest.CaptureFixture[str]):
    Door().run(Run("go", quiet=True), Unauthorised(f"No {NASTY}.", "Set it."))
    assert not set(capsys.readouterr().err) & UNSEEN


def test_quiet_spells_out_what_the_model_put_into_a_denied_call(capsys: pytest.CaptureFixture[str]):
    noter = Note([], effects=(Notifies(f"boss\nheld call 2{NASTY}"),))
    door = Door({"tools": (noter,), "mode": ModeSet("auto", "deny")})
    assert door.run(Run("go", quiet=True), tell("a"), says("I may not.")) is Exit.DENIED
    told = capsys.readouterr().err
    assert SPELLED in told
    assert not set(told) & UNSEEN
    assert not any(line.startswith("held call") for line in told.splitlines())


def test_quiet_says_nothing_but_the_answer(capsys: pytest.CaptureFixture[str]):
    assert Door().run(Run("what is it?", quiet=True), says("It is 42.")) is Exit.DONE
    assert capsys.readouterr() == ("It is 42.\n", "")


ENDS = [
    ("done", Exit.DONE, {}, says("Done.")),
    ("failed", Exit.FAILED, {}, Unauthorised("The key is wrong.", "Set HF_TOKEN.")),
    ("overflow", Exit.FAILED, {}, Overflow("Too long.", "Say less.")),
    ("budget", Exit.BUDGET, {"cap": 5_000}, says("never")),
    ("limit", Exit.LIMIT, {"limits": LimitsSet(0, None)}, says("never")),
    ("interrupted", Exit.INTERRUPTED, {}, interrupted),
]


@pytest.mark.parametrize(("reason", "code", "more", "outcome"), ENDS)
@pytest.mark.parametrize("quiet", [True, False])
def test_each_end_has_its_exit_code_and_but_for_an_answer_its_way_on(
    capsys: pytest.CaptureFixture[str], reason: str, code: Exit, more: dict[str, Any], outcome: Any, quiet: bool
):
    door = Door(more)
    assert door.run(Run("go", quiet=quiet), outcome) is code
    assert door.stage.of(TurnEnded)[-1].reason == reason
    lines = capsys.readouterr().err.splitlines()
    assert ("Go on with: ml-intern resume s1" in lines) is (code is not Exit.DONE)
    ended = door.stage.of(TurnEnded)[-1]
    told = f"{reason}: {ended.what} {ended.remedy}"
    assert lines.count(told) == (0 if code is Exit.DONE else 1)
    assert (SUMMARY in lines) is not quiet


def test_a_turn_that_ends_on_a_denied_call_says_so_and_keeps_its_answer(capsys: pytest.CaptureFixture[str]):
    door = Door({"tools": (teller([]),), "mode": ModeSet("auto", "deny")})
    assert door.run(Run("tell the boss", quiet=True), tell("hi"), says("I may not.")) is Exit.DENIED
    told = capsys.readouterr()
    assert told.out == "I may not.\n"
    assert told.err.startswith("denied: The turn ended on a call that was denied. Denied: this call sends a message")


@pytest.mark.parametrize("quiet", [True, False])
def test_a_held_call_is_shown_in_full_quiet_or_not(capsys: pytest.CaptureFixture[str], quiet: bool):
    witness: list[str] = []
    door = Door({"tools": (teller(witness),)})
    assert door.run(Run("tell the boss", quiet=quiet), tell("hi")) is Exit.HELD
    told = capsys.readouterr()
    assert (told.out, witness) == ("", [])
    *_, header, reason, would, price, way, more = told.err.splitlines()
    assert header == f'held call {held_calls(door)[0]}: note {{"text": "hi"}}'
    assert reason == "  because it sends a message to boss"
    assert would == '  would: notifies {"recipient": "boss"}'
    assert price == "  at most $0.00 of me"
    assert way == "Answer with: ml-intern resume s1 --approve CALL (or --deny CALL)"
    assert more.startswith("With --times N the next N calls like it are allowed, too")
    assert "Go on with" not in told.err


@pytest.mark.parametrize(
    ("answers", "code", "told", "outcomes"),
    [
        (Answers(approve=("all",)), Exit.DONE, ["a"], ["ok"]),
        (Answers(deny=("all",)), Exit.DENIED, [], ["denied"]),
        (Answers(approve=("all",), deny=("all",)), Exit.DENIED, [], ["denied"]),
    ],
)
def test_held_calls_are_answered_before_the_run_goes_on(
    answers: Answers, code: Exit, told: list[str], outcomes: list[str]
):
    witness: list[str] = []
    door = Door({"tools": (teller(witness),)})
    door.run("tell the boss", tell("a"))
    assert door.run(Run(None, answers=answers), says("So be it.")) is code
    assert witness == told
    assert [event.outcome for event in door.stage.of(ToolFinished)] == outcomes
    assert said(door) == ["tell the boss"]


def test_a_no_carries_its_reason_to_the_model():
    door = Door({"tools": (teller([]),)})
    door.run("tell the boss", tell("a"))
    answers = Answers(deny=tuple(held_calls(door)), reason="not today")
    assert door.run(Run(None, answers=answers), says("As you say.")) is Exit.DENIED
    assert "not today" in door.stage.of(ToolFinished)[0].text


@pytest.mark.parametrize("answers", [Answers(approve=("x",)), Answers(deny=("x",)), Answers(("all",), ("x",))])
def test_an_answer_to_a_call_that_does_not_wait_stops_before_anything_happens(
    capsys: pytest.CaptureFixture[str], answers: Answers
):
    door = Door({"tools": (teller([]),)})
    assert door.run(Run("go", quiet=True, answers=answers)) is Exit.BAD_SETTINGS
    assert capsys.readouterr().err == "ml-intern: No call x waits for an answer.\nWaiting: none.\n"
    door = Door({"tools": (teller([]),)})
    door.run("tell the boss", tell("a"))
    before = len(door.journal.kept)
    capsys.readouterr()
    assert door.run(Run(None, quiet=True, answers=answers)) is Exit.BAD_SETTINGS
    assert f"Waiting: {held_calls(door)[0]}." in capsys.readouterr().err
    assert door.stage.kinds()[before:] == ["owner_took"]
    assert door.stage.of(ToolAnswered) == []


def test_a_message_instead_of_an_answer_is_a_no_to_what_was_shown():
    witness: list[str] = []
    door = Door({"tools": (teller(witness),)})
    door.run("tell the boss", tell("a"))
    assert door.run("do not bother the boss", says("As you say.")) is Exit.DENIED
    assert witness == []
    assert "do not bother the boss" in door.stage.of(ToolFinished)[0].text


def test_resuming_what_is_done_repeats_the_answer_and_asks_nobody(capsys: pytest.CaptureFixture[str]):
    door = Door()
    door.run("what is it?", says("It is 42."))
    capsys.readouterr()
    assert door.run(Run(None, quiet=True)) is Exit.DONE
    assert capsys.readouterr() == ("It is 42.\n", "")
    assert door.stage.model.requests == []


def test_resuming_what_was_cut_short_says_to_go_on():
    door = Door()
    door.run("what is it?", Unauthorised("The key is wrong.", "Set HF_TOKEN."))
    assert door.run(None, says("It is 42.")) is Exit.DONE
    assert said(door) == ["what is it?", CONTINUE]


def test_resuming_what_ended_on_a_denied_call_says_so_again_and_asks_nobody():
    door = Door({"tools": (teller([]),), "mode": ModeSet("auto", "deny")})
    door.run("tell the boss", tell("hi"), says("I may not."))
    assert door.run(None) is Exit.DENIED
    assert said(door) == ["tell the boss"]


def test_resuming_in_mid_turn_goes_on_without_a_word():
    door = Door()
    asyncio.run(found_in_mid_turn(door, "what is it?"))
    assert door.run(None, says("It is 42.")) is Exit.DONE
    assert said(door) == ["what is it?"]


@pytest.mark.parametrize(
    ("prompt", "sentence"), [(None, "Nothing was said in this session yet."), ("  \n", "The message is empty.")]
)
def test_a_session_without_a_word_cannot_run(capsys: pytest.CaptureFixture[str], prompt: str | None, sentence: str):
    door = Door()
    assert door.run(Run(prompt, quiet=True)) is Exit.BAD_SETTINGS
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"ml-intern: {sentence}\n")
    assert door.stage.model.requests == []


@pytest.mark.parametrize(("reason", "code", "more", "outcome"), ENDS)
def test_json_is_one_line_whatever_the_end(
    capsys: pytest.CaptureFixture[str], reason: str, code: Exit, more: dict[str, Any], outcome: Any
):
    door = Door(more)
    assert door.run(Run("go", "json", quiet=True), outcome) is code
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    found = json.loads(out)
    ended = door.stage.of(TurnEnded)[-1]
    assert (found["exit_code"], found["result"], found["session"]) == (int(code), code.name.lower(), "s1")
    assert (found["what"], found["remedy"]) == (ended.what, ended.remedy)
    assert found["text"] == ("Done." if reason == "done" else "")


def test_json_and_text_give_the_same_answer_to_a_resume_of_what_is_done(capsys: pytest.CaptureFixture[str]):
    door = Door()
    door.run("what is it?", says("It is 42."))
    capsys.readouterr()
    door.run(Run(None, "json", quiet=True))
    assert json.loads(capsys.readouterr().out)["text"] == "It is 42."


def test_stream_json_is_every_event_of_this_run_and_then_the_result(capsys: pytest.CaptureFixture[str]):
    door = Door({"tools": (teller([]),)})
    door.run("tell the boss", tell("a"))
    capsys.readouterr()
    seen = len(door.journal.kept)
    assert door.run(Run(None, "stream-json", answers=Answers(("all",))), says("Told.")) is Exit.DONE
    *lines, last = capsys.readouterr().out.splitlines()
    assert [decode(line.encode()).seq for line in lines] == list(range(seen + 2, len(door.journal.kept) + 1))
    assert isinstance(decode(lines[0].encode()).event, ToolAnswered)
    found = json.loads(last)
    assert (found["type"], found["text"], found["steps"]) == ("result", "Told.", 1)


def test_ctrl_c_stops_the_step_and_keeps_what_was_said_so_far(capsys: pytest.CaptureFixture[str]):
    door = Door()
    assert door.run(Run("go", quiet=True), interrupted) is Exit.INTERRUPTED
    assert len(door.stage.of(ModelStopped)) == 1
    assert "Stopping; Ctrl+C again leaves at once.\n" in capsys.readouterr().err
    assert door.run(None, says("Here I am.")) is Exit.DONE


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadSettings("It is wrong.", "Do this."), Exit.BAD_SETTINGS),
        (SessionNotFound("It is wrong.", "Do this."), Exit.BAD_SETTINGS),
        (SessionBusy("It is wrong.", "Do this."), Exit.BAD_SETTINGS),
        (LevelTooLow("It is wrong.", "Do this."), Exit.BAD_SETTINGS),
        (StoreFailed("It is wrong.", "Do this."), Exit.FAILED),
        (StaleOwner("It is wrong.", "Do this."), Exit.FAILED),
        (Unauthorised("It is wrong.", "Do this."), Exit.FAILED),
        (MlInternError("It is wrong.", "Do this."), Exit.FAILED),
    ],
)
def test_what_cannot_be_opened_is_a_sentence_and_its_remedy(
    capsys: pytest.CaptureFixture[str], error: MlInternError, code: Exit
):
    assert opened_with(error) is code
    assert capsys.readouterr() == ("", "ml-intern: It is wrong.\nDo this.\n")


@pytest.mark.parametrize("on_closing", [False, True])
def test_walls_that_break_once_the_session_is_open_are_a_failure(capsys: pytest.CaptureFixture[str], on_closing: bool):
    broken = SupervisorLost("It is gone.", "Resume the session.")

    @asynccontextmanager
    async def opener() -> AsyncGenerator[Opened]:
        stage = await set_stage(says("Hi."))
        yield Opened(stage.session, SUMMARY)
        raise broken

    def breaks(_: Request) -> Any:
        raise broken

    code = run_to_exit(Run("go", quiet=True), opener) if on_closing else Door().run(Run("go", quiet=True), breaks)
    assert code is Exit.FAILED
    assert capsys.readouterr().err == "ml-intern: It is gone.\nResume the session.\n"


def test_an_error_tells_what_happened_in_one_line_and_what_to_do_in_several(capsys: pytest.CaptureFixture[str]):
    opened_with(BadSettings(f"No\nkey {NASTY}.", f"Do this,\nor that: {NASTY}"))
    told = f"ml-intern: No\\nkey {SPELLED}.\nDo this,\nor that: {SPELLED}\n"
    assert capsys.readouterr().err == told


def test_an_error_without_a_remedy_is_one_line_and_ctrl_c_while_opening_none(capsys: pytest.CaptureFixture[str]):
    assert opened_with(StoreFailed("It is wrong.")) is Exit.FAILED
    assert capsys.readouterr() == ("", "ml-intern: It is wrong.\n")
    assert opened_with(KeyboardInterrupt()) is Exit.INTERRUPTED
    assert capsys.readouterr() == ("", "")


def opened_with(error: BaseException) -> Exit:
    @asynccontextmanager
    async def opener() -> AsyncGenerator[Opened]:
        raise error
        yield

    return run_to_exit(Run("go"), opener)
