"""Compactions, undos and changed windows in turn, and what of them stays in memory."""

import gc
import json
import tracemalloc

from ml_intern.agent.compact import compacted
from ml_intern.record.clearing import Cleared, CompactAsked, Compacted, Told, Undone
from ml_intern.record.display import TextDisplay
from ml_intern.record.events import (
    Entry,
    LimitsSet,
    ModelAsked,
    ModelChosen,
    ModelFailed,
    ModelReplied,
    ToolFinished,
    TurnEnded,
)
from ml_intern.record.events import UserSaid as Said
from ml_intern.record.messages import Answered, Asked, Call, Opaque, Prices, Reply, Text, Thinking
from ml_intern.record.next import Compact, next_step
from ml_intern.record.room import is_full, room_of
from ml_intern.record.view import MAIN, View, fold

GO = Said("u", "go")
HI = (ModelAsked("b", "main", "m", 0, 1, 1, ""), ModelReplied("b", Reply((Text("hi"),)), None, 0, "stop"))
DONE = TurnEnded("done")


def chosen(name, window):
    return ModelChosen("main", name, window, 2_048, Prices(0, 0), "me")


def view_of(*events):
    return after(View(), *events)


def after(view, *events):
    for event in events:
        view = fold(view, Entry(view.seq + 1, 1_000 * view.seq, MAIN, event))
    return view


def step(number, text="fine", *parts, arguments=""):
    call = Call(f"c{number}", "w", "t", arguments or f'{{"n": {number}}}')
    reply = ModelReplied(f"a{number}", Reply((*parts, call)), None, 0, "calls")
    return [ModelAsked(f"a{number}", "main", "m", 0, 100, 100, ""), reply,
            ToolFinished(call.id, "ok", text, TextDisplay("t"), total_ms=5)]  # fmt: skip


def messages(view):
    return [line.message for line in view.lane(MAIN).transcript.lines]


def room(view):
    found = room_of(view, MAIN, 0)
    assert found is not None
    return found


def asked(view):
    return [message.text for message in messages(view) if isinstance(message, Asked)]


def numbers(view):
    return {name: (each.last, each.count) for name, each in view.lane(MAIN).memory.numbers.items()}


def test_a_second_compaction_within_what_the_first_kept_leaves_no_old_summary():
    view = view_of(GO, *(event for number in range(1, 5) for event in step(number)), Compacted(4, "FIRST"))
    inside, first = (view.lane(MAIN).transcript.lines[at].seq for at in (2, 0))
    assert inside < first
    view = after(view, Compacted(inside, "SECOND"))
    assert asked(view) == ["SECOND"]


def test_what_a_compaction_leaves_is_what_it_reckoned_after_the_window_shrank():
    steps = (event for number in range(1, 13) for event in step(number, "x" * 1_900))
    view = view_of(chosen("m", 32_000), LimitsSet(None, None), GO, *steps)
    for more in ((), (chosen("small", 8_000),)):
        view = after(view, *more)
        view = after(view, compacted(view, MAIN, room(view), ()))
    assert [text[:11] for text in asked(view)] == ["[Summary of"]


def test_a_smaller_window_makes_room_at_once_though_a_compaction_came_just_before():
    steps = (event for number in range(1, 40) for event in step(number, "x" * 5_000))
    view = view_of(chosen("big", 200_000), GO, *steps, Compacted(10, "S" * 3_000), chosen("small", 16_000))
    assert room(view).held > 2 * room(view).limit
    assert is_full(view, MAIN, 0)


def test_a_compaction_that_was_wanted_before_an_undo_does_not_eat_the_next_task():
    task = Said("u2", "the real task: " + "detail " * 400)
    view = view_of(chosen("m", 32_000), GO, *step(1), *HI, DONE, CompactAsked("k"), Undone("z", 1), task)
    assert not isinstance(next_step(view, MAIN, 0), Compact)


def test_numbers_are_counted_once_and_an_undo_takes_its_own_away():
    told = (Told("loss", "0.5", 4), Told("loss", "0.4", 4))
    view = view_of(GO, *step(1, "loss=0.5 loss=0.4"), *HI, DONE, Said("u2", "more"), Compacted(4, "S", told), *step(2))
    assert numbers(view) == {"loss": ("0.4", 2)}
    view = after(view, Compacted(12, "S", (Told("loss", "0.1", 11), Told("acc", "0.9", 11))), DONE)
    assert numbers(view) == {"loss": ("0.1", 3), "acc": ("0.9", 1)}
    view = after(view, Undone("z", 7))
    assert numbers(view) == {"loss": ("0.4", 2)}
    assert numbers(after(view, Compacted(4, "S", told))) == {"loss": ("0.4", 2)}


