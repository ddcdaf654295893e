"""Keeps protected paths of a workspace as they are where no mount can: remembers them, puts them back afterwards.

Runs in the supervisor, only while none of its commands runs: then nobody can turn a folder into a link under its hands.
Knows no command. Imports only the standard library.
"""

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

_MOST_BYTES = 16 * 1024 * 1024
_MOST_FILES = 2_000
_ASIDE = ".ml-intern-aside"
UNDONE = "Protected files were changed while it ran and have been put back:"


class Kept(NamedTuple):
    """What stood at a path: a file's bytes, a link's target, or a folder's entries by name."""

    mode: int
    content: bytes = b""
    target: str = ""
    entries: "dict[str, Kept] | None" = None


class Keeping:
    """The protected paths of all commands that run now, as they were when the first of them began."""

    def __init__(self) -> None:
        self._kept: dict[str, Kept] = {}

    def remember(self, paths: Iterable[str]) -> None:
        """Add what is not yet remembered. Raises ValueError where that is more than can be kept; OSError."""
        room = _Room()
        fresh = {path: _look(path, room) for path in paths if path not in self._kept and os.path.lexists(path)}
        self._kept.update(fresh)

    def restore(self) -> list[str]:
        """Put back what has changed, and forget; the paths that had changed. Only while no command runs."""
        changed: list[str] = []
        kept, self._kept = self._kept, {}
        for path, was in kept.items():
            try:
                if _differs(path, was):
                    changed.append(path)
                    _make_way(path)
                    _put(path, was)
            except OSError as error:
                changed.append(f"{path} (not undone: {error.strerror})")
        return changed


class _Room:
    """What may still be kept."""

    def __init__(self) -> None:
        self._files, self._bytes = _MOST_FILES, _MOST_BYTES

    def take(self, path: str, size: int) -> None:
        self._files -= 1
        self._bytes -= size
        if self._files < 0 or self._bytes < 0:
            raise ValueError(
                f"{path} is protected and too large to be kept safe at sandbox level walls; "
                "move it out of the workspace, or make level full possible (`ml-intern doctor`)"
            )


def _look(path: str, room: _Room) -> Kept:
    facts = os.lstat(path)
    room.take(path, facts.st_size if stat.S_ISREG(facts.st_mode) else 0)
    mode = stat.S_IMODE(facts.st_mode)
    if stat.S_ISLNK(facts.st_mode):
        return Kept(mode, target=os.readlink(path))
    if stat.S_ISDIR(facts.st_mode):
        return Kept(mode, entries={name: _look(os.path.join(path, name), room) for name in sorted(os.listdir(path))})
    if stat.S_ISREG(facts.st_mode):
        with open(path, "rb") as file:
            return Kept(mode, content=file.read(_MOST_BYTES))
    return Kept(-1)


def _differs(path: str, was: Kept) -> bool:
    if was.mode < 0:
        return False
    above = os.path.dirname(path)
    if os.path.realpath(above) != above or not os.path.lexists(path):
        return True
    room = _Room()
    try:
        return _look(path, room) != was
    except ValueError:
        return True


def _make_way(path: str) -> None:
    """Real folders down to `path`, and nothing there; what stood in the way is put aside. Nobody runs meanwhile."""
    step = ""
    for name in os.path.dirname(path).split("/")[1:]:
        step = f"{step}/{name}"
        if os.path.islink(step) or not os.path.isdir(step):
            _put_aside(step)
            os.mkdir(step)
    if os.path.isdir(path) and not os.path.islink(path):
        os.chmod(path, stat.S_IRWXU)
        # Here only: it loads what each fork of the supervisor would have to copy.
        import shutil  # noqa: PLC0415

        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _put_aside(path: str) -> None:
    number = 0
    while os.path.lexists(path):
        number += 1
        aside = f"{path}{_ASIDE}-{number}"
        if not os.path.lexists(aside):
            os.rename(path, aside)


def _put(path: str, was: Kept) -> None:
    if was.target:
        os.symlink(was.target, path)
        return
    if was.entries is not None:
        os.mkdir(path, 0o700)
        for name, inner in was.entries.items():
            _put(os.path.join(path, name), inner)
        os.chmod(path, was.mode)
        return
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(number, "wb") as file:
        file.write(was.content)
        os.fchmod(file.fileno(), was.mode)
