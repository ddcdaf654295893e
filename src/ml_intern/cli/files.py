"""Files that a person names on the command line: read as they are, written whole or not at all. Knows no content."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

from ml_intern.base.errors import BadSettings


@contextlib.contextmanager
def old_file(name: str) -> Generator[BinaryIO]:
    """The file of this name, or stdin for "-".

    Raises:
        BadSettings: it cannot be read.
    """
    if name == "-":
        yield sys.stdin.buffer
        return
    with contextlib.ExitStack() as opened:
        try:
            file = opened.enter_context(Path(name).open("rb"))
        except OSError as error:
            raise BadSettings(f"{name} cannot be read ({error.strerror}).", "Name a file that you may read.") from error
        yield file


@contextlib.contextmanager
def new_file(path: Path) -> Generator[BinaryIO]:
    """A new file for its owner alone (0600) that appears, whole and on disk, when the block ends well.

    Raises:
        BadSettings: it exists, or cannot be written.
    """
    # A link counts, wherever it leads.
    if os.path.lexists(path):
        raise BadSettings(f"{path} is there already.", "Name another file, or move that one.")
    try:
        number, beside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        with contextlib.ExitStack() as undo:
            undo.callback(Path(beside).unlink, missing_ok=True)
            with os.fdopen(number, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(beside).rename(path)
    except OSError as error:
        what = f"{path} cannot be written ({error.strerror})."
        raise BadSettings(what, "Name a place that you may write and that has space.") from error
