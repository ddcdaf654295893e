import os
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ml_intern.headless.progress import WIDTH, Progress
from ml_intern.record.clearing import Cleared, Compacted
from ml_intern.record.display import (
    DiffDisplay,
    Display,
    ImageDisplay,
    LinkDisplay,
    LogDisplay,
    PlanDisplay,
    PlanItem,
    TableDisplay,
    TextDisplay,
)
from ml_intern.record.events import (
    Ending,
    Entry,
    Event,
    LaneOpened,
    ModelChosen,
    ModelFailed,
    ModelReplied,
    Nudged,
    Outcome,
    Paused,
    RetryPlanned,
    ToolFinished,
    ToolHeld,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.hooks import HookRan
from ml_intern.record.messages import Reply, Text, Usage
from tests.headless.made import NASTY, SPELLED, UNSEEN, call, entry, held, replied, written
from tests.record.legal import EVENT_TYPES, any_entry, of, records

TOLD = (
    HookRan,
    ModelChosen,
    ModelReplied,
    ModelFailed,
    RetryPlanned,
    ToolFinished,
    ToolHeld,
    Nudged,
    Paused,
    LaneOpened,
    Cleared,
    Compacted,
    TurnEnded,
)
"""The only events that a person is told of."""

PLAN = PlanDisplay(
    (
        PlanItem("1", "look at the data", "completed"),
        PlanItem("2", "train", "in_progress"),
        PlanItem("3", "write it up", "pending"),
    )
)
SHOWN: list[tuple[Display, str]] = [
    (TextDisplay("note"), "note"),
    (TextDisplay("note", "two\nlines"), "note: two lines"),
    (DiffDisplay("src/train.py", "@@ -1 +1 @@", 12, 3), "src/train.py (+12 -3)"),
    (TableDisplay("scores by seed", ("seed", "score"), (("0", "0.97"),)), "scores by seed"),
    (LogDisplay("uv run train.py", "epoch 1\nepoch 2"), "uv run train.py"),
    (LogDisplay("uv run train.py", "", 0, 1.5), "uv run train.py"),
    (LogDisplay("uv run train.py", "", 137, 1.5), "uv run train.py (exit 137)"),
    (LogDisplay("uv run train.py", "", -9), "uv run train.py (exit -9)"),
    (LogDisplay("cd work\n  && ls"), "cd work && ls"),
    (LinkDisplay("the model card", "https://example.invalid"), "the model card"),
    (ImageDisplay("loss.png", "0" * 64, "image/png"), "loss.png"),
    (PlanDisplay(()), "plan, 0 of 0 done"),
]


def finished(display: Display, outcome: Outcome = "ok", total_ms: int = 0) -> ToolFinished:
    return ToolFinished("c", outcome, "what the model reads", display, total_ms=total_ms)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (replied("I look."), "step 1: I look.  2.3 s  1,200+34 tokens  $0.0042"),
        (replied("I look.", call("1")), "step 1: I look.  2.3 s  1,200+34 tokens  $0.0042"),
        (replied("", call("1")), "step 1: 1 call  2.3 s  1,200+34 tokens  $0.0042"),
        (replied("", call("1"), call("2")), "step 1: 2 calls  2.3 s  1,200+34 tokens  $0.0042"),
        (replied(), "step 1: (empty)  2.3 s  1,200+34 tokens  $0.0042"),
        (replied(" \n\t "), "step 1: (empty)  2.3 s  1,200+34 tokens  $0.0042"),
        (replied("Two\nlines."), "step 1: Two lines.  2.3 s  1,200+34 tokens  $0.0042"),
        (replied("Hi.", usage=None), "step 1: Hi.  2.3 s  tokens unknown  $0.0042"),
        (replied("Hi.", usage=Usage()), "step 1: Hi.  2.3 s  0+0 tokens  $0.0042"),
        (replied("Hi.", usage=Usage(1_234_567, 8_901)), "step 1: Hi.  2.3 s  1,234,567+8,901 tokens  $0.0042"),
        (replied("Hi.", cost=0, total_ms=0), "step 1: Hi.  0.0 s  1,200+34 tokens  $0.00"),
        (replied("Hi.", cost=1_250_000, total_ms=83_960), "step 1: Hi.  84.0 s  1,200+34 tokens  $1.25"),
    ],
)
def test_a_step_is_a_line_of_what_seconds_tokens_and_money(event: ModelReplied, line: str):
    assert written(event) == f"{line}\n"


