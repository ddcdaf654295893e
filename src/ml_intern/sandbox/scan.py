"""What a command changed: sizes and times of the workspace's files before and after. Knows no contents and no tool."""

import contextlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ml_intern.sandbox.files import BESIDE
from ml_intern.sandbox.paths import Roots

_SKIPPED = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        "node_modules",
        "__pycache__",
        ".venv",
        "venv",
        ".tox",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".ipynb_checkpoints",
    }
)
_DEPTH = 64
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Mark(NamedTuple):
    """A file's size in bytes and modification time in nanoseconds."""

    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Scan:
    """Marks by path relative to the workspace; `complete` is false where there were more than the limit."""

    files: Mapping[str, Mark]
    complete: bool


class Change(NamedTuple):
    """One file that a command made, changed or removed."""

    path: str
    what: Literal["created", "changed", "removed"]


def scan(roots: Roots, limit: int = 20_000) -> Scan:
    """Look at no more than `limit` files of the workspace, links not followed. Blocks: call it in a thread."""
    outside = next(root.outside for root in roots.roots if root.inside == roots.workspace)
    files: dict[str, Mark] = {}
    complete = True
    # Each folder is entered through its parent's descriptor: one that turns into a link meanwhile is not followed.
    with contextlib.suppress(OSError):
        complete = _into(os.open(outside, _FOLDER), "", files, limit)
    return Scan(files, complete)


def diff(before: Scan, after: Scan) -> tuple[Change, ...]:
    """What differs, by path. An incomplete scan proves nothing about what it did not see."""
    changes = [Change(path, "changed") for path, mark in after.files.items() if before.files.get(path, mark) != mark]
    if before.complete:
        changes += [Change(path, "created") for path in after.files if path not in before.files]
    if after.complete:
        changes += [Change(path, "removed") for path in before.files if path not in after.files]
    return tuple(sorted(changes))


def _into(folder: int, prefix: str, files: dict[str, Mark], limit: int) -> bool:
    """Whether everything below was seen. Closes `folder`."""
    complete = True
    try:
        for name, mode, mark in _look(folder):
            if stat.S_ISDIR(mode):
                complete = _deeper(folder, name, prefix, files, limit) and complete
            elif name.startswith(BESIDE):
                continue
            elif len(files) < limit:
                files[prefix + name] = mark
            else:
                return False
    finally:
        os.close(folder)
    return complete


def _deeper(folder: int, name: str, prefix: str, files: dict[str, Mark], limit: int) -> bool:
    if name in _SKIPPED:
        return True
    if prefix.count("/") >= _DEPTH:
        return False
    try:
        inner = os.open(name, _FOLDER, dir_fd=folder)
    except OSError:
        # Gone meanwhile, or not ours to read: nothing in it can be told.
        return True
    return _into(inner, f"{prefix}{name}/", files, limit)


def _look(folder: int) -> list[tuple[str, int, Mark]]:
    found: list[tuple[str, int, Mark]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                facts = entry.stat(follow_symlinks=False)
                found.append((entry.name, facts.st_mode, Mark(facts.st_size, facts.st_mtime_ns)))
    return sorted(found)
