"""Commands that outlast the call that started them: begin, name, watch, settle what they left. Knows no tool.

A supervisor outside owns them (sandbox/commands.py); nothing about them is kept here.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec

from ml_intern.base.errors import SandboxError, ToolFailed
from ml_intern.base.text import one_line
from ml_intern.record.facts import FileChange
from ml_intern.record.folds.files import Files
from ml_intern.sandbox import outcome, repositories
from ml_intern.sandbox.commands import Commands, Ended, MakeSpec, Running
from ml_intern.sandbox.launch import is_key
from ml_intern.sandbox.paths import Roots
from ml_intern.sandbox.repositories import GitState
from ml_intern.tools import marks
from ml_intern.tools.endings import ending
from ml_intern.tools.workspace import Before, changes, look

DEFAULT_TIMEOUT_S = 3_600
MOST_AT_ONCE = 8
_EARLY_S = 0.5
TITLE_CHARS, _TITLE_BESIDE = 80, 40
_BEFORE = "before.json"
"""What git folders held when the command began: traps set since are undone when it has ended."""


async def begin(commands: Commands, key: str, spec: MakeSpec, on_output: Callable[[bytes], None]) -> Ended | None:
    """Start the command `key` and leave it running; how it ended where that took less than half a second.

    Raises:
        SandboxError: it cannot be started.
    """
    await commands.start(spec)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_EARLY_S):
            return await commands.attach(key, on_output)
    return None


async def find(commands: Commands, key: str) -> Ended | Running:
    """The command of this id.

    Raises:
        ToolFailed: there is none.
    """
    found = await commands.find(key) if is_key(key) else None
    if found is None:
        running = ", ".join(await commands.running()) or "none"
        raise ToolFailed(f"There is no command {key!r} in this session.", f"Running: {running}.")
    return found


async def require_room(commands: Commands) -> None:
    """Raises ToolFailed where as many run in the background as may at once."""
    left = await asyncio.to_thread(marks.marks, commands.folder)
    busy = [key for key in await commands.running() if key in left]
    if len(busy) >= MOST_AT_ONCE:
        listed = "; ".join(f"{key} ({left[key].title})" for key in busy)
        raise ToolFailed(
            f"{len(busy)} commands run in the background, the most that may at once.",
            f"End one that is not needed, or wait for its end: {listed}.",
        )


async def running(commands: Commands, folder: Path) -> list[tuple[str, str]]:
    """Id and command line of each that runs in the session of `folder`.

    Raises:
        SandboxError: it cannot be asked.
    """
    keys = await commands.running()
    return await asyncio.to_thread(lambda: [(key, title(folder / "commands" / key)) for key in keys])


async def left_by(commands: Commands, after: str, lane: str) -> str:
    """What `lane` left running, in words, and `after` them; "" where it is nothing, or nobody can say."""
    with contextlib.suppress(SandboxError):
        left = await asyncio.to_thread(marks.marks, commands.folder)
        own = [key for key in await commands.running() if key in left and left[key].lane == lane]
        if own:
            named = ", ".join(f"{key} ({left[key].title})" for key in own)
            return f"It left running in the background: command {named}. {after}"
    return ""


async def rows(commands: Commands) -> list[str]:
    """A line for each that runs: id, how long of how long, command line, what it is for.

    Raises:
        SandboxError: it cannot be asked.
    """
    keys = await commands.running()
    return await asyncio.to_thread(_rows, commands.folder, keys)


def _rows(folder: Path, keys: tuple[str, ...]) -> list[str]:
    left = marks.marks(folder)
    lines: list[str] = []
    for key in keys:
        place, described = folder / "commands" / key, left[key].description if key in left else ""
        lines.append(
            f"{key}  {_age(place)}  {title(place)}" + (f"  ({one_line(described, TITLE_CHARS)})" * bool(described))
        )
    return lines


def _age(place: Path) -> str:
    try:
        since, most = (place / outcome.SPEC).stat().st_mtime, float(str(outcome.load_spec(str(place))["deadline_s"]))
    except (OSError, ValueError, LookupError):
        return "?"
    return f"{max(0.0, time.time() - since):,.0f} of {most:,.0f} s"


def port_lines(listening: list[int]) -> list[str]:
    """What commands may know of the ports on which some of them listen."""
    return [f"Listening on localhost, for this session's commands: {_listed(listening)}."] if listening else []


def with_ports(command: str, listening: list[int]) -> str:
    """The command line and, for the person who reads it, the way to the ports."""
    if not listening:
        return command
    return (
        f"{one_line(command, _TITLE_BESIDE)}; you reach port {_listed(listening)} by: ml-intern forward {listening[0]}"
    )


def _listed(listening: list[int]) -> str:
    return ", ".join(map(str, listening))


def settle_all(roots: Roots, folder: Path) -> None:
    """Settle every command of the session of `folder`; all must have ended. Blocks."""
    for kept in folder.glob(f"commands/*/{_BEFORE}"):
        settle(roots, kept.parent)


def title(place: Path) -> str:
    """The command line of the command in the folder `place`, on one line. Blocks."""
    try:
        argv = cast("list[object]", outcome.load_spec(str(place))["argv"])
        return one_line(str(argv[-1]), TITLE_CHARS)
    except (OSError, ValueError, LookupError, TypeError):
        return "?"


def remember(place: Path, before: Before) -> None:
    """Keep what the git folders were like when the command began. Blocks."""
    with contextlib.suppress(OSError):
        (place / _BEFORE).write_bytes(msgspec.json.encode(before.git))


def settle(roots: Roots, place: Path) -> list[str]:
    """Undo the traps that a command which has ended set in git folders, once; a sentence for each. Blocks."""
    try:
        kept = msgspec.json.decode((place / _BEFORE).read_bytes(), type=dict[str, GitState])
    except (OSError, ValueError):
        return []
    told = repositories.mend(roots, kept)
    (place / _BEFORE).unlink(missing_ok=True)
    return told


def notes_of(ended: Ended) -> list[str]:
    """How a command in the background ended; a good end is told, too."""
    return ending(ended) or [f"Ended after {ended.duration_s:.1f} s with exit code 0."]


def left(roots: Roots, ended: Ended, known: Files) -> tuple[list[str], tuple[FileChange, ...]]:
    """How a command ended that was left running, in sentences, and the files it changed. Blocks."""
    place = ended.output_path.parent
    told = settle(roots, place)
    marks.take_away(place.parents[1], place.name)
    stopped = [f"It was stopped after {ended.duration_s:.1f} s."] if ended.reason == "stopped" else []
    notes = stopped or notes_of(ended)
    after = changes(roots, look(roots, begun=True), place, known)
    # A name that is no UTF-8 could not stand in the record.
    return [text.encode(errors="replace").decode() for text in (*notes, *told, *after.told)], after.facts
