"""Opening a long session, by the program of the bench: the best of several rounds, in processor time."""

import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parents[2] / "bench" / "opening.py"


def test_opening_ten_thousand_events_costs_at_most_four_times_what_json_takes_to_read_them():
    lines = subprocess.run([sys.executable, BENCH, "10000", "6"], stdout=-1, text=True, check=True).stdout.splitlines()
    loaded, opened = zip(*(map(float, line.split()) for line in lines), strict=True)
    assert len(opened) == 6
    assert min(opened) <= 4 * min(loaded)
