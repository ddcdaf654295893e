from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from ml_intern.base.ids import new_id
from ml_intern.model.port import Finished, Request
from ml_intern.record.codec import decode
from ml_intern.record.events import (
    BriefSet,
    LaneClosed,
    LaneOpened,
    LimitsSet,
    ModelAsked,
    ModelReplied,
    ModeSet,
    Nudged,
    RulesSet,
    ToolFinished,
    TurnEnded,
)
from ml_intern.record.facts import Source
from ml_intern.record.log import replay
from ml_intern.record.messages import Asked, Call, Reply, Text, Usage
from ml_intern.record.next import Rest
from ml_intern.record.secrets import Secrets
from ml_intern.record.view import MAIN, View, fold
from ml_intern.store.blobs import Blobs
from tests.agent.lanes import Reader, look, research, scene, task
from tests.agent.stage import MemoryJournal, Note, call, calls, looking, says


async def test_a_sub_agent_works_in_a_lane_and_its_report_is_the_answer(folder: Path) -> None:
    there = await scene(
        folder,
        {
            "go": [calls(research("What is in a?", context="It is small.", files=["a"])), says("It holds b.")],
            "What is in a?": [calls(look("a")), says("a holds b.")],
        },
        Reader([]),
    )
    assert isinstance(await there.play(), Rest)
    [answer] = there.events(ToolFinished, MAIN)
    assert answer.outcome == "ok"
    assert answer.text.startswith(
        "a holds b.\n\n[research-1 in the record of this session; 2 steps, 200+20 tokens, $0.0003"
    )
    assert "It read: a.]" in answer.text
    assert answer.facts == (Source("a", "ab"),)
    assert answer.cost == 0
    assert answer.display.title == "research-1, 2 steps, 200+20 tokens, $0.0003"
    [opened] = there.events(LaneOpened, "research-1")
    assert (opened.parent, opened.agent, opened.task, opened.tools) == (MAIN, "research", "What is in a?", ("look",))
    assert there.events(LaneClosed, "research-1") == [LaneClosed("ok")]
    lane = there.log.view.lane("research-1")
    assert (lane.spent.steps, lane.spent.prompt, lane.spent.output, lane.spent.cost) == (2, 200, 20, 280)
    assert there.log.view.purse.spent == 4 * 140
    assert there.log.view.files.read_as("a", "research-1") == "ab"
    assert there.log.view.files.read_as("a", MAIN) is None


async def test_it_sees_its_message_and_its_own_head_and_nothing_of_its_parent(folder: Path) -> None:
    there = await scene(
        folder,
        {"go": [calls(research("Why?", context="Known.", files=["x.py"])), says("ok")], "Why?": [says("Because.")]},
        looking([]),
    )
    await there.log.add(BriefSet("Answer in French.", ""))
    await there.play()
    own = there.choir.requests[1]
    assert [each.text for each in own.messages] == ["Why?\n\nWhat is known so far:\nKnown.\n\nBegin with:\n- x.py"]
    assert own.system.startswith("You are a research agent of ml-intern")
    assert "/work" in own.system
    assert own.system.endswith("Answer in French.\n")
    assert [tool.name for tool in own.tools] == ["look"]
    assert there.events(ModelAsked, "research-1")[0].role == "research"


async def test_parallel_calls_run_side_by_side_up_to_eight(folder: Path) -> None:
    many = [research(f"Question {number}?") for number in range(20)]
    voices: dict[str, list[Any]] = {"go": [calls(*many), says("ok")]}
    voices |= {f"Question {number}?": [calls(look("a")), says(f"Answer {number}.")] for number in range(20)}
    there = await scene(folder, voices, looking([]))
    await there.play()
    answers = {event.call: event.text for event in there.events(ToolFinished, MAIN)}
    assert [answers[each.id].split(".")[0] for each in many] == [f"Answer {number}" for number in range(20)]
    assert there.choir.most == 8
    assert sorted(name for name in there.log.view.lanes) == sorted(
        [MAIN, *(f"research-{number}" for number in range(1, 21))]
    )
    assert there.log.view.purse.spent == sum(event.cost for event in there.events(ModelReplied))


@pytest.mark.parametrize("mode", ["auto", "yolo"])
async def test_research_only_looks_whatever_the_mode_allows(folder: Path, mode: Any) -> None:
    witness: list[str] = []
    there = await scene(
        folder,
        {
            "go": [calls(research("Write it?")), says("ok")],
            "Write it?": [calls(call("note", '{"text": "x"}')), says("I could not.")],
        },
        Note(witness),
        mode=ModeSet(mode, "deny"),
    )
    await there.play()
    assert witness == []
    [denied] = there.events(ToolFinished, "research-1")
    assert denied.outcome == "denied"