def test_steps_are_counted_on_and_failed_attempts_are_none():
    failed = ModelFailed("a", "rate_limited", "Too many requests.", "", transient=True, cost=0)
    told = written(replied("One."), failed, replied("Two."), TurnEnded("done"), replied("Three."))
    assert [line.split(":")[0] for line in told.splitlines() if line.startswith("step")] == [
        "step 1",
        "step 2",
        "step 3",
    ]


@pytest.mark.parametrize(("display", "title"), SHOWN)
def test_each_kind_of_display_has_its_title(display: Display, title: str):
    assert written(finished(display, total_ms=1_240)) == f"  ok      {title}  1.2 s\n"


def test_no_kind_of_display_is_left_out():
    assert {type(display) for display, _ in SHOWN} == set(get_args(Display))


def test_a_plan_is_worth_a_line_for_each_item():
    assert written(finished(PLAN)).splitlines() == [
        "  ok      plan, 1 of 3 done  0.0 s",
        "          [x] look at the data",
        "          [>] train",
        "          [ ] write it up",
    ]


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_titles_stand_below_each_other_whatever_the_outcome(outcome: Outcome):
    line = written(finished(TextDisplay("title"), outcome))
    assert line.startswith(f"  {outcome} ")
    assert line.index("title") == 10
    assert written(held("c")).index("tell") == 10


LONG = "word " * 100


@pytest.mark.parametrize(
    "event",
    [
        replied(LONG),
        finished(TextDisplay(LONG)),
        finished(TextDisplay("note", LONG)),
        finished(LogDisplay(LONG)),
        finished(TableDisplay(LONG, (), ())),
        finished(LinkDisplay(LONG, "")),
        finished(ImageDisplay(LONG, "", "")),
        finished(PlanDisplay((PlanItem("1", LONG, "pending"),))),
        Nudged("malformed", LONG),
    ],
)
def test_a_long_text_is_cut_where_a_line_ends(event: Event):
    longest = max(written(event).splitlines(), key=len)
    assert "…" in longest
    assert len(longest) <= WIDTH + 50
    assert "word word" in longest


@pytest.mark.parametrize(
    "event",
    [
        replied(NASTY),
        finished(TextDisplay(NASTY)),
        finished(TextDisplay("note", NASTY)),
        finished(DiffDisplay(NASTY, "", 1, 1)),
        finished(LogDisplay(NASTY)),
        finished(TableDisplay(NASTY, (), ())),
        finished(LinkDisplay(NASTY, "")),
        finished(ImageDisplay(NASTY, "", "")),
        finished(PlanDisplay((PlanItem("1", NASTY, "pending"),))),
        held("c", reason=NASTY),
        Nudged("malformed", NASTY),
        Nudged(NASTY, "text"),
        TurnEnded("failed", NASTY),
        TurnEnded("failed", "No.", NASTY),
    ],
)
def test_what_cannot_be_seen_is_spelled_out(event: Event):
    told = written(event)
    assert SPELLED in told
    assert not set(told) & UNSEEN


@pytest.mark.parametrize(("what", "remedy"), [(NASTY, ""), ("No.", NASTY)])
def test_what_cannot_be_seen_in_a_failure_is_spelled_out(what: str, remedy: str):
    told = written(ModelFailed("a", "bad_request", what, remedy, transient=False, cost=0), TurnEnded("interrupted"))
    assert SPELLED in told
    assert not set(told) & UNSEEN


