import asyncio
from typing import Any

import pytest

from ml_intern.agent.road import reserve
from ml_intern.base.errors import ToolFailed
from ml_intern.base.ids import new_id
from ml_intern.record.commands import Answer, Say, Stop
from ml_intern.record.display import TextDisplay
from ml_intern.record.effects import Destroys, Notifies, Publishes
from ml_intern.record.events import (
    Granted,
    ModeSet,
    RuleGiven,
    RulesSet,
    ToolFinished,
    ToolHeld,
    ToolStarted,
    TurnEnded,
)
from ml_intern.record.live import LiveItem
from ml_intern.record.log import Refusal
from ml_intern.record.next import Wait
from ml_intern.toolkit.tool import Result
from tests.agent.stage import MemoryJournal, Note, Stage, call, calls, entries, looking, says, set_stage, spending


async def play(stage: Stage, text: str = "go") -> Any:
    await stage.session.send(Say(new_id(), text))
    return await stage.session.run()


def answers(stage: Stage) -> list[tuple[str, str]]:
    return [(event.outcome, event.text) for event in stage.of(ToolFinished)]


async def test_an_unknown_tool_is_answered_with_the_tools_there_are() -> None:
    stage = await set_stage(calls(call("notes")), says("ok"), tools=(Note([]),))
    await play(stage)
    assert answers(stage)[0][0] == "invalid"
    assert "Did you mean note?" in answers(stage)[0][1]


async def test_a_tool_that_breaks_is_answered_and_its_siblings_run() -> None:
    witness: list[str] = []
    broken = Note(witness, name="broken", breaks=ZeroDivisionError("by zero"))
    stage = await set_stage(
        calls(call("broken"), call("note", '{"text": "b"}')), says("ok"), tools=(broken, Note(witness))
    )
    await play(stage)
    assert [outcome for outcome, _ in answers(stage)] == ["failed", "ok"]
    assert "ZeroDivisionError" in answers(stage)[0][1]
    assert witness == ["b"]
    assert stage.of(TurnEnded)[0].reason == "done"


async def test_a_tool_that_fails_on_purpose_answers_with_its_sentence_and_remedy() -> None:
    stage = await set_stage(
        calls(call("note")), says("ok"), tools=(Note([], breaks=ToolFailed("No such file.", "Look first.")),)
    )
    await play(stage)
    assert answers(stage) == [("failed", "No such file. Look first.")]


async def test_calls_that_only_look_run_side_by_side_but_no_more_than_eight() -> None:
    gate = asyncio.Event()
    tool = looking([], pause=gate)
    stage = await set_stage(calls(*[call("look") for _ in range(12)]), says("ok"), tools=(tool,))
    await stage.session.send(Say(new_id(), "go"))
    running = asyncio.create_task(stage.session.run())
    while tool.running < 8:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert tool.running == 8
    gate.set()
    await running
    assert tool.most_running == 8
    assert len(stage.of(ToolFinished)) == 12


async def test_calls_that_change_something_run_in_order_each_after_the_one_before() -> None:
    witness: list[str] = []
    tool = Note(witness)
    made = [call("note", f'{{"text": "{letter}"}}') for letter in "abc"]
    stage = await set_stage(calls(*made), says("ok"), tools=(tool,))
    await play(stage)
    assert witness == ["a", "b", "c"]
    assert tool.most_running == 1


async def test_a_change_waits_for_the_looks_before_it() -> None:
    witness: list[str] = []
    stage = await set_stage(
        calls(call("look", '{"text": "1"}'), call("note", '{"text": "2"}'), call("look", '{"text": "3"}')),
        says("ok"),
        tools=(looking(witness), Note(witness)),
    )
    await play(stage)
    assert witness == ["1", "2", "3"]


async def test_a_held_call_holds_back_later_changes_but_not_later_looks() -> None:
    witness: list[str] = []
    teller = Note(witness, name="tell", effects=(Notifies("boss"),))
    made = [call("tell", '{"text": "held"}'), call("note", '{"text": "later"}'), call("look", '{"text": "look"}')]
    stage = await set_stage(calls(*made), says("ok"), tools=(teller, Note(witness), looking(witness)))
    assert await play(stage) == Wait("person")
    assert witness == ["look"]
    held = stage.of(ToolHeld)[0]
    await stage.session.send(Answer(new_id(), held.call, held.binding, approve=True))
    await stage.session.run()
    assert witness == ["look", "held", "later"]


