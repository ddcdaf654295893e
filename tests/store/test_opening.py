"""Opening a long session, by the program of the bench: the median of several rounds, in processor time.

Each round compares what was measured within one second: a machine has spells in which all takes half as long again,
and the best of either side may come from different ones.
"""

import statistics
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.speed

BENCH = Path(__file__).resolve().parents[2] / "bench" / "opening.py"


def opening(kind):
    command = [sys.executable, BENCH, "10000", "12", kind]
    lines = subprocess.run(command, stdout=-1, text=True, check=True).stdout.splitlines()
    rounds = [[float(figure) for figure in line.split()] for line in lines]
    assert len(rounds) == 12
    return statistics.median(opened / loaded for loaded, opened in rounds)


def test_opening_ten_thousand_events_costs_at_most_four_times_what_json_takes_to_read_them():
    assert opening("numbers") <= 4


@pytest.mark.parametrize("kind", ["code", "hashes"])
def test_opening_a_record_of_code_or_of_files_costs_little_more_though_each_word_may_name_a_place(kind):
    assert opening(kind) <= 10
