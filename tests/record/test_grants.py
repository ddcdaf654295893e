from ml_intern.record.copies import Copy, forked
from ml_intern.record.display import TextDisplay
from ml_intern.record.events import (
    CapSet,
    Entry,
    Granted,
    GrantEnded,
    RuleGiven,
    SessionStarted,
    ToolFinished,
    ToolStarted,
)
from ml_intern.record.folds.grants import Given
from ml_intern.record.log import replay

GRANT = Granted("g", (RuleGiven("allow", "spend me, 3.00 in all", "flag"),), total=3_000_000, command="asked")


def record(*events) -> list[Entry]:
    return [Entry(seq, seq, "main", event) for seq, event in enumerate((SessionStarted("s", "/w", "1"), *events), 1)]


def test_a_permission_is_counted_from_its_event_on_and_its_command_is_taken_in_once():
    used = ToolStarted("c", "b", (), "findable", 70, grants=("g", "unknown"))
    view = replay([Entry(1, 1, "main", GRANT)])
    assert view.grants == {"g": Given(GRANT)}
    assert view.commands == {"asked"}
    given = replay([Entry(1, 1, "main", GRANT), Entry(2, 2, "main", GrantEnded("g", "gone"))]).grants["g"]
    assert (given.ended, given.used) == ("gone", 0)
    assert used.grants == ("g", "unknown")


def test_a_fork_has_no_permission_that_its_original_counts():
    made = forked(record(CapSet(5, "user"), GRANT), Copy("01new", 9), 3, 7)
    assert replay(made).grants["g"].ended == "the session was forked"


def test_a_finish_of_another_call_books_nothing():
    view = replay(record(GRANT, ToolFinished("other", "ok", "", TextDisplay(""), cost=5)))
    assert view.grants["g"].committed == 0
