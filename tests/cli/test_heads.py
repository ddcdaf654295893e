"""`ml-intern show` leaves nothing out that a person did or set."""

from typing import Any, get_args

import pytest
from hypothesis import given, settings

from ml_intern.cli.heads import head_lines
from ml_intern.record import events
from ml_intern.record.events import (
    BriefSet,
    Event,
    GuardsSet,
    Lifted,
    LimitsSet,
    ModelStopped,
    OwnerTook,
    RuleGiven,
    RulesSet,
    SessionStarted,
    StopAsked,
    ToolAnswered,
    UserSaid,
)
from ml_intern.record.ground import GroundSet, Joined, Machine
from ml_intern.record.messages import Image
from tests.headless.made import NASTY, UNSEEN, entry
from tests.headless.test_progress import TOLD
from tests.record.legal import any_entry

SILENT = (events.ModelAsked, events.ToolStarted, events.LaneOpened, events.LaneClosed)
"""What a person sees by what comes of it."""

SHA = "0" * 64
LINES: list[tuple[Event, list[str]]] = [
    (SessionStarted("s1", "/w", "0.1", "s0", 4), ["session s1 in /w, copied from s0"]),
    (LimitsSet(300, None), ["limits: 300 steps a turn"]),
    (LimitsSet(3, 90.0), ["limits: 3 steps a turn, 90 s a turn"]),
    (LimitsSet(None, None), ["limits: none"]),
    (LimitsSet(None, None, due=10**20), ["limits: all work ends 100000000000000000000 ms after 1970"]),
    (RulesSet((RuleGiven("deny", "write *.lock", "flag"),)), ["rule (flag): deny write *.lock"]),
    (RulesSet((), ("read", "find")), ["tools: read, find"]),
    (RulesSet(()), []),
    (
        BriefSet("Be\nbrief.", '{"type": "object"}'),
        ["told besides: Be brief.", 'the answer must fit: {"type": "object"}'],
    ),
    (BriefSet("", ""), []),
    (
        GroundSet(Machine(8, 33_000_000_000, 0), (Joined("memory", "MEMORY.md", SHA, "x"),), 5, None, ("memory",)),
        ["machine: no accelerator, 8 cores, 33 GB of memory", "memory joined: MEMORY.md"],
    ),
    (GroundSet(), []),
    (GuardsSet(5, None, plan=False), ["guards: repeats 5, stall off, plan off"]),
    (Lifted("c"), ["the pause was lifted"]),
    (UserSaid("c", "a\nb", (Image(SHA, "image/png"),)), ["> a", "> b", f"> (image/png, kept as {SHA})"]),
    (ToolAnswered("c", "k1", True, "", "user"), ["call k1 was approved by user"]),
    (ToolAnswered("c", "k1", False, "not\nnow", "user"), ["call k1 was refused by user: not now"]),
    (StopAsked("c"), ["stop: a person asked for it"]),
    (StopAsked("c", "limit"), ["stop: the turn's time is up"]),
    (ModelStopped("a", "So f", 0), ["stopped in mid-reply, so far it said:"]),
    (ModelStopped("a", "", 0), ["stopped in mid-reply"]),
]


@pytest.mark.parametrize(("event", "lines"), LINES)
def test_what_was_said_and_set_is_a_line(event: Event, lines: list[str]):
    assert head_lines(entry(event)) == lines


def test_a_start_and_a_resume_tell_when_and_who():
    (line,) = head_lines(entry(OwnerTook(1, "headless", 7, "box")))
    assert line.startswith("opened 2027-01-15 ")
    assert line.endswith(" by process 7 (headless) on box")


@settings(max_examples=200, deadline=None)
@given(any_entry())
def test_no_line_of_any_entry_forges_another_and_progress_tells_the_rest(drawn: Any):
    lines = head_lines(drawn)
    assert not any("\n" in line or set(line) & UNSEEN for line in lines)
    if isinstance(drawn.event, (*TOLD, *SILENT)):
        assert lines == []


def test_every_kind_of_event_is_told_of_somewhere():
    told = {type(event) for event, _ in LINES} | set(TOLD) | set(SILENT)
    rest = set(get_args(Event)) - told - {OwnerTook}
    names = "CapSet ModeSet CompactAsked Undone Renamed SessionClosed Granted GrantEnded"
    assert {kind.__name__ for kind in rest} == set(names.split())


def test_what_cannot_be_seen_is_spelled_out():
    for event in (UserSaid("c", NASTY), SessionStarted("s", NASTY, ""), ToolAnswered("c", NASTY, True, NASTY, NASTY)):
        assert all(not set(line) & UNSEEN for line in head_lines(entry(event)))
