"""Traps in a git folder that no mount can keep a command from setting, because they do not exist before: undone, told.

Git reads hooks and settings from wherever `commondir` or a new link leads, and looks for another repository where
`HEAD` is no HEAD. Knows no command. Source: gitrepository-layout(5).
"""

import contextlib
import itertools
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.sandbox.opening import beneath
from ml_intern.sandbox.paths import Roots
from ml_intern.sandbox.protected import kept_folders, missing_settings

_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Git itself writes `commondir` only below .git/worktrees.
_NEVER_THERE, _TRAPS = "commondir", ("commondir", "config.worktree")
_SETTINGS = ("hooks", "config")
# Settings that name a program, or a file of further settings. Source: git-config(1).
_RUNS = re.compile(
    rb"^[ \t]*(?:\[[^\]\n]*\][ \t]*)?(\w*(?:fsmonitor|hookspath|command|proxy|askpass|pager|editor|external|textconv"
    rb"|clean|smudge|process|driver|helper|program|cmd|uploadpack|receivepack|path))[ \t]*=",
    re.IGNORECASE | re.MULTILINE,
)
_SETTINGS_BYTES = 65_536
_WATCHED = (*_TRAPS, *_SETTINGS, "HEAD", "objects", "refs", "modules", "worktrees")
_HEAD = re.compile(rb"ref: refs/|[0-9a-f]{40}")
_HEAD_BYTES = 4096
_MOST = 64


class GitFolder(Struct, frozen=True):
    """What of `_WATCHED` a `.git` folder holds, which of its settings are links, and its HEAD if that is one.

    `absent` are files, relative to the workspace, that its settings include and that are not there.
    """

    names: frozenset[str]
    links: Mapping[str, str]
    head: bytes
    absent: tuple[str, ...] = ()


GitState = GitFolder | str
"""A folder, or where a link leads that stands in its place."""


def look(roots: Roots, found: Iterable[str]) -> dict[str, GitState]:
    """The git folders among paths relative to the workspace, the first few, and their submodules'. Blocks."""
    paths = _git_of(found)
    outside = _outside(roots)
    modules = (kept_folders(os.path.join(outside, path)) for path in paths)
    kept = (os.path.relpath(module, outside) for each in modules for module in itertools.islice(each, _MOST))
    seen: dict[str, GitState] = {path: state for path in paths if (state := _seen(roots, path) or _link(roots, path))}
    # A linked worktree has no objects of its own, and a `commondir` by right.
    inner = {path: state for path in kept if (state := _seen(roots, path)) and "objects" in state.names}
    return {path: _with_absent(outside, path, state) for path, state in (seen | inner).items()}


def _with_absent(outside: str, path: str, state: GitState) -> GitState:
    if isinstance(state, str):
        return state
    return replace(state, absent=tuple(missing_settings(os.path.dirname(os.path.join(outside, path)), outside)))


def mend(roots: Roots, before: Mapping[str, GitState]) -> list[str]:
    """Undo what can be undone; a sentence for each folder that a command made dangerous. Blocks."""
    told: list[str] = []
    for path, state in before.items():
        changes = _relinked(roots, path, state) if isinstance(state, str) else _mended(roots, path, state)
        if changes:
            told.append(
                f"The command changed {path} so that git, when the person runs it, would use what the command chose: "
                f"{', '.join(changes)}. Leave git's own files alone, and tell the person."
            )
    return told


def armed(roots: Roots, fresh: Iterable[str]) -> list[str]:
    """Those of the git folders, new in the workspace, that name programs: each with what names them. Blocks."""
    named = ((path, _programs(roots, path)) for path in _git_of(fresh))
    return [f"{path} (git runs what is named by its {', '.join(programs)})" for path, programs in named if programs]


def _git_of(found: Iterable[str]) -> list[str]:
    return sorted(path for path in found if path.rpartition("/")[2] == ".git")[:_MOST]


def _programs(roots: Roots, path: str) -> list[str]:
    found: list[str] = []
    # A `.git` file has neither; where it leads is new as well, or was walled.
    with contextlib.suppress(OSError):
        folder = _open(roots, f"{path}/hooks")
        try:
            found += [f"hooks/{name}" for name in sorted(os.listdir(folder)) if not name.endswith(".sample")]
        finally:
            os.close(folder)
    with contextlib.suppress(OSError):
        file = _open(roots, f"{path}/config", os.O_RDONLY | os.O_NONBLOCK)
        try:
            keys = _RUNS.findall(os.read(file, _SETTINGS_BYTES))
        finally:
            os.close(file)
        found += sorted({key.decode() for key in keys})
    return found


