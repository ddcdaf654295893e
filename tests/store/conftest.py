import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ml_intern.store.lock import Owner, take
from ml_intern.store.sqlite import SqliteStore

ACTOR = Path(__file__).with_name("actor.py")
SESSION = "01jzzzzzzzzzzzzzzzzzzzzzzz"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def store(data: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(data)
    yield store
    await store.close()


@pytest.fixture
async def owner(store: SqliteStore) -> AsyncIterator[Owner]:
    await store.create(SESSION)
    owner = await take(store, SESSION, "test")
    yield owner
    owner.release()


@pytest.fixture
def act() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs one part of actor.py as a process of its own, `before` it what it is started by."""

    def run(*arguments: object, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = [*before, sys.executable, str(ACTOR), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)

    return run


@pytest.fixture(scope="session")
def mounts() -> tuple[str, ...]:
    """The command before one that may mount file systems unseen by others."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs root and unshare: a mount namespace of its own")
    return (unshare, "-m", "sh", "-c")
