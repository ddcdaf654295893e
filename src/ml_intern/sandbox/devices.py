"""What a command of profile `train` sees of the accelerators: devices, driver libraries, what drivers tell.

Read from the machine's tables as text and paths, so that a table of another machine can be given. Knows no mount call.
Source: NVIDIA's and AMD's lists of device nodes for containers, ldconfig(8) -p.
"""

import glob
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import Struct

from ml_intern.sandbox.paths import Roots
from ml_intern.sandbox.protected import below

_PATTERNS = (
    "/dev/nvidia[0-9]*",
    "/dev/nvidiactl",
    "/dev/nvidia-modeset",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvidia-caps",
    "/dev/nvidia-nvswitch*",
    "/dev/dri",
    "/dev/dxg",
    "/dev/kfd",
    "/dev/accel",
    "/dev/infiniband/uverbs*",
)
_COMPUTE = re.compile(r"/dev/(nvidia\d+|dxg|kfd|accel)")
_LIBRARY = re.compile(
    r"lib(cuda|cudadebugger|nvcuvid|nvidia-[\w-]+|nvoptix|amdhip64|hsa-runtime64|hsakmt|rocm_smi64|amd_smi|drm(_\w+)?"
    r"|ze_loader|ze_intel_gpu|dxcore|d3d12\w*)\.so(\.|$)"
)
# What the drivers' libraries read to find their cards; all of it is read-only.
_FACTS = (
    "/sys/bus/pci/devices",
    "/sys/class/drm",
    "/sys/class/kfd",
    "/sys/dev/char",
    "/sys/devices",
    "/sys/module/amdgpu",
    "/sys/module/nvidia",
    "/usr/lib/wsl",
)
_CACHE_TIMEOUT_S = 10.0

Expand = Callable[[str], Iterable[str]]


class Devices(Struct, frozen=True):
    """`nodes` are used, `shown` files and folders are read. Nothing where the machine has no accelerator."""

    nodes: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()

    @property
    def accelerators(self) -> int:
        """How many there seem to be, counted by their nodes."""
        return sum(1 for node in self.nodes if _COMPUTE.fullmatch(node))


def find(
    expand: Expand = glob.glob, cache: str | None = None, *, exists: Callable[[str], bool] = os.path.exists
) -> Devices:
    """The accelerators of this machine. `cache` is what `ldconfig -p` prints (default: asked for). Blocks."""
    nodes = tuple(sorted({path for pattern in _PATTERNS for path in expand(pattern)}))
    if not any(_COMPUTE.fullmatch(node) for node in nodes):
        return Devices()
    libraries = driver_libraries(_ldconfig() if cache is None else cache)
    return Devices(nodes, tuple(path for path in (*libraries, *_FACTS) if exists(path)))


def driver_libraries(cache: str) -> tuple[str, ...]:
    """The drivers' libraries among those that `ldconfig -p` names: drivers put them where no package manager looks."""
    rows = (line.strip().partition(" => ") for line in cache.splitlines())
    return tuple(dict.fromkeys(path for name, _, path in rows if path and _LIBRARY.match(name.split(" ")[0])))


def beyond(devices: Devices, roots: Roots) -> Devices:
    """Without what the table of roots shows already."""
    seen = [root.inside for root in roots.roots]
    hidden = (path for path in devices.shown if not any(path == one or below(path, one) for one in seen))
    return Devices(devices.nodes, tuple(hidden))


def shared_memory_bytes(memory_bytes: int) -> int:
    """How large /dev/shm is inside: workers of a data loader hand their batches over in it. Half, as Linux has it."""
    return memory_bytes // 2


def _ldconfig() -> str:
    program = shutil.which("ldconfig", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        return ""
    try:
        done = subprocess.run([program, "-p"], capture_output=True, timeout=_CACHE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace")


def nvidia_driver(place: Path = Path("/proc/driver/nvidia/version")) -> str:
    """The version of NVIDIA's driver, or an empty text."""
    try:
        found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", place.read_text())
    except OSError:
        return ""
    return found.group() if found else ""