async def test_a_task_may_do_what_its_parent_may_and_gets_only_the_tools_it_was_given(folder: Path) -> None:
    witness: list[str] = []
    given = task("Write it.", tools=["note"], instructions="Be brief.")
    there = await scene(
        folder,
        {
            "go": [calls(given), says("ok")],
            "Write it.": [calls(call("note", '{"text": "x"}'), call("look")), says("Done.")],
        },
        Note(witness),
        looking([]),
    )
    await there.play()
    assert witness == ["x"]
    outcomes = [event.outcome for event in there.events(ToolFinished, "task-1")]
    assert sorted(outcomes) == ["invalid", "ok"]
    assert there.choir.requests[1].system.endswith("Be brief.\n")
    assert there.events(ModelAsked, "task-1")[0].role == "main"


async def test_a_task_in_mode_plan_only_looks(folder: Path) -> None:
    witness: list[str] = []
    voices: dict[str, list[Any]] = {
        "go": [calls(task("Write it.")), says("ok")],
        "Write it.": [calls(call("note", '{"text": "x"}')), says("No.")],
    }
    there = await scene(folder, voices, Note(witness), mode=ModeSet("plan", "deny"))
    await there.play()
    assert witness == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tools": ["bash"]}, "A sub-agent cannot be given 'bash'. Name some of these: note."),
        ({"tools": ["task"]}, "A sub-agent cannot be given 'task'"),
    ],
)
async def test_a_tool_that_the_parent_lacks_cannot_be_given(folder: Path, arguments: Any, words: str) -> None:
    there = await scene(folder, {"go": [calls(task("Do.", **arguments)), says("ok")]}, Note([]))
    await there.play()
    [answer] = there.events(ToolFinished)
    assert answer.outcome == "failed"
    assert words in answer.text
    assert there.events(LaneOpened) == []


async def test_tools_that_the_session_is_denied_a_sub_agent_lacks_as_well(folder: Path) -> None:
    voices: dict[str, list[Any]] = {"go": [calls(research("Why?")), says("ok")], "Why?": [says("So.")]}
    there = await scene(folder, voices, looking([]), Note([]))
    await there.log.add(RulesSet((), ("look", "research")))
    await there.play()
    assert there.events(LaneOpened)[0].tools == ("look",)
    none = await scene(folder, voices, looking([]))
    await none.log.add(RulesSet((), ("research",)))
    await none.play()
    assert none.events(LaneOpened) == []
    assert "no tool to work with" in none.events(ToolFinished)[0].text


async def test_where_the_budget_is_thin_lanes_wait_for_what_others_hold_and_none_ends_for_it(folder: Path) -> None:
    many = [research(f"Question {number}?") for number in range(10)]
    voices: dict[str, list[Any]] = {"go": [calls(*many), says("ok")]}
    voices |= {f"Question {number}?": [calls(look("a")), says(f"Answer {number}.")] for number in range(10)}
    there = await scene(folder, voices, looking([]), cap=40_000)
    await there.play()
    assert [event.outcome for event in there.events(ToolFinished, MAIN)] == ["ok"] * 10
    assert there.choir.most < 8
    assert there.log.view.lane(MAIN).turn.ended == TurnEnded("done")


async def test_a_sub_agent_has_no_sub_agents(folder: Path) -> None:
    voices: dict[str, list[Any]] = {
        "go": [calls(task("Do.")), says("ok")],
        "Do.": [calls(task("Do it for me.")), says("Myself then.")],
    }
    there = await scene(folder, voices, Note([]))
    await there.play()
    assert [event.outcome for event in there.events(ToolFinished, "task-1")] == ["invalid"]
    assert set(there.log.view.lanes) == {MAIN, "task-1"}


