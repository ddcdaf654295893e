"""Commands that outlast the call that started them: begin, name, watch, settle what they left. Knows no tool.

A supervisor outside owns them (sandbox/commands.py); nothing about them is kept here.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec

from ml_intern.base.errors import ToolFailed
from ml_intern.base.text import one_line
from ml_intern.record.facts import FileChange
from ml_intern.record.folds.files import Files
from ml_intern.sandbox import lock, outcome, repositories
from ml_intern.sandbox.broker.doors import HUB_PORT, PROXY_PORT
from ml_intern.sandbox.commands import Commands, Ended, Running, Spec
from ml_intern.sandbox.launch import is_key
from ml_intern.sandbox.paths import Roots
from ml_intern.sandbox.repositories import GitState
from ml_intern.tools.endings import ending
from ml_intern.tools.workspace import Before, changes, look

DEFAULT_TIMEOUT_S = 3_600
_EARLY_S = 0.5
_AGAIN_S = 0.02
_TITLE_CHARS = 80
_BEFORE = "before.json"
"""What git folders held when the command began: traps set since are undone when it has ended."""

_LISTENS, _LOOPBACK = "0A", ("0100007F", "00000000", "0" * 32, "0" * 24 + "01000000")


async def begin(commands: Commands, spec: Spec, on_output: Callable[[bytes], None]) -> Ended | None:
    """Start the command and leave it running; how it ended where that took less than half a second.

    Raises:
        SandboxError: it cannot be started.
    """
    following = asyncio.ensure_future(commands.run(spec, on_output))
    try:
        done, _ = await asyncio.wait([following], timeout=_EARLY_S)
        while not done and await commands.find(spec.key) is None:
            done, _ = await asyncio.wait([following], timeout=_AGAIN_S)
        return await following if done else None
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


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


async def running(commands: Commands, folder: Path) -> list[tuple[str, str]]:
    """Id and command line of each that runs in the session of `folder`.

    Raises:
        SandboxError: it cannot be asked.
    """
    keys = await commands.running()
    return await asyncio.to_thread(lambda: [(key, title(folder / "commands" / key)) for key in keys])


def settle_all(roots: Roots, folder: Path) -> None:
    """Settle every command of the session of `folder`; all must have ended. Blocks."""
    for kept in folder.glob(f"commands/*/{_BEFORE}"):
        settle(roots, kept.parent)


def title(place: Path) -> str:
    """The command line of the command in the folder `place`, on one line. Blocks."""
    try:
        argv = cast("list[object]", outcome.load_spec(str(place))["argv"])
        return one_line(str(argv[-1]), _TITLE_CHARS)
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


def left(roots: Roots, ended: Ended, known: Files) -> tuple[list[str], tuple[FileChange, ...]]:
    """How a command ended that was left running, in sentences, and the files it changed. Blocks."""
    place = ended.output_path.parent
    told = settle(roots, place)
    notes = [f"It was stopped after {ended.duration_s:.1f} s."] if ended.reason == "stopped" else ending(ended)
    notes = notes or [f"Ended after {ended.duration_s:.1f} s with exit code 0."]
    after = changes(roots, look(roots, begun=True), place, known)
    # A name that is no UTF-8 could not stand in the record.
    return [text.encode(errors="replace").decode() for text in (*notes, *told, *after.told)], after.facts


def ports(folder: Path) -> list[int]:
    """Ports that the session's commands listen on at their localhost; none where they share ours. Blocks.

    Source: proc_pid_net(5).
    """
    try:
        supervisor = lock.holder(str(folder))
        if supervisor is None or os.stat(f"/proc/{supervisor}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino:
            return []
        tables = [
            Path(f"/proc/{supervisor}/net/{name}").read_text("ascii").splitlines()[1:] for name in ("tcp", "tcp6")
        ]
    except OSError:
        return []
    rows = (line.split() for table in tables for line in table)
    places = (row[1].split(":") for row in rows if row[3] == _LISTENS)
    return sorted({int(port, 16) for address, port in places if address in _LOOPBACK} - {PROXY_PORT, HUB_PORT})
