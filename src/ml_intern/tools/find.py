"""Finds files by name and text by pattern, below a folder. Knows no policy; the roots table is the wall."""

import asyncio
import itertools
import os
from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, Struct

from ml_intern.base.errors import ToolFailed
from ml_intern.base.text import visible
from ml_intern.record.display import TextDisplay
from ml_intern.record.effects import Reads
from ml_intern.record.events import ToolStarted
from ml_intern.sandbox import files
from ml_intern.sandbox.paths import Place, Roots, place
from ml_intern.toolkit.schema import Arguments
from ml_intern.toolkit.tool import Context, Prepared, Result
from ml_intern.tools.encoding import SNIFFED_BYTES, Encoding, sniff
from ml_intern.tools.hits import Hit, Lines, Page, hits
from ml_intern.tools.patterns import Pattern, glob
from ml_intern.tools.texts import text_of
from ml_intern.tools.tree import Seen, Walk, only

DEFAULT_LIMIT = 100
_MOST = 1_000
_MOST_CONTEXT = 20
_WITHIN_S = 15.0
_FILE_BYTES = 16 << 20
_ALL_BYTES = 1 << 30
_MOST_FILES = 100_000


class FindArgs(Arguments, frozen=True):
    """What the model sends."""

    pattern: Annotated[str, Meta(description="Regular expression to search for in the files' text.")] = ""
    glob: Annotated[str, Meta(description="Names: *.py, **/test_*.py, *.{csv,json}.")] = ""
    path: Annotated[str, Meta(description="Folder or file to search, if not the workspace.")] = "."
    ignore_case: Annotated[bool, Meta(description="Upper and lower case are the same.")] = False
    context: Annotated[int, Meta(ge=0, le=_MOST_CONTEXT, description="Lines to show around each match.")] = 0
    files_only: Annotated[bool, Meta(description="Only the files' names and their number of matches.")] = False
    all_files: Annotated[bool, Meta(description="Also what .gitignore leaves out.")] = False
    limit: Annotated[int, Meta(ge=1, le=_MOST, description="Most results.")] = DEFAULT_LIMIT
    offset: Annotated[int, Meta(ge=0, description="Results to pass over: to go on.")] = 0


class _Wanted(Struct, frozen=True):
    args: FindArgs
    place: Place


class Find:
    """See find.md."""

    name = "find"
    args = FindArgs

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self.text = text_of(__file__, limit=DEFAULT_LIMIT, most=_MOST, file=_FILE_BYTES >> 20)

    async def prepare(self, args: FindArgs, context: Context) -> Prepared:
        """Where it looks.

        Raises:
            PathRefused: outside the roots.
            ToolFailed: neither a pattern nor a glob, or one that is wrong.
        """
        if not args.pattern and not args.glob:
            raise ToolFailed(
                "There is nothing to look for.", "Give `pattern` (text in files), `glob` (names), or both."
            )
        found = place(self._roots, args.path, self._roots.workspace, write=False)
        if args.pattern:
            await asyncio.to_thread(Pattern, args.pattern)
        if args.glob:
            glob(args.glob)
        title = " in ".join([*(part for part in (args.pattern, args.glob) if part), found.inside])
        return Prepared((Reads(found.inside),), TextDisplay(title), "pure", _Wanted(args, found))

    async def run(self, prepared: Prepared, context: Context) -> Result:
        """Look.

        Raises:
            PathRefused: a link on the way.
            ToolFailed: no such folder.
        """
        wanted: _Wanted = prepared.payload
        walk = Walk(all_files=wanted.args.all_files, within_s=_WITHIN_S)
        try:
            text = await asyncio.to_thread(self._search, wanted, walk)
        except asyncio.CancelledError:
            walk.stop()
            raise
        return Result(text, prepared.display)

    async def recover(self, args: FindArgs, started: ToolStarted, context: Context) -> Result | None:
        """Nothing happened: looking leaves no trace."""
        return None

    def _search(self, wanted: _Wanted, walk: Walk) -> str:
        args = wanted.args
        facts = files.stat(wanted.place)
        below = _Below(self._roots, wanted.place, is_file=facts is not None and facts.kind == "file")
        names = below.names(walk, args.glob)
        if not args.pattern:
            return _named(args, walk, below, names)
        return _matching(args, walk, below, names)


