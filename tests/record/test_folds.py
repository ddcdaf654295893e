import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, settings

from ml_intern.base.clock import TestClock
from ml_intern.record.codec import decode, encode
from ml_intern.record.display import PlanItem, TextDisplay
from ml_intern.record.events import (
    CapSet,
    Compacted,
    Entry,
    ModelAsked,
    ModelFailed,
    ModelReplied,
    ModelStopped,
    Nudged,
    Outcome,
    StopAsked,
    ToolAnswered,
    ToolFinished,
    ToolHeld,
    ToolStarted,
    TurnEnded,
    Undone,
    UserSaid,
)
from ml_intern.record.facts import Fact, FileChange, FileRead, PlanSet
from ml_intern.record.log import Log, replay
from ml_intern.record.messages import Answered, Asked, Call, Reply, Text, Usage
from ml_intern.record.secrets import Secrets
from ml_intern.record.view import MAIN, View, fold
from tests.record.legal import CAP, records
from tests.record.test_log import Memory

SHOWN = TextDisplay("t")


def after(*events, view=None, lane=MAIN):
    view = view or View()
    for event in events:
        view = fold(view, Entry(view.seq + 1, 1000 * (view.seq + 1), lane, event))
    return view


def asked(key, reserved=0):
    return ModelAsked(key, "main", "m", reserved, 1, 1, "head")


def replied(key, *calls, text="", cost=0, **more):
    parts = ((Text(text),) if text else ()) + tuple(Call(each, f"w-{each}", "tool", "{}") for each in calls)
    return ModelReplied(key, Reply(parts), None, cost, "calls" if calls else "stop", **more)


def held(key):
    return ToolHeld(key, "hash", "asks", (), 0, "", SHOWN)


def started(key, reserved=0):
    return ToolStarted(key, "hash", (), "pure", reserved)


def finished(key: str, *facts: Fact, cost: int = 0, outcome: Outcome = "ok"):
    return ToolFinished(key, outcome, f"answer {key}", SHOWN, facts, cost=cost)


def texts(view, lane=MAIN):
    """The transcript, one short word per line."""
    found = []
    for line in view.lane(lane).transcript.lines:
        match line.message:
            case Asked(text=text):
                found.append(text)
            case Reply() as reply:
                found.append(reply.text or "+".join(call.id for call in reply.calls))
            case Answered(text=text):
                found.append(text)
    return found


# ------------------------------------------------------------------------------------------------------------ laws
@settings(max_examples=60, deadline=None)
@given(records())
def test_folding_the_whole_record_gives_the_live_view(entries):
    async def live() -> tuple[View, list[bytes]]:
        journal = Memory()
        log = await Log.open(journal, TestClock(), Secrets({}))
        for entry in entries:
            await log.add(entry.event, entry.lane)
        return log.view, await journal.lines()

    view, lines = asyncio.run(live())
    assert replay(map(decode, lines)) == view


@settings(max_examples=60, deadline=None)
@given(records())
def test_a_view_is_never_changed_by_what_comes_after_it(entries):
    views = [View()]
    for entry in entries:
        views.append(fold(views[-1], entry))
    for length in range(0, len(entries) + 1, 5):
        assert replay(entries[:length]) == views[length]


@settings(max_examples=100, deadline=None)
@given(records())
def test_what_is_committed_never_passes_the_cap(entries):
    view = View()
    booked = 0
    for entry in entries:
        view = fold(view, entry)
        purse = view.purse
        match entry.event:
            case ModelReplied(cost=cost) | ModelFailed(cost=cost) | ModelStopped(cost=cost) | ToolFinished(cost=cost):
                booked += cost
            case _:
                pass
        assert purse.spent == booked
        assert purse.committed <= CAP
        assert purse.free == (0 if purse.cap is None else CAP - purse.committed)
        open_keys = {key for lane in view.lanes.values() for key in lane.calls}
        open_keys |= {lane.turn.attempt.attempt for lane in view.lanes.values() if lane.turn.attempt}
        assert set(purse.reserved) <= open_keys