async def test_a_refusal_reaches_the_model_with_the_persons_words() -> None:
    teller = Note([], effects=(Notifies("boss"),))
    stage = await set_stage(calls(call("note")), says("ok"), tools=(teller,))
    await play(stage)
    held = stage.of(ToolHeld)[0]
    await stage.session.send(Answer(new_id(), held.call, held.binding, approve=False, text="not today"))
    await stage.session.run()
    assert answers(stage) == [("denied", "Not run. The user said no and said: not today")]


async def test_a_message_answers_no_only_to_calls_its_writer_had_seen() -> None:
    teller = Note([], effects=(Notifies("boss"),))
    stage = await set_stage(calls(call("note")), says("ok"), tools=(teller,))
    await play(stage)
    await stage.session.send(Say(new_id(), "what is this?", seen=0))
    assert await stage.session.run() == Wait("person")
    await stage.session.send(Say(new_id(), "no, leave it", seen=stage.log.view.seq))
    await stage.session.run()
    assert answers(stage)[0][0] == "denied"
    assert "no, leave it" in answers(stage)[0][1]


async def test_an_approval_does_not_hold_for_what_has_changed_since() -> None:
    witness: list[str] = []
    teller = Note(witness, effects=(Notifies("boss"),), inputs=(("file", "aaa"),))
    stage = await set_stage(calls(call("note", '{"text": "x"}')), says("ok"), tools=(teller,))
    await play(stage)
    held = stage.of(ToolHeld)[0]
    await stage.session.send(Answer(new_id(), held.call, held.binding, approve=True))
    teller.inputs = (("file", "bbb"),)
    assert await stage.session.run() == Wait("person")
    assert witness == []
    again = stage.of(ToolHeld)[1]
    assert again.binding != held.binding
    assert "has changed since" in again.reason
    refusal = await stage.session.send(Answer(new_id(), held.call, held.binding, approve=True))
    assert refusal is not None


async def test_unattended_what_a_person_must_allow_is_denied_and_the_turn_says_so() -> None:
    teller = Note([], effects=(Publishes("hub:me/model", public=False),))
    stage = await set_stage(calls(call("note")), says("I could not"), tools=(teller,), mode=ModeSet("auto", "deny"))
    await play(stage)
    assert answers(stage)[0][0] == "denied"
    assert stage.of(TurnEnded)[0].reason == "denied"


async def test_the_floor_is_asked_in_auto_mode_too() -> None:
    stage = await set_stage(calls(call("note")), tools=(Note([], effects=(Destroys("hub:me/model", remote=True),)),))
    assert await play(stage) == Wait("person")
    assert "deletes hub:me/model" in stage.of(ToolHeld)[0].reason


async def test_two_calls_cannot_spend_the_same_last_money() -> None:
    witness: list[str] = []
    tool = spending(witness, 600_000, cost=600_000)
    stage = await set_stage(
        calls(call("spend", '{"text": "1"}'), call("spend", '{"text": "2"}')), says("ok"), tools=(tool,), cap=1_100_000
    )
    await play(stage)
    assert witness == ["1"]
    assert [outcome for outcome, _ in answers(stage)] == ["ok", "denied"]
    assert "budget has" in answers(stage)[1][1]
    assert stage.log.view.purse.spent <= 1_100_000


async def test_spending_asks_in_ask_mode() -> None:
    stage = await set_stage(calls(call("spend")), tools=(spending([], 10),), mode=ModeSet("ask", "hold"))
    assert await play(stage) == Wait("person")
    assert stage.of(ToolHeld)[0].quote == 10


