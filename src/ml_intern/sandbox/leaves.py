"""Reads texts that join a prompt, below a folder, without following a link out of it. Knows no prompt and no record."""

import hashlib
import os

from msgspec import Struct

from ml_intern.base.errors import MlInternError
from ml_intern.base.text import visible_line
from ml_intern.sandbox import files
from ml_intern.sandbox.paths import Place, Root, Roots, place
from ml_intern.sandbox.protected import below

MOST_BYTES = 1 << 20
"""Of a file; what follows is not looked at, nor hashed."""
INSTRUCTIONS = "AGENTS.md"


class Leaf(Struct, frozen=True):
    """What a file holds: its text (UTF-8, anything else replaced) and the SHA-256 of its bytes; `size` is that of all
    of the file.
    """

    text: str
    sha: str
    size: int = 0


class Unread(Struct, frozen=True):
    """Why a file that is there could not be read, in one sentence; `why` goes where its name was said."""

    what: str
    why: str


def read_leaf(folder: str, relative: str) -> Leaf | Unread | None:
    """The file `relative` below `folder` (absolute, without links); None where there is none. Blocks.

    A link that stays below `folder` is followed: one file for several agents is common.
    """
    real = os.path.realpath(os.path.join(folder, relative))
    shown = visible_line(relative)
    if not below(real, folder):
        return _unread(shown, "is a link that leads out of its folder.") if os.path.lexists(real) else None
    try:
        where = at(folder, real)
        facts = files.stat(where)
        if facts is None:
            return None
        if facts.kind != "file":
            return _unread(shown, "is no file.")
        data = files.read_bytes(where, 0, MOST_BYTES)
    except MlInternError as error:
        return Unread(error.what, error.what)
    if b"\0" in data:
        return _unread(shown, "is no text.")
    return Leaf(data.decode(errors="replace").removeprefix("\ufeff"), hashlib.sha256(data).hexdigest(), facts.size)


def _unread(shown: str, what: str) -> Unread:
    return Unread(f"{shown} {what}", f"it {what}")


def is_there(folder: str, relative: str) -> bool:
    """Whether there is such a file, no link. Blocks."""
    try:
        facts = files.stat(at(folder, os.path.join(folder, relative)))
    except MlInternError:
        return False
    return facts is not None and facts.kind == "file"


def at(folder: str, path: str) -> Place:
    """The place of `path` below `folder`.

    Raises:
        PathRefused: it lies elsewhere.
    """
    return place(Roots((Root(folder, folder, "read"),), (), folder), path, folder, write=False)
