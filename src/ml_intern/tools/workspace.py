"""What a command changed in the workspace, as facts for the record. Knows no command."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ml_intern.base.errors import MlInternError
from ml_intern.record.facts import FileChange
from ml_intern.record.folds.files import Files
from ml_intern.sandbox import files, repositories
from ml_intern.sandbox.paths import Roots, place
from ml_intern.sandbox.repositories import GitFolder
from ml_intern.sandbox.scan import Change, Scan, diff, scan

_HASHED_BYTES = 1 << 20
_MOST_UNKNOWN = 200
# 10 µs a file, twice a command. What is missed costs little: tools compare hashes before they change a file.
_LOOKED_AT = 5_000
_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Before:
    """The workspace before a command, as far as looking is worth its time."""

    seen: Scan
    git: Mapping[str, GitFolder]

    def walled(self) -> object:
        """Equal as long as nothing has appeared that must be walled."""
        return self.seen.protected, {path: folder.names for path, folder in self.git.items()}


def look(roots: Roots) -> Before:
    """The workspace as it is now. Blocks."""
    seen = scan(roots, _LOOKED_AT)
    return Before(seen, repositories.look(roots, seen.protected))


def changes(roots: Roots, before: Scan, known: Files) -> tuple[FileChange, ...]:
    """Every change to a file that was read or written before, and of other files the first few hundred. Blocks.

    Small files are hashed, so that later changes can be told from this one; "?" stands for the others.
    """
    found = [change for change in diff(before, scan(roots, _LOOKED_AT)) if _is_text(change.path)]
    expected = [change for change in found if f"{roots.workspace}/{change.path}" in known.known]
    others = [change for change in found if f"{roots.workspace}/{change.path}" not in known.known]
    return tuple(_facts(roots, [*expected, *others[:_MOST_UNKNOWN]], known))


def changed_since(roots: Roots, folder: Path) -> list[str]:
    """A sentence with the files written since the command of `folder` began; none where that is not known. Blocks."""
    try:
        began = (folder / "spec.json").stat().st_mtime_ns
    except OSError:
        return []
    seen = scan(roots, _LOOKED_AT)
    later = sorted(path for path, mark in seen.files.items() if mark.mtime_ns >= began and _is_text(path))
    if not later:
        return ["No file of the workspace has changed since it began."]
    more = f" and {len(later) - _MOST_NAMED:,} more" if len(later) > _MOST_NAMED else ""
    return [f"Changed in the workspace since it began: {', '.join(later[:_MOST_NAMED])}{more}."]


def _facts(roots: Roots, found: list[Change], known: Files) -> Iterator[FileChange]:
    for change in found:
        path = f"{roots.workspace}/{change.path}"
        fact = known.known.get(path)
        before = None if change.what == "created" else fact.sha if fact else "?"
        yield FileChange(path, before, None if change.what == "removed" else _sha(roots, path), authored=False)


def _sha(roots: Roots, path: str) -> str:
    try:
        target = place(roots, path, roots.workspace, write=False)
        facts = files.stat(target)
        small = facts is not None and facts.kind == "file" and facts.size <= _HASHED_BYTES
        return (files.sha256(target) if small else None) or "?"
    except MlInternError:
        # A link, no permission, or gone again.
        return "?"


def _is_text(path: str) -> bool:
    """A name that is no UTF-8 cannot stand in the record."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