async def test_a_call_whose_arguments_hold_a_credential_is_not_run_and_nothing_keeps_it() -> None:
    witness: list[str] = []
    secret = "hf_abcdefghijklmnopqrst"
    stage = await set_stage(
        calls(call("note", f'{{"text": "{secret}"}}')), says("ok"), tools=(Note(witness),), secrets={"HF_TOKEN": secret}
    )
    await play(stage, f"my token is {secret}")
    assert witness == []
    assert answers(stage)[0][0] == "denied"
    assert secret.encode() not in b"".join(stage.journal.kept)
    assert b"[secret:HF_TOKEN]" in b"".join(stage.journal.kept)


async def test_live_output_is_cleaned_of_secrets() -> None:
    secret = "hf_abcdefghijklmnopqrst"
    seen: list[LiveItem] = []
    stage = await set_stage(calls(call("note", '{"text": "x"}')), says("ok"), tools=(Note([]),), secrets={"T": secret})
    stage.live.read_with(seen.append)
    road = stage.worker.road
    context = road._context("main", call("note"))
    for piece in (secret[:5], secret[5:12], secret[12:] + " end"):
        context.live(piece)
    assert "".join(item.text for item in seen) == "[secret:T] end"


async def test_a_stop_ends_the_running_call_and_the_rest_never_starts() -> None:
    witness: list[str] = []
    tool = Note(witness, pause=asyncio.Event())
    stage = await set_stage(calls(call("note"), call("note")), tools=(tool,))
    await stage.session.send(Say(new_id(), "go"))
    running = asyncio.create_task(stage.session.run())
    while tool.running == 0:
        await asyncio.sleep(0)
    await stage.session.send(Stop(new_id()))
    await asyncio.wait_for(running, 5)
    assert [outcome for outcome, _ in answers(stage)] == ["stopped", "stopped"]
    assert len(stage.of(ToolStarted)) == 1
    assert stage.of(TurnEnded)[0].reason == "interrupted"
    assert witness == []


async def started_stage(tool: Note, replay: str) -> MemoryJournal:
    """A record whose process died between the start of a call and its end."""
    made = call("note", '{"text": "x"}')
    stage = await set_stage(calls(made), tools=(tool,))
    tool.replay = replay  # type: ignore[assignment]
    tool.pause = asyncio.Event()
    await stage.session.send(Say(new_id(), "go"))
    running = asyncio.create_task(stage.session.run())
    while tool.running == 0:
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    assert stage.kinds()[-1] == "tool_started"
    tool.pause, tool.running = None, 0
    return stage.journal


async def test_a_started_call_that_is_found_is_not_run_again() -> None:
    tool = Note([])
    journal = await started_stage(tool, "findable")
    tool.found = Result("it had run", TextDisplay("found"))
    stage = await set_stage(says("ok"), journal=journal, tools=(tool,))
    await stage.session.run()
    assert tool.witness == []
    assert answers(stage) == [("ok", "it had run")]


async def test_a_started_call_that_surely_did_not_happen_runs_once() -> None:
    tool = Note([])
    journal = await started_stage(tool, "findable")
    stage = await set_stage(says("ok"), journal=journal, tools=(tool,))
    await stage.session.run()
    assert tool.witness == ["x"]
    assert len(stage.of(ToolStarted)) == 1


async def test_a_started_call_that_did_not_happen_is_not_run_on_changed_inputs() -> None:
    tool = Note([])
    journal = await started_stage(tool, "findable")
    tool.inputs = (("file", "changed"),)
    stage = await set_stage(says("ok"), journal=journal, tools=(tool,))
    await stage.session.run()
    assert tool.witness == []
    assert answers(stage)[0][0] == "lost"


@pytest.mark.parametrize("gone", [False, True])
async def test_a_started_unsafe_call_is_told_and_never_run(gone: bool) -> None:
    tool = Note([])
    journal = await started_stage(tool, "unsafe")
    stage = await set_stage(says("ok"), journal=journal, tools=() if gone else (tool,))
    await stage.session.run()
    assert tool.witness == []
    assert answers(stage)[0][0] == "lost"
    assert "unknown" in answers(stage)[0][1]


async def test_a_started_pure_call_runs_again() -> None:
    tool = Note([])
    journal = await started_stage(tool, "pure")
    stage = await set_stage(says("ok"), journal=journal, tools=(tool,))
    await stage.session.run()
    assert tool.witness == ["x"]


