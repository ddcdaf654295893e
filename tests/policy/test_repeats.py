import json
from collections.abc import Iterable
from typing import Any

import pytest

from ml_intern.base.ids import new_id
from ml_intern.policy.guards import ask_guards, outcome
from ml_intern.policy.guards.repeats import repeats
from ml_intern.policy.guards.stall import stall
from ml_intern.policy.guards.verdicts import Nudge, Pause
from ml_intern.record.display import PlanDisplay, PlanItem, TextDisplay
from ml_intern.record.events import (
    Event,
    GuardsSet,
    Lifted,
    ModelAsked,
    ModelReplied,
    ModeSet,
    Nudged,
    Paused,
    ToolFinished,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.facts import FileChange, PlanSet
from ml_intern.record.messages import Call, Reply
from ml_intern.record.next import AskModel, Wait, next_step
from tests.policy.test_guards import record

GO = UserSaid("u", "go")
Made = tuple[str, str]
"""Arguments and the result of a call; its tool is `t`."""


def step(number: int, *made: Made, tool: str = "t", **more: Any) -> list[Event]:
    calls = tuple(Call(f"{number}.{at}", "w", tool, arguments) for at, (arguments, _) in enumerate(made))
    return [
        ModelAsked(f"a{number}", "main", "m", 0, 0, 0, ""),
        ModelReplied(f"a{number}", Reply(calls), None, 0, "calls"),
        *(
            ToolFinished(call.id, more.get("outcome", "ok"), text, TextDisplay("t"), **more.get("finished", {}))
            for call, (_, text) in zip(calls, made, strict=True)
        ),
    ]


def steps(made: Iterable[Made], first: int = 1, **more: Any) -> list[Event]:
    return [event for at, each in enumerate(made, first) for event in step(at, each, **more)]


def one_after_the_other(text: str) -> list[Made]:
    """Each letter is a call with its own arguments, which always has the same result."""
    return [(json.dumps({"x": letter}), f"result {letter}") for letter in text]


def noticed(*events: Event) -> Nudge | Pause | None:
    return repeats(record(*events), "main", 0)


@pytest.mark.parametrize(
    "text", ["aaa", "bcaaa", "ababab", "abcabcabc", "xabcdabcdabcd", "abcdeabcdeabcde", "aabaabaab"]
)
def test_a_call_three_times_and_a_round_of_up_to_five_three_times_are_noticed(text: str):
    assert isinstance(noticed(GO, *steps(one_after_the_other(text))), Nudge)


@pytest.mark.parametrize("text", ["aa", "abab", "aabb", "abcabc", "aaab", "abababc", "abcdefabcdefabcdef", "abcabdabe"])
def test_fewer_rounds_longer_ones_and_a_streak_that_is_over_are_not(text: str):
    assert noticed(GO, *steps(one_after_the_other(text))) is None


def test_the_order_of_the_arguments_makes_no_other_call_and_their_values_do():
    same = [('{"a": 1, "b": 2}', "x"), ('{"b": 2, "a": 1}', "x"), ('{"a":1,"b":2}', "x")]
    assert isinstance(noticed(GO, *steps(same)), Nudge)
    assert noticed(GO, *steps([*same[:2], ('{"a": 1, "b": 3}', "x")])) is None
    unreadable = [('{"a": ', "x")] * 3
    assert isinstance(noticed(GO, *steps(unreadable)), Nudge)


def test_three_equal_calls_in_one_reply_are_a_repeat_and_those_of_other_tools_are_none():
    assert isinstance(noticed(GO, *step(1, *[("{}", "x")] * 3)), Nudge)
    assert noticed(GO, *step(1, ("{}", "x")), *step(2, ("{}", "x"), tool="u"), *step(3, ("{}", "x"))) is None


def test_polling_whose_result_changes_is_no_loop():
    assert noticed(GO, *steps([("{}", f"loss {loss}") for loss in (3, 2, 1, 0)])) is None


def test_a_result_that_differs_in_its_times_alone_is_the_same():
    times = ["at 10:00:01, 0.3 s, 2026-01-01", "at 10:00:02, 12 s, 2026-01-01", "at 23:10:59, 1,200 s, 2026-01-02"]
    assert isinstance(noticed(GO, *steps([("{}", text) for text in times])), Nudge)
    assert noticed(GO, *steps([("{}", f"epoch {number}, 0.3 s") for number in (1, 2, 3)])) is None


def test_waits_of_growing_length_and_calls_that_waited_are_no_loop():
    assert noticed(GO, *steps([(f'{{"wait": {wait}}}', "still running") for wait in (10, 20, 40, 80)])) is None
    long: dict[str, Any] = {"finished": {"total_ms": 600_000}}
    assert noticed(GO, *steps([("{}", "still running")] * 9, **long)) is None


SLOW: dict[str, Any] = {"outcome": "failed", "finished": {"total_ms": 60_050}}
NOT_YET = ('{"command": "sleep 60; grep -q DONE train.log"}', "exit code 1 after 60.1 s")


def test_a_wait_that_says_not_yet_by_its_exit_code_is_told_later_and_never_for_a_person():
    assert noticed(GO, *steps([NOT_YET] * 5, **SLOW)) is None
    told = [GO, *steps([NOT_YET] * 6, **SLOW), Nudged("repeats", "look")]
    assert noticed(*told, *steps([NOT_YET] * 5, 7, **SLOW)) is None
    again = noticed(*told, *steps([NOT_YET] * 6, 7, **SLOW))
    assert isinstance(again, Nudge)
    assert "the same call (t) 6 times" in again.text


def test_work_that_fails_the_same_way_all_the_time_is_noticed_again_and_again():
    failed = step(1, ("{}", "no memory"), outcome="failed", finished={"total_ms": 600_000})
    events, nudges = [GO], 0
    for _ in range(20):
        events += failed
        if isinstance(noticed(*events), Nudge):
            nudges, events = nudges + 1, [*events, Nudged("repeats", "look")]
    assert nudges == 3


def test_a_wait_that_fails_beside_a_quick_look_is_no_quick_circle():
    one = [*step(1, NOT_YET, **SLOW), *step(2, ('{"command": "tail -1 log"}', "nothing yet"))]
    assert noticed(GO, *one * 5) is None
    assert isinstance(noticed(GO, *one * 6), Nudge)
    assert still(GO, *one * 20) is None


def test_a_call_that_changes_a_file_each_time_is_no_repeat():
    def saved(at: int, after: str) -> list[Event]:
        facts = (FileChange("/w/a", str(at), after, authored=False),)
        return step(at, ('{"command": "./next.sh"}', "saved"), finished={"facts": facts})

    assert noticed(GO, *(event for at in range(5) for event in saved(at, str(at + 1)))) is None
    assert isinstance(noticed(GO, *(event for at in range(5) for event in saved(at, str(at)))), Nudge)


STEADY = {
    "statistics": ([f"loss mean {mean} min 0.10 max 0.93" for mean in ("0.41", "0.40", "0.39")], False),
    "whole ones": ([f"sizes mean {mean} min=10" for mean in (41, 40, 39)], False),
    "minutes": ([f"took {took} min" for took in (3, 4, 5)], True),
    "minutes and seconds": ([f"{took} min {took} s" for took in (3, 4, 5)], True),
    "a new id each time": ([f"Started as {new_id()}." for _ in range(3)], True),
}


@pytest.mark.parametrize("name", STEADY)
def test_times_and_ids_are_left_out_and_statistics_are_not(name: str):
    texts, circle = STEADY[name]
    assert (noticed(GO, *steps([("{}", text) for text in texts])) is not None) == circle


def test_after_a_nudge_only_what_comes_then_counts_and_the_next_circle_is_for_a_person():
    circle = [GO, *steps(one_after_the_other("aaa"))]
    told = [*circle, Nudged("repeats", "look")]
    assert noticed(*told) is None
    assert noticed(*told, *steps(one_after_the_other("aa"), 4)) is None
    again = noticed(*told, *steps(one_after_the_other("aaa"), 4))
    assert isinstance(again, Pause)
    assert (
        again.what == "The model made the same call (t) 3 times with the same result, and again after it was told so."
    )
    assert "--guard-repeats" in again.remedy


def test_who_goes_in_circles_much_later_is_told_anew():
    circle = [GO, *steps(one_after_the_other("aaa")), Nudged("repeats", "look")]
    work = steps([("{}", f"line {number}") for number in range(20)], 4)
    assert isinstance(noticed(*circle, *work, *steps(one_after_the_other("bbb"), 30)), Nudge)


def test_a_person_who_speaks_and_a_new_turn_begin_the_count_anew():
    for event in (UserSaid("v", "go on"), Lifted("l")):
        assert noticed(GO, *steps(one_after_the_other("aa")), event, *steps(one_after_the_other("a"), 3)) is None
    over = [GO, *steps(one_after_the_other("aa")), TurnEnded("limit"), UserSaid("v", "more")]
    assert noticed(*over, *steps(one_after_the_other("a"), 3)) is None
    after = [GO, *steps(one_after_the_other("aa")), UserSaid("v", "then that", when="after")]
    assert isinstance(noticed(*after, *steps(one_after_the_other("a"), 3)), Nudge)


def test_how_many_equal_calls_are_too_many_can_be_set_and_switched_off():
    many = steps(one_after_the_other("aaaaa"))
    assert noticed(GuardsSet(repeats=6), GO, *many) is None
    assert isinstance(noticed(GuardsSet(repeats=5), GO, *many), Nudge)
    assert noticed(GuardsSet(repeats=None), GO, *many) is None


def still(*events: Event) -> Nudge | Pause | None:
    return stall(record(GuardsSet(stall=5), *events), "main", 0)


def test_steps_that_show_nothing_new_are_noticed_and_after_as_many_more_it_is_for_a_person():
    seen = [GO, *steps(one_after_the_other("abcdef"))]
    assert still(*seen, *steps(one_after_the_other("fbdca"[:4]), 10)) is None
    nothing_new = [*seen, *steps(one_after_the_other("fbdca"), 10)]
    assert isinstance(still(*nothing_new), Nudge)
    told = [*nothing_new, Nudged("stall", "think")]
    assert still(*told, *steps(one_after_the_other("fbdc"), 20)) is None
    again = still(*told, *steps(one_after_the_other("fbdca"), 20))
    assert isinstance(again, Pause)
    assert again.what == "For 10 steps no file and no plan changed and no call showed anything new."


ITEMS = (PlanItem("1", "look", "completed"),)
MOVES = {
    "a new result": step(50, ("{}", "never seen")),
    "a changed file": step(50, ("{}", "result a"), finished={"facts": (FileChange("/w/a", "1", "2"),)}),
    "a changed plan": step(50, ("{}", "result a"), finished={"facts": (PlanSet(ITEMS),)}),
    "a long wait": step(50, ("{}", "result a"), finished={"total_ms": 60_000}),
}


@pytest.mark.parametrize("name", MOVES)
def test_what_changes_something_or_waits_is_no_stall(name: str):
    before = [GO, *steps(one_after_the_other("abcdef")), *steps(one_after_the_other("fbdc"), 10)]
    assert still(*before, *MOVES[name], *steps(one_after_the_other("fbdc"), 60)) is None
    assert isinstance(still(*before, *steps(one_after_the_other("f"), 50)), Nudge)


def test_a_stall_after_a_step_forward_is_told_anew():
    before = [GO, *steps(one_after_the_other("abcdef")), *steps(one_after_the_other("fbdca"), 10), Nudged("stall", "x")]
    moved = [*before, *MOVES["a new result"], *steps(one_after_the_other("fbdca"), 60)]
    assert isinstance(still(*moved), Nudge)


def test_a_file_written_as_it_was_and_the_same_plan_again_change_nothing():
    plan: dict[str, Any] = {"finished": {"facts": (PlanSet(ITEMS),)}}
    before = [GO, *steps(one_after_the_other("abcdef")), *step(8, ("{}", "result a"), **plan)]
    same: dict[str, Any] = {"finished": {"facts": (FileChange("/w/a", "1", "1"), PlanSet(ITEMS))}}
    assert isinstance(still(*before, *steps([("{}", "result a")] * 5, 20, **same)), Nudge)


def test_a_stall_is_not_looked_for_where_that_is_switched_off():
    events = [GO, *steps(one_after_the_other("a")), *steps(one_after_the_other("a") * 80, 2)]
    assert stall(record(GuardsSet(stall=None), *events), "main", 0) is None
    assert isinstance(stall(record(*events), "main", 0), Nudge)


def circles(mode: ModeSet, lane: str = "main") -> Any:
    view = record(
        mode,
        GO,
        *steps(one_after_the_other("aaa")),
        Nudged("repeats", "look"),
        *steps(one_after_the_other("aaa"), 4),
        lane=lane,
    )
    found = ask_guards(view, lane, 0)
    assert found is not None
    return outcome(found, view, lane)


def test_where_a_person_may_come_the_turn_waits_for_one_and_otherwise_it_ends_with_its_reason():
    paused = circles(ModeSet("auto", "hold"))
    assert isinstance(paused, Paused)
    assert paused.guard == "repeats"
    ended = circles(ModeSet("auto", "deny"))
    assert (ended.reason, ended.what, ended.remedy) == ("limit", paused.what, paused.remedy)
    # A sub-agent reports to the one who called it.
    assert isinstance(circles(ModeSet("auto", "hold"), "research-1"), TurnEnded)


def test_a_paused_turn_waits_until_a_person_lifts_it_or_says_something_and_its_time_stands_still():
    pause = Paused("repeats", "It goes in circles.", "Look.")
    view = record(GO, *step(1, ("{}", "x")), pause)
    assert next_step(view, "main", 0) == Wait("person")
    assert view.lane("main").turn.passed_ms(10**9) == view.lane("main").turn.passed_ms(view.seq * 1000)
    assert next_step(record(GO, *step(1, ("{}", "x")), pause, UserSaid("v", "later", when="after")), "main", 0) == Wait(
        "person"
    )
    for event in (Lifted("l"), UserSaid("v", "do that")):
        lifted = record(GO, *step(1, ("{}", "x")), pause, event)
        assert next_step(lifted, "main", 0) == AskModel()
        assert lifted.lane("main").turn.open


def test_the_plan_of_a_sub_agent_is_drawn_as_any_other():
    # A display has no say in what counts as a change: facts do.
    shown = step(1, ("{}", "x"))[:-1]
    finished = ToolFinished("1.0", "ok", "x", PlanDisplay(ITEMS))
    assert record(GO, *shown, finished).lane("main").conduct.plan == ()
