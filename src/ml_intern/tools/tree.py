"""Walks a folder below the roots without following a link, past what .gitignore names. Knows no pattern and no tool."""

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple, cast

from ml_intern.base.errors import MlInternError
from ml_intern.sandbox import files
from ml_intern.sandbox.opening import beneath, open_parent, open_place, worded
from ml_intern.sandbox.paths import Place

IGNORE = ".gitignore"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_IGNORE_BYTES = 256 << 10
_DEPTH = 64
_NEVER = frozenset({".git", ".hg", ".svn"})
# Nobody means these, whether a .gitignore names them or not.
_SELDOM = frozenset({"node_modules", "__pycache__", ".venv", "venv", ".tox", ".ipynb_checkpoints"})


class Seen(NamedTuple):
    """One name of the tree. `path` is relative to where the walk began; `folder` is open while this is looked at."""

    path: str
    name: str
    folder: int
    is_folder: bool

    def facts(self) -> os.stat_result | None:
        """Its facts; None where it is gone again."""
        try:
            return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except OSError:
            return None

    def read(self, limit: int) -> bytes | None:
        """At most `limit` bytes; None for a link, what is no file, and what may not be read."""
        try:
            descriptor = os.open(self.name, _FILE, dir_fd=self.folder)
        except OSError:
            return None
        with open(descriptor, "rb", buffering=0) as file:
            return file.read(limit) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


class Walk:
    """One walk. `stop` ends it from another thread; so does `within_s`, and then `ran_out` is true."""

    def __init__(self, *, all_files: bool, within_s: float) -> None:
        self.ran_out = False
        self.left_out = 0
        self._all = all_files
        self._end = time.monotonic() + within_s
        self._stopped = False

    def stop(self) -> None:
        """End the walk soon."""
        self._stopped = True

    def over(self) -> bool:
        """Whether the time is up, or somebody wants no more."""
        self.ran_out = self.ran_out or time.monotonic() > self._end
        return self.ran_out or self._stopped

    def into(self, place: Place) -> Iterator[Seen]:
        """Everything below the folder `place`, each folder's names in order. Blocks.

        Raises:
            PathRefused, ToolFailed: it cannot be opened.
        """
        rules = [] if self._all else _above(place)
        try:
            folder = open_place(place, os.O_RDONLY | os.O_DIRECTORY, beneath)
        except OSError as error:
            raise worded(error, place) from error
        # Rules speak of paths below the root; what is told is below `place`.
        at = f"{place.relative}/" if place.relative else ""
        for seen in self._below(folder, at, rules):
            yield seen._replace(path=seen.path.removeprefix(at))

    def _below(self, folder: int, at: str, rules: list["_Rules"]) -> Iterator[Seen]:
        """Closes `folder`."""
        try:
            rules = rules if self._all else [*_rules_of(folder, at), *rules]
            for name, is_folder in _names(folder):
                if self.over():
                    return
                if name in _NEVER or name.startswith(files.BESIDE):
                    continue
                if not self._all and (name in _SELDOM or _is_ignored(f"{at}{name}{'/' * is_folder}", rules)):
                    self.left_out += 1
                    continue
                yield Seen(at + name, name, folder, is_folder)
                if is_folder and at.count("/") < _DEPTH:
                    yield from self._deeper(folder, name, at, rules)
        finally:
            os.close(folder)

    def _deeper(self, folder: int, name: str, at: str, rules: list["_Rules"]) -> Iterator[Seen]:
        # Gone meanwhile, turned into a link, or not ours to read: nothing in it can be told.
        with contextlib.suppress(OSError):
            yield from self._below(os.open(name, _FOLDER, dir_fd=folder), f"{at}{name}/", rules)


def only(place: Place) -> Iterator[Seen]:
    """The one file `place`. Blocks.

    Raises:
        PathRefused, ToolFailed: its folder cannot be opened.
    """
    try:
        folder = open_parent(place, beneath, make=False)
    except OSError as error:
        raise worded(error, place) from error
    try:
        name = os.path.basename(place.relative)
        yield Seen(name, name, folder, is_folder=False)
    finally:
        os.close(folder)


class _Rules:
    """One .gitignore; `at` is its folder. Source: gitignore(5)."""

    def __init__(self, at: str, text: str) -> None:
        pathspec: Any = import_module("pathspec")  # 50 ms: not before there is a .gitignore

        self.at = at
        self._spec = pathspec.GitIgnoreSpec.from_lines(text.splitlines())

    def says(self, path: str) -> bool | None:
        """Whether `path` is left out; None where this file does not speak of it."""
        return cast("bool | None", self._spec.check_file(path.removeprefix(self.at)).include)


def _is_ignored(path: str, rules: list[_Rules]) -> bool:
    """The nearest .gitignore that speaks of it decides."""
    verdicts = (each.says(path) for each in rules)
    return next((verdict for verdict in verdicts if verdict is not None), False)


def _above(place: Place) -> list[_Rules]:
    """The rules of the folders above `place`, up to its root, nearest first."""
    parts = place.relative.split("/") if place.relative else []
    found: list[_Rules] = []
    for depth in range(len(parts)):
        at = "".join(f"{part}/" for part in parts[:depth])
        with contextlib.suppress(MlInternError):
            data = files.read_bytes(Place(place.root, at + IGNORE, place.inside), 0, _IGNORE_BYTES)
            found.insert(0, _Rules(at, data.decode(errors="replace")))
    return found


def _rules_of(folder: int, at: str) -> list[_Rules]:
    data = Seen(at + IGNORE, IGNORE, folder, is_folder=False).read(_IGNORE_BYTES)
    return [_Rules(at, data.decode(errors="replace"))] if data else []


def _names(folder: int) -> list[tuple[str, bool]]:
    with os.scandir(folder) as entries:
        return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