async def test_a_command_that_was_taken_in_already_is_dropped() -> None:
    stage = await set_stage(says("ok"))
    say = Say("same-id", "hello")
    assert await stage.session.send(say) is None
    assert await stage.session.send(say) is None
    assert stage.kinds().count("user_said") == 1


async def test_an_empty_message_and_a_stop_at_rest_are_refused_in_a_sentence() -> None:
    stage = await set_stage()
    assert (await stage.session.send(Say(new_id(), "  "))) is not None
    assert (await stage.session.send(Stop(new_id()))) is not None
    assert "user_said" not in stage.kinds()


@pytest.mark.parametrize("given", [(), (RuleGiven("allow", "publish hub:me/*, private", "flag"),)])
async def test_rules_of_the_record_are_judged_and_a_denial_names_the_one_that_would_allow(given: Any) -> None:
    witness: list[str] = []
    publishes = Note(witness, effects=(Publishes("hub:me/model", public=False),))
    stage = await set_stage(calls(call("note")), says("ok"), tools=(publishes,), mode=ModeSet("auto", "deny"))
    await stage.log.add(RulesSet(given))
    await play(stage)
    [(outcome, text)] = answers(stage)
    assert (outcome, len(witness)) == (("ok", 1) if given else ("denied", 0))
    assert given or "--allow 'publish hub:me/model, private'" in text


async def test_a_call_that_a_rule_denies_is_told_by_the_rule() -> None:
    stage = await set_stage(calls(call("note")), says("ok"), tools=(Note([]),))
    await stage.log.add(RulesSet((RuleGiven("deny", "write notes", "user"),)))
    await play(stage)
    assert answers(stage) == [
        (
            "denied",
            "Denied: the rule `deny write notes` (the user's settings) forbids it. "
            "Find another way, or ask the user to change that rule.",
        )
    ]


async def test_a_permission_for_one_call_allows_one_names_itself_and_asks_again() -> None:
    witness: list[str] = []
    publishes = Note(witness, effects=(Publishes("hub:me/model", public=False),))
    outcomes = (calls(call("note"), call("note")), says("ok"))
    stage = await set_stage(*outcomes, tools=(publishes,), mode=ModeSet("auto", "deny"))
    await stage.log.add(Granted("g", (RuleGiven("allow", "publish hub:me/*, private, once", "flag"),), 1))
    await play(stage)
    (first, told), (second, why) = answers(stage)
    assert (first, second, len(witness)) == ("ok", "denied", 1)
    assert told.endswith(
        "\n[Allowed beforehand by `publish hub:me/*, private, once` (a flag): 1 of 1 used; it is used up (1 of 1).]"
    )
    assert "`publish hub:me/*, private, once` would allow it, but it is used up (1 of 1)" in why
    started = [entry.event for entry in entries(stage) if isinstance(entry.event, ToolStarted)]
    assert [event.grants for event in started] == [("g",)]


async def test_what_a_person_approves_uses_no_permission() -> None:
    publishes = Note([], effects=(Publishes("hub:me/model", public=True),))
    stage = await set_stage(calls(call("note")), says("ok"), tools=(publishes,))
    await stage.log.add(Granted("g", (RuleGiven("allow", "publish *, once", "flag"),), 1))
    await play(stage)
    [(key, held)] = [(key, each.held) for key, each in stage.log.view.lane("main").calls.items()]
    assert held is not None
    await stage.session.send(Answer(new_id(), key, held.binding, approve=True))
    await play(stage)
    assert stage.log.view.grants["g"].used == 0


async def test_two_lanes_never_use_the_same_last_permission() -> None:
    publishes = Note([], effects=(Publishes("hub:me/model", public=False),))
    stage = await set_stage(tools=(publishes,))
    await stage.log.add(Granted("g", (RuleGiven("allow", "publish *, once", "flag"),), 1))
    started = ToolStarted("c", "b", publishes.effects, "findable", grants=("g",))
    assert reserve(stage.log.view, "main", started, 0) is started
    stage.model.outcomes = [calls(call("note")), says("ok")]
    await play(stage)
    refused = reserve(stage.log.view, "main", started, 0)
    assert isinstance(refused, Refusal)
    assert "another call was first" in refused.what