async def test_one_that_uses_up_its_steps_is_warned_and_what_it_had_is_the_answer(folder: Path) -> None:
    def on_the_way(text: str) -> Finished:
        made = Call(new_id(), f"w-{new_id()}", "look", f'{{"text": "{text}"}}')
        return Finished(Reply((Text(f"Found {text}."), made)), says("").usage, "calls")

    voices: dict[str, list[Any]] = {
        "go": [calls(research("Endless?", max_steps=3)), says("ok")],
        "Endless?": [on_the_way("a"), on_the_way("b"), on_the_way("c"), on_the_way("d")],
    }
    there = await scene(folder, voices, looking([]))
    await there.play()
    [answer] = there.events(ToolFinished, MAIN)
    assert answer.outcome == "failed"
    assert answer.text.startswith("The sub-agent ended without a report. The turn has used its 3 steps.")
    assert "Found a.\n\nFound b.\n\nFound c." in answer.text
    assert there.events(LaneClosed) == [LaneClosed("failed")]
    nudged = there.events(Nudged, "research-1")
    assert [each.guard for each in nudged] == ["steps"]
    assert there.events(TurnEnded, MAIN)[0].reason == "done"


async def test_no_lane_takes_more_steps_than_a_turn_may(folder: Path) -> None:
    voices: dict[str, list[Any]] = {"go": [calls(research("Why?", max_steps=60)), says("ok")], "Why?": [says("So.")]}
    there = await scene(folder, voices, looking([]), limits=LimitsSet(7, None))
    await there.play()
    assert there.events(LaneOpened)[0].max_steps == 7


def endless(number: int = 0) -> list[Any]:
    """A voice that looks and looks, and says what it found; a reply costs 140 micro-dollars."""

    def on_the_way(request: Request) -> Finished:
        step = sum(isinstance(each, Reply) for each in request.messages)
        if (last := request.messages[-1]) and isinstance(last, Asked) and last.text.startswith("This is your last"):
            return says(f"Reported after {step}.")
        made = Call(new_id(), f"w-{new_id()}", "look", f'{{"text": "{number}-{step}"}}')
        return Finished(Reply((Text(f"Found {step}."), made)), Usage(100, 10), "calls")

    async def speak(request: Request) -> AsyncGenerator[Any]:
        yield on_the_way(request)

    return [speak] * 400


async def test_a_share_of_the_budget_bounds_what_a_lane_reserves_and_it_reports_before_it_is_gone(folder: Path) -> None:
    voices = {"go": [calls(research("Endless?", budget=0.0141, max_steps=60)), says("ok")], "Endless?": endless()}
    there = await scene(folder, voices, looking([]))
    await there.play()
    assert there.events(LaneOpened)[0].budget == 14_100
    [answer] = there.events(ToolFinished, MAIN)
    assert (answer.outcome, answer.text.startswith("Reported after ")) == ("ok", True)
    assert [each.guard for each in there.events(Nudged, "research-1")] == ["budget"]
    lane = there.log.view.lane("research-1")
    # Not at once, and not only when nothing is left.
    assert 10 < lane.spent.steps < 60
    check_shares(there.journal)
    assert there.log.view.lane(MAIN).turn.ended == TurnEnded("done")


def check_shares(journal: MemoryJournal) -> None:
    """At no entry a lane has spent and reserved more than its share."""
    view = View()
    for line in journal.kept:
        view = fold(view, decode(line))
        for lane in view.lanes.values():
            held = lane.turn.attempt.reserved if lane.turn.attempt is not None else 0
            if lane.opened is not None and lane.opened.budget is not None:
                assert lane.spent.cost + held <= lane.opened.budget
    assert view.purse.reserved == {}


async def test_a_lane_that_goes_on_beyond_its_share_ends_with_budget_and_what_it_had(folder: Path) -> None:
    def deaf(text: str) -> Finished:
        made = Call(new_id(), f"w-{new_id()}", "look", f'{{"text": "{text}"}}')
        return Finished(Reply((Text(f"Found {text}."), made)), Usage(100, 2_000), "calls")

    voices: dict[str, list[Any]] = {
        "go": [calls(task("Endless.", budget=0.02)), says("ok")],
        "Endless.": [deaf("a"), deaf("b"), deaf("c"), deaf("d")],
    }
    there = await scene(folder, voices, looking([]))
    await there.play()
    [ended] = there.events(TurnEnded, "task-1")
    assert ended.reason == "budget"
    assert ended.what == "Its share of the budget cannot pay for another reply: $0.0038 of $0.0200 is left."
    [answer] = there.events(ToolFinished, MAIN)
    assert answer.outcome == "failed"
    assert answer.text.startswith(f"The sub-agent ended without a report. {ended.what}")
    assert "Found a." in answer.text
    assert there.events(LaneClosed) == [LaneClosed("failed")]
    assert there.log.view.lane(MAIN).turn.ended == TurnEnded("done")
    check_shares(there.journal)


