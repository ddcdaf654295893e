"""stdout and stderr as they are: closed, full or left by their reader, neither ends a run. Knows no record."""

import os
import sys
from contextlib import suppress
from typing import TextIO

from ml_intern.base.errors import MlInternError
from ml_intern.base.text import visible, visible_line


def tell(text: str) -> None:
    """To the present stderr at once; where it takes nothing, this and all that follows is dropped."""
    stream = sys.stderr
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        _drop(stream)


def complain(error: MlInternError) -> None:
    """What happened and what to do, to stderr. What is told of may be a name or words from outside: none of it forges a
    line or moves the cursor. A remedy may have several lines; what happened is one.
    """
    tell(f"ml-intern: {visible_line(error.what)}\n" + (f"{visible(error.remedy)}\n" if error.remedy else ""))


def write(data: bytes) -> None:
    """To stdout at once. A reader that has left takes nothing of the run with it: the record has it all.

    Any other failure is told on stderr, once: what follows is dropped.
    """
    stream = sys.stdout
    if stream is None:
        return
    try:
        stream.buffer.write(data)
        stream.buffer.flush()
    except BrokenPipeError:
        _drop(stream)
    except OSError as error:
        _drop(stream)
        tell(f"ml-intern: stdout takes nothing ({error.strerror}).\nThe session has it all: ml-intern show\n")


def encoded(text: str) -> bytes:
    """`text` as stdout wants it. What its encoding lacks is spelled out, on a terminal also what moves the cursor."""
    if sys.stdout is None:
        return text.encode()
    return (visible(text) if sys.stdout.isatty() else text).encode(sys.stdout.encoding, "backslashreplace")


def _drop(stream: TextIO) -> None:
    """What waits in its buffer must go somewhere, or leaving the process would fail on it and change its exit code."""
    null = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError):
        os.dup2(null, stream.fileno())
    os.close(null)
