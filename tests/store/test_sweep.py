import os
import subprocess
import sys
import time

import pytest

from ml_intern.base.errors import StoreFailed
from ml_intern.record.secrets import Secrets
from ml_intern.store.blobs import Blobs
from ml_intern.store.folder import DATABASE, session_folder
from ml_intern.store.lock import take
from ml_intern.store.space import require_quota, require_space, taken_by
from ml_intern.store.sweep import DAY_S, YOUNG_S, Sweep
from tests.session.yard import FIRST, record

NOW = time.time()


@pytest.fixture
def environments(tmp_path):
    folder = tmp_path / "environments"
    folder.mkdir()
    return folder


@pytest.fixture
def sweep(store, environments):
    return Sweep(store, environments, time.time() + 2 * YOUNG_S, 30)


def environment(environments, key, used_days_ago):
    (environments / key / "bin").mkdir(parents=True)
    (environments / key / "bin" / "python").write_bytes(b"x" * 50_000)
    for name in (f"{key}.ready", f"{key}.txt", f"{key}.lock"):
        (environments / name).write_text("[]")
    used = NOW - used_days_ago * DAY_S
    os.utime(environments / f"{key}.ready", (used, used))


def removed(sweep):
    return [(each.kind, each.path.name) for each in sweep.find() if sweep.remove(each)]


async def test_a_store_in_order_has_nothing_to_sweep(store, sweep, environments):
    await record(store)
    environment(environments, "a" * 24, 3)
    assert sweep.find() == []


async def test_a_folder_without_a_session_goes_and_a_young_one_stays(store, sweep):
    await record(store)
    stray = session_folder(store.data, "01stray")
    (stray / "blobs").mkdir(parents=True)
    (stray / "blobs" / "x").write_bytes(b"x" * 100_000)
    young = Sweep(store, sweep.environments, time.time(), 30)
    assert young.find() == []
    (found,) = sweep.find()
    assert (found.kind, found.path) == ("folder", stray)
    assert found.bytes >= 100_000
    assert sweep.remove(found)
    assert [path.name for path in (store.data / "sessions").iterdir()] == [FIRST]


async def test_a_session_that_came_meanwhile_is_not_taken_for_litter(store, sweep):
    folder = session_folder(store.data, "01later")
    folder.mkdir(parents=True)
    (found,) = sweep.find()
    await store.create("01later")
    assert not sweep.remove(found)
    assert folder.is_dir()


async def test_only_outputs_that_no_entry_names_go(store, sweep):
    await record(store)
    blobs = Blobs(session_folder(store.data, FIRST) / "blobs", Secrets({}))
    sha = await blobs.put(b"nobody names this")
    kept = len(list((session_folder(store.data, FIRST) / "blobs").glob("??/*")))
    (found,) = sweep.find()
    assert (found.kind, found.path.name, found.session) == ("output", sha[2:], FIRST)
    assert sweep.remove(found)
    assert len(list((session_folder(store.data, FIRST) / "blobs").glob("??/*"))) == kept - 1


async def test_outputs_of_a_session_that_is_open_stay(store, sweep):
    await record(store)
    await Blobs(session_folder(store.data, FIRST) / "blobs", Secrets({})).put(b"about to be named")
    (found,) = sweep.find()
    owner = await take(store, FIRST, "test")
    assert sweep.find() == []
    assert not sweep.remove(found)
    owner.release()
    assert sweep.remove(found)


async def test_an_environment_goes_when_nobody_used_it_lately(store, sweep, environments):
    environment(environments, "a" * 24, 40)
    environment(environments, "b" * 24, 3)
    (environments / ("c" * 24)).mkdir()
    os.utime(environments / ("c" * 24), (0, 0))
    assert removed(sweep) == [("environment", "a" * 24), ("environment", "c" * 24)]
    left = {path.name for path in environments.iterdir()}
    assert {f"{'b' * 24}.ready", "b" * 24} <= left
    assert not {"a" * 24, f"{'a' * 24}.ready", f"{'a' * 24}.txt", "c" * 24} & left


async def test_an_environment_in_use_stays(store, sweep, environments):
    key = "d" * 24
    environment(environments, key, 400)
    command = [sys.executable, "-c", "import time; time.sleep(30)", str(environments / key / "bin" / "python")]
    running = subprocess.Popen(command)
    (found,) = sweep.find()
    assert not sweep.remove(found)
    running.kill()
    running.wait()
    assert sweep.remove(found)


async def test_the_database_gives_back_what_deleted_lines_took(store, sweep, data):
    await store.create("01big")
    owner = await take(store, "01big", "test")
    for seq in range(1, 300):
        await owner.journal.append(seq, b'{"fill": "%s"}' % (b"x" * 20_000), flush=False)
    await store.write(lambda db: db.execute("DELETE FROM events WHERE session = '01big'"), flush=True)
    await owner.journal.append(300, b'{"fill": "%s"}' % (b"y" * 100), flush=True)
    before = (data / DATABASE).stat().st_size
    (found,) = sweep.find()
    assert (found.kind, found.bytes > 4_000_000) == ("database", True)
    assert sweep.remove(found)
    assert (data / DATABASE).stat().st_size < before - 4_000_000
    assert b"yyy" in (await store.lines("01big"))[0]
    owner.release()


# ------------------------------------------------------------------------------------------------------------ space
def test_a_disk_with_room_is_enough_and_one_without_is_told(tmp_path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    require_space(tmp_path)
    with pytest.raises(StoreFailed, match=r"Only .* are free on the disk under .*: too little for") as caught:
        require_space(tmp_path, free)
    assert "ml-intern sessions gc" in caught.value.remedy


async def test_an_output_that_would_fill_the_disk_is_not_kept(tmp_path, mounts):
    code = (
        "import asyncio, pathlib, sys\n"
        "from ml_intern.record.secrets import Secrets\nfrom ml_intern.store.blobs import Blobs\n"
        "blobs = Blobs(pathlib.Path(sys.argv[1]) / 'blobs', Secrets({}))\n"
        "print(len(asyncio.run(blobs.put(b'x' * 1_000_000))))\n"
        "try:\n    asyncio.run(blobs.put(b'y' * 8_500_000))\nexcept Exception as error:\n    print(error)\n"
    )
    script = f'mount -t tmpfs -o size=10m tmpfs {tmp_path} && exec "$0" "$@"'
    command = [*mounts, script, sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    kept, told = done.stdout.splitlines()
    assert kept == "64", done.stderr
    assert "too little for 8.5 MB. See what can go with `ml-intern sessions gc`" in told


def test_a_quota_counts_what_all_sessions_take(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(b"x" * 300_000)
    os.link(tmp_path / "a" / "one", tmp_path / "two")
    assert taken_by(tmp_path) < 100_000, "a file with two names frees nothing when one of them goes"
    (tmp_path / "two").unlink()
    assert taken_by(tmp_path) >= 300_000
    require_quota(tmp_path, 10**9)
    with pytest.raises(StoreFailed, match=r"more than the 100 kB that storage\.max allows"):
        require_quota(tmp_path, 100_000)
