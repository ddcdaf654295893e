"""What commands of this machine may use: cores, memory, disk, accelerators. Knows no wall, no session and no prompt.

Source: cgroups(7) (cpu.max, memory.max), nvidia-smi(1), the kernel's amdgpu documentation (mem_info_vram_total).
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from ml_intern.record.ground import Accelerator, Machine
from ml_intern.sandbox.devices import find
from ml_intern.sandbox.limits import MEBIBYTE, machine_memory_bytes

_QUERY = ("--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
_ASKED_S = 5.0
_MOST_CARDS = 64


def look(
    workspace: Path, cache: Path, *, system: Path = Path("/"), nodes: Callable[[], tuple[str, ...]] | None = None
) -> Machine:
    """What is there now. Accelerators are asked for once per boot and set of devices and kept in the file `cache`; a
    machine without their device nodes is never asked. Blocks: the question takes up to seconds.
    """
    found = tuple(sorted((nodes or _nodes)()))
    cards = _kept(cache, system, found) if found else ()
    return Machine(_cores(system), _memory(system), _disk(workspace), cards)


def nvidia(printed: str) -> tuple[Accelerator, ...]:
    """The cards that nvidia-smi lists, one `name, MiB` a line; memory that it does not tell is 0."""
    rows = [line.rpartition(",") for line in printed.splitlines() if "," in line][:_MOST_CARDS]
    return tuple(
        Accelerator(name.strip(), int(mebibytes) * MEBIBYTE if mebibytes.strip().isdecimal() else 0)
        for name, _, mebibytes in rows
    )


def amd(system: Path) -> tuple[Accelerator, ...]:
    """The cards of the amdgpu driver."""
    found: list[Accelerator] = []
    for folder in sorted((system / "sys/class/drm").glob("card*/device")):
        memory = _text(folder / "mem_info_vram_total")
        if memory.isdecimal():
            found.append(Accelerator(_text(folder / "product_name") or "AMD GPU", int(memory)))
    return tuple(found[:_MOST_CARDS])


class _Kept(Struct, frozen=True):
    boot: str
    nodes: tuple[str, ...]
    cards: tuple[Accelerator, ...]


def _nodes() -> tuple[str, ...]:
    found = find(cache="")
    return found.nodes if found.accelerators else ()


def _kept(cache: Path, system: Path, nodes: tuple[str, ...]) -> tuple[Accelerator, ...]:
    """What was kept holds until the next boot, or until other devices are there."""
    boot = _text(system / "proc/sys/kernel/random/boot_id")
    try:
        kept = msgspec.json.decode(cache.read_bytes(), type=_Kept)
    except (OSError, msgspec.DecodeError):
        kept = None
    if kept is not None and boot and (kept.boot, kept.nodes) == (boot, nodes):
        return kept.cards
    cards = (*nvidia(_asked()), *amd(system)) or _named(system)
    fresh = cache.with_suffix(f".{os.getpid()}")
    try:
        cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.write_bytes(json.dumps(msgspec.to_builtins(_Kept(boot, nodes, cards))).encode())
        fresh.replace(cache)
    except OSError:
        # A cache that cannot be written costs the same question at the next start.
        return cards
    return cards


def _asked() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        done = subprocess.run([program, *_QUERY], capture_output=True, timeout=_ASKED_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def _named(system: Path) -> tuple[Accelerator, ...]:
    """NVIDIA's cards as the driver's own files name them, where its program is missing; their memory is not told."""
    texts = [_text(path) for path in sorted((system / "proc/driver/nvidia/gpus").glob("*/information"))]
    lines = [line.partition(":") for text in texts for line in text.splitlines()]
    return tuple(Accelerator(value.strip(), 0) for key, _, value in lines if key.strip() == "Model")


def _cores(system: Path) -> int:
    """As many as we may run on, or as our cgroup lets us use, whichever is less; at least one."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _text(system / "sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdecimal() and period.isdecimal() and int(period):
        count = min(count, max(1, round(int(quota) / int(period))))
    return max(1, count)


def _memory(system: Path) -> int:
    bound = _text(system / "sys/fs/cgroup/memory.max")
    return min(machine_memory_bytes(), int(bound)) if bound.isdecimal() else machine_memory_bytes()


def _disk(workspace: Path) -> int:
    try:
        return shutil.disk_usage(workspace).free
    except OSError:
        return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