@settings(max_examples=100, deadline=None)
@given(records())
def test_every_transcript_obeys_the_rules_of_providers(entries):
    view = View()
    for entry in entries:
        view = fold(view, entry)
        lane = view.lane(entry.lane)
        messages = [line.message for line in lane.transcript.lines]
        pending: list[str] = []
        for message in messages:
            if isinstance(message, Answered):
                assert pending
                assert message.call == pending.pop(0), "answers stand in the order of the calls"
            else:
                assert not pending, "nothing comes between a call and its answer"
                pending = [call.id for call in message.calls] if isinstance(message, Reply) else []
        assert [call.id for call in lane.transcript.calls] == pending
        assert set(lane.calls) == set(pending) - set(lane.transcript.answers)


@settings(max_examples=60, deadline=None)
@given(records())
def test_the_transcript_only_grows_while_its_version_stays(entries):
    views = [View()]
    for entry in entries:
        views.append(fold(views[-1], entry))
    for before, now in pairwise(views):
        old, new = before.lane(MAIN).transcript, now.lane(MAIN).transcript
        if old.version == new.version:
            assert list(new.lines)[: len(old.lines)] == list(old.lines)


def test_an_entry_out_of_order_cannot_be_folded():
    view = after(CapSet(1, "user"))
    for seq in (0, 1, 3):
        with pytest.raises(ValueError, match="does not follow"):
            fold(view, Entry(seq, 1, MAIN, CapSet(1, "user")))


# ----------------------------------------------------------------------------------------------------------- purse
def test_a_reservation_is_freed_by_what_closes_it_and_the_cost_is_booked():
    view = after(CapSet(100, "user"), asked("a", 60), started_call := replied("a", "k", cost=10), started("k", 50))
    assert started_call.cost == 10
    assert (view.purse.spent, view.purse.committed, view.purse.free) == (10, 60, 40)
    view = after(finished("k", cost=20), view=view)
    assert (view.purse.spent, dict(view.purse.reserved)) == (30, {})


def test_an_overrun_is_booked_whole_and_ends_the_turn():
    view = after(UserSaid("c", "x"), CapSet(100, "user"), asked("a", 60), replied("a", cost=150, overrun=True))
    assert (view.purse.spent, view.purse.free) == (150, 0)
    stopping = view.lane(MAIN).turn.stopping
    assert stopping
    assert stopping.reason == "budget"


def test_without_a_cap_nothing_is_free():
    assert View().purse.free == 0


# ------------------------------------------------------------------------------------------------------ transcript
def test_a_steering_message_waits_until_all_calls_are_answered():
    view = after(UserSaid("c", "go"), asked("a"), replied("a", "k1", "k2"), UserSaid("d", "steer"), finished("k2"))
    assert texts(view) == ["go", "k1+k2"]
    assert texts(after(finished("k1"), view=view)) == ["go", "k1+k2", "answer k1", "answer k2", "steer"]


def test_a_steering_message_during_an_attempt_comes_after_the_reply():
    view = after(UserSaid("c", "go"), asked("a"), UserSaid("d", "steer"), Nudged("g", "nudge"))
    assert texts(view) == ["go"]
    assert texts(after(replied("a", text="hello"), view=view)) == ["go", "hello", "steer", "nudge"]


def test_a_follow_up_opens_the_next_turn():
    view = after(UserSaid("c", "go"), UserSaid("d", "later", when="after"), asked("a"), replied("a", text="hello"))
    assert (texts(view), view.lane(MAIN).turn.queued) == (["go", "hello"], 1)
    view = after(TurnEnded("done"), view=view)
    assert texts(view) == ["go", "hello", "later"]
    assert view.lane(MAIN).turn.open
    view = after(asked("b"), replied("b", text="again"), TurnEnded("done"), view=view)
    assert not view.lane(MAIN).turn.open
    assert texts(view)[-1] == "again"


def test_a_follow_up_at_rest_opens_a_turn_at_once():
    view = after(UserSaid("c", "go", when="after"))
    assert view.lane(MAIN).turn.open
    assert texts(view) == ["go"]


def test_a_failed_attempt_leaves_nothing_and_a_stopped_one_its_text():
    view = after(UserSaid("c", "go"), asked("a"), ModelFailed("a", "cut", "w", "r", transient=True, cost=0))
    assert texts(view) == ["go"]
    view = after(asked("b"), ModelStopped("b", "half", 0), view=view)
    assert texts(view) == ["go", "half"]
    assert texts(after(asked("c"), ModelStopped("c", "", 0), view=view)) == ["go", "half"]


