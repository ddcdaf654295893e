from typing import Literal

import pytest

from ml_intern.policy.closing import closing
from ml_intern.policy.guards import ask_guards
from ml_intern.policy.guards.malformed import INVALID
from ml_intern.policy.guards.verdicts import Nudge
from ml_intern.record.display import PlanDisplay, PlanItem, TextDisplay
from ml_intern.record.events import (
    Event,
    GuardsSet,
    ModelAsked,
    ModelReplied,
    Nudged,
    ToolFinished,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.facts import PlanSet
from ml_intern.record.messages import Call, Reply, Text
from ml_intern.record.next import Rest, next_step
from tests.policy.test_guards import record

GO = UserSaid("u", "go")
Status = Literal["pending", "in_progress", "completed"]


def reply(number: int, text: str = "", finish: Literal["stop", "calls", "length"] = "stop", *made: Call) -> list[Event]:
    parts = (*([Text(text)] if text else []), *made)
    return [
        ModelAsked(f"a{number}", "main", "m", 0, 0, 0, ""),
        ModelReplied(f"a{number}", Reply(parts), None, 0, finish),
    ]


def plan(number: int, *statuses: Status) -> list[Event]:
    items = tuple(PlanItem(str(at), f"item {at}", status) for at, status in enumerate(statuses, 1))
    call = Call(f"p{number}", "w", "plan", "{}")
    finished = ToolFinished(call.id, "ok", f"plan {number}", PlanDisplay(items), (PlanSet(items),))
    return [*reply(number, "", "calls", call), finished]


def end(*events: Event, lane: str = "main") -> Nudged | TurnEnded:
    view = record(*events, lane=lane)
    step = next_step(view, lane, 0)
    assert isinstance(step, Rest)
    assert step.ending is not None
    return closing(view, lane, step.ending)


def reason(found: Nudged | TurnEnded) -> str:
    return found.guard if isinstance(found, Nudged) else found.reason


def test_open_items_of_the_plan_are_named_once_at_the_end_of_a_turn():
    opened = [GO, *plan(1, "completed", "in_progress", "pending"), *reply(2, "That was it.")]
    nudge = end(*opened)
    assert isinstance(nudge, Nudged)
    assert nudge.guard == "unfinished"
    assert "item 2; item 3." in nudge.text
    assert "item 1" not in nudge.text
    assert reason(end(*opened, nudge, *reply(3, "Still open."))) == "done"


def test_many_open_items_are_counted():
    many: list[Status] = ["pending"] * 14
    nudge = end(GO, *plan(1, *many), *reply(2, "Done."))
    assert isinstance(nudge, Nudged)
    assert "item 10; and 4 more." in nudge.text


@pytest.mark.parametrize(
    "text",
    [
        "Which of the two data sets shall I take?",
        "Shall I go on with item 2?\n\n- yes\n- no",
        "Welchen der beiden Datensätze soll ich nehmen?",
        "どちらのデータを使いますか\N{FULLWIDTH QUESTION MARK}",
        "أي مجموعة بيانات أستخدم\N{ARABIC QUESTION MARK}",
    ],
)
def test_a_question_ends_a_turn_with_an_open_plan(text: str):
    assert reason(end(GO, *plan(1, "pending"), *reply(2, text))) == "done"


@pytest.mark.parametrize(
    "text",
    [
        "The training failed: the GPU has too little memory.",
        "Das Training ist gescheitert: Die GPU hat zu wenig Speicher.",
        "L'entraînement n'a pas abouti.",
        "訓練失敗了:記憶體不足。",
        "I fixed the error in the loader.",
    ],
)
def test_what_a_failure_is_called_in_no_language_matters_and_the_second_answer_is_the_last_word(text: str):
    first = [GO, *plan(1, "pending"), *reply(2, text)]
    nudge = end(*first)
    assert isinstance(nudge, Nudged)
    assert nudge.guard == "unfinished"
    assert "give your whole answer again" in nudge.text
    assert reason(end(*first, nudge, *reply(3, text))) == "done"


def test_a_finished_plan_no_plan_and_a_plan_of_an_earlier_turn_are_no_reason_to_go_on():
    assert reason(end(GO, *plan(1, "completed"), *reply(2, "Done."))) == "done"
    assert reason(end(GO, *reply(1, "Done."))) == "done"
    before = [GO, *plan(1, "pending"), *reply(2, "Why?"), TurnEnded("done")]
    assert reason(end(*before, UserSaid("v", "what is 2 + 2?"), *reply(3, "4."))) == "done"


def test_the_plan_is_not_looked_at_where_that_is_switched_off():
    assert reason(end(GuardsSet(plan=False), GO, *plan(1, "pending"), *reply(2, "Done."))) == "done"


def test_a_reply_that_is_cut_is_asked_for_in_smaller_parts_and_the_second_in_a_row_ends_the_turn():
    first = [GO, *reply(1, "half of it", "length")]
    nudge = end(*first)
    assert isinstance(nudge, Nudged)
    assert nudge.guard == "truncated"
    assert "smaller parts" in nudge.text
    assert "Do not repeat" in nudge.text
    ended = end(*first, nudge, *reply(2, "half again", "length"))
    assert isinstance(ended, TurnEnded)
    assert (ended.reason, ended.what) == ("failed", "The reply was cut at the output limit.")
    assert ended.remedy == "Ask for the rest, or for a shorter answer."
    assert reason(end(*first, nudge, *reply(2, "the rest"))) == "done"


def test_a_whole_reply_between_two_cut_ones_is_no_row():
    call = Call("c", "w", "t", "{}")
    whole = [*reply(2, "", "calls", call), ToolFinished("c", "ok", "fine", TextDisplay("t"))]
    first = [GO, *reply(1, "half", "length"), Nudged("truncated", "smaller"), *whole]
    assert reason(end(*first, *reply(3, "half", "length"))) == "truncated"


def test_a_cut_that_lost_nothing_does_not_count_against_the_next():
    call = Call("c", "w", "t", "{}")
    whole = [*reply(1, "", "length", call), ToolFinished("c", "ok", "fine", TextDisplay("t"))]
    assert reason(end(GO, *whole, *reply(2, "half a sen", "length"))) == "truncated"


def test_a_reply_cut_before_it_said_anything_is_told_to_think_less():
    nudge = end(GO, *reply(1, "", "length"))
    assert isinstance(nudge, Nudged)
    assert "before it said or called anything" in nudge.text


def test_a_call_that_was_cut_is_told_so_before_the_next_request_and_a_whole_one_is_not():
    call = Call("c", "w", "write", '{"path": "a')
    said = [GO, *reply(1, "", "length", call)]
    cut = record(*said, ToolFinished("c", "invalid", f"{INVALID} no JSON", TextDisplay("t")))
    noticed = ask_guards(cut, "main", 0)
    assert noticed is not None
    assert noticed.guard == "truncated"
    assert isinstance(noticed.verdict, Nudge)
    assert "within the call of `write`, so it was not run" in noticed.verdict.text
    whole = record(*said, ToolFinished("c", "ok", "written", TextDisplay("t")))
    assert ask_guards(whole, "main", 0) is None


def test_calls_that_are_cut_twice_in_a_row_end_the_turn():
    events: list[Event] = [GO]
    for number in (1, 2):
        call = Call(f"c{number}", "w", "write", '{"path": "a')
        events += reply(number, "", "length", call)
        events.append(ToolFinished(call.id, "invalid", f"{INVALID} no JSON", TextDisplay("t")))
        noticed = ask_guards(record(*events), "main", 0)
        assert noticed is not None
        events.append(Nudged(noticed.guard, "smaller"))
        assert type(noticed.verdict).__name__ == ("Nudge" if number == 1 else "EndTurn")


@pytest.mark.parametrize("lane", ["main", "research-1"])
def test_a_reply_without_a_word_is_no_end_in_any_lane(lane: str):
    assert reason(end(GO, *reply(1), lane=lane)) == "silence"
