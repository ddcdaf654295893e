"""Models that fail: passing faults leave no trace in the result, lasting ones end the turn with one sentence."""

import tempfile
from pathlib import Path

import pytest

from ml_intern.record.events import ModelFailed, RetryPlanned
from tests.faults.state import check_once, check_purse, check_same, state_of
from tests.faults.walk import call
from tests.faults.yard import yard

pytestmark = pytest.mark.timeout(120)

FAILED = 1
_STEPS = [
    {"text": "I write. ", "calls": [call("write", path="a.txt", content="alpha\nbeta\n")]},
    {"calls": [call("bash", command="echo CALL-1 1 >> witness; wc -l < a.txt"), call("read", path="a.txt")]},
    {"calls": [call("edit", path="a.txt", old_str="beta", new_str="gamma")]},
    {"text": "It has {{answer:1}} lines."},
]
FIRST, MIDDLE, LAST = 0, 2, 3
PASSING = {
    "429": {"status": 429},
    "429 with Retry-After": {"status": 429, "retry_after": 0.3},
    "500": {"status": 500},
    "503": {"status": 503},
    "cut at once": {"cut_after": 0},
    "cut in the middle": {"cut_after": 3},
    "ended too early": {"end_after": 3},
    "reset at once": {"reset": True},
    "reset in the middle": {"reset": True, "after": 2},
    "malformed": {"malformed": True},
    "error in the stream": {"error": {"message": "The server is overloaded.", "type": "server_error", "code": 500}},
}
LASTING = {
    "401": ({"status": 401}, "refuses the key"),
    "402": ({"status": 402}, "wants money"),
    "404": ({"status": 404}, "does not serve this model"),
    "400": ({"status": 400}, "rejects the form of the request"),
    "overflow": ({"overflow": True}, "has no room for a request of this length"),
    "content filter": (
        {"status": 400, "body": {"error": {"message": "Blocked by content_filter.", "code": "content_filter"}}},
        "refuses the request by its policy",
    ),
    "quota in a 429": (
        {
            "status": 429,
            "body": {"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}},
        },
        "wants money",
    ),
}


def rules(*before: dict[str, object]) -> list[dict[str, object]]:
    return [*before, *({"when": {"step": at}, "reply": step} for at, step in enumerate(_STEPS))]


def faulty(step: int, times: int, how: dict[str, object]) -> list[dict[str, object]]:
    return rules({"when": {"step": step}, "fault": how, "times": times, "reply": _STEPS[step]})


@pytest.fixture(scope="module")
def faultless():
    with tempfile.TemporaryDirectory() as folder, yard(Path(folder) / "yard", rules()) as made:
        ended = made.first().wait()
        assert (ended.code, ended.out) == (0, "It has 2 lines.\n"), ended.err
        return state_of(made)


def check_healed(made, faultless, times: int) -> None:
    ended = made.first().wait()
    assert (ended.code, ended.out) == (0, "It has 2 lines.\n"), ended.err
    events = [entry.event for entry in made.entries()]
    assert sum(isinstance(event, ModelFailed) for event in events) == times
    assert sum(isinstance(event, RetryPlanned) for event in events) == times
    assert len(made.asked()) == len(_STEPS) + times
    assert made.witnessed() == ["CALL-1"]
    check_same(state_of(made), faultless, ())
    check_once(made.entries())
    check_purse(made)


@pytest.mark.parametrize("step", [FIRST, MIDDLE, LAST])
@pytest.mark.parametrize("name", PASSING)
def test_a_passing_fault_leaves_no_trace_in_the_result(name, step, tmp_path, faultless):
    with yard(tmp_path / "yard", faulty(step, 1, PASSING[name])) as made:
        check_healed(made, faultless, 1)


@pytest.mark.parametrize("name", ["429", "429 with Retry-After", "500", "cut in the middle"])
def test_three_faults_in_a_row_leave_no_trace_in_the_result(name, tmp_path, faultless):
    with yard(tmp_path / "yard", faulty(MIDDLE, 3, PASSING[name])) as made:
        check_healed(made, faultless, 3)


def test_a_wait_that_the_server_asks_for_is_kept(tmp_path, faultless):
    with yard(tmp_path / "yard", faulty(FIRST, 1, {"status": 429, "retry_after": 2})) as made:
        check_healed(made, faultless, 1)
        refused, asked, *_ = made.asked()
        assert asked.arrived_ns - refused.arrived_ns >= 2e9


@pytest.mark.parametrize("step", [FIRST, LAST])
@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_fault_ends_the_turn_with_one_sentence_and_the_session_goes_on(name, step, tmp_path, faultless):
    how, words = LASTING[name]
    with yard(tmp_path / "yard", faulty(step, 1, how)) as made:
        ended = made.first("--quiet").wait()
        assert ended.code == FAILED, ended.err
        sentence, *rest = ended.err.splitlines()
        assert words in sentence
        assert "Traceback" not in ended.err
        assert len(rest) <= 2
        assert rest[-1] == f"Go on with: ml-intern resume {made.session()}"
        asked = len(made.asked())
        assert asked == step + 1, "a lasting fault is not tried again"
        ended = made.go_on().wait()
        assert (ended.code, ended.out) == (0, "It has 2 lines.\n"), ended.err
        found = state_of(made)
        assert (found.disk, found.answers, found.ending) == (faultless.disk, faultless.answers, "done")
        assert made.witnessed() == ["CALL-1"]
        check_once(made.entries())
        check_purse(made)


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


def test_a_wait_of_an_hour_is_not_waited_for(tmp_path):
    with yard(tmp_path / "yard", rules({"when": {"step": 0}, "fault": {"status": 429, "retry_after": 3600}})) as made:
        ended = made.first("--quiet").wait()
        assert ended.code == FAILED
        assert "wants fewer requests" in ended.err
        assert len(made.asked()) == 1