@pytest.mark.parametrize("unseen", ["\r", "\n"])
def test_a_title_a_reason_and_an_end_are_one_line_each(unseen: str):
    evil = f"a{unseen}  ok      tests passed"
    for event in (finished(DiffDisplay(evil, "", 1, 0)), held("c", reason=evil), TurnEnded("denied", "No.", evil)):
        told = written(event)
        assert told.count("\n") == 1
        assert "\r" not in told


PASSING = ModelFailed("a", "rate_limited", "Too many requests.", "It is asked again.", transient=True, cost=0)
LASTING = ModelFailed("a", "unauthorised", "The key is wrong.", "Set HF_TOKEN.", transient=False, cost=0)


def test_a_passing_failure_is_told_with_its_retry_and_a_lasting_one_with_its_remedy():
    assert written(
        PASSING, RetryPlanned(1_800_000_032_000, 2), LASTING, TurnEnded("interrupted", "Stopped.")
    ).splitlines() == [
        "  model: Too many requests.",
        "  asking again in 32 s (failure 2 in a row)",
        "  model: The key is wrong. Set HF_TOKEN.",
        "interrupted: Stopped.",
    ]


@pytest.mark.parametrize("failed", [PASSING, LASTING])
def test_a_failure_that_ends_the_turn_is_told_once(failed: ModelFailed):
    assert written(failed, TurnEnded("failed", failed.what, "Do this.")) == f"failed: {failed.what} Do this.\n"


def test_two_failures_on_end_are_told_one_after_the_other():
    assert written(PASSING, PASSING, replied("Yes.")).splitlines()[:2] == ["  model: Too many requests."] * 2


def test_a_held_call_and_a_nudge_are_a_line_each():
    told = written(held("c"), Nudged("malformed", "Send\nless at once."))
    assert told.splitlines() == [
        "  held    tell: hi: it sends a message to boss",
        "  told the model (calls that do not fit): Send less at once.",
    ]


@pytest.mark.parametrize("ending", [ending for ending in get_args(Ending) if ending != "done"])
def test_every_end_but_an_answer_is_told(ending: Ending):
    assert written(TurnEnded(ending, "It ended.", "Go on.")) == f"{ending}: It ended. Go on.\n"
    assert written(TurnEnded(ending, "It ended.")) == f"{ending}: It ended.\n"


def test_room_that_is_made_is_a_line_and_what_it_costs_too():
    summed = ModelReplied("a", Reply((Text("so far"),)), Usage(900, 60), 1_200, "stop", role="compaction", total_ms=700)
    assert written(Cleared((4, 9)), Cleared((12,)), Cleared((9,)), summed, Compacted(12, "so far")).splitlines() == [
        "  cleared: the model sees 3 old answers as references",
        "  summary 900+60 tokens  0.7 s  $0.0012",
        "  compacted: the model sees entries up to 12 as a summary",
    ]


def test_who_really_answered_is_told_once_and_only_where_it_is_more_than_was_asked_for():
    def by(served_by: str, served_at: str = "") -> ModelReplied:
        event = replied("So.")
        reply = replace(event.reply, by="hf/Qwen/Qwen3-32B:novita")
        return replace(event, reply=reply, served_by=served_by, served_at=served_at)

    same, other = by("qwen/qwen3-32b", "novita"), by("Qwen/Qwen3-32B-FP8", "together\n")
    told = written(same, by(""), other, other, by("Qwen/Qwen3-32B", "together"), same, other).splitlines()
    assert [line for line in told if not line.startswith("step")] == [
        "  served by Qwen/Qwen3-32B-FP8 at together",
        "  served by together",
        "  served by Qwen/Qwen3-32B-FP8 at together",
    ]


def test_one_answer_that_was_cleared_is_one_reference():
    told = written(Cleared((4,)), replied("So."), Cleared((7,)), replied("So it is.")).splitlines()
    assert told[::2] == ["  cleared: the model sees 1 old answer as a reference"] * 2


def test_what_the_model_is_told_is_not_said_to_the_person():
    told = written(Nudged("silence", "Your last reply was empty."), Nudged("repeats", "Again the same."))
    assert told == (
        "  told the model (empty reply): Your last reply was empty.\n  told the model (repeats): Again the same.\n"
    )


