import pytest

from ml_intern.policy.judge import Allow, Ask, judge
from ml_intern.record.effects import (
    Destroys,
    Executes,
    Notifies,
    Publishes,
    Reaches,
    Reads,
    Spends,
    Writes,
)

FREE = [
    Reads("data.csv"),
    Writes("out.txt"),
    Executes("ls"),
    Reaches("the package index", known=True),
]
ASKED = [
    Reads("/etc/passwd", within=False),
    Writes("/srv/x", within=False),
    Reaches("example.org"),
    Publishes("hub:me/model", public=False),
    Destroys("/srv/x", remote=False),
    Notifies("boss@example.org"),
]
FLOOR = [
    Executes("rm -rf /", walled=False),
    Publishes("hub:me/model", public=True),
    Destroys("hub:me/model", remote=True),
    Spends(1, "someone else", "a job", own=False),
]


@pytest.mark.parametrize("mode", ["ask", "auto"])
@pytest.mark.parametrize("effect", FREE, ids=repr)
def test_what_stays_inside_the_walls_is_free(effect, mode):
    assert judge((effect,), mode) == Allow()


@pytest.mark.parametrize("mode", ["ask", "auto"])
@pytest.mark.parametrize("effect", ASKED, ids=repr)
def test_what_goes_beyond_is_asked(effect, mode):
    verdict = judge((effect,), mode)
    assert isinstance(verdict, Ask)
    assert not verdict.floor


@pytest.mark.parametrize("mode", ["ask", "auto", "yolo"])
@pytest.mark.parametrize("effect", FLOOR, ids=repr)
def test_the_floor_is_for_a_person_in_every_mode(effect, mode):
    verdict = judge((effect,), mode)
    assert isinstance(verdict, Ask)
    assert verdict.floor


def test_spending_is_free_in_auto_and_asked_in_ask():
    spends = (Spends(2_500_000, "me", "a job"),)
    assert judge(spends, "auto") == Allow()
    verdict = judge(spends, "ask")
    assert isinstance(verdict, Ask)
    assert "$2.50 of me on a job" in verdict.reason


def test_the_floor_goes_before_what_is_merely_asked():
    verdict = judge((ASKED[0], FREE[0], FLOOR[1]), "auto")
    assert isinstance(verdict, Ask)
    assert verdict.floor


def test_a_call_without_effects_is_free():
    assert judge((), "ask") == Allow()
