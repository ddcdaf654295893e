import io
import json

from ml_intern.headless.exits import Exit
from ml_intern.headless.progress import Progress
from ml_intern.headless.report import Tally, as_json, held_lines, lane_lines
from ml_intern.record.display import TextDisplay
from ml_intern.record.events import (
    Event,
    LaneClosed,
    LaneOpened,
    ModelAsked,
    ModelFailed,
    Nudged,
    ToolFinished,
    TurnEnded,
    UserSaid,
)
from tests.headless.made import NASTY, SPELLED, call, entry, held, replied, view_of

LANE = "research-1"
OPENED = LaneOpened("main", "k", "research", "find papers", ("look",), 20)
ASKED = ModelAsked("a", "research", "m", 0, 1, 1, "h")


def told(*events: tuple[str, Event], whole: bool = False) -> list[str]:
    stream = io.StringIO()
    progress = Progress(stream, whole=whole)
    for seq, (lane, event) in enumerate(events, start=1):
        progress.read(entry(event, seq, lane))
    return stream.getvalue().splitlines()


def test_each_step_of_a_lane_is_one_line_that_begins_with_its_name():
    lines = told(
        ("main", replied("I ask.", call("k"))),
        (LANE, OPENED),
        (LANE, replied("", call("1", tool="read"), call("2", tool="find"))),
        ("research-2", replied("Mine.", call("3", tool="read"))),
        (LANE, ToolFinished("1", "ok", "", TextDisplay("file"))),
        (LANE, Nudged("steps", "Hurry.")),
        (LANE, replied("Found.")),
        (LANE, LaneClosed("ok")),
        ("main", replied("So it is.")),
    )
    figures = "  2.3 s  1,200+34 tokens  $0.0042"
    assert lines == [
        f"step 1: I ask.{figures}",
        "[research-1] begins, 20 steps at most: find papers",
        f"[research-1] step 1: read, find{figures}",
        f"[research-2] step 1: Mine. · read{figures}",
        f"[research-1] step 2: Found.{figures}",
        f"step 2: So it is.{figures}",
    ]


def test_what_goes_wrong_in_a_lane_is_told_and_other_lanes_do_not_hide_it():
    failed = ModelFailed("a", "unreachable", "It was cut.", "", transient=True, cost=0)
    lines = told(
        (LANE, failed),
        ("research-2", replied("Mine.")),
        (LANE, held("1")),
        (LANE, ToolFinished("1", "denied", "", TextDisplay("tell"))),
        (LANE, TurnEnded("limit", "No step is left.", "More steps.")),
    )
    assert lines[1:] == [
        "[research-1]   model: It was cut.",
        "[research-1]   held    tell: hi: it sends a message to boss",
        "[research-1]   denied  tell  0.0 s",
        "[research-1] limit: No step is left.",
    ]


def test_show_has_every_line_of_a_lane():
    lines = told(
        (LANE, ToolFinished("1", "ok", "", TextDisplay("file"))), (LANE, Nudged("steps", "Hurry.")), whole=True
    )
    assert lines == ["[research-1]   ok      file  0.0 s", "[research-1]   told the model (steps): Hurry."]


def test_no_task_forges_a_line():
    lines = told((LANE, LaneOpened("main", "k", "research", f"{NASTY}\nstep 9: all is well", (), 1)))
    assert lines == [f"[research-1] begins, 1 step at most: {SPELLED} step 9: all is well"]


def test_the_share_of_a_lane_is_told_where_it_has_one():
    lines = told((LANE, LaneOpened("main", "k", "research", "find papers", (), 20, 500_000)))
    assert lines == ["[research-1] begins, 20 steps and $0.50 at most: find papers"]


def test_what_each_lane_came_to_is_listed():
    view = view_of(
        UserSaid("c", "go"),
        ASKED,
        replied("x", call("k")),
        (LANE, OPENED),
        (LANE, UserSaid("k", "find papers")),
        (LANE, ASKED),
        (LANE, replied("Found.")),
        (LANE, TurnEnded("done")),
        (LANE, LaneClosed("ok")),
    )
    tokens = "1,200+34 tokens (0 cached)"
    assert lane_lines(view) == [
        f"main agent, open, 1 step, {tokens}, $0.0042",
        f"sub-agent research-1, done, 1 step, {tokens}, $0.0042: find papers",
    ]
    assert json.loads(as_json(view, Tally(), Exit.DONE, 1.0))["lanes"] == [
        {
            "lane": "research-1",
            "agent": "research",
            "task": "find papers",
            "state": "done",
            "steps": 1,
            "prompt_tokens": 1200,
            "output_tokens": 34,
            "cached_tokens": 0,
            "cost_usd": 0.0042,
        }
    ]


def test_without_sub_agents_no_lane_is_listed():
    assert lane_lines(view_of(UserSaid("c", "go"))) == []


def test_a_held_call_says_in_which_lane_it_waits():
    view = view_of(
        (LANE, OPENED), (LANE, UserSaid("k", "go")), (LANE, ASKED), (LANE, replied("", call("1"))), (LANE, held("1"))
    )
    assert held_lines(view)[1] == "  in research-1: find papers"
