"""What a command is told of the broker's refusals, from a log that a long session has grown."""

import os
from pathlib import Path

import msgspec
import pytest

from ml_intern.sandbox import egress, outcome
from ml_intern.sandbox.broker.egress import FILE
from ml_intern.sandbox.egress import Crossing, refused_during

BEGAN = 1_790_000_000.0


def _refused(at: float, why: str) -> Crossing:
    return Crossing(at, "evil.example", 443, "CONNECT", 0, 0, "refused", why)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder of a command that began at `BEGAN`."""
    command = tmp_path / "commands" / "call-1"
    command.mkdir(parents=True)
    (command / outcome.SPEC).touch()
    os.utime(command / outcome.SPEC, (BEGAN, BEGAN))
    return command


def _log(place: Path, *crossings: Crossing) -> None:
    lines = [msgspec.json.encode(each) for each in crossings]
    (place.parents[1] / FILE).write_bytes(b"\n".join([*lines, b'{"at": 17']))


def test_only_what_was_refused_since_it_began_is_told_in_its_order_and_once(place: Path):
    allowed = Crossing(BEGAN + 3, "pypi.org", 443, "CONNECT", 1, 1, "allowed")
    later = (_refused(BEGAN + 1, "no a"), _refused(BEGAN + 2, "no b"), allowed, _refused(BEGAN + 4, "no a"))
    _log(place, _refused(BEGAN - 60, "no long ago"), *later)
    assert refused_during(place) == ("no a", "no b")


def test_lines_written_side_by_side_may_stand_out_of_order(place: Path):
    _log(place, _refused(BEGAN + 0.1, "no a"), _refused(BEGAN - 0.5, "no other's"), _refused(BEGAN + 0.2, "no b"))
    assert refused_during(place) == ("no a", "no b")


def test_a_long_session_is_not_read_again_for_each_command(place: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[Crossing] = []
    decoded = egress._decoded
    monkeypatch.setattr(egress, "_decoded", lambda lines: (read.append(each) or each for each in decoded(lines)))
    _log(place, *(_refused(BEGAN - 20_000 + at, "no long ago") for at in range(10_000)), _refused(BEGAN + 1, "no a"))
    assert refused_during(place) == ("no a",)
    assert len(read) < 10


def test_without_a_log_or_a_command_nothing_was_refused(place: Path):
    assert refused_during(place) == ()
    assert refused_during(place.parent / "never-began") == ()
