"""Whether there is room: a disk that is nearly full, a quota for all sessions. Knows no session."""

import os
from pathlib import Path

from ml_intern.base.errors import StoreFailed
from ml_intern.base.text import size
from ml_intern.store.failures import of_system

SPARE_BYTES = 200 * 1024 * 1024
"""Below this nothing large is begun; of a small disk a tenth is enough."""

_REMEDY = (
    "See what can go with `ml-intern sessions gc`, delete sessions you no longer need, or set ML_INTERN_DATA to a "
    "folder on another disk."
)


def require_space(folder: Path, wanted: int = 0) -> None:
    """Make sure that the disk under `folder`, which exists, keeps its spare when `wanted` bytes are written to it.

    Raises:
        StoreFailed: it would not.
    """
    try:
        state = os.statvfs(folder)
    except OSError as error:
        raise of_system(error, folder) from error
    spare = min(SPARE_BYTES, state.f_blocks * state.f_frsize // 10)
    free = state.f_bavail * state.f_frsize
    if free - wanted < spare:
        needed = f" for {size(wanted)}" if wanted else ""
        raise StoreFailed(f"Only {size(free)} are free on the disk under {folder}: too little{needed}.", _REMEDY)


def require_quota(data: Path, most: int) -> None:
    """Make sure that all sessions together take at most `most` bytes of disk. Blocks for as long as it counts.

    Raises:
        StoreFailed: they take more.
    """
    taken = taken_by(data)
    if taken > most:
        what = f"The sessions under {data} take {size(taken)}, more than the {size(most)} that storage.max allows."
        raise StoreFailed(what, _REMEDY)


def taken_by(path: Path) -> int:
    """Bytes of disk that would be free if this file or folder went: what has a second name elsewhere counts nothing."""
    total, waiting = 0, [path]
    while waiting:
        here = waiting.pop()
        try:
            facts = here.lstat()
            if here.is_dir() and not here.is_symlink():
                waiting += here.iterdir()
        except OSError:
            continue  # it went while we counted, or is not ours
        total += facts.st_blocks * 512 if facts.st_nlink == 1 or here.is_dir() else 0
    return total
