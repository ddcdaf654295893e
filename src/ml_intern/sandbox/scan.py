"""What a command changed: sizes and times of the workspace's files before and after. Knows no contents and no tool."""

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from msgspec import Struct

from ml_intern.sandbox.files import BESIDE
from ml_intern.sandbox.opening import beneath
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
_HG = ".hg"
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
    """Look at no more than `limit` files of the workspace, links not followed: those of small folders first.

    Data are many files in few folders: they must not hide what is edited. Blocks: call it in a thread.
    """
    outside = next(root.outside for root in roots.roots if root.inside == roots.workspace)
    look = _Look(limit)
    with contextlib.suppress(OSError):
        top = os.open(outside, _FOLDER)
        try:
            look.list_all(top)
            look.mark_all(top)
        finally:
            os.close(top)
    return Scan(look.files, look.complete, frozenset(look.protected))


def diff(before: Scan, after: Scan) -> tuple[Change, ...]:
    """What differs, by path. An incomplete scan proves nothing about what it did not see."""
    changes = [Change(path, "changed") for path, mark in after.files.items() if before.files.get(path, mark) != mark]
    if before.complete:
        changes += [Change(path, "created") for path in after.files if path not in before.files]
    if after.complete:
        changes += [Change(path, "removed") for path in before.files if path not in after.files]
    return tuple(sorted(changes))


class _Look:
    """One look at a workspace: first what its folders hold, level by level, then the files of each."""

    def __init__(self, limit: int) -> None:
        self.files: dict[str, Mark] = {}
        self.protected: list[str] = []
        self.complete = True
        self._limit = limit
        # Folders cost a few files each; listing many names, as much again.
        self._folders_left = limit
        self._names_left = limit * _NAMES_PER_FILE
        self._waiting = deque([""])
        self._named: dict[str, list[str]] = {}

    def list_all(self, top: int) -> None:
        """List the folders, each below `top`: one that turns into a link meanwhile is not followed."""
        large: deque[tuple[str, Iterator[os.DirEntry[str]]]] = deque()
        with contextlib.ExitStack() as held:
            while self._waiting or large:
                if self._waiting:
                    prefix = self._waiting.popleft()
                    large.extend((prefix, held.enter_context(rest)) for rest in self._once(top, prefix))
                else:
                    # What is large waits until all others were seen once.
                    prefix, rest = large.popleft()
                    self.complete = not self._take(prefix, rest, self._names_left) and self.complete

    def mark_all(self, top: int) -> None:
        """Note size and time of the files, small folders first."""
        for prefix, names in sorted(self._named.items(), key=lambda each: (len(each[1]), each[0])):
            room = self._limit - len(self.files)
            self.complete = self.complete and len(names) <= room
            if names and room:
                with contextlib.suppress(OSError):
                    self._mark(top, prefix, sorted(names)[:room])

    def _once(self, top: int, prefix: str) -> "Iterator[os._ScandirIterator[str]]":  # pyright: ignore[reportPrivateUsage]
        """Take in the folder; what is left of it, if it is large."""
        # Gone meanwhile, or not ours to read: nothing in it can be told.
        with contextlib.suppress(OSError):
            entries = _entries(top, prefix)
            if self._take(prefix, entries, self._limit):
                yield entries
            else:
                entries.close()

    def _take(self, prefix: str, entries: Iterator[os.DirEntry[str]], most: int) -> bool:
        """Take in no more than `most` names; whether there may be more. What is a folder, the folder itself tells:
        asking for each costs 20 times that.
        """
        most = min(most, self._names_left)
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in itertools.islice(entries, most)]
        self._names_left -= len(found)
        # Of Mercurial's own folder only the names matter that must be walled.
        in_hg = prefix.endswith(f"{_HG}/")
        files = self._named.setdefault(prefix, [])
        for name, is_folder in sorted(found):
            if name.lower() in WALLED_NAMES:
                self.protected.append(prefix + name)
            if in_hg:
                continue
            if not is_folder:
                files.append(name)
            elif name not in _SKIPPED or name == _HG:
                self._deeper(f"{prefix}{name}/")
        return len(found) == most

    def _deeper(self, prefix: str) -> None:
        if prefix.count("/") > _DEPTH or self._folders_left <= 0:
            self.complete = False
            return
        self._folders_left -= 1
        self._waiting.append(prefix)

    def _mark(self, top: int, prefix: str, names: list[str]) -> None:
        folder = _open(top, prefix)
        try:
            for name in names:
                if not name.startswith(BESIDE):
                    self._mark_one(folder, prefix, name)
        finally:
            os.close(folder)

    def _mark_one(self, folder: int, prefix: str, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
            self.files[prefix + name] = Mark(facts.st_size, facts.st_mtime_ns)


def _entries(top: int, prefix: str) -> "os._ScandirIterator[str]":  # pyright: ignore[reportPrivateUsage]
    folder = _open(top, prefix)
    try:
        # It keeps a descriptor of its own.
        return os.scandir(folder)
    finally:
        os.close(folder)


def _open(top: int, prefix: str) -> int:
    return beneath(top, prefix.rstrip("/") or ".", _FOLDER)
