"""A prompt that is longer than the model's window, through the whole command line: worked on, and the person told."""

import pytest

from tests.walks.walk import Hearing, Walk

SUMMED = {"when": {"system_contains": "You write one part of a summary"}, "reply": {"text": "State: it began."}}
WINDOW = 16_384


@pytest.mark.parametrize("window", [WINDOW, None], ids=["known", "found out"])
async def test_a_prompt_longer_than_the_window_is_worked_on_and_told_with_what_to_do(walk: Walk, window: int | None):
    prompt = "Count the rows below.\n" + "row of many words\n" * 8_000 + "Answer with one number."
    script = [SUMMED, {"when": {"step": 0}, "reply": {"text": "8000"}}]
    overflows = {"when": {"step": 0}, "fault": {"overflow": True}, "times": 1}
    async with Hearing(script if window else [overflows, *script], window=window) as double:
        done = await walk.say(double, stdin=prompt.encode())
        bodies = len(double.bodies)
    assert (done.code, done.out) == (0, "8000\n"), done.said
    told = [line for line in done.err.splitlines() if "  prompt: " in line]
    assert len(told) == 1, done.said
    assert "your message alone (144 kB) was longer than the model's window" in told[0]
    assert "put what is long into a file of the workspace" in told[0]
    assert bodies >= 2
