"""The cap holds, and it is used: the model double keeps its own bill."""

import pytest

from ml_intern.record.events import ModelAsked, ModelFailed, ModelReplied
from ml_intern.record.log import replay
from tests.faults.state import check_purse
from tests.faults.walk import call
from tests.faults.yard import KILLED, Yard, yard

pytestmark = pytest.mark.timeout(120)

CAP = "0.50"
CAP_MICRO = 500_000
PRICES = "1/4"
BUDGET = 3
# 2 000 tokens of text, and a call: the turn never ends by itself, and no guard ends it.
ENDLESS = ("--guard-repeats", "off", "--guard-stall", "off")
_ENDLESS = {"text": "All work and no play. " * 360, "deltas": 4, "calls": [call("bash", command="true")]}


def endless(**more: object) -> dict[str, object]:
    return {"when": {"step_from": 0}, "reply": {**_ENDLESS, **more}}


def check_cap(made: Yard, code: int, err: str) -> None:
    """The turn ended on its budget, most of it was used, and nobody is owed more."""
    assert code == BUDGET, err
    view = replay(made.entries())
    replies = [entry.event for entry in made.entries() if isinstance(entry.event, ModelReplied)]
    asked = [entry.event for entry in made.entries() if isinstance(entry.event, ModelAsked)]
    print(f"{len(asked)} attempts, {len(replies)} replies, spent {view.purse.spent}, owed {made.owed()}")
    assert len(replies) >= 5
    assert 0.8 * CAP_MICRO <= view.purse.spent <= CAP_MICRO
    assert made.owed() <= CAP_MICRO
    assert min(event.max_output for event in asked) >= 2048
    assert not any(reply.overrun for reply in replies)
    assert "budget" in err
    assert "--budget" in err
    check_purse(made)


def run(made: Yard) -> tuple[int, str]:
    ended = made.first(*ENDLESS, cap=CAP).wait()
    return ended.code, ended.err


def test_the_cap_holds_and_most_of_it_is_used(tmp_path):
    with yard(tmp_path / "yard", [endless()], prices=PRICES) as made:
        check_cap(made, *run(made))


def test_with_cut_streams(tmp_path):
    # The first attempt at every second step is cut: every third of all.
    cut = [
        {"when": {"step": step}, "fault": {"cut_after": 3}, "times": 1, "reply": _ENDLESS} for step in range(1, 60, 2)
    ]
    with yard(tmp_path / "yard", [*cut, endless()], prices=PRICES) as made:
        check_cap(made, *run(made))
        failed = [entry.event for entry in made.entries() if isinstance(entry.event, ModelFailed)]
        assert len(failed) >= 3
        assert all(event.bound and event.cost for event in failed)


def test_with_no_usage_reported(tmp_path):
    # Each reply is booked at its reservation, so there are fewer; cheaper output makes enough of them.
    with yard(tmp_path / "yard", [endless(usage="none", text="Short. " * 40)], prices="1/2") as made:
        check_cap(made, *run(made))
        replies = [entry.event for entry in made.entries() if isinstance(entry.event, ModelReplied)]
        assert all(event.bound for event in replies)


@pytest.mark.parametrize("place", ["model_asked:1", "model_asked:3", "model_replied:4"])
def test_with_a_kill_between_ask_and_reply(tmp_path, place):
    phase = "after" if place.startswith("model_asked") else "before"
    death = {"at": "append", "holds": place, "phase": phase}
    with yard(tmp_path / "yard", [endless()], prices=PRICES) as made:
        assert made.first(*ENDLESS, cap=CAP, death=death).wait().code == KILLED
        ended = made.go_on().wait()
        check_cap(made, ended.code, ended.err)
        [lost] = [entry.event for entry in made.entries() if isinstance(entry.event, ModelFailed)]
        asked = next(
            entry.event
            for entry in made.entries()
            if isinstance(entry.event, ModelAsked) and entry.event.attempt == lost.attempt
        )
        assert (lost.kind, lost.cost, lost.bound) == ("lost", asked.reserved, True)


def test_with_a_kill_in_mid_stream_over_and_over(tmp_path):
    slowly = endless(chunk_delay_ms=40)
    with yard(tmp_path / "yard", [slowly], prices=PRICES) as made:
        for step in (0, 2, 4):
            death = {
                "at": "function",
                "target": "ml_intern.agent.ask:_Shown.show",
                "phase": "after",
                "holds": "TextDelta",
                "nth": 2,
                "armed_by": f"model_asked:{step}",
            }
            started = made.first(*ENDLESS, cap=CAP, death=death) if step == 0 else made.go_on(death=death)
            assert started.wait().code == KILLED
        ended = made.go_on().wait()
        check_cap(made, ended.code, ended.err)


def test_a_session_at_its_cap_goes_on_with_a_higher_one(tmp_path):
    with yard(tmp_path / "yard", [{**endless(), "when": {"step_below": 7}}, _last()], prices=PRICES) as made:
        ended = made.first(*ENDLESS, cap="0.05").wait()
        assert ended.code == BUDGET
        assert made.go_on().wait().code == BUDGET
        ended = made.go_on("--budget", CAP).wait()
        assert (ended.code, ended.out) == (0, "Enough.\n"), ended.err
        assert made.owed() <= CAP_MICRO


def _last() -> dict[str, object]:
    return {"when": {"step_from": 7}, "reply": {"text": "Enough."}}
