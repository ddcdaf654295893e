from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from ml_intern.sandbox.levels import Level, probe
from tests.sandbox.yard import Yard, make_yard


@pytest.fixture(scope="session")
def machine_level() -> Level:
    return probe().level


@pytest.fixture(params=[Level.FULL, Level.WALLS, Level.NONE], ids=["full", "walls", "none"])
async def yard(request: pytest.FixtureRequest, tmp_path: Path, machine_level: Level) -> AsyncGenerator[Yard]:
    if request.param > machine_level:
        pytest.skip(f"this machine's sandbox level is {machine_level.name}: {probe().reasons}")
    yard = make_yard(tmp_path, request.param)
    yield yard
    await yard.commands().close()


@pytest.fixture
async def walled(tmp_path: Path, machine_level: Level) -> AsyncGenerator[Yard]:
    if machine_level < Level.FULL:
        pytest.skip(f"this machine's sandbox level is {machine_level.name}: {probe().reasons}")
    yard = make_yard(tmp_path, Level.FULL)
    yield yard
    await yard.commands().close()
