"""What a command printed, as text for a model: without control sequences, progress bars in their last state, clipped.

Knows no command and no blob store.
"""

import codecs
from pathlib import Path
from typing import NamedTuple

from ml_intern.base.text import clip, plain

SHOWN_CHARS = 25_000
"""Longer output is clipped to its head and tail."""

PEOPLE_CHARS = 8_000
"""What the display of a finished command keeps."""

_HEAD_SHARE = 0.25
_PIECE_BYTES = 1 << 20
_FRESH_BYTES = 8 << 20
_LONGEST_LINE_CHARS = 4 << 20
_CONTROLS = tuple(map(chr, sorted({*range(32), 127} - {9, 10, 13, 27})))


def cleaned(path: Path) -> str:
    """The whole output. Blocks, but in small steps: the interpreter is never held for long.

    Raises:
        OSError: the file cannot be read.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    done: list[str] = []
    rest = ""
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            rest += decoder.decode(piece)
            cut = rest.rfind("\n") + 1
            done.append(_clean(rest[:cut]))
            # Of a progress bar without line breaks only the state that is drawn now can matter.
            rest = rest[cut:]
            rest = rest[rest.rstrip("\r").rfind("\r") + 1 :]
            if len(rest) > _LONGEST_LINE_CHARS:
                done.append(_clean(rest))
                rest = ""
    done.append(_clean(rest + decoder.decode(b"", final=True)))
    return "".join(done)


class Fresh(NamedTuple):
    """What was added to an output, as text; `offset` is where the next look begins, `skipped` bytes were not read."""

    text: str
    offset: int
    skipped: int

    @property
    def lines(self) -> int:
        """How many lines it has."""
        return self.text.rstrip("\n").count("\n") + 1 if self.text.strip("\n") else 0


def fresh(path: Path, offset: int, *, is_open: bool) -> Fresh:
    """What stands behind the byte `offset`. While more may come, the last line is shown, but comes again. Blocks.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        begin = max(min(offset, size), size - _FRESH_BYTES)
        file.seek(begin)
        data = file.read(size - begin)
    whole = data.rfind(b"\n") + 1 if is_open and len(data) < _FRESH_BYTES else len(data)
    return Fresh(_clean(data.decode(errors="replace")), begin + whole, max(0, begin - min(offset, size)))


def shortened(text: str, rest: str) -> str:
    """Head and tail of a long output; `rest` says in the gap what became of the whole."""
    note = f"the whole output has {text.count(chr(10)) + 1:,} lines; {rest}"
    return clip(text, SHOWN_CHARS, head_share=_HEAD_SHARE, note=note).text


def ends(text: str) -> str:
    """Head and tail of a long output, nothing counted."""
    return clip(text, SHOWN_CHARS, head_share=_HEAD_SHARE).text


def for_people(text: str) -> str:
    """The part of an output that a display keeps."""
    return clip(text, PEOPLE_CHARS, head_share=_HEAD_SHARE).text


def _clean(text: str) -> str:
    if not text:
        return ""
    text = plain(text) if "\x1b" in text or "\r" in text else text
    # Most output has none of these, and that is found out at the speed of memory. `str.translate` looks each character
    # up: 10 MB with a letter beyond ASCII in them take it 0.4 s.
    for sign in _CONTROLS:
        if sign in text:
            text = text.replace(sign, "")
    return text
