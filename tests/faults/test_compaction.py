"""A death while room is made: the summary's attempt is booked, and the session goes on as if nobody had died."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from ml_intern.record.clearing import Compacted
from ml_intern.record.events import ModelAsked, ModelFailed, ModelReplied
from tests.faults.places import append, function
from tests.faults.state import check_once, check_purse
from tests.faults.walk import bash
from tests.faults.yard import KILLED, Death, yard
from tests.walks.long_story import SUMMING

pytestmark = pytest.mark.timeout(120)

STEPS = 4
PROSE = "Goal: every step. State: one follows the other."
ASKED, REPLIED = f"model_asked:{STEPS}", f"model_replied:{STEPS}"
LATER = {"armed_by": f"model_failed:{STEPS}"}
SHOWN = "agent.ask:_Shown.show"


def rules() -> list[Mapping[str, Any]]:
    """Four commands, then a request that is too long; the words of the summary come slowly."""
    steps = [
        {"when": {"step": at}, "reply": {"calls": [bash(at, f"seq {at} 300; echo did-{at}.")]}} for at in range(STEPS)
    ]
    told = {"text": PROSE, "chunk_delay_ms": 30}
    return [
        {"when": {"system_contains": SUMMING}, "reply": told},
        {"when": {"step": STEPS}, "fault": {"overflow": True}, "times": 2},
        {"when": {"any_contains": f"did-{STEPS - 1}."}, "reply": {"text": "All is done."}},
        *steps,
    ]


@dataclass(frozen=True, slots=True)
class Place:
    """`lost`: the attempt for the summary was open. `asked`: how often a model is asked for it in all."""

    death: Death
    lost: int = 0
    asked: int = 1


def append_later(place: str, phase: str, **more: Any) -> Death:
    return append(place, phase, **LATER, **more)


PLACES = {
    "too long, not stored": Place(append(f"model_failed:{STEPS}", "before")),
    "too long, no room made yet": Place(append(f"model_failed:{STEPS}", "after")),
    "attempt not stored": Place(append_later(ASKED, "before")),
    "attempt in its transaction": Place(append_later(ASKED, "staged")),
    "attempt stored, nothing sent": Place(append_later(ASKED, "after"), lost=1, asked=2),
    "waiting for the first word": Place(append_later(ASKED, "after", delay_s=0.02), lost=1, asked=2),
    "first word of the summary": Place(function(SHOWN, **LATER), lost=1, asked=2),
    "middle of the summary": Place(function(SHOWN, nth=4, **LATER), lost=1, asked=2),
    "whole summary, not stored": Place(append_later(REPLIED, "before"), lost=1, asked=2),
    "summary in its transaction": Place(append_later(REPLIED, "staged"), lost=1, asked=2),
    "summary committed, not returned": Place(append_later(REPLIED, "committed")),
    "summary stored, room not made": Place(append_later(REPLIED, "after")),
    "compaction not stored": Place(append("compacted", "before")),
    "compaction in its transaction": Place(append("compacted", "staged")),
    "compaction committed, not returned": Place(append("compacted", "committed")),
    "compaction stored, nothing asked": Place(append("compacted", "after")),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_death_while_room_is_made_loses_nothing_and_does_nothing_twice(name, tmp_path):
    place = PLACES[name]
    with yard(tmp_path / "yard", rules()) as made:
        died = made.first(death=place.death).wait()
        assert died.code == KILLED, f"it did not come to {place.death}: {died.err}"
        ended = made.go_on().wait()
        assert (ended.code, ended.out) == (0, "All is done.\n"), ended.err
        assert made.witnessed() == [f"CALL-{at}" for at in range(STEPS)]
        check_once(made.entries())
        check_purse(made)
        events = [entry.event for entry in made.entries()]
    asked = {event.attempt: event for event in events if isinstance(event, ModelAsked) and event.role == "compaction"}
    assert len(asked) == place.asked
    lost = [event for event in events if isinstance(event, ModelFailed) and event.attempt in asked]
    assert [(event.kind, event.bound, event.cost == asked[event.attempt].reserved > 0) for event in lost] == [
        ("lost", True, True)
    ] * place.lost
    assert sum(isinstance(event, ModelReplied) and event.role == "compaction" for event in events) == 1
    [compacted] = [event for event in events if isinstance(event, Compacted)]
    assert f"> {PROSE}" in compacted.summary


def test_who_dies_at_each_try_goes_on_with_what_is_rendered_without_a_model(tmp_path):
    with yard(tmp_path / "yard", rules()) as made:
        assert made.first(death=append_later(ASKED, "after")).wait().code == KILLED
        assert made.go_on(death=append(ASKED, "after")).wait().code == KILLED
        ended = made.go_on().wait()
        assert (ended.code, ended.out) == (0, "All is done.\n"), ended.err
        check_purse(made)
        events = [entry.event for entry in made.entries()]
    lost = [event for event in events if isinstance(event, ModelFailed) and event.kind == "lost"]
    assert [event.bound for event in lost] == [True, True]
    [compacted] = [event for event in events if isinstance(event, Compacted)]
    assert PROSE not in compacted.summary