def test_a_number_that_is_told_late_is_not_the_last():
    view = view_of(GO, *step(1), *step(2), Cleared((7,), 0, (Told("loss", "0.1", 7),)))
    view = after(view, Compacted(7, "S", (Told("loss", "0.9", 4),)))
    loss = view.lane(MAIN).memory.numbers["loss"]
    assert (loss.last, loss.entry, loss.least, loss.most, loss.count) == ("0.1", 7, "0.1", "0.9", 2)


def test_of_many_values_all_count_and_a_bounded_number_is_kept_apart():
    view = view_of(GO)
    for number in range(100):
        view = after(view, Cleared((number,), 0, (Told("loss", f"0.{number:02}", number),)))
    loss = view.lane(MAIN).memory.numbers["loss"]
    assert (loss.least, loss.most, loss.count, loss.last) == ("0.00", "0.99", 100, "0.99")
    assert len(loss.parts) == 20


def large(number):
    thought = Thinking("hm " * 3_000, "reasoning", Opaque("s" * 3_000))
    return step(number, "ok", thought, Text("a" * 9_000), arguments=json.dumps({"path": "a.py", "text": "x" * 9_000}))


def test_what_compactions_took_away_stands_still_in_memory():
    def held(steps):
        view = view_of(GO)
        gc.collect()
        tracemalloc.start()
        for number in range(steps):
            view = after(view, *step(number, "ok", Text(f"{number} " + "w" * 20_000)))
            if number % 20 == 19:
                view = after(view, Compacted(view.seq - 3, "S"))
        gc.collect()
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return size

    assert held(400) < held(100) + 100_000


def test_every_turn_keeps_one_version_of_itself_and_large_replies_in_short():
    view = view_of(GO)
    for number in range(30):
        view = after(view, *large(2 * number), Compacted(view.seq + 1, "S"), *large(2 * number + 1))
        view = after(view, Compacted(view.seq + 1, "S"), *HI, DONE, Said(f"u{number}", "more"))
    replaced = view.lane(MAIN).transcript.replaced
    assert len(replaced) == 30
    assert max(len(str(line)) for each in replaced for line in each.lines) < 2_500


def test_an_undo_behind_compactions_gives_a_transcript_that_providers_take():
    view = view_of(GO, *large(1), *HI, DONE, Said("u2", "more"), *large(2), *large(3), *HI, DONE, Said("u3", "on"))
    turns = list(view.lane(MAIN).turns)
    view = after(view, *large(4), Compacted(view.seq, "ONE"), *large(5), Compacted(view.seq + 3, "TWO"), *HI, DONE)
    undone = after(view, Undone("z", turns[2] - 1))
    assert [type(each) for each in messages(undone)] == [
        Asked, Reply, Answered, Reply, Asked, Reply, Answered, Reply, Answered, Reply,
    ]  # fmt: skip
    for reply in (each for each in messages(undone) if isinstance(each, Reply)):
        assert not [part for part in reply.parts if isinstance(part, Thinking)]
        assert all(isinstance(json.loads(call.arguments), dict) for call in reply.calls)
        assert len(str(reply)) < 2_000
    first = messages(undone)[1]
    assert isinstance(first, Reply)
    assert "a.py" in first.calls[0].arguments
    again = after(undone, Said("u4", "again"), *large(6), Compacted(undone.seq + 1, "THREE"))
    assert asked(again) == ["THREE"]
    assert asked(after(again, *HI, DONE, Undone("y", turns[1] - 1))) == ["go"]


def test_the_summary_of_an_earlier_turn_goes_with_the_next_also_after_an_undo():
    view = view_of(GO, *step(1), Compacted(3, "ONE"), *step(2), Compacted(7, "TWO"), *HI, DONE)
    view = after(view, Said("u2", "more"), *step(3), Compacted(view.seq + 1, "THREE"), *HI, DONE)
    undone = after(view, Undone("z", view.lane(MAIN).turns[1] - 1))
    assert asked(undone) == ["TWO"]
    assert asked(after(undone, Said("u3", "new"), *step(4), Compacted(7, "FOUR"))) == ["FOUR", "new"]


def test_a_window_that_words_name_corrects_what_was_guessed():
    def failed(what, expected):
        wanted = ModelAsked("a", "main", "m", 0, 100, 2_000, "head", expected)
        return wanted, ModelFailed("a", "overflow", what, "", transient=True, cost=0)

    named = failed("maximum context length is 32768 tokens", 20_000)
    assert view_of(GO, *named).lane(MAIN).memory.windows == {"m": 32_768}
    assert view_of(GO, *failed("too long", 9_000), *named).lane(MAIN).memory.windows == {"m": 32_768}
