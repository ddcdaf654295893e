import pytest

from ml_intern.record.clearing import Cleared, Compacted
from ml_intern.record.events import ModelFailed, TurnEnded
from tests.walks.long_story import PLANT_EACH, Watching, prepare, tell
from tests.walks.walk import Walk


async def play(walk: Walk, steps: int, within_s: float) -> Watching:
    prepare(walk)
    async with Watching(steps) as double:
        done = await tell(walk, double, steps, within_s)
        assert done.code == 0, done.said
        assert done.out.strip() == "All done."
        assert [each for each in double.exchanges if each.status not in {200, None}] == []
    events = [entry.event for entry in await walk.entries()]
    assert not any(isinstance(event, ModelFailed) for event in events), "every request fits"
    assert [event.reason for event in events if isinstance(event, TurnEnded)] == ["done"]
    assert any(isinstance(event, Cleared) for event in events)
    assert double.summaries == sum(isinstance(event, Compacted) for event in events)
    assert len(list(walk.workspace.glob("result_*.txt"))) == steps // PLANT_EACH
    assert len(double.steps) >= steps
    return double


@pytest.mark.timeout(120)
async def test_a_prompt_of_150_steps_fits_a_small_window_and_loses_nothing(walk: Walk):
    double = await play(walk, 150, 110)
    assert double.summaries >= 1
    assert double.lost == []
