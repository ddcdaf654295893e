from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ml_intern.sandbox.levels import Level, probe
from tests.walks.walk import Walk


@pytest.fixture(scope="session")
def walls() -> Level:
    found = probe()
    if found.level < Level.FULL:
        pytest.skip(f"this machine's sandbox level is {found.level.name}: {found.reasons}")
    return found.level


@pytest.fixture
async def walk(tmp_path: Path, walls: Level) -> AsyncIterator[Walk]:
    walk = Walk(tmp_path)
    yield walk
    await walk.close()
