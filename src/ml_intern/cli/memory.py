"""`ml-intern memory`: what the workspace's memory holds, for a person to read, change or clear. Knows no session."""

import itertools
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from ml_intern.agent.prompt import MEMORY
from ml_intern.app.settings import workspace_of
from ml_intern.base.errors import BadSettings
from ml_intern.base.text import visible, visible_line
from ml_intern.headless.exits import Exit
from ml_intern.headless.streams import complain
from ml_intern.sandbox.leaves import Leaf, Unread, read_leaf

_HEAD = """\
# Memory

What worked, what failed and why, with numbers, dates and session ids. The agent adds to it and is told it at the start
of each session.
"""


def show(cwd: str | None, *, edit: bool, clear: bool) -> Exit:
    """Print the memory; or open it in the editor; or take it away (the old one is kept beside)."""
    try:
        return _chosen(workspace_of(cwd) / MEMORY, edit=edit, clear=clear)
    except BadSettings as error:
        complain(error)
        return Exit.BAD_SETTINGS


def _chosen(path: Path, *, edit: bool, clear: bool) -> Exit:
    if edit and clear:
        raise BadSettings("--edit and --clear do not go together.", "Give one of them.")
    return _edit(path) if edit else _clear(path) if clear else _print(path)


def _print(path: Path) -> Exit:
    match read_leaf(os.path.realpath(path.parent), MEMORY):
        case Leaf(text=text):
            sys.stdout.write(visible(text if text.endswith("\n") else f"{text}\n"))
        case Unread(what=what):
            raise BadSettings(what, f"Make {path} a text file.")
        case None:
            sys.stderr.write(f"{path} is not there: nothing is remembered yet. `ml-intern memory --edit` begins it.\n")
    return Exit.DONE


def _edit(path: Path) -> Exit:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise BadSettings("No editor is set.", f"Set EDITOR, or change {path} yourself.")
    _refuse_link(path)
    command = _command(editor)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_HEAD)
    except FileExistsError:
        pass  # It is edited as it is.
    except OSError as error:
        raise BadSettings(f"{path} cannot be made: {error.strerror}.", "Look at who owns the folder.") from error
    try:
        done = subprocess.run([*command, str(path)], check=False)
    except OSError as error:
        what = f"The editor {command[0]} could not be started: {error.strerror}."
        raise BadSettings(what, "Set EDITOR to one that can.") from error
    if done.returncode:
        sys.stderr.write(f"ml-intern: The editor {visible_line(command[0])} ended with code {done.returncode}.\n")
    return Exit.DONE if done.returncode == 0 else Exit.FAILED


def _command(editor: str) -> list[str]:
    """The words of `editor`, whose program is there: no memory is begun for one that is not."""
    try:
        command = shlex.split(editor)
    except ValueError as error:
        raise BadSettings(f"The editor {editor} cannot be read: {error}.", "Set EDITOR to a command.") from error
    if not command or shutil.which(command[0]) is None:
        name = command[0] if command else editor
        raise BadSettings(f"The editor {name} is not there.", "Set EDITOR to one that is.")
    return command


def _clear(path: Path) -> Exit:
    if path.is_dir() and not path.is_symlink():
        raise BadSettings(f"{path} is a folder, no memory.", "Move it away yourself.")
    old = _free(path.with_name(f"{path.name}.old"))
    try:
        path.rename(old)
    except FileNotFoundError:
        sys.stderr.write(f"{path} is not there: nothing is remembered.\n")
        return Exit.DONE
    except OSError as error:
        raise BadSettings(f"{path} cannot be cleared: {error.strerror}.", "Look at who owns the folder.") from error
    sys.stdout.write(f"Cleared. What it held is kept in {old}.\n")
    return Exit.DONE


def _free(old: Path) -> Path:
    """`old`, or, where an earlier memory is kept there, the next number of it."""
    names = (old if number == 1 else old.with_name(f"{old.name}{number}") for number in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))


def _refuse_link(path: Path) -> None:
    """An agent may have put it there, to have another file opened."""
    if path.is_symlink():
        raise BadSettings(f"{path} is a link.", "Look where it leads; remove it to begin a memory.")
