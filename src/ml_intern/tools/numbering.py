"""Numbered lines within a budget, from text that arrives in pieces. Knows no file and no encoding."""

LINE_CHARS = 4_000
"""A longer line is clipped."""

PAGE_CHARS = 50_000
"""No page is longer, whatever the number of lines asked for."""

_CLIPPED = f" [... clipped after {LINE_CHARS:,} characters]"


def numbered(number: int, line: str) -> str:
    """One line as the model sees it."""
    return f"{number}\t{line}"


class Page:
    """The lines from `first` (counted from 1) on, `most` at most. Feed it until `done`, then call `close`.

    `number` is the line that comes next; `more` says that something follows the page; `clipped` that a line was cut.
    """

    def __init__(self, first: int, most: int) -> None:
        self.number = 1
        self.more = False
        self.clipped = False
        self._first = first
        self._most = most
        self._shown: list[str] = []
        self._chars = 0
        self._line: str | None = None

    @property
    def done(self) -> bool:
        """Whether the rest need not be fed."""
        return self.more

    @property
    def shown(self) -> int:
        """How many lines the page holds."""
        return len(self._shown)

    @property
    def text(self) -> str:
        """The page."""
        return "\n".join(self._shown)

    def feed(self, text: str) -> None:
        """Take the next piece."""
        at = self._skip(text)
        while at < len(text) and not self.more:
            end = text.find("\n", at)
            stop = len(text) if end < 0 else end
            self._extend(text, at, stop)
            if end >= 0:
                self._end_line()
            at = stop + 1

    def close(self) -> None:
        """The text has ended: its last line may lack a newline."""
        if self._line is not None and not self.more:
            self._end_line()

    def _skip(self, text: str) -> int:
        """Pass over the lines before the page; where the first that counts begins."""
        if self.number >= self._first:
            return 0
        breaks = text.count("\n")
        if self.number + breaks < self._first:
            self.number += breaks
            if text:
                self._line = None if text.endswith("\n") else ""
            return len(text)
        at = 0
        while self.number < self._first:
            at = text.index("\n", at) + 1
            self.number += 1
        self._line = None
        return at

    def _extend(self, text: str, at: int, stop: int) -> None:
        if len(self._shown) >= self._most or self._chars >= PAGE_CHARS:
            self.more = True
            return
        held = self._line or ""
        # One character more than is shown, so that the end of the line knows that there was more.
        self._line = held + text[at : min(stop, at + LINE_CHARS + 2 - len(held))]

    def _end_line(self) -> None:
        if self.more:
            return
        line = (self._line or "").removesuffix("\r")
        if self.number >= self._first:
            if len(line) > LINE_CHARS:
                line, self.clipped = line[:LINE_CHARS] + _CLIPPED, True
            row = numbered(self.number, line)
            if self._shown and self._chars + len(row) > PAGE_CHARS:
                self.more = True
                return
            self._shown.append(row)
            self._chars += len(row) + 1
        self.number += 1
        self._line = None
