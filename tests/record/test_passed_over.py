"""Most entries pass over most folds, which makes opening quick: none of those would have changed anything."""

from hypothesis import given

from ml_intern.record.codec import decode
from ml_intern.record.folds.calls import fold_calls
from ml_intern.record.folds.conduct import fold_conduct
from ml_intern.record.folds.down import fold_down
from ml_intern.record.folds.files import fold_files
from ml_intern.record.folds.grants import fold_grants
from ml_intern.record.folds.memory import fold_memory
from ml_intern.record.folds.origins import fold_origins
from ml_intern.record.folds.plan import fold_plan
from ml_intern.record.folds.purse import fold_purse
from ml_intern.record.folds.spent import fold_spent
from ml_intern.record.folds.transcript import fold_transcript
from ml_intern.record.view import MAIN, View, fold
from tests.record.legal import records
from tests.record.test_golden import VERSIONS, lines_of


def check(entries):
    view = View()
    for entry in entries:
        after, lane, event = fold(view, entry), view.lane(entry.lane), entry.event
        assert after.purse == fold_purse(view.purse, event)
        assert after.plan == (fold_plan(view.plan, entry) if entry.lane == MAIN else view.plan)
        assert after.files == fold_files(view.files, entry)
        assert after.grants == fold_grants(view.grants, entry)
        assert after.origins == fold_origins(view.origins, entry)
        assert after.down == fold_down(view.down, event, lane.turn.attempt)
        if type(event).__name__ not in {"LaneOpened", "LaneClosed"}:
            of_lane, transcript = after.lane(entry.lane), fold_transcript(lane.transcript, entry)
            assert of_lane.transcript == transcript
            assert of_lane.calls == fold_calls(lane.calls, entry)
            assert of_lane.spent == fold_spent(lane.spent, event)
            assert of_lane.conduct == fold_conduct(lane.conduct, lane.calls, entry)
            assert of_lane.memory == fold_memory(lane.memory, entry, lane.calls, transcript.weight)
        view = after


@given(records())
def test_no_fold_misses_an_entry_of_any_record(entries):
    check(entries)


def test_no_fold_misses_an_entry_of_a_real_session():
    for version in VERSIONS:
        check(map(decode, lines_of(version)))