class _Below:
    """Where a search looks, and how what it finds is called: relative to the workspace where it lies in it."""

    def __init__(self, roots: Roots, start: Place, *, is_file: bool) -> None:
        self._start = start
        self._is_file = is_file
        inside = start.inside.rstrip("/")
        in_workspace = f"{inside}/".startswith(f"{roots.workspace}/")
        shown = inside.removeprefix(roots.workspace).lstrip("/") if in_workspace else inside
        self._shown = f"{shown}/" if shown else ""

    def names(self, walk: Walk, pattern: str) -> Iterator[Seen]:
        """What is called so."""
        if self._is_file:
            return only(self._start)
        fits = glob(pattern) if pattern else None
        return (seen for seen in walk.into(self._start) if fits is None or fits.fullmatch(seen.path))

    def shown(self, seen: Seen) -> str:
        """Its name for the model, which could be any bytes."""
        path = self._shown.rstrip("/") if self._is_file else f"{self._shown}{seen.path}{'/' * seen.is_folder}"
        return visible(os.fsencode(path).decode(errors="replace")).replace("\n", "\\n")


def _named(args: FindArgs, walk: Walk, below: _Below, names: Iterator[Seen]) -> str:
    """Names, newest first."""
    found: list[tuple[int, str, str]] = []
    for seen in itertools.islice(names, _MOST_FILES):
        facts = seen.facts()
        if facts is not None:
            size = "" if seen.is_folder else f"  ({facts.st_size:,} bytes)"
            found.append((-facts.st_mtime_ns, below.shown(seen), size))
    page = Page(args.offset, args.limit)
    for _, name, size in sorted(found):
        page.add(name + size)
    notes = [f"only the first {_MOST_FILES:,} names were looked at"] if len(found) == _MOST_FILES else []
    return page.text(len(found), [*notes, *_left(args, walk)])


def _matching(args: FindArgs, walk: Walk, below: _Below, names: Iterator[Seen]) -> str:
    """Lines that match, file by file."""
    pattern = Pattern(args.pattern, ignore_case=args.ignore_case)
    page = Page(args.offset, args.limit)
    looked = read_bytes = large = 0
    for seen in names:
        data = None if seen.is_folder else seen.read(_FILE_BYTES + 1)
        if data is None or len(data) > _FILE_BYTES:
            large += data is not None
            continue
        looked, read_bytes = looked + 1, read_bytes + len(data)
        text = _text(data)
        if text is not None and (first := next(found := hits(text, pattern), None)):
            _onto(page, args, Lines(below.shown(seen), text, args.context), itertools.chain([first], found))
        if page.full or read_bytes > _ALL_BYTES or walk.over():
            break
    notes = [f"{looked:,} file{'' if looked == 1 else 's'} searched"]
    if large:
        notes.append(f"{large:,} over {_FILE_BYTES >> 20} MB left out: search those with a command")
    if read_bytes > _ALL_BYTES:
        notes.append(f"stopped after {_ALL_BYTES >> 30} GB: name a smaller `path`, or a `glob`")
    return page.text(None, [*notes, *_left(args, walk)])


def _onto(page: Page, args: FindArgs, lines: Lines, found: Iterator[Hit]) -> None:
    if args.files_only:
        page.add(f"{lines.title}: {sum(1 for _ in found):,}")
    else:
        lines.onto(page, found)


def _left(args: FindArgs, walk: Walk) -> list[str]:
    notes = [f"stopped after {_WITHIN_S:.0f} s: name a smaller `path`"] if walk.ran_out else []
    if walk.left_out and not args.all_files:
        notes.append(
            f"{walk.left_out:,} ignored name{'' if walk.left_out == 1 else 's'} left out (all_files shows them)"
        )
    return notes


def _text(data: bytes) -> str | None:
    """The text of a file; None where it is none."""
    head = data[:SNIFFED_BYTES]
    encoding = sniff(head, whole=len(data) <= SNIFFED_BYTES)
    if not isinstance(encoding, Encoding):
        return None
    return data[len(encoding.bom) :].decode(encoding.codec, "replace")