def _link(roots: Roots, path: str) -> str:
    try:
        folder = _open(roots, os.path.dirname(path) or ".")
        try:
            return os.readlink(".git", dir_fd=folder)
        finally:
            os.close(folder)
    except OSError:
        return ""


def _relinked(roots: Roots, path: str, target: str) -> list[str]:
    if _link(roots, path) == target:
        return []
    try:
        folder = _open(roots, os.path.dirname(path) or ".")
        try:
            _put_aside(folder, ".git")
            os.symlink(target, ".git", dir_fd=folder)
        finally:
            os.close(folder)
    except OSError as error:
        return [f"it is no link to {target} any more, which could not be undone ({error.strerror})"]
    return [f"it is a link to {target} again"]


def _mended(roots: Roots, path: str, before: GitFolder) -> list[str]:
    after = _seen(roots, path)
    if after is None:
        return ["it is no folder any more (not undone)"]
    done: list[str] = []
    try:
        folder = _open(roots, path)
        try:
            done.extend(_undo(folder, before, after))
        finally:
            os.close(folder)
        done.extend(_without(roots, before.absent))
    except OSError as error:
        done.append(f"the rest could not be undone ({error.strerror})")
    return done


def _without(roots: Roots, absent: Iterable[str]) -> Iterator[str]:
    """Puts aside settings that were named and not there, and names them. Raises OSError."""
    for path in absent:
        try:
            folder = _open(roots, os.path.dirname(path) or ".")
        except OSError:
            continue
        try:
            if _mode(folder, os.path.basename(path)):
                _put_aside(folder, os.path.basename(path))
                yield f"{path}, which its settings include (put aside)"
        finally:
            os.close(folder)


def _undo(folder: int, before: GitFolder, after: GitFolder) -> Iterator[str]:
    """Does each step, then names it. Raises OSError."""
    for name in _TRAPS:
        if name in after.names and (name == _NEVER_THERE or name not in before.names):
            _put_aside(folder, name)
            yield f"{name} (removed)"
    for name, target in before.links.items():
        if after.links.get(name) != target:
            _put_aside(folder, name)
            os.symlink(target, name, dir_fd=folder)
            yield f"{name} (a link to {target} again)"
    if before.head and not after.head:
        _put_aside(folder, "HEAD")
        with open(os.open("HEAD", _NEW, 0o644, dir_fd=folder), "wb") as file:
            file.write(before.head)
        yield "HEAD (restored)"
    for name in ("objects", "refs"):
        if name in before.names - after.names:
            yield f"{name} is gone (not undone)"


def _put_aside(folder: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rename(name, f"{name}.refused-{time.time_ns():x}", src_dir_fd=folder, dst_dir_fd=folder)


def _seen(roots: Roots, path: str) -> GitFolder | None:
    try:
        folder = _open(roots, path)
    except OSError:
        return None
    try:
        kinds = {name: mode for name in _WATCHED if (mode := _mode(folder, name))}
        linked = [name for name in _SETTINGS if stat.S_ISLNK(kinds.get(name, 0))]
        links = {name: os.readlink(name, dir_fd=folder) for name in linked}
        return GitFolder(frozenset(kinds), links, _head(folder) if stat.S_ISREG(kinds.get("HEAD", 0)) else b"")
    except OSError:
        # Something else changes it this very moment.
        return None
    finally:
        os.close(folder)


def _mode(folder: int, name: str) -> int:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0


def _head(folder: int) -> bytes:
    number = os.open("HEAD", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        text = os.read(number, _HEAD_BYTES)
    finally:
        os.close(number)
    return text if _HEAD.match(text) else b""


def _outside(roots: Roots) -> str:
    return next(root.outside for root in roots.roots if root.inside == roots.workspace)


def _open(roots: Roots, path: str, flags: int = _FOLDER) -> int:
    above = os.open(_outside(roots), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return beneath(above, path, flags)
    finally:
        os.close(above)
