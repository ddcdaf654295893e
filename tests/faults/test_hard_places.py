"""Single kills where a death has the best chance to lose something or to do it twice."""

import pytest

from tests.faults import walk
from tests.faults.places import HARD
from tests.faults.state import check_once, check_purse, check_same, open_calls, state_of
from tests.faults.yard import KILLED, yard


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", HARD)
def test_a_death_at_a_hard_place_loses_nothing_and_does_nothing_twice(name, tmp_path, unkilled):
    hard = HARD[name]
    interrupted: set[str] = set()
    with yard(tmp_path / "yard", hard.rules) as made:
        walk.furnish(made.folder)
        for death in filter(None, (hard.death, hard.then)):
            died = made.go_on(death=death).wait()
            assert died.code == KILLED, f"it did not come to {death}: {died.err}"
            interrupted.update(open_calls(made))
        ended = made.go_on().wait()
        assert ended.code == 0, ended.err
        assert ended.out.strip() == walk.ANSWER
        check_same(state_of(made), unkilled, sorted(interrupted))
        check_once(made.entries())
        check_purse(made)
        assert made.witnessed() == list(walk.COMMANDS)


def test_a_session_whose_prompt_was_not_stored_says_so(tmp_path):
    with yard(tmp_path / "yard", [{"when": {"step": 0}, "reply": {"text": "Yes."}}]) as made:
        death = {"at": "append", "holds": "user_said", "phase": "before"}
        assert made.first(death=death).wait().code == KILLED
        ended = made.start("resume", "last").wait()
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.splitlines()[-2] == "ml-intern: Nothing was said in this session yet."
        assert made.go_on().wait().out == "Yes.\n"


def test_there_are_enough_hard_places():
    assert len(HARD) >= 40
