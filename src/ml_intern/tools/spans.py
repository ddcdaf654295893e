"""Finds an exact span in a text, whatever its line ends; where it is missing, what comes nearest and how it differs.

Knows no file. Lines are counted from 1.
"""

import difflib
import re
from collections.abc import Callable
from typing import NamedTuple

from ml_intern.tools.numbering import numbered

_CONTEXT_LINES = 2
_SHOWN_CANDIDATES = 5
_SHOWN_LINES = 12
_SHOWN_CHARS = 300
_COMPARED_CHARS = 2_000_000
_COMPARED_LINES = 20_000
_TRIED_ANCHORS = 5
_ALIKE = 0.6
_LINE_NUMBER = re.compile(r"(?m)^ *\d+\t")
_LOOKALIKES = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′", "'"),
        **dict.fromkeys("“”„‟″", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        **dict.fromkeys("\u00a0\u2002\u2003\u2009\u202f\u3000", " "),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", None),
        "…": "...",
    }
)


class Span(NamedTuple):
    """From `start` to before `end`, in characters."""

    start: int
    end: int


class _Near(NamedTuple):
    """Lines `first` to before `last` (from 0) come near."""

    score: float
    first: int
    last: int


def find(text: str, wanted: str) -> list[Span]:
    """Every place where `wanted` stands, overlapping ones too. A line end in it matches LF and CRLF."""
    plain = wanted.replace("\r\n", "\n")
    if "\n" in plain and "\r\n" in text:
        return _find_lines(text, plain)
    found: list[Span] = []
    at = text.find(plain)
    while at >= 0:
        found.append(Span(at, at + len(plain)))
        at = text.find(plain, at + 1)
    return found


def _find_lines(text: str, plain: str) -> list[Span]:
    pattern = re.compile(r"\r?\n".join(map(re.escape, plain.split("\n"))))
    found: list[Span] = []
    match = pattern.search(text)
    while match:
        found.append(Span(*match.span()))
        # A break is one thing: the search must not go on between its CR and its LF.
        step = 2 if text.startswith("\r\n", match.start()) else 1
        match = pattern.search(text, match.start() + step)
    return found


def apart(spans: list[Span]) -> list[Span]:
    """Those that do not overlap one before."""
    kept: list[Span] = []
    for span in spans:
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
    return kept


def with_line_ends(new: str, text: str, span: Span) -> str:
    """`new` with the line ends that `text` has at `span`: in it, else after it, else before it."""
    plain = new.replace("\r\n", "\n")
    at = text.find("\n", span.start)
    if at < 0:
        at = text.rfind("\n", 0, span.start)
    return plain.replace("\n", "\r\n") if at > 0 and text[at - 1] == "\r" else plain


def line_of(text: str, at: int) -> int:
    """The number of the line that holds position `at`."""
    return text.count("\n", 0, at) + 1


def candidates(text: str, spans: list[Span]) -> str:
    """The places, each with lines around it, for a model that must tell them apart."""
    lines = _split(text)
    shown: list[str] = []
    for span in spans[:_SHOWN_CANDIDATES]:
        first, last = line_of(text, span.start) - 1, line_of(text, max(span.start, span.end - 1))
        shown.append(_block(lines, first - _CONTEXT_LINES, min(last, first + _SHOWN_LINES) + _CONTEXT_LINES))
    more = len(spans) - len(shown)
    return "\n---\n".join(shown) + (f"\n[... {more:,} more]" if more > 0 else "")


WITHOUT_NUMBERS = "It does stand there without the line numbers: they are not part of the file."


def nearest(text: str, wanted: str) -> str:
    """What comes nearest to a span that does not exist, with line numbers and the difference; empty if nothing does."""
    bare = _LINE_NUMBER.sub("", wanted)
    if bare != wanted and find(text, bare):
        return WITHOUT_NUMBERS
    if len(text) > _COMPARED_CHARS or len(wanted) > _COMPARED_CHARS:
        return ""
    lines = _split(text)
    asked = _split(wanted)
    found = _normalised(lines, asked) or _alike(lines, asked) or _holding(lines, asked)
    told = [_told(lines, asked, near) for near in found]
    return "\n---\n".join(told)


