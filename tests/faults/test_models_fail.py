"""Models that fail several times in a row, or ask for a wait, at the real command line. One by one: test_chaos.py."""

import tempfile
from pathlib import Path

import pytest

from ml_intern.record.events import ModelFailed, RetryPlanned
from tests.faults.failing import ANSWER, FIRST, MIDDLE, PASSING, STEPS, faulty, rules
from tests.faults.state import check_once, check_purse, check_same, state_of
from tests.faults.yard import yard

pytestmark = pytest.mark.timeout(120)

FAILED = 1


@pytest.fixture(scope="module")
def faultless():
    with tempfile.TemporaryDirectory() as folder, yard(Path(folder) / "yard", rules()) as made:
        ended = made.first().wait()
        assert (ended.code, ended.out) == (0, f"{ANSWER}\n"), ended.err
        return state_of(made)


def check_healed(made, faultless, times: int) -> None:
    ended = made.first().wait()
    assert (ended.code, ended.out) == (0, f"{ANSWER}\n"), ended.err
    events = [entry.event for entry in made.entries()]
    assert sum(isinstance(event, ModelFailed) for event in events) == times
    assert sum(isinstance(event, RetryPlanned) for event in events) == times
    assert len(made.asked()) == len(STEPS) + times
    assert made.witnessed() == ["CALL-1"]
    check_same(state_of(made), faultless, ())
    check_once(made.entries())
    check_purse(made)


@pytest.mark.parametrize("name", ["429", "429 with Retry-After", "500", "cut in mid-text"])
def test_three_faults_in_a_row_leave_no_trace_in_the_result(name, tmp_path, faultless):
    with yard(tmp_path / "yard", faulty(MIDDLE, 3, PASSING[name]["chat"])) as made:
        check_healed(made, faultless, 3)


def test_a_wait_that_the_server_asks_for_is_kept(tmp_path, faultless):
    with yard(tmp_path / "yard", faulty(FIRST, 1, {"status": 429, "retry_after": 2})) as made:
        check_healed(made, faultless, 1)
        refused, asked, *_ = made.asked()
        assert asked.arrived_ns - refused.arrived_ns >= 2e9


def test_a_reply_that_the_provider_filters_ends_the_turn_and_the_session_goes_on(tmp_path):
    script = [
        {"when": {"step": 0}, "reply": {"text": "I will", "finish": "content_filter"}},
        {"when": {"step": 1}, "reply": {"text": "Otherwise worded."}},
    ]
    with yard(tmp_path / "yard", script) as made:
        ended = made.first("--quiet").wait()
        assert ended.code == FAILED
        assert ended.err.startswith("failed: The provider's filter ended the reply.")
        ended = made.go_on().wait()
        assert (ended.code, ended.out) == (0, "Otherwise worded.\n"), ended.err
