"""What a command changed in the workspace, as facts for the record. Knows no command."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from ml_intern.base.errors import MlInternError
from ml_intern.record.facts import FileChange
from ml_intern.record.folds.files import Files
from ml_intern.sandbox import files, outcome, repositories
from ml_intern.sandbox.paths import Roots, place
from ml_intern.sandbox.protected import wall_of
from ml_intern.sandbox.repositories import GitState
from ml_intern.sandbox.scan import Change, Scan, diff, scan

_HASHED_BYTES = 1 << 20
_MOST_UNKNOWN = 200
# 10 µs a file, twice a command. What is missed costs little: tools compare hashes before they change a file.
_LOOKED_AT = 5_000
_MOST_NAMED = 20


class Before(Struct, frozen=True):
    """The workspace before a command, as far as looking is worth its time.

    `seen` is None where the command had begun already. `walled` is equal as long as nothing has appeared that must be.
    """

    seen: Scan | None
    git: Mapping[str, GitState]
    walled: object


class After(Struct, frozen=True):
    """What a command changed, and a sentence on what it made that acts outside the walls."""

    facts: tuple[FileChange, ...]
    told: list[str]


def look(roots: Roots, *, begun: bool = False) -> Before:
    """The workspace as it is now; `begun` where the command is under way or over. Blocks."""
    seen = scan(roots, _LOOKED_AT)
    git = repositories.look(roots, seen.protected)
    walled = seen.protected, {path: state if isinstance(state, str) else state.names for path, state in git.items()}
    return Before(None if begun else seen, git, walled)


def changes(roots: Roots, before: Before, folder: Path, known: Files) -> After:
    """Every change to a file that was read or written before, and of other files the first few hundred. Blocks.

    Small files are hashed, so that later changes can be told from this one; "?" stands for the others. `folder` is the
    command's: where the workspace was not seen before it, the time of its start tells what is new.
    """
    after = scan(roots, _LOOKED_AT)
    found = diff(before.seen, after) if before.seen else _later(roots, after, _began_ns(folder), known)
    found = tuple(change for change in found if _is_text(change.path))
    expected = [change for change in found if f"{roots.workspace}/{change.path}" in known.known]
    others = [change for change in found if f"{roots.workspace}/{change.path}" not in known.known]
    facts = tuple(_facts(roots, [*expected, *others[:_MOST_UNKNOWN]], known))
    return After(facts, _appeared(roots, after.protected - before.seen.protected) if before.seen else [])


def _appeared(roots: Roots, fresh: frozenset[str]) -> list[str]:
    """What does not exist cannot be walled: that a command made it is told."""
    walled = [f"{path} ({reason})" for path in sorted(fresh) if (reason := wall_of(path))]
    if not (named := [*walled, *repositories.armed(roots, fresh)]):
        return []
    more = f" and {len(named) - _MOST_NAMED:,} more" if len(named) > _MOST_NAMED else ""
    listed = ", ".join(named[:_MOST_NAMED])
    return [f"The command made what acts outside the sandbox: {listed}{more}. Tell the person, who should look first."]


def changed_since(roots: Roots, folder: Path) -> list[str]:
    """A sentence with the files written since the command of `folder` began; none where that is not known. Blocks."""
    began_ns = _began_ns(folder)
    if began_ns is None:
        return []
    later = sorted(path for path in _written_since(scan(roots, _LOOKED_AT), began_ns) if _is_text(path))
    if not later:
        return ["No file of the workspace has changed since it began."]
    more = f" and {len(later) - _MOST_NAMED:,} more" if len(later) > _MOST_NAMED else ""
    return [f"Changed in the workspace since it began: {', '.join(later[:_MOST_NAMED])}{more}."]


def _later(roots: Roots, after: Scan, began_ns: int | None, known: Files) -> tuple[Change, ...]:
    """Files written since; of those known before, what is gone or holds something else."""
    inside = f"{roots.workspace}/"
    before = {path.removeprefix(inside): fact.sha for path, fact in known.known.items() if path.startswith(inside)}
    gone = [Change(path, "removed") for path in before if after.complete and path not in after.files]
    written = [path for path in _written_since(after, began_ns) if before.get(path) != _sha(roots, inside + path)]
    return tuple(sorted([*gone, *(Change(path, "changed") for path in written)]))


def _written_since(after: Scan, began_ns: int | None) -> list[str]:
    return [path for path, mark in after.files.items() if began_ns is not None and mark.mtime_ns >= began_ns]


def _began_ns(folder: Path) -> int | None:
    try:
        return (folder / outcome.SPEC).stat().st_mtime_ns
    except OSError:
        return None


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