async def test_shares_hold_for_lanes_side_by_side_and_one_without_is_not_bound(folder: Path) -> None:
    many = [research(f"Endless {number}?", budget=0.0135 + number / 5_000, max_steps=60) for number in range(6)]
    voices: dict[str, list[Any]] = {"go": [calls(*many, research("Short?")), says("ok")]}
    voices |= {"Short?": [calls(look("a")), says("Short.")]}
    voices |= {f"Endless {number}?": endless(number) for number in range(6)}
    there = await scene(folder, voices, looking([]), cap=200_000)
    await there.play()
    assert [event.outcome for event in there.events(ToolFinished, MAIN)] == ["ok"] * 7
    check_shares(there.journal)
    assert there.choir.most > 1


async def test_a_share_larger_than_what_the_session_has_left_adds_nothing(folder: Path) -> None:
    voices = {"go": [calls(research("Endless?", budget=100, max_steps=60)), says("ok")], "Endless?": endless()}
    there = await scene(folder, voices, looking([]), cap=15_000)
    await there.play()
    assert [each.guard for each in there.events(Nudged, "research-1")] == ["budget"]
    assert there.events(ToolFinished, MAIN)[0].outcome == "ok"
    for number in range(1, len(there.journal.kept) + 1):
        assert replay([decode(line) for line in there.journal.kept[:number]]).purse.committed <= 15_000


@pytest.mark.parametrize("budget", [0, -1, 1e12, "much"])
async def test_a_share_that_is_none_is_refused(folder: Path, budget: Any) -> None:
    voices: dict[str, list[Any]] = {"go": [calls(research("Why?", budget=budget)), says("ok")]}
    there = await scene(folder, voices, looking([]))
    await there.play()
    assert there.events(ToolFinished, MAIN)[0].outcome == "invalid"
    assert "`budget`" in there.events(ToolFinished, MAIN)[0].text
    assert there.events(LaneOpened) == []


async def test_killed_after_any_entry_a_lane_keeps_its_share(folder: Path) -> None:
    voices = {"go": [calls(research("Endless?", budget=0.0129, max_steps=60)), says("ok")], "Endless?": endless()}
    whole = await scene(folder, voices, looking([]))
    await whole.play()
    for kept in range(12, len(whole.journal.kept), 3):
        journal = MemoryJournal()
        journal.kept = whole.journal.kept[:kept]
        again = await scene(folder, voices, looking([]), journal=journal)
        await again.session.run()
        assert [each.budget for each in again.events(LaneOpened)] == [12_900], kept
        check_shares(journal)
        assert again.log.view.lane(MAIN).turn.ended == TurnEnded("done")


async def test_a_long_report_is_clipped_and_the_whole_is_kept(folder: Path) -> None:
    voices: dict[str, list[Any]] = {"go": [calls(research("All?")), says("ok")], "All?": [says("word " * 8_000)]}
    there = await scene(folder, voices, looking([]))
    await there.play()
    [answer] = there.events(ToolFinished, MAIN)
    assert len(answer.text) < 17_000
    assert f"the whole report: blob:{answer.blob}" in answer.text
    assert answer.text.endswith("It read no file and no page.]")
    whole = await Blobs(folder, Secrets({})).get(answer.blob)
    assert whole.decode().strip() == ("word " * 8_000).strip()


async def test_a_secret_in_a_lane_is_hidden_as_anywhere(folder: Path) -> None:
    voices: dict[str, list[Any]] = {"go": [calls(research("Key?")), says("ok")], "Key?": [says("sk-very-secret-value")]}
    there = await scene(folder, voices, looking([]))
    await there.play()
    assert "[secret:KEY]" in there.events(ToolFinished, MAIN)[0].text
    assert b"sk-very-secret-value" not in b"".join(there.journal.kept)


async def test_a_lane_that_goes_beyond_the_budget_ends_and_so_does_the_turn(folder: Path) -> None:
    voices: dict[str, list[Any]] = {
        "go": [calls(research("Why?", context="x" * 15_000)), says("ok")],
        "Why?": [says("So.")],
    }
    there = await scene(folder, voices, looking([]), cap=20_100)
    await there.play()
    purse = there.log.view.purse
    assert purse.committed <= 20_100
    assert there.events(TurnEnded, "research-1")[0].reason == "budget"
    assert "The sub-agent ended without a report. The budget cannot pay" in there.events(ToolFinished, MAIN)[0].text
