"""The machine as commands may use it, read from its own files."""

import os
from pathlib import Path

from ml_intern.record.ground import Accelerator
from ml_intern.sandbox.machine import amd, look, nvidia


def put(system: Path, name: str, text: str) -> None:
    path = system / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def nothing() -> tuple[str, ...]:
    return ()


def test_this_machine_has_cores_memory_and_disk(tmp_path):
    found = look(tmp_path, tmp_path / "cache.json")
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert found.memory_bytes > 100_000_000
    assert found.disk_bytes > 0


def test_a_group_that_bounds_us_counts(tmp_path):
    put(tmp_path, "sys/fs/cgroup/cpu.max", "100000 100000\n")
    put(tmp_path, "sys/fs/cgroup/memory.max", "50000000\n")
    found = look(tmp_path, tmp_path / "cache.json", system=tmp_path, nodes=nothing)
    assert (found.cores, found.memory_bytes) == (1, 50_000_000)
    put(tmp_path, "sys/fs/cgroup/cpu.max", "max 100000\n")
    put(tmp_path, "sys/fs/cgroup/memory.max", "max\n")
    assert look(tmp_path, tmp_path / "c", system=tmp_path, nodes=nothing).memory_bytes > 100_000_000


def test_cards_are_read_as_nvidia_lists_them():
    printed = "NVIDIA H100 80GB HBM3, 81559\nNVIDIA GB10, [N/A]\n\nFailed\n"
    assert nvidia(printed) == (Accelerator("NVIDIA H100 80GB HBM3", 81_559 << 20), Accelerator("NVIDIA GB10", 0))


def test_cards_of_amd_are_read_from_the_driver(tmp_path):
    put(tmp_path, "sys/class/drm/card0/device/mem_info_vram_total", "17163091968\n")
    put(tmp_path, "sys/class/drm/card1/device/vendor", "0x8086\n")
    assert amd(tmp_path) == (Accelerator("AMD GPU", 17_163_091_968),)


def test_cards_are_asked_for_once_per_boot_and_set_of_devices(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    program = tmp_path / "bin/nvidia-smi"
    put(tmp_path, "bin/nvidia-smi", f'#!/bin/sh\necho asked >> {tmp_path}/witness\necho "NVIDIA T4, 15360"\n')
    program.chmod(0o755)
    put(tmp_path, "proc/sys/kernel/random/boot_id", "b1")
    nodes = ["/dev/nvidia0"]

    def cards() -> tuple[Accelerator, ...]:
        return look(tmp_path, tmp_path / "cache/a.json", system=tmp_path, nodes=lambda: tuple(nodes)).accelerators

    assert cards() == cards() == (Accelerator("NVIDIA T4", 15_360 << 20),)
    assert (tmp_path / "witness").read_text().count("asked") == 1
    put(tmp_path, "proc/sys/kernel/random/boot_id", "b2")
    cards()
    nodes.append("/dev/nvidia1")
    cards()
    assert (tmp_path / "witness").read_text().count("asked") == 3
    (tmp_path / "cache/a.json").write_text("{broken")
    assert cards()
    nodes.clear()
    assert cards() == ()


def test_without_the_drivers_program_its_own_files_name_the_card(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    put(tmp_path, "proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t NVIDIA A10\nIRQ:  16\n")
    found = look(tmp_path, tmp_path / "cache.json", system=tmp_path, nodes=lambda: ("/dev/nvidia0",))
    assert found.accelerators == (Accelerator("NVIDIA A10", 0),)
