import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ml_intern.base.clock import TestClock
from ml_intern.record.secrets import Secrets
from ml_intern.session.house import House
from ml_intern.store.sqlite import SqliteStore
from tests.session.yard import FIRST, record

KILLER = Path(__file__).with_name("killer.py")


@pytest.fixture
def data(tmp_path):
    async def make():
        store = await SqliteStore.open(tmp_path / "data")
        await record(store)
        await store.close()

    asyncio.run(make())
    return tmp_path / "data"


def rounds(name, data):
    """What each kill left, and what the whole operation does."""
    command = [sys.executable, str(KILLER), name, str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)
    *killed, whole = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, whole["code"]) == (0, 0), done.stderr
    assert len(killed) >= 8, "the kills must fall inside the operation"
    assert all(each["code"] == -9 for each in killed)
    return killed, whole


def test_a_killed_deletion_leaves_the_whole_session_or_none(data):
    killed, whole = rounds("delete", data)
    assert (whole["listed"], whole["strays"], whole["hidden"]) == (0, 0, 0)
    assert all(each["whole"] for each in killed)
    assert {each["listed"] for each in killed} == {0, 1}
    assert any(each["hidden"] for each in killed)


def test_a_killed_fork_is_there_whole_or_not_at_all(data):
    killed, whole = rounds("fork", data)
    assert (whole["listed"], whole["whole"], whole["strays"]) == (2, True, 0)
    assert all(each["whole"] for each in killed)
    assert {each["listed"] for each in killed} <= {1, 2}
    assert any(each["strays"] for each in killed)


def test_a_killed_import_is_there_whole_or_not_at_all(data):
    async def export():
        store = await SqliteStore.open(data)
        with (data.parent / "exported.jsonl").open("wb") as file:
            await House(store, Secrets({}), TestClock()).export(FIRST, file)
        await store.close()

    asyncio.run(export())
    killed, whole = rounds("import", data)
    assert (whole["listed"], whole["whole"], whole["strays"]) == (2, True, 0)
    assert all(each["whole"] for each in killed)
    assert any(each["strays"] for each in killed)
