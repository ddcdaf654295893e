"""The floor of the bench really does what an agent does, and stays the floor."""

import asyncio
import sys
from pathlib import Path

from tests.doubles.openai_server import Double

FLOOR = Path(__file__).parents[2] / "bench" / "floor.py"


def test_the_floor_has_at_most_forty_lines():
    assert len(FLOOR.read_text().splitlines()) <= 40


async def test_the_floor_runs_the_commands_and_sends_their_output_back():
    calls = [{"name": "bash", "arguments": {"command": command}} for command in ("echo one", "echo two >&2")]
    script = [{"when": {"step": 0}, "reply": {"calls": calls}}, {"reply": {"text": "{{answer:0}}{{answer:1}}"}}]
    async with Double(script) as double:
        process = await asyncio.create_subprocess_exec(sys.executable, FLOOR, double.url, "go", stdout=-1)
        output, _ = await process.communicate()
        assert (process.returncode, output) == (0, b"one\ntwo\n\n")
        assert [exchange.how for exchange in double.exchanges] == ["completed"] * 2
