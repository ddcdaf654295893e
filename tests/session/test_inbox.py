from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_intern.record.commands import Answer, Command, Permit, Say, Stop
from ml_intern.record.display import TextDisplay
from ml_intern.record.effects import Notifies, Publishes
from ml_intern.record.events import (
    Entry,
    Event,
    Granted,
    ModelAsked,
    ModelReplied,
    RuleGiven,
    StopAsked,
    ToolAnswered,
    ToolHeld,
    ToolStarted,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.log import Refusal
from ml_intern.record.messages import Call, Image, Reply
from ml_intern.record.view import MAIN, View, fold
from ml_intern.session.inbox import DUPLICATE, stop_of, take_in
from tests.record.legal import records

PICTURE = Image("0" * 64, "image/png")
ASKED = ModelAsked("a", "main", "m", 0, 1, 1, "head")


def view_of(*events: Event | tuple[str, Event]) -> View:
    """The view after these; a pair is an event with its lane."""
    view = View()
    for each in events:
        lane, event = each if isinstance(each, tuple) else (MAIN, each)
        view = fold(view, Entry(view.seq + 1, 1_000 + view.seq, lane, event))
    return view


def replied(*keys: str) -> ModelReplied:
    return ModelReplied("a", Reply(tuple(Call(key, f"w-{key}", "tool", "{}") for key in keys)), None, 0, "calls")


def held(key: str, binding: str = "shown") -> ToolHeld:
    return ToolHeld(key, binding, "asks", (Notifies("boss"),), 0, "", TextDisplay("t"))


def open_call(*after: Event) -> View:
    """A turn with the calls `1` and `2` open, and what came then."""
    return view_of(UserSaid("c1", "go"), ASKED, replied("1", "2"), *after)


RUNNING = view_of(UserSaid("c1", "go"))


@pytest.mark.parametrize("view", [View(), RUNNING, open_call(held("1"))])
@pytest.mark.parametrize("when", ["now", "after"])
def test_a_message_becomes_what_the_person_said_word_for_word(view: View, when: Literal["now", "after"]):
    say = Say("c2", " train\n it ", 3, when, (PICTURE,))
    assert take_in(view, say) == UserSaid("c2", " train\n it ", (PICTURE,), when, 3)


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3000"])
def test_an_empty_message_is_refused_unless_it_brings_a_picture(text: str):
    refusal = take_in(View(), Say("c1", text))
    assert refusal == Refusal("The message is empty.", "Say what is to be done.")
    assert take_in(View(), Say("c1", text, images=(PICTURE,))) == UserSaid("c1", text, (PICTURE,))


def test_a_stop_stops_what_runs_and_keeps_its_reason():
    assert take_in(RUNNING, Stop("c2")) == StopAsked("c2", "interrupted")
    assert take_in(RUNNING, Stop("c2", "limit")) == StopAsked("c2", "limit")


@pytest.mark.parametrize("view", [View(), view_of(UserSaid("c1", "go"), TurnEnded("done"))])
def test_a_stop_is_refused_when_nothing_runs(view: View):
    assert take_in(view, Stop("c2")) == Refusal("Nothing runs that could be stopped.")


def test_a_stop_that_was_meant_for_a_turn_that_is_over_does_not_stop_the_next():
    view = view_of(UserSaid("c1", "go"), UserSaid("c2", "then this", when="after"), TurnEnded("done"))
    assert isinstance(stop_of(view, Stop("c3", "limit"), turn=1), Refusal)
    assert stop_of(view, Stop("c3", "limit"), turn=3) == StopAsked("c3", "limit")


def test_a_message_after_a_stop_waits_for_the_end_that_it_brings():
    view = view_of(UserSaid("c1", "go"), StopAsked("c2"))
    assert take_in(view, Say("c3", "another way", 2)) == UserSaid("c3", "another way", (), "after", 2)


@pytest.mark.parametrize("approve", [True, False])
def test_an_answer_to_a_held_call_keeps_who_said_what(approve: bool):
    answer = Answer("c2", "2", "shown", approve, "because", "anna")
    assert take_in(open_call(held("1", "other"), held("2")), answer) == ToolAnswered(
        "c2", "2", approve, "because", "anna"
    )


def test_a_held_call_of_a_sub_agent_is_answered_too():
    view = view_of(UserSaid("c1", "go"), ("sub", UserSaid("c2", "go")), ("sub", replied("9")), ("sub", held("9")))
    assert isinstance(take_in(view, Answer("c3", "9", "shown", approve=True)), ToolAnswered)


@pytest.mark.parametrize(
    "view",
    [
        View(),
        open_call(),
        open_call(held("1"), held("2"), ToolAnswered("c2", "1", approve=True, text="", by="user")),
        open_call(held("1"), held("2"), ToolAnswered("c2", "1", approve=False, text="", by="user")),
        open_call(ToolStarted("1", "shown", (), "unsafe")),
        open_call(held("1"), UserSaid("c2", "no", (), "now", seen=4)),
    ],
)
def test_an_answer_to_a_call_that_does_not_wait_is_refused(view: View):
    refusal = take_in(view, Answer("c9", "1", "shown", approve=True))
    assert refusal == Refusal("No call 1 waits for an answer.", "`ml-intern show` lists what waits.")


@pytest.mark.parametrize("approve", [True, False])
def test_an_answer_to_something_else_than_what_is_held_now_is_refused(approve: bool):
    view = open_call(held("1"), ToolAnswered("c2", "1", approve=True, text="", by="user"), held("1", "changed"))
    refusal = take_in(view, Answer("c3", "1", "shown", approve))
    assert refusal == Refusal("What this call would do has changed since it was shown.", "Look at it again.")
    assert isinstance(take_in(view, Answer("c3", "1", "changed", approve)), ToolAnswered)


@pytest.mark.parametrize("again", [Say("c1", "other"), Say("c1", ""), Stop("c1"), Answer("c1", "1", "shown", True)])
def test_an_id_that_is_in_the_record_is_dropped_whatever_it_says_now(again: Command):
    assert take_in(open_call(held("1")), again) is DUPLICATE


def test_the_id_of_a_refused_command_is_free():
    assert isinstance(take_in(View(), Stop("c1")), Refusal)
    assert isinstance(take_in(RUNNING, Stop("c2")), StopAsked)


def commands(view: View) -> st.SearchStrategy[Command]:
    """Commands that fit `view`, and some that do not."""
    calls = {key: each for lane in view.lanes.values() for key, each in lane.calls.items()}
    bindings = {each.held.binding for each in calls.values() if each.held is not None}
    ids = st.sampled_from([*sorted(view.commands), "new"])
    return st.one_of(
        st.builds(
            Say, ids, st.sampled_from(["", " ", "go"]), st.integers(0, view.seq), st.sampled_from(["now", "after"])
        ),
        st.builds(Stop, ids, st.sampled_from(["interrupted", "limit"])),
        st.builds(
            Answer,
            ids,
            st.sampled_from([*calls, "nobody"]),
            st.sampled_from([*sorted(bindings), "other"]),
            st.booleans(),
            st.text(max_size=3),
        ),
    )


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_taken_in_fits_the_record_and_is_taken_in_once(data: st.DataObject):
    view = view_of(*((each.lane, each.event) for each in data.draw(records())))
    command = data.draw(commands(view))
    taken = take_in(view, command)
    assert (taken is DUPLICATE) is (command.id in view.commands)
    if isinstance(taken, Refusal):
        assert taken is DUPLICATE or taken.what.endswith(".")
        return
    lane = MAIN
    if isinstance(command, Answer):
        lane = next(name for name, each in view.lanes.items() if command.call in each.calls)
    assert take_in(fold(view, Entry(view.seq + 1, 2_000, lane, taken)), command) is DUPLICATE
    if isinstance(command, Answer):
        before = view.lane(lane).calls[command.call]
        assert before.state == "held"
        assert before.held is not None
        assert before.held.binding == command.binding


def test_a_yes_for_more_calls_becomes_a_permission_for_the_very_same_thing():
    found = take_in(open_call(held("1")), Permit("p", "1", "shown", 3))
    assert found == Granted("p", (RuleGiven("allow", "notify boss", "answer"),), 3, command="p")
    always = take_in(open_call(held("1")), Permit("p", "1", "shown"))
    assert isinstance(always, Granted)
    assert always.times is None
    assert isinstance(found, Granted)
    assert take_in(open_call(held("1"), found), Permit("p", "1", "shown", 3)) is DUPLICATE


@pytest.mark.parametrize(
    ("call", "permit", "why"),
    [
        (held("1"), Permit("p", "1", "other", 3), "has changed since it was shown"),
        (held("1"), Permit("p", "9", "shown", 3), "No call 9 waits"),
        (held("1"), Permit("p", "1", "shown", 0), "0 more calls"),
        (
            ToolHeld("1", "shown", "makes it public", (Publishes("hub:a/b", public=True),), 0, "", TextDisplay("t")),
            Permit("p", "1", "shown"),
            "that is asked each time",
        ),
        (
            ToolHeld("1", "shown", "asks", (Notifies("a\nb"),), 0, "", TextDisplay("t")),
            Permit("p", "1", "shown"),
            "No rule can say",
        ),
    ],
)
def test_a_yes_for_more_calls_that_cannot_be_given_is_refused_in_a_sentence(call: ToolHeld, permit: Permit, why: str):
    found = take_in(open_call(call), permit)
    assert isinstance(found, Refusal)
    assert why in found.what