def test_undo_hides_from_the_transcript_and_counts_a_version():
    view = after(UserSaid("c", "one"), asked("a", 5), replied("a", text="first", cost=5), TurnEnded("done"))
    upto = view.seq
    view = after(UserSaid("d", "two"), asked("b", 5), replied("b", text="second", cost=5), TurnEnded("done"), view=view)
    version = view.lane(MAIN).transcript.version
    view = after(Undone("u", upto), view=view)
    assert texts(view) == ["one", "first"]
    assert view.lane(MAIN).transcript.version == version + 1
    assert view.purse.spent == 10
    assert "u" in view.commands


def test_compaction_puts_the_summary_first_and_keeps_what_came_later():
    view = after(UserSaid("c", "one"), asked("a"), replied("a", text="first"), UserSaid("d", "two"))
    upto = view.lane(MAIN).transcript.lines[1].seq
    view = after(Compacted(upto, "so far"), view=view)
    assert texts(view) == ["so far", "two"]


def test_the_providers_count_is_kept_until_lines_are_taken_away():
    counted = ModelReplied("a", Reply((Text("hi"),)), Usage(prompt=120), 0, "stop")
    view = after(UserSaid("c", "one"), asked("a"), counted)
    transcript = view.lane(MAIN).transcript
    assert transcript.counted
    assert (transcript.counted.head, transcript.counted.lines, transcript.counted.tokens) == ("head", 1, 120)
    assert after(Compacted(1, "s"), view=view).lane(MAIN).transcript.counted is None
    assert after(Undone("u", 0), view=view).lane(MAIN).transcript.counted is None


def test_lanes_do_not_see_each_other():
    view = after(UserSaid("c", "main"), asked("a"), replied("a", "k"))
    view = after(UserSaid("d", "sub"), view=view, lane="sub")
    assert (texts(view), texts(view, "sub")) == (["main", "k"], ["sub"])


# ----------------------------------------------------------------------------------------------------------- calls
def test_a_message_says_no_only_to_calls_held_when_its_writer_looked():
    view = after(UserSaid("c", "go"), asked("a"), replied("a", "k1", "k2", "k3", "k4"), held("k1"), held("k2"))
    seen = view.seq - 1
    view = after(started("k3"), UserSaid("d", "rather not", seen=seen), view=view)
    calls = view.lane(MAIN).calls
    assert [calls[key].state for key in ("k1", "k2", "k3", "k4")] == ["denied", "held", "started", "new"]
    assert calls["k1"].answer == "rather not"


def test_a_follow_up_says_no_to_nothing():
    view = after(UserSaid("c", "go"), asked("a"), replied("a", "k"), held("k"))
    view = after(UserSaid("d", "later", when="after", seen=view.seq), view=view)
    assert view.lane(MAIN).calls["k"].state == "held"


def test_a_call_goes_from_new_to_gone():
    view = after(UserSaid("c", "go"), asked("a"), replied("a", "k"))
    states = []
    yes, no = ToolAnswered("y", "k", True, "", "u"), ToolAnswered("n", "k", False, "no", "u")
    for event in (held("k"), yes, held("k"), no, held("k"), yes, started("k")):
        view = after(event, view=view)
        states.append(view.lane(MAIN).calls["k"].state)
    assert states == ["held", "approved", "held", "denied", "held", "approved", "started"]
    assert view.lane(MAIN).calls["k"].answer == ""
    assert after(finished("k"), view=view).lane(MAIN).calls == {}
    assert {"y", "n"} <= view.commands


# ----------------------------------------------------------------------------------------------------------- files
def files_after(*facts, lane=MAIN, view=None):
    view = after(asked("a"), replied("a", "k"), view=view, lane=lane)
    return after(finished("k", *facts), view=view, lane=lane)


def test_a_read_counts_until_the_lane_is_compacted():
    view = files_after(FileRead("a", "1"))
    assert view.files.read_as("a", MAIN) == "1"
    assert after(Compacted(view.seq - 1, "s"), view=view).files.read_as("a", MAIN) == "1"
    assert after(Compacted(view.seq, "s"), view=view).files.read_as("a", MAIN) is None


