"""One walk, killed at every append of its record in turn, resumed each time."""

import pytest

from tests.faults import walk
from tests.faults.state import check_once, check_purse, check_same, open_calls, state_of
from tests.faults.yard import KILLED, yard

MOST_LINKS = 250


@pytest.mark.timeout(600)
@pytest.mark.parametrize("phase", ["after", "before"])
def test_a_walk_killed_at_every_append_comes_to_the_same(phase, tmp_path, unkilled, record_property):
    death = {"at": "chain", "phase": phase, "file": str(tmp_path / "deaths")}
    interrupted: set[str] = set()
    with yard(tmp_path / "yard", walk.rules()) as made:
        walk.furnish(made.folder)
        ended = made.go_on(death=death).wait()
        kills = 0
        while ended.code == KILLED:
            kills += 1
            assert kills < MOST_LINKS
            interrupted.update(open_calls(made))
            ended = made.go_on(death=death).wait()
        assert ended.code == 0, ended.err
        assert ended.out.strip() == walk.ANSWER
        check_same(state_of(made), unkilled, sorted(interrupted))
        check_once(made.entries())
        check_purse(made)
        assert made.witnessed() == list(walk.COMMANDS)
    places = (tmp_path / "deaths").read_text().splitlines()
    assert kills == len(places)
    # Every append of a walk is a place; what only a resume appends comes on top.
    assert kills >= 2 * walk.CALLS + 2 * len(walk.STEPS) + 6
    record_property("kills", kills)
    print(f"{kills} kills {phase} an append")
