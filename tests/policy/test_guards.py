from ml_intern.policy.guards import ask_guards
from ml_intern.policy.guards.limits import limits
from ml_intern.policy.guards.malformed import INVALID, malformed
from ml_intern.policy.guards.verdicts import EndTurn, Nudge
from ml_intern.record.display import TextDisplay
from ml_intern.record.events import (
    Entry,
    Event,
    LaneOpened,
    LimitsSet,
    ModelAsked,
    ModelReplied,
    Nudged,
    ToolFinished,
    UserSaid,
)
from ml_intern.record.log import replay
from ml_intern.record.messages import Call, Reply
from ml_intern.record.view import View


def record(*events: Event, lane: str = "main") -> View:
    return replay(Entry(seq, seq * 1000, lane, event) for seq, event in enumerate(events, 1))


def step(number: int, tool: str = "t", text: str = "fine") -> list[Event]:
    call = Call(f"c{number}", "w", tool, "{}")
    return [
        ModelAsked(f"a{number}", "main", "m", 0, 0, 0, ""),
        ModelReplied(f"a{number}", Reply((call,)), None, 0, "calls"),
        ToolFinished(call.id, "ok", text, TextDisplay("t")),
    ]


def test_steps_within_the_limit_are_let_pass_and_the_next_one_is_not():
    view = record(LimitsSet(2, None), UserSaid("u", "go"), *step(1))
    assert limits(view, "main", 0) is None
    view = record(LimitsSet(2, None), UserSaid("u", "go"), *step(1), *step(2))
    assert isinstance(limits(view, "main", 0), EndTurn)


def test_time_counts_from_the_message_that_opened_the_turn():
    view = record(LimitsSet(None, 10), UserSaid("u", "go"))
    assert limits(view, "main", 2_000 + 9_999) is None
    assert isinstance(limits(view, "main", 2_000 + 10_000), EndTurn)


def test_a_sub_agent_has_its_own_limit():
    view = record(LaneOpened("main", "c", "research", "look", (), 1), UserSaid("u", "go"), *step(1), lane="research-1")
    assert isinstance(limits(view, "research-1", 0), EndTurn)


def test_unreadable_arguments_twice_in_a_row_are_noticed_once():
    bad = f"{INVALID} not JSON"
    one = [UserSaid("u", "go"), *step(1, text=bad)]
    assert malformed(record(*one), "main", 0) is None
    two = [*one, *step(2, text=bad)]
    assert isinstance(malformed(record(*two), "main", 0), Nudge)
    assert malformed(record(*two, Nudged("malformed", "do it otherwise")), "main", 0) is None


def test_two_tools_or_a_good_call_between_are_no_row():
    bad = f"{INVALID} not JSON"
    mixed = record(UserSaid("u", "go"), *step(1, "a", bad), *step(2, "b", bad))
    assert malformed(mixed, "main", 0) is None
    between = record(UserSaid("u", "go"), *step(1, text=bad), *step(2), *step(3, text=bad))
    assert malformed(between, "main", 0) is None


def test_ending_a_turn_goes_before_nudging():
    bad = f"{INVALID} not JSON"
    view = record(LimitsSet(2, None), UserSaid("u", "go"), *step(1, text=bad), *step(2, text=bad))
    noticed = ask_guards(view, "main", 0)
    assert noticed is not None
    assert noticed.guard == "limits"
