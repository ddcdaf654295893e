"""One file's change: seen before, shown as a diff, done atomically, found again after a crash.

Knows no tool's arguments; the roots table is the wall.
"""

import asyncio
import difflib
import hashlib
import threading
import warnings
from collections.abc import Callable
from typing import TypeVar

from msgspec import Struct

from ml_intern.base.errors import ToolFailed
from ml_intern.base.text import clip
from ml_intern.record.display import DiffDisplay, TextDisplay
from ml_intern.record.effects import Writes
from ml_intern.record.events import ToolStarted
from ml_intern.record.facts import FileChange
from ml_intern.sandbox import files
from ml_intern.sandbox.paths import Place, Roots, place
from ml_intern.toolkit.tool import Context, Prepared, Result

T = TypeVar("T")

MOST_BYTES = 16 << 20
"""Larger files are neither hashed nor held whole: they cannot be edited, nor replaced."""

_WRITING = threading.Lock()
"""Sub-agents write side by side: what is looked at must be what is written over."""
_EMPTY = hashlib.sha256(b"").hexdigest()
_DIFF_LINES = 20_000
_DIFF_CHARS = 100_000
_CONTEXT_LINES = 3
_CHECKED_CHARS = 1_000_000


class Change(Struct, frozen=True):
    """`place` goes from hash `before` (None: no file) to `data`; `said` is what the model is told when it is done."""

    place: Place
    before: str | None
    data: bytes
    said: str
    display: DiffDisplay

    @property
    def fact(self) -> FileChange:
        """What the record keeps of it."""
        return FileChange(self.place.inside, self.before, hashlib.sha256(self.data).hexdigest())

    def prepared(self) -> Prepared:
        """What a call that makes this change would do. An approval is bound to the file as it is now."""
        return Prepared(
            effects=(Writes(self.place.inside),),
            display=self.display,
            replay="findable",
            payload=self,
            inputs=((self.place.inside, self.before or ""),),
            writes=(self.fact,),
        )


def require_seen(target: Place, current: str | None, context: Context) -> None:
    """Check that the lane knows what it is about to change.

    Raises:
        ToolFailed: it never read the file, or something else changed it since.
    """
    seen = context.view.files.read_as(target.inside, context.lane)
    if current in {None, _EMPTY, seen}:
        return
    if seen is None:
        made = target.inside in context.view.files.changed
        why = "was changed by a command or another agent and not read since" if made else "exists and has not been read"
        raise ToolFailed(f"{target.inside} {why}.", "Read it first, then change it.")
    raise ToolFailed(f"{target.inside} has changed since it was read.", "Read it again, then change what it holds now.")


def require_small(target: Place) -> None:
    """Check that the file can be held in memory.

    Raises:
        ToolFailed: it cannot.
        PathRefused: a link.
    """
    found = files.stat(target)
    if found is not None and found.kind == "file" and found.size > MOST_BYTES:
        raise ToolFailed(
            f"{target.inside} has {found.size:,} bytes, too many to change as a whole.",
            f"Change files over {MOST_BYTES >> 20} MB with a command.",
        )


def carry_out(change: Change) -> None:
    """Write the file, if it is still what it was. Blocks.

    Raises:
        PathRefused, ToolFailed: as `files.write_atomic`; also where the file changed meanwhile.
    """
    with _WRITING:
        if files.sha256(change.place) != change.before:
            raise ToolFailed(f"{change.place.inside} was changed by something else just now.", "Read it again.")
        files.write_atomic(change.place, change.data)


async def to_its_end(work: Callable[[], T]) -> T:
    """Run `work` in a thread and never leave it half-way: being cancelled is passed on when it has ended."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def recover_change(roots: Roots, started: ToolStarted) -> Result | None:
    """What became of a change that was under way when the process died: done, not begun (None), or no one knows.

    Raises:
        PathRefused, ToolFailed: the file cannot be looked at.
    """
    if not started.writes:
        return None
    planned = started.writes[0]
    target = place(roots, planned.path, roots.workspace, write=True)
    await asyncio.to_thread(files.sweep, target)
    current = await asyncio.to_thread(files.sha256, target)
    display = TextDisplay(planned.path)
    if current == planned.after:
        text = f"{planned.path} was written as asked; the process was interrupted just after."
        return Result(text, display, facts=(planned,), ours=True)
    if current == planned.before:
        return None
    state = "does not exist" if current is None else "holds neither what it held before nor what was to be written"
    text = f"The change was interrupted, and now {planned.path} {state}: something else changed it. Read it again."
    return Result(text, display, outcome="lost", facts=(FileChange(planned.path, planned.before, "?"),), ours=True)


def diff_of(path: str, before: str, after: str) -> DiffDisplay:
    """The unified diff. Blocks; a change too large to compare is only counted."""
    old, new = _lines(before), _lines(after)
    same = _common_head(old, new)
    tail = _common_head(old[same:][::-1], new[same:][::-1])
    removed, added = old[same : len(old) - tail], new[same : len(new) - tail]
    if len(removed) + len(added) > _DIFF_LINES:
        return DiffDisplay(path, f"[{len(removed):,} lines out, {len(added):,} lines in]", len(added), len(removed))
    first = max(0, same - _CONTEXT_LINES)
    last = tail - _CONTEXT_LINES
    rows = [
        _shifted(row, first)
        for row in difflib.unified_diff(
            old[first : len(old) - last if last > 0 else None],
            new[first : len(new) - last if last > 0 else None],
            "before",
            "after",
            lineterm="",
        )
    ][2:]
    plus, minus = (sum(row.startswith(sign) for row in rows) for sign in "+-")
    return DiffDisplay(path, clip("\n".join(rows), _DIFF_CHARS, head_share=0.75).text, plus, minus)


def syntax_warning(path: str, text: str) -> str:
    """A line for the model if `text` is Python that cannot be compiled; else empty. Nothing is run. Blocks."""
    if not path.endswith(".py") or len(text) > _CHECKED_CHARS:
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"\nWarning: this is not valid Python: {error.msg} (line {error.lineno})."
    except (ValueError, RecursionError, MemoryError) as error:
        return f"\nWarning: Python cannot compile this: {error or type(error).__name__}."
    return ""


def _lines(text: str) -> list[str]:
    """Lines as editors count them; the last one tells where its newline is missing, as git does."""
    lines = text.split("\n")
    if lines[-1]:
        lines[-1] += "\n\\ No newline at end of file"
        return lines
    return lines[:-1]


def _common_head(old: list[str], new: list[str]) -> int:
    pairs = zip(old, new, strict=False)
    return next((at for at, (left, right) in enumerate(pairs) if left != right), min(len(old), len(new)))


def _shifted(row: str, lines: int) -> str:
    """A hunk's header counts from the start of what was compared; the file begins `lines` before."""
    if not row.startswith("@@") or not lines:
        return row
    marks = [f"{mark[0]}{_later(mark[1:], lines)}" for mark in row.split()[1:3]]
    return f"@@ {' '.join(marks)} @@"


def _later(mark: str, lines: int) -> str:
    start, comma, count = mark.partition(",")
    return f"{int(start) + lines}{comma}{count}"
