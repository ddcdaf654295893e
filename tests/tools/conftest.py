from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from ml_intern.sandbox.commands import Commands
from ml_intern.sandbox.levels import Level, Probe, probe
from ml_intern.sandbox.limits import Limits
from tests.tools.bench import Bench, Shell, make_bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path)


@pytest.fixture(scope="session")
def walls() -> Probe:
    return probe()


@pytest.fixture
async def shell(bench: Bench, walls: Probe) -> AsyncGenerator[Shell]:
    if walls.level < Level.FULL:
        pytest.skip(f"this machine's sandbox level is {walls.level.name}: {walls.reasons}")
    commands = Commands(bench.folder, walls.level, bwrap=walls.bwrap, limits=Limits(grace_s=0.5))
    yield Shell(bench, commands)
    await commands.close()
