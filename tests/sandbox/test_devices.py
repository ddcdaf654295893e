import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_intern.sandbox import bubblewrap, devices
from ml_intern.sandbox.devices import Devices
from ml_intern.sandbox.paths import Root, Roots
from ml_intern.sandbox.profiles import Profile
from ml_intern.sandbox.walls import rules
from tests.sandbox.yard import Yard

NVIDIA = ("/dev/null", "/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-caps")
AMD = ("/dev/kfd", "/dev/dri", "/dev/tty")
SCREEN_ONLY = ("/dev/dri", "/dev/null")
LDCONFIG = """\
5 libs found in cache `/etc/ld.so.cache'
\tlibcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1
\tlibnvidia-ml.so.1 (libc6,x86-64) => /run/driver/lib64/libnvidia-ml.so.1
\tlibcuda.so (libc6,x86-64) => /run/driver/lib64/libcuda.so
\tlibcudart.so.12 (libc6,x86-64) => /home/me/cuda/libcudart.so.12
\tlibc.so.6 (libc6,x86-64) => /lib/x86_64-linux-gnu/libc.so.6
"""
ROOTS = Roots((Root("/usr", "/usr", "read"), Root("/work", "/work", "write")), ())


def table(*nodes: str) -> devices.Expand:
    return lambda pattern: [node for node in nodes if fnmatch.fnmatch(node, pattern)]


def seen(*nodes: str) -> Devices:
    return devices.find(table(*nodes), LDCONFIG, exists=lambda path: path.startswith(("/usr", "/run", "/sys/devices")))


def test_the_nodes_of_the_drivers_are_found_and_nothing_else():
    assert seen(*NVIDIA).nodes == tuple(sorted(NVIDIA[1:]))
    assert seen(*AMD).nodes == ("/dev/dri", "/dev/kfd")
    assert (seen(*NVIDIA).accelerators, seen(*AMD).accelerators) == (2, 1)


def test_a_screen_is_no_accelerator():
    assert seen(*SCREEN_ONLY) == Devices()


def test_the_drivers_libraries_outside_the_roots_are_shown_and_no_other_library():
    hidden = devices.beyond(seen(*NVIDIA), ROOTS).shown
    assert [path for path in hidden if path.startswith("/run")] == [
        "/run/driver/lib64/libnvidia-ml.so.1",
        "/run/driver/lib64/libcuda.so",
    ]
    assert not any("libcudart" in path or "libc.so" in path or path.startswith("/usr") for path in hidden)


@pytest.mark.parametrize("profile", list(Profile))
def test_only_train_gets_devices(profile: Profile):
    options = bubblewrap.options(ROOTS, "/work", {}, profile, seen(*NVIDIA))
    used = rules(ROOTS, profile, seen(*NVIDIA)).use
    trains = profile is Profile.TRAIN
    assert ("/dev/nvidia0" in options, "/dev/nvidia0" in used) == (trains, trains)
    assert ("/run/driver/lib64/libcuda.so" in options) == trains


def test_devices_come_before_dev_is_made_read_only():
    options = bubblewrap.options(ROOTS, "/work", {}, Profile.TRAIN, seen(*NVIDIA))
    shut = max(at for at, word in enumerate(options) if (word, options[at - 1]) == ("/dev", "--remount-ro"))
    assert options.index("/dev/nvidia-uvm") < shut


@pytest.fixture
def node() -> Iterator[str]:
    """A device that commands do not have, and that anyone of this test may open."""
    for path in ("/dev/fuse", "/dev/loop-control", "/dev/net/tun", "/dev/kvm", "/dev/rtc0", "/dev/ttyS0"):
        if os.access(path, os.R_OK):
            yield path
            return
    pytest.skip("this machine has no spare device to show")


async def test_a_device_and_a_sized_private_shared_memory_are_inside(walled: Yard, node: str):
    commands = walled.commands()
    commands._devices = Devices((node,), ())  # the machine's own list, as if it had this one
    seen: list[bytes] = []
    look = (
        f"test -c {node} && echo there; df -B1 --output=size /dev/shm | tail -1; touch /dev/shm/x /dev/new; ls /dev/shm"
    )
    spec = walled.spec(look, profile=Profile.TRAIN)
    await commands.run(spec, seen.append)
    there, size, *rest = b"".join(seen).decode().splitlines()
    assert there == "there"
    half = devices.shared_memory_bytes(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    assert abs(int(size) - half) <= os.sysconf("SC_PAGE_SIZE")
    assert "Read-only" in rest[0]
    assert rest[1:] == ["x"]
    assert not Path("/dev/shm/x").exists()


async def test_without_an_accelerator_work_stays_work(walled: Yard, node: str):
    commands = walled.commands()
    commands._devices = Devices()
    seen: list[bytes] = []
    await commands.run(walled.spec(f"test -c {node} || echo hidden"), seen.append)
    assert b"".join(seen) == b"hidden\n"


def test_the_version_of_the_driver_is_read_where_there_is_one(tmp_path: Path):
    place = tmp_path / "version"
    place.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n")
    assert devices.nvidia_driver(place) == "570.86.15"
    assert devices.nvidia_driver(tmp_path / "none") == ""
