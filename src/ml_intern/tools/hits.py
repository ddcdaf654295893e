"""Matching lines of a text with what stands around them, and a page of results. Knows no file and no record."""

from collections.abc import Iterator
from typing import NamedTuple

from ml_intern.tools.patterns import Pattern

PAGE_CHARS = 25_000
"""No page of results is much longer."""

_LINE_CHARS = 300


class Page:
    """Results from `offset` on, `most` at most, as long as they fit."""

    def __init__(self, offset: int, most: int) -> None:
        self._offset = offset
        self._most = most
        self._met = 0
        self._shown = 0
        self._chars = 0
        self._rows: list[str] = []
        self._title: str = ""
        self.full = False

    def wants(self) -> bool:
        """Whether the next result is shown; it counts as met, and the page is full where it is one too many."""
        self._met += 1
        if self._met <= self._offset:
            return False
        self.full = self._shown >= self._most or self._chars > PAGE_CHARS
        return not self.full

    def show(self, title: str, rows: list[str]) -> None:
        """A result of the file `title`, which is named once."""
        if title and title != self._title:
            heading = ["", title] if self._rows else [title]
            rows = [*heading, *rows]
        self._title = title
        self._shown += 1
        self._rows += rows
        self._chars += sum(map(len, rows)) + len(rows)

    def add(self, row: str) -> None:
        """A result that is one line."""
        if not self.full and self.wants():
            self.show("", [row])

    def text(self, total: int | None, notes: list[str]) -> str:
        """The page, and how to go on."""
        if not self._shown:
            words = f"no more than {self._met:,} results" if self._met else "nothing found"
            return f"[{'; '.join([words, *notes])}]"
        if self.full:
            last = self._offset + self._shown
            of = f" of {total:,}" if total is not None else ""
            notes = [f"results {self._offset + 1:,} to {last:,}{of}; go on with offset={last}", *notes]
        return "\n".join([*self._rows, f"[{'; '.join(notes)}]"] if notes else self._rows)


class Hit(NamedTuple):
    """One line that matches: its number from 1, where it begins in the text, and the match within it."""

    number: int
    at: int
    start: int
    end: int


def hits(text: str, pattern: Pattern) -> Iterator[Hit]:
    """Every line of `text` that matches, once, in order."""
    number, at = 1, 0
    for start, end in pattern.spans(text):
        if start < at:
            # A second match in the line before.
            continue
        number += text.count("\n", at, start)
        line = max(at, text.rfind("\n", at, start) + 1)
        yield Hit(number, line, start - line, end - line)
        stop = text.find("\n", start)
        if stop < 0:
            return
        number, at = number + 1, stop + 1


class Lines:
    """The matching lines of one text on a page, with what stands around them."""

    def __init__(self, title: str, text: str, context: int) -> None:
        self.title = title
        self._context = context
        self._lines = text.split("\n")
        self._told = 0

    def onto(self, page: Page, found: Iterator[Hit]) -> None:
        """Put them on the page until it is full."""
        for hit in found:
            if page.full:
                return
            if page.wants():
                page.show(self.title, self._rows(hit.number, hit.start, hit.end))

    def _rows(self, number: int, start: int, end: int) -> list[str]:
        """`12: the line` and around it `11- another`; what was told with the match before is not told again."""
        lines = self._lines
        first = max(number - self._context, self._told + 1)
        last = min(number + self._context, len(lines))
        gap = ["--"] if self._context and self._told and first > self._told + 1 else []
        rows = [f"{each}- {cut(lines[each - 1], 0, 0)}" for each in range(first, number)]
        # A line that the context of the one before already told is told again, as a match.
        rows.append(f"{number}: {cut(lines[number - 1], start, end)}")
        rows += [f"{each}- {cut(lines[each - 1], 0, 0)}" for each in range(number + 1, last + 1)]
        self._told = last
        return [*gap, *rows]


def cut(line: str, start: int, end: int) -> str:
    """A long line, cut around what matched."""
    line = line.removesuffix("\r")
    if len(line) <= _LINE_CHARS:
        return line
    first = max(0, min(start - (_LINE_CHARS - min(end - start, _LINE_CHARS)) // 2, len(line) - _LINE_CHARS))
    shown = line[first : first + _LINE_CHARS]
    return f"{'[...] ' if first else ''}{shown}{' [...]' if first + _LINE_CHARS < len(line) else ''}"
