"""The check of a change runs every gate in order and stops at the first that is red."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT

STEPS = ["quality", "level", "test", "test-faults", "mutants", "test-demo"]


def run(folder: Path, *, red: str = "", limit_s: int = 3600) -> tuple[int, list[str]]:
    """(exit code, the steps that ran) of .ci/run among gates that only say their name."""
    (folder / ".ci").mkdir(parents=True)
    (folder / ".venv/bin").mkdir(parents=True)
    script = (ROOT / ".ci/run").read_text()
    assert "LIMIT_S=3600" in script
    (folder / ".ci/run").write_text(script.replace("LIMIT_S=3600", f"LIMIT_S={limit_s}"))
    shutil.copy(ROOT / ".ci/level", folder / ".ci")
    python = folder / ".venv/bin/python"
    python.write_text(f"#!/bin/sh\necho ran level\n[ level != '{red}' ]\n")
    python.chmod(0o755)
    gates = [f"{name}:\n\t@echo ran {name}; [ {name} != '{red}' ]\n" for name in STEPS if name != "level"]
    (folder / "Makefile").write_text(f".PHONY: {' '.join(STEPS)}\n" + "".join(gates))
    done = subprocess.run(["bash", ".ci/run"], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, [line.removeprefix("ran ") for line in done.stdout.splitlines() if line.startswith("ran ")]


def test_every_gate_runs_in_order(tmp_path):
    assert run(tmp_path) == (0, STEPS)


@pytest.mark.parametrize("red", STEPS)
def test_a_red_gate_is_a_red_run(tmp_path, red):
    code, ran = run(tmp_path, red=red)
    assert code != 0
    assert ran == STEPS[: STEPS.index(red) + 1]


def test_the_long_gates_are_left_out_where_no_time_is_left(tmp_path):
    assert run(tmp_path, limit_s=600) == (0, ["quality", "level", "test"])


def test_the_level_that_is_demanded_is_one_that_exists():
    assert (ROOT / ".ci/level").read_text().strip() in {"full", "walls", "none"}
