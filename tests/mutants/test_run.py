"""The runner of mutants itself: a fault that is seen, one that is not, and lists that do not fit."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import run

PRODUCT = "def double(x):\n    return x + x\n\n\ndef half(x):\n    return x / 2\n"
TEST = "from thing import double, half\n\ndef test_double():\n    assert double(2) == 4\n"
MUTANT = {"name": "m", "file": "src/thing.py", "old": "x + x", "new": "x - x", "test": "tests/test_thing.py"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path, text in {"src/thing.py": PRODUCT, "tests/test_thing.py": TEST}.items():
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text(text)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    return tmp_path


def listed(root: Path, *tables: dict[str, str]) -> Path:
    text = "".join("[[mutant]]\n" + "".join(f"{key} = {value!r}\n" for key, value in table.items()) for table in tables)
    (root / "mutants.toml").write_text(text)
    return root / "mutants.toml"


def verdicts(root: Path, **changed: str) -> list[str]:
    mutants = run.load(listed(root, MUTANT | changed), root)
    return [outcome.verdict for outcome in run.check(mutants, root)]


def test_a_fault_that_the_test_sees_is_caught_and_the_tree_is_left_alone(root):
    assert verdicts(root) == ["caught"]
    assert (root / "src/thing.py").read_text() == PRODUCT


def test_a_fault_that_no_test_sees_survives(root):
    outcomes = run.check(run.load(listed(root, MUTANT | {"old": "x / 2", "new": "x / 3"}), root), root)
    assert [(outcome.verdict, outcome.good) for outcome in outcomes] == [("SURVIVED", False)]
    assert "0 of 1 caught" in run.report(outcomes)


def test_a_fault_that_only_stops_the_test_from_loading_proves_nothing(root):
    assert verdicts(root, old="def half", new="def quarter") == ["BROKEN (pytest exit 2)"]


def test_a_test_that_is_red_without_a_fault_proves_nothing(root):
    (root / "tests/test_thing.py").write_text(TEST.replace("4", "5"))
    assert verdicts(root) == ["red without a fault"]


def test_a_fault_that_makes_the_test_hang_is_caught(root, monkeypatch):
    monkeypatch.setattr(run, "LIMIT_S", 5)
    assert verdicts(root, old="return x + x", new="while True: pass") == ["caught (hung)"]


def test_a_fault_that_hypothesis_finds_is_not_made_small_first(root):
    slow = "from hypothesis import given, settings, strategies\nfrom thing import double\nimport time\n\n"
    slow += "@settings(deadline=None)\n@given(strategies.lists(strategies.integers(), min_size=20))\n"
    slow += "def test_double(numbers):\n    for each in numbers:\n        if double(each) != 2 * each:\n"
    slow += "            time.sleep(1)\n            assert False\n"
    (root / "tests/test_thing.py").write_text(slow)
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\ntimeout = 10\n")
    [outcome] = run.check(run.load(listed(root, MUTANT), root), root)
    assert outcome.verdict == "caught"
    assert outcome.seconds < 8


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"old": "nowhere"}, "stands 0 times"),
        ({"old": "return"}, "stands 2 times"),
        ({"file": "src/gone.py"}, "stands 0 times"),
        ({"new": "x + x"}, "changes nothing"),
        ({"test": "tests/test_gone.py::test_it"}, "no test file"),
        ({"why": "because"}, "needs exactly"),
    ],
)
def test_a_list_that_does_not_fit_the_tree_is_refused(root, changed, said):
    with pytest.raises(run.BadList, match=said):
        run.load(listed(root, MUTANT | changed), root)


def test_two_mutants_of_one_name_are_refused(root):
    with pytest.raises(run.BadList, match="twice"):
        run.load(listed(root, MUTANT, MUTANT), root)


def test_an_empty_list_is_a_failure_not_a_success(root):
    command = [sys.executable, run.__file__, "--list", listed(root)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


def test_the_projects_own_list_fits_the_tree():
    run.load(Path(run.__file__).parent / "mutants.toml")
