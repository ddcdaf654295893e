import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ml_intern.base.errors import StoreFailed
from ml_intern.store.folder import DATABASE
from ml_intern.store.lock import take
from ml_intern.store.sqlite import SqliteStore
from tests.store.conftest import ACTOR, SESSION


def test_a_full_disk_is_told_and_nothing_stored_is_lost(mounts, act, tmp_path):
    script = f'mount -t tmpfs -o size=1m,mode=700 tmpfs {tmp_path} && exec "$0" "$@"'
    done = act("fill", tmp_path / "data", tmp_path / "ballast", before=(*mounts, script))
    assert done.returncode == 0, done.stderr
    refused, kept, then = done.stdout.splitlines()
    assert refused.startswith(f"StoreFailed The disk under {tmp_path / 'data'}")
    assert "is full. Free some space there" in refused
    assert kept.startswith("kept True of ")
    assert int(kept.split()[-1]) > 10
    assert then == "then 1"


def test_a_limit_on_the_size_of_files_is_told_and_nothing_stored_is_lost(act, data):
    done = act("limit", data)
    assert done.returncode == 0, done.stderr
    refused, kept, then = done.stdout.splitlines()
    assert refused.startswith(f"StoreFailed The disk under {data / DATABASE} refused")
    assert "ulimit -f" in refused
    assert kept.startswith("kept True of ")
    assert int(kept.split()[-1]) > 10
    assert then == "then 1"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: to become another user")
@pytest.mark.parametrize("mode", [0o755, 0o700])
async def test_a_folder_of_another_user_is_told(store, act, data, mode):
    for folder in [data, *data.parents][:4]:
        folder.chmod(0o755)
    data.chmod(mode)
    done = act("foreign", data)
    assert done.stdout.startswith("StoreFailed "), done.stderr
    assert "cannot be written by this user (uid 65534). Make the folder" in done.stdout
    assert "ML_INTERN_DATA" in done.stdout


def test_a_read_only_disk_is_told(mounts, act, tmp_path):
    script = f'mount -t tmpfs -o ro tmpfs {tmp_path} && exec "$0" "$@"'
    done = act("opened", tmp_path / "data", before=(*mounts, script))
    assert done.stdout.startswith(f"StoreFailed {tmp_path / 'data'} cannot be written"), done.stderr


def test_a_network_file_system_is_refused_with_the_remedy(mounts, act, tmp_path):
    listed = tmp_path / "mountinfo"
    kept = Path("/proc/self/mountinfo").read_text()
    listed.write_text(f"{kept}99 1 0:99 / {tmp_path} rw - nfs4 server:/home rw,vers=4.2\n")
    script = f'mount --bind {listed} /proc/$$/mountinfo && exec "$0" "$@"'
    done = act("opened", tmp_path / "data", before=(*mounts, script))
    assert "lies on a network file system (nfs4)" in done.stdout, done.stderr
    assert "Set ML_INTERN_DATA to a folder on a local disk." in done.stdout


async def test_a_file_that_is_no_database_is_told(data):
    data.mkdir()
    (data / DATABASE).write_bytes(b"this is a letter\n" * 1000)
    with pytest.raises(StoreFailed, match="is damaged"):
        await SqliteStore.open(data)


async def test_a_damaged_page_is_told_on_reading(data, store, owner):
    for seq in range(1, 400):
        await owner.journal.append(seq, b'{"fill": "' + b"x" * 900 + b'"}', flush=False)
    await store.close()
    owner.release()
    with (data / DATABASE).open("r+b") as file:
        for page in range(3, 60):
            file.seek(page * 4096)
            file.write(os.urandom(4096))
    damaged = await SqliteStore.open(data)
    with pytest.raises(StoreFailed, match=r"is damaged .*\. Move it aside"):
        await damaged.lines(SESSION)
    await damaged.close()


async def test_a_newer_schema_is_refused(data, store):
    await store.close()
    connection = sqlite3.connect(data / DATABASE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreFailed, match=r"newer version of ml-intern \(schema 99, .* Update ml-intern"):
        await SqliteStore.open(data)


async def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreFailed, match="cannot be used"):
        await SqliteStore.open(tmp_path / "data" / "deeper")


async def test_a_file_that_stays_locked_is_told(data, store, owner, act):
    blocker = sqlite3.connect(data / DATABASE, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    command = [sys.executable, str(ACTOR), "opened", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    blocker.close()
    assert "locked for too long. Find it with `fuser FILE`" in done.stdout, done.stderr


async def test_a_lock_file_that_cannot_be_made_is_told(data, store):
    folder = await store.create(SESSION)
    (folder / "lock").mkdir()
    with pytest.raises(StoreFailed, match="lock cannot be used"):
        await take(store, SESSION, "test")
