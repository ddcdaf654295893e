import pytest

from ml_intern.record.clearing import CompactAsked
from ml_intern.record.commands import Compact, Rename, Undo
from ml_intern.record.display import PlanItem, TextDisplay
from ml_intern.record.events import (
    Compacted,
    Entry,
    ModelAsked,
    ModelReplied,
    Renamed,
    StopAsked,
    ToolFinished,
    TurnEnded,
    Undone,
    UserSaid,
)
from ml_intern.record.facts import FileChange, PlanSet
from ml_intern.record.log import Refusal
from ml_intern.record.messages import Call, Reply, Text
from ml_intern.record.next import Rest, next_step
from ml_intern.record.view import MAIN, View, fold
from ml_intern.session.inbox import DUPLICATE, take_in


def after(*events, view=None):
    view = view or View()
    for event in events:
        view = fold(view, Entry(view.seq + 1, 1000 * view.seq, MAIN, event))
    return view


def turn(word, *facts, cost=7):
    asked = ModelAsked(word, "main", "m", 10, 100, 100, "head")
    call = (Call(f"k-{word}", "w", "tool", "{}"),) if facts else ()
    done = [ToolFinished(f"k-{word}", "ok", "did", TextDisplay("t"), facts)] if facts else []
    replied = ModelReplied(word, Reply((Text(f"reply {word}"), *call)), None, cost, "stop")
    return [UserSaid(f"c-{word}", f"say {word}"), asked, replied, *done, TurnEnded("done")]


def texts(view):
    return [line.message.text for line in view.lane(MAIN).transcript.lines]


def undo(view, turns=1, key="u"):
    event = take_in(view, Undo(key, turns))
    assert isinstance(event, Undone), event
    return after(event, view=view)


def test_an_undo_hides_the_last_turn_and_a_second_one_the_turn_before():
    view = undo(after(*turn("one"), *turn("two"), *turn("three")))
    assert texts(view) == ["say one", "reply one", "say two", "reply two"]
    view = undo(view, key="v")
    assert texts(view) == ["say one", "reply one"]
    view = undo(after(*turn("four"), view=view), 2, "w")
    assert texts(view) == []
    assert next_step(view, MAIN, 0) == Rest()


def test_money_answers_and_files_are_never_undone():
    plan = PlanSet((PlanItem("1", "look", "pending"),))
    view = after(*turn("one"), *turn("two", plan, FileChange("/w/a.py", None, "sha")))
    undone = undo(view)
    assert (undone.plan.items, view.plan.items) == ((), plan.items)
    assert undone.purse == view.purse
    assert undone.files == view.files
    assert undone.commands >= view.commands


def test_an_undo_beyond_a_compaction_brings_back_what_it_replaced():
    view = after(*turn("one"), *turn("two"))
    upto = view.lane(MAIN).transcript.lines[-1].seq
    view = after(UserSaid("c", "say three"), Compacted(upto, "so far"), *turn("x")[1:], view=view)
    assert texts(view) == ["so far", "say three", "reply x"]
    assert texts(undo(view)) == ["say one", "reply one", "say two", "reply two"]
    later = after(*turn("four"), view=view)
    assert texts(undo(later)) == ["so far", "say three", "reply x"]
    assert texts(undo(undo(later), 2, "v")) == ["say one", "reply one"]


def test_a_message_that_waited_is_a_turn_of_its_own_to_undo():
    view = after(*turn("one")[:-1], UserSaid("later", "and then", when="after"), TurnEnded("done"), *turn("two")[1:])
    assert texts(view) == ["say one", "reply one", "and then", "reply two"]
    assert texts(undo(view)) == ["say one", "reply one"]
    assert texts(undo(view, 2)) == []


def test_an_undo_beyond_a_compaction_brings_large_answers_back_as_references():
    long = ToolFinished("k", "ok", "line\n" * 5_000, TextDisplay("t"), blob="b10b")
    reply = ModelReplied("a", Reply((Call("k", "w", "tool", "{}"),)), None, 0, "calls")
    view = after(UserSaid("c", "one"), ModelAsked("a", "main", "m", 0, 0, 0, "h"), reply, long, *turn("x")[1:])
    view = after(*turn("two"), view=view)
    view = after(UserSaid("d", "three"), Compacted(view.seq - 1, "so far"), *turn("y")[1:], view=view)
    brought = undo(view).lane(MAIN).transcript
    assert [len(text) < 1_000 for text in (line.message.text for line in brought.lines)] == [True] * len(brought.lines)
    assert any("entry 4 of the record, blob:b10b" in line.message.text for line in brought.lines)


def test_a_compaction_is_asked_for_once_and_only_of_something():
    assert isinstance(take_in(View(), Compact("c")), Refusal)
    view = after(*turn("one"))
    asked = take_in(view, Compact("c"))
    assert asked == CompactAsked("c")
    view = after(asked, view=view)
    assert "c" in view.commands
    assert isinstance(take_in(view, Compact("d")), Refusal)


def test_what_cannot_be_undone_is_refused_with_the_reason():
    for view, turns, words in (
        (View(), 1, "none"),
        (after(*turn("one")), 2, "only 1"),
        (after(*turn("one")), 0, "0 turns"),
        (after(*turn("one"), *turn("two")[:-1]), 1, "A turn is open"),
        (after(UserSaid("c", "go"), StopAsked("s")), 1, "A turn is open"),
    ):
        refusal = take_in(view, Undo("u", turns))
        assert isinstance(refusal, Refusal)
        assert words in refusal.what
        assert refusal.remedy


def test_an_undo_counts_once():
    view = undo(after(*turn("one"), *turn("two")))
    assert take_in(view, Undo("u")) is DUPLICATE


def test_a_title_is_cleaned_and_an_empty_one_refused():
    assert take_in(View(), Rename("r", " My\n run \x1b[1m1\x1b[0m ")) == Renamed("My run 1", "user")
    refusal = take_in(View(), Rename("r", " \n "))
    assert isinstance(refusal, Refusal)


@pytest.mark.parametrize("name", ["", "Digits"])
def test_a_session_is_called_by_its_first_message_until_someone_names_it(name):
    view = after(*turn("one"), *([Renamed(name, "user")] if name else []), *turn("two"))
    assert view.settings.title == (name or "say one")
