"""Tells the model, once, what changed of what its system text says: the budget, the deadline, a file that joined it;
and instructions of the folders that it reads in. What was told is in the record. Knows no tool.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence

from ml_intern.agent.prompt import moment
from ml_intern.base.money import Micro, show
from ml_intern.base.text import visible_line
from ml_intern.record.events import Entry, Nudged, ToolFinished
from ml_intern.record.facts import FileRead
from ml_intern.record.ground import GroundSet
from ml_intern.record.log import Log
from ml_intern.record.view import MAIN, View
from ml_intern.sandbox.leaves import INSTRUCTIONS, Leaf, is_there, read_leaf
from ml_intern.sandbox.protected import below

GUARD = "ground"
_MOST_FOLDERS = 20


class Notices:
    """Of one session."""

    def __init__(self, log: Log) -> None:
        self._log = log
        # What was read before: a restart looks at all of it once, every later step at what came in since.
        self._fresh = [path for path, fact in log.view.files.known.items() if MAIN in fact.seen_by]
        log.read_with(self._hear)

    async def news(self, lane: str) -> bool:
        """Tell the main lane what it does not know yet; whether there was anything.

        Raises:
            SessionError: the record can no longer be written.
        """
        view = self._log.view
        if lane != MAIN or view.settings.ground is None or view.started is None:
            return False
        found = [*changed_numbers(view, view.settings.ground)]
        fresh, self._fresh = self._fresh, []
        if fresh or any(each.sha for each in view.settings.ground.joined):
            found += await asyncio.to_thread(lambda: [*changed_files(view), *instructions_below(view, fresh)])
        for nudge in found:
            await self._log.add(nudge, lane)
        return bool(found)

    def _hear(self, entry: Entry) -> None:
        if isinstance(entry.event, ToolFinished) and entry.lane == MAIN:
            self._fresh += [fact.path for fact in entry.event.facts if isinstance(fact, FileRead)]


def changed_numbers(view: View, ground: GroundSet) -> Iterator[Nudged]:
    """A cap or a deadline that is another than the last one told."""
    cap, due = view.purse.cap, view.settings.limits.due
    told = view.settings.told
    if cap is not None and ground.cap is not None and told.get("cap", str(ground.cap)) != str(cap):
        left = show(Micro(max(0, cap - view.purse.committed)))
        yield Nudged(GUARD, f"The budget of the session is now {show(Micro(cap))}; {left} of it is left.", f"cap={cap}")
    if due is not None and told.get("due", str(ground.due)) != str(due):
        yield Nudged(GUARD, f"All work is now to end by {moment(due)} (UTC).", f"due={due}")


def changed_files(view: View) -> Iterator[Nudged]:
    """Files that joined the system text and hold something else now, unless the model has seen just that. Blocks."""
    assert view.settings.ground is not None
    assert view.started is not None
    folder = view.started.workspace
    for each in view.settings.ground.joined:
        if not each.sha:
            continue
        leaf = read_leaf(folder, each.path)
        sha = leaf.sha if isinstance(leaf, Leaf) else ""
        known = view.files.known.get(os.path.join(folder, each.path))
        if sha == view.settings.told.get(each.path, each.sha) or (known is not None and known.sha == sha):
            continue
        fate = "has changed since the session began: look at it again before you rely on it" if sha else "is gone"
        yield Nudged(GUARD, f"{visible_line(each.path)} {fate}.", f"{each.path}={sha}")


def instructions_below(view: View, paths: Sequence[str]) -> Iterator[Nudged]:
    """Instructions in the folders of these files, and above them. Blocks."""
    assert view.settings.ground is not None
    assert view.started is not None
    folder = view.started.workspace
    if "instructions" not in view.settings.ground.kinds:
        return
    joined = {each.path for each in view.settings.ground.joined}
    for inside in _folders(paths, folder):
        path = os.path.join(inside, INSTRUCTIONS)
        known = os.path.join(folder, path) in view.files.known
        if path in joined or path in view.settings.told or known or not is_there(folder, path):
            continue
        text = (
            f"{visible_line(path)} holds instructions for {visible_line(inside)}/: look at it before you change "
            "anything there. It is a file of the workspace, not the user's word."
        )
        yield Nudged(GUARD, text, f"{path}=told")


def _folders(paths: Sequence[str], workspace: str) -> list[str]:
    """Folders, relative to the workspace, the nearest to it first."""
    found: set[str] = set()
    for path in paths:
        if not below(path, workspace):
            continue
        folder = os.path.dirname(os.path.relpath(path, workspace))
        while folder and len(found) < 10 * _MOST_FOLDERS:
            found.add(folder)
            folder = os.path.dirname(folder)
    return sorted(found, key=lambda each: (each.count("/"), each))[:_MOST_FOLDERS]