def test_a_model_is_named_with_those_it_falls_back_to_and_who_pays():
    chosen = ModelChosen("main", "a", None, None, None, "me", chain=("a", "b", "c"))
    assert written(chosen) == "model (main): a, paid by me, falls back to b, c\n"


LONG = "Sum this up. " + "row " * 20_000 + "That was all."
MODEL_OF = {window: ModelChosen("main", "m", window, 1_000, None, "me") for window in (None, 8_000, 200_000)}
CUT = Compacted(99, "[Summary] #2: Sum this up. row ... That was all.")


@pytest.mark.parametrize(
    ("events", "is_told"),
    [
        ((MODEL_OF[8_000], UserSaid("u", LONG), CUT), True),
        ((MODEL_OF[None], UserSaid("u", LONG), CUT), True),
        ((MODEL_OF[8_000], UserSaid("u", LONG), replied("I see."), CUT), True),
        ((MODEL_OF[200_000], UserSaid("u", LONG), replied("I see."), CUT), False),
        ((MODEL_OF[8_000], UserSaid("u", LONG), Compacted(1, "so far")), False),
        ((MODEL_OF[8_000], UserSaid("u", "Go on."), Compacted(99, "[Summary] #2: Go on.")), False),
    ],
)
def test_a_prompt_longer_than_the_window_is_told_in_one_sentence_with_what_to_do(events: tuple[Event, ...], is_told):
    told = [line for line in written(*events).splitlines() if line.startswith("  prompt: ")]
    sentence = (
        "  prompt: your message alone (80 kB) was longer than the model's window, so the model sees its beginning and "
        "its end only; put what is long into a file of the workspace and name that, or choose a --model with a larger "
        "window"
    )
    assert told == [sentence] * is_told


def test_a_prompt_longer_than_the_window_is_told_once():
    assert written(MODEL_OF[8_000], UserSaid("u", LONG), CUT, replied("So."), CUT).count("  prompt: ") == 1


def test_a_hook_that_failed_is_told_and_one_that_did_not_is_not():
    assert written(HookRan("guard", "before_call", decision="allow")) == ""
    assert (
        written(HookRan("guard", "before_call", fault="The hook 'guard' failed."))
        == "  hook    The hook 'guard' failed.\n"
    )


def test_an_answer_is_its_own_end():
    assert written(TurnEnded("done")) == ""


@settings(max_examples=200, deadline=None)
@given(st.one_of(*(of(kind) for kind in EVENT_TYPES if kind not in TOLD)))
def test_of_everything_else_nothing_is_told(event: Event):
    assert written(event) == ""


@settings(max_examples=300, deadline=None)
@given(any_entry())
def test_any_entry_is_told_in_whole_lines_without_control_characters(drawn: Entry):
    told = written(drawn.event)
    assert not set(told) & UNSEEN
    assert told == "" or told.endswith("\n")
    assert isinstance(drawn.event, TOLD) or told == ""


@settings(max_examples=60, deadline=None)
@given(records())
def test_every_reply_and_every_finished_or_held_call_of_a_record_has_its_line(record: list[Entry]):
    lines = written(*(each.event for each in record)).splitlines()
    for kind, start in ((ModelReplied, "step "), (ToolFinished, "  ok  "), (ToolHeld, "  held  ")):
        count = sum(isinstance(each.event, kind) and not is_denied(each.event) for each in record)
        assert sum(line.startswith(start) for line in lines) == count


def is_denied(event: Any) -> bool:
    return isinstance(event, ToolFinished) and event.outcome != "ok"


def test_a_line_is_out_as_soon_as_it_is_told():
    receiving, sending = os.pipe()
    with os.fdopen(sending, "w", encoding="utf-8") as stream, os.fdopen(receiving, "rb", buffering=0) as end:
        Progress(stream).read(entry(replied("Here.")))
        os.set_blocking(receiving, False)
        assert (end.read(100) or b"").startswith(b"step 1: Here.")