def _split(text: str) -> list[str]:
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if len(lines) > 1 and not lines[-1] else lines


def _words(line: str) -> str:
    return " ".join(line.split())


def _folded(line: str) -> str:
    return _words(line.translate(_LOOKALIKES)).casefold()


_DIFFERENCES: tuple[tuple[Callable[[str], str], str], ...] = (
    (str.rstrip, "only white space at line ends differs"),
    (str.strip, "only the indentation differs"),
    (_words, "only white space differs"),
    (lambda line: line.translate(_LOOKALIKES), "only quotes, dashes or special spaces differ"),
    (lambda line: _words(line.translate(_LOOKALIKES)), "only quotes, dashes and white space differ"),
    (_folded, "only upper and lower case (and quotes, dashes, white space) differ"),
)


def _normalised(lines: list[str], asked: list[str]) -> list[_Near]:
    """Windows that are the same but for white space, lookalikes and case."""
    wanted = [_folded(line) for line in asked]
    folded = [_folded(line) for line in lines[:_COMPARED_LINES]]
    size = len(wanted)
    starts = (at for at in range(len(folded) - size + 1) if folded[at] == wanted[0])
    found = [_Near(1.0, at, at + size) for at in starts if folded[at : at + size] == wanted]
    return found[:_TRIED_ANCHORS] if any(wanted) else []


def _alike(lines: list[str], asked: list[str]) -> list[_Near]:
    """The one window around a line like the longest of `asked` that is most like all of it."""
    anchor = max(range(len(asked)), key=lambda at: len(asked[at].strip()))
    places: dict[str, int] = {}
    for at, line in enumerate(lines[:_COMPARED_LINES]):
        places.setdefault(line.strip()[:_SHOWN_CHARS], at)
    near = difflib.get_close_matches(asked[anchor].strip()[:_SHOWN_CHARS], places, _TRIED_ANCHORS, _ALIKE)
    windows = [_window(lines, asked, places[line] - anchor) for line in near if line]
    return sorted(windows, reverse=True)[:1]


def _holding(lines: list[str], asked: list[str]) -> list[_Near]:
    """The line that holds the longest piece of a single line that was asked for."""
    wanted = asked[0].strip()[:_SHOWN_CHARS]
    if len(asked) > 1 or not wanted:
        return []
    matcher = difflib.SequenceMatcher(None, autojunk=False)
    matcher.set_seq2(wanted)
    best = _Near(0.0, 0, 0)
    for at, line in enumerate(lines[: _COMPARED_LINES // 4]):
        matcher.set_seq1(line[:_SHOWN_CHARS])
        share = matcher.find_longest_match().size / len(wanted)
        best = max(best, _Near(share, at, at + 1))
    return [best] if best.score >= _ALIKE else []


def _window(lines: list[str], asked: list[str], at: int) -> _Near:
    first = max(0, at)
    last = min(len(lines), max(at + len(asked), first + 1))
    matcher = difflib.SequenceMatcher(None, [_folded(line) for line in lines[first:last]], [*map(_folded, asked)])
    return _Near(matcher.ratio(), first, last)


def _told(lines: list[str], asked: list[str], near: _Near) -> str:
    window = lines[near.first : near.last]
    block = _block(lines, near.first, min(near.last, near.first + _SHOWN_LINES))
    for same, words in _DIFFERENCES:
        if [*map(same, window)] == [*map(same, asked)]:
            return f"Nearest, lines {near.first + 1} to {near.last} ({words}):\n{block}"
    pairs = enumerate(zip(window, asked, strict=False))
    at, (there, wanted) = next(((at, pair) for at, pair in pairs if pair[0] != pair[1]), (0, (window[0], asked[0])))
    return (
        f"Nearest, from line {near.first + 1}:\n{block}\nThe first difference, line {near.first + at + 1}:\n"
        f"  the file has {_cut(there)!r}\n  old_str has  {_cut(wanted)!r}"
    )


def _block(lines: list[str], first: int, last: int) -> str:
    start = max(0, first)
    return "\n".join(numbered(at, _cut(line)) for at, line in enumerate(lines[start:last], start + 1))


def _cut(line: str) -> str:
    return line if len(line) <= _SHOWN_CHARS else line[:_SHOWN_CHARS] + "…"
