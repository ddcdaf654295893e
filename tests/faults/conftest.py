import tempfile
from pathlib import Path

import pytest

from ml_intern.sandbox.levels import Level, probe
from tests.faults import walk
from tests.faults.state import state_of
from tests.faults.yard import yard


@pytest.fixture(scope="session", autouse=True)
def walls():
    found = probe()
    if found.level < Level.WALLS:
        pytest.skip(f"needs a sandbox: {' '.join(found.reasons)}")


@pytest.fixture(scope="session")
def unkilled():
    """What the walk comes to when nobody is killed."""
    with tempfile.TemporaryDirectory(prefix="unkilled-") as folder, yard(Path(folder) / "yard", walk.rules()) as made:
        walk.furnish(made.folder)
        ended = made.first().wait()
        assert ended.code == 0, ended.err
        assert ended.out.strip() == walk.ANSWER
        assert made.witnessed() == list(walk.COMMANDS)
        found = state_of(made)
        assert len(found.answers) == walk.CALLS
        return found
