"""Which commands were left running and are not yet known to have ended: a small file for each, beside the record.

May be lost: then an end is seen by who looks for it, and told by nobody. Knows no output and no process.
"""

import contextlib
import os
from pathlib import Path

import msgspec
from msgspec import Struct

FOLDER = "background"


class Mark(Struct, frozen=True):
    """A command that `lane` left running; `description` is what it is for, in the model's own words."""

    lane: str
    title: str
    description: str = ""


def leave(folder: Path, key: str, mark: Mark) -> None:
    """Mark the command `key` of the session of `folder`. Blocks."""
    with contextlib.suppress(OSError):
        place = folder / FOLDER
        place.mkdir(mode=0o700, exist_ok=True)
        fresh = place / f"{key}.new"
        fresh.write_bytes(msgspec.json.encode(mark))
        fresh.rename(place / f"{key}.json")


def take_away(folder: Path, key: str) -> None:
    """Its end is known to who left it. Blocks."""
    with contextlib.suppress(OSError):
        (folder / FOLDER / f"{key}.json").unlink()


def any_left(folder: Path) -> bool:
    """Whether there may be marks: one look, so cheap that it needs no thread at each step."""
    with contextlib.suppress(OSError), os.scandir(folder / FOLDER) as found:
        return any(True for _ in found)
    return False


def marks(folder: Path) -> dict[str, Mark]:
    """By key, in the order in which they were left. Blocks."""
    found: dict[str, Mark] = {}
    with contextlib.suppress(OSError):
        for path in sorted((folder / FOLDER).glob("*.json"), key=_age):
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                found[path.stem] = msgspec.json.decode(path.read_bytes(), type=Mark)
    return found


def _age(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_mtime_ns, path.name
    except OSError:
        return 0, path.name
