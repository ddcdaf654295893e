from ml_intern.policy.guards.deadline import deadline
from ml_intern.policy.guards.verdicts import EndTurn, Nudge
from ml_intern.record.events import Entry, Event, LimitsSet, Nudged, UserSaid
from ml_intern.record.log import replay
from ml_intern.record.view import View

BEGAN = 1_800_000_000_000
HOUR = 3_600_000


def view(*events: Event, hours: int = 10) -> View:
    first = (LimitsSet(300, None, BEGAN + hours * HOUR, BEGAN), UserSaid("c", "go"))
    return replay(Entry(seq, BEGAN, "main", event) for seq, event in enumerate((*first, *events), 1))


def said(at_ms: int, *before: Event, hours: int = 10) -> str:
    verdict = deadline(view(*before, hours=hours), "main", BEGAN + at_ms)
    return verdict.text if isinstance(verdict, Nudge) else ""


def test_the_model_is_told_at_once_how_much_time_there_is():
    assert said(0).startswith("Deadline: 10 h 0 min left, until 2027-01-15 18:00 UTC (0% of the time is used).")


def test_it_is_told_again_at_every_twentieth_and_not_between():
    told = Nudged("deadline", said(0))
    assert said(HOUR // 2 - 1, told) == ""
    assert "(5% of the time is used)" in said(HOUR // 2, told)
    again = Nudged("deadline", said(4 * HOUR, told))
    assert "6 h 0 min left" in again.text
    assert said(4 * HOUR + 1, told, again) == ""


def test_the_last_tenth_is_for_saving():
    assert "for saving" not in said(9 * HOUR - 1)
    assert "start nothing new" in said(9 * HOUR)


def test_a_later_deadline_begins_anew():
    told = Nudged("deadline", said(9 * HOUR))
    assert said(9 * HOUR, told) == ""
    assert "11 h 0 min left" in said(9 * HOUR, told, hours=20)


def test_at_the_deadline_the_turn_ends():
    verdict = deadline(view(), "main", BEGAN + 10 * HOUR)
    assert isinstance(verdict, EndTurn)
    assert "--until" in verdict.remedy


def test_without_a_deadline_nothing_is_said():
    assert deadline(View(), "main", BEGAN) is None
