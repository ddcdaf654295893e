"""The long one of tests/walks/test_long.py, with its figures: minutes."""

import statistics
import sys

import pytest

from tests.walks.conftest import walk, walls
from tests.walks.test_long import play
from tests.walks.walk import Walk

__all__ = ["walk", "walls"]


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_prompt_of_1000_steps_stays_small_and_its_last_steps_cost_what_the_first_do(walk: Walk):
    double = await play(walk, 1_000, 890)
    assert double.lost == []
    took = [after - before for before, after in zip(double.steps, double.steps[1:], strict=False)]
    early, late = statistics.median(took[10:60]), statistics.median(took[-50:])
    busy = [(double.busy[last] - double.busy[last - 50]) / 50 for last in (60, len(double.busy) - 1)]
    memory = [max(double.memory[at - 20 : at]) for at in (100, len(double.memory))]
    sys.stderr.write(
        f"1 000 steps: {double.summaries} compactions, a step {early * 1000:.0f} ms early, {late * 1000:.0f} ms late "
        f"(busy {busy[0] * 1000:.0f} and {busy[1] * 1000:.0f} ms); "
        f"memory {memory[0] / 1e6:.0f} MB at 100, {memory[1] / 1e6:.0f} MB at 1 000; "
        f"{100 * double.cached:.0f} % of the prompts cached\n"
    )
    assert memory[1] <= 1.2 * memory[0]
    assert busy[1] <= 1.5 * busy[0]
    # What is waited for, too; wider, because other tests run beside this one at one end of it and not at the other.
    assert late <= 3 * early
