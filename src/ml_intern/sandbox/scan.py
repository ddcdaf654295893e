"""What a command changed: sizes and times of the workspace's files before and after. Knows no contents and no tool."""

import contextlib
import itertools
import os
from collections.abc import Mapping
from typing import Literal, NamedTuple

from msgspec import Struct

from ml_intern.sandbox.files import BESIDE
from ml_intern.sandbox.paths import Roots
from ml_intern.sandbox.protected import WALLED_NAMES

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
_NAMES_PER_FILE = 10
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Mark(NamedTuple):
    """A file's size in bytes and modification time in nanoseconds."""

    size: int
    mtime_ns: int


class Scan(Struct, frozen=True):
    """Marks by path relative to the workspace; `complete` is false where there were more than the limit.

    `protected` are files and folders, `.git` among them, that have the name of one that must be walled.
    """

    files: Mapping[str, Mark]
    complete: bool
    protected: frozenset[str] = frozenset()


class Change(NamedTuple):
    """One file that a command made, changed or removed."""

    path: str
    what: Literal["created", "changed", "removed"]


def scan(roots: Roots, limit: int = 20_000) -> Scan:
    """Look at no more than `limit` files of the workspace, links not followed. Blocks: call it in a thread."""
    outside = next(root.outside for root in roots.roots if root.inside == roots.workspace)
    look = _Look(limit)
    complete = True
    # Each folder is entered through its parent's descriptor: one that turns into a link meanwhile is not followed.
    with contextlib.suppress(OSError):
        complete = look.into(os.open(outside, _FOLDER), "")
    return Scan(look.files, complete, frozenset(look.protected))


def diff(before: Scan, after: Scan) -> tuple[Change, ...]:
    """What differs, by path. An incomplete scan proves nothing about what it did not see."""
    changes = [Change(path, "changed") for path, mark in after.files.items() if before.files.get(path, mark) != mark]
    if before.complete:
        changes += [Change(path, "created") for path in after.files if path not in before.files]
    if after.complete:
        changes += [Change(path, "removed") for path in before.files if path not in after.files]
    return tuple(sorted(changes))


class _Look:
    """One look at a workspace."""

    def __init__(self, limit: int) -> None:
        self.files: dict[str, Mark] = {}
        self.protected: list[str] = []
        self._limit = limit
        # Folders cost a few files each; listing many names, as much again.
        self._folders = limit
        self._names_left = limit * _NAMES_PER_FILE

    def into(self, folder: int, prefix: str) -> bool:
        """Whether everything below was seen. Closes `folder`."""
        try:
            names, complete = self._names(folder)
            for is_folder, name in names:
                if name.lower() in WALLED_NAMES:
                    self.protected.append(prefix + name)
                if is_folder:
                    complete = self._deeper(folder, name, prefix) and complete
                elif len(self.files) < self._limit:
                    self._mark(folder, name, prefix)
                else:
                    return False
        finally:
            os.close(folder)
        return complete

    def _names(self, folder: int) -> tuple[list[tuple[bool, str]], bool]:
        """Whether each is a folder, and its name, as the folder tells: asking for each file costs 20 times that."""
        most = self._names_left
        with os.scandir(folder) as entries:
            found = [(entry.is_dir(follow_symlinks=False), entry.name) for entry in itertools.islice(entries, most)]
        self._names_left -= len(found)
        # A folder's own files first: what lies deep, as data do, may be more than the limit.
        return sorted(found), len(found) < most

    def _mark(self, folder: int, name: str, prefix: str) -> None:
        if not name.startswith(BESIDE):
            with contextlib.suppress(FileNotFoundError):
                facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
                self.files[prefix + name] = Mark(facts.st_size, facts.st_mtime_ns)

    def _deeper(self, folder: int, name: str, prefix: str) -> bool:
        if name in _SKIPPED:
            return True
        if prefix.count("/") >= _DEPTH or self._folders <= 0:
            return False
        self._folders -= 1
        try:
            inner = os.open(name, _FOLDER, dir_fd=folder)
        except OSError:
            # Gone meanwhile, or not ours to read: nothing in it can be told.
            return True
        return self.into(inner, f"{prefix}{name}/")