def test_what_another_lane_read_or_compacted_counts_for_itself_alone():
    view = files_after(FileRead("a", "1"))
    first = view.seq
    view = files_after(FileRead("a", "1"), lane="sub", view=view)
    assert view.files.read_as("a", "other") is None
    compacted = after(Compacted(first, "s"), view=view)
    assert compacted.files.read_as("a", MAIN) is None, "the other lane's later read must not keep this lane's alive"
    assert compacted.files.read_as("a", "sub") == "1"
    compacted = after(Compacted(view.seq, "s"), view=view, lane="sub")
    assert (compacted.files.read_as("a", MAIN), compacted.files.read_as("a", "sub")) == ("1", None)


def test_a_newer_content_is_known_only_to_who_saw_it():
    view = files_after(FileRead("a", "2"), lane="sub", view=files_after(FileRead("a", "1")))
    assert (view.files.read_as("a", MAIN), view.files.read_as("a", "sub")) == (None, "2")


def test_who_writes_a_file_knows_it_and_the_others_must_look_again():
    view = files_after(FileRead("a", "1"), lane="sub")
    view = files_after(FileChange("a", "1", "2"), view=view)
    assert (view.files.read_as("a", MAIN), view.files.read_as("a", "sub")) == ("2", None)
    assert dict(view.files.changed) == {"a": "2"}


@pytest.mark.parametrize("after_sha", ["?", None, "3"])
def test_what_a_command_changed_must_be_looked_at_again(after_sha):
    view = files_after(FileChange("a", "1", after_sha, authored=False), view=files_after(FileRead("a", "1")))
    assert view.files.read_as("a", MAIN) is None
    assert dict(view.files.changed) == {"a": after_sha}


def test_undo_does_not_touch_files():
    view = files_after(FileRead("a", "1"))
    assert after(Undone("u", 0), view=view).files == view.files


# ------------------------------------------------------------------------------------------------------------ plan
def test_undo_brings_the_older_plan_back():
    def plan(word):
        return PlanSet((PlanItem("1", word, "pending"),))

    view = files_after(plan("first"))
    upto = view.seq
    view = files_after(plan("second"), plan("third"), view=view)
    assert view.plan.items[0].content == "third"
    view = after(Undone("u", upto), view=view)
    assert view.plan.items[0].content == "first"
    assert after(Undone("u", 0), view=view).plan.items == ()


def test_the_plan_of_another_lane_is_its_own():
    assert files_after(PlanSet((PlanItem("1", "x", "pending"),)), lane="sub").plan.items == ()


# ------------------------------------------------------------------------------------------------------------ turn
def test_failures_in_a_row_are_counted_and_a_reply_ends_the_row():
    failed = ModelFailed("a", "cut", "w", "r", transient=True, cost=0)
    view = after(UserSaid("c", "go"), asked("a"), failed, asked("a"), failed)
    assert (view.lane(MAIN).turn.failures, view.lane(MAIN).turn.steps) == (2, 0)
    view = after(asked("a"), replied("a", text="hi"), view=view)
    assert (view.lane(MAIN).turn.failures, view.lane(MAIN).turn.steps) == (0, 1)


def test_a_stop_counts_only_in_a_turn_and_only_for_it():
    assert after(StopAsked("s")).lane(MAIN).turn.stopping is None
    view = after(UserSaid("c", "go"), StopAsked("s"))
    stopping = view.lane(MAIN).turn.stopping
    assert stopping
    assert stopping.reason == "interrupted"
    view = after(TurnEnded("interrupted"), UserSaid("d", "again"), view=view)
    assert view.lane(MAIN).turn.stopping is None


def test_a_new_turn_counts_its_steps_anew():
    view = after(UserSaid("c", "go"), asked("a"), replied("a", text="hi"), TurnEnded("done"), UserSaid("d", "more"))
    turn = view.lane(MAIN).turn
    assert (turn.steps, turn.started_seq, turn.started_ms, turn.ended) == (0, 5, 5000, None)


def test_every_line_that_was_stored_reads_as_the_same_entry():
    for event in (asked("a"), replied("a", "k"), held("k"), finished("k", FileRead("a", "1"))):
        assert decode(encode(Entry(1, 1, MAIN, event))).event == event
