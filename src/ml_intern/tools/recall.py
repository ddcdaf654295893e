"""Searches this session's own record: what was said, called and answered, long outputs whole. Knows no store."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Annotated, Protocol

from msgspec import Meta

from ml_intern.base.errors import StoreFailed, ToolFailed
from ml_intern.record.display import TextDisplay
from ml_intern.record.effects import Reads
from ml_intern.record.events import ToolStarted
from ml_intern.toolkit.blobs import Blobs
from ml_intern.toolkit.schema import Arguments
from ml_intern.toolkit.tool import Context, Prepared, Result
from ml_intern.tools import numbering
from ml_intern.tools.hits import Page, cut, hits
from ml_intern.tools.past import Item, Kind, items
from ml_intern.tools.patterns import Pattern
from ml_intern.tools.texts import text_of

DEFAULT_LIMIT = 20
_MOST = 200
_LINES_EACH = 3
_SHOWN_LINES = 2_000
_BLOB_BYTES = 32 << 20
_AT_ONCE = 500


class History(Protocol):
    """The stored lines of one session's record."""

    async def lines(self, after: int = 0) -> list[bytes]:
        """The lines after sequence number `after`, in order.

        Raises:
            StoreFailed: they cannot be read.
        """
        ...


class RecallArgs(Arguments, frozen=True):
    """What the model sends."""

    query: Annotated[str, Meta(description="Words that all occur, in any order.")] = ""
    regex: Annotated[bool, Meta(description="The query is one regular expression.")] = False
    kinds: Annotated[tuple[Kind, ...], Meta(description="Only these kinds.")] = ()
    seq: Annotated[int, Meta(ge=0, description="Show the entry of this number whole instead.")] = 0
    limit: Annotated[int, Meta(ge=1, le=_MOST, description="Most results.")] = DEFAULT_LIMIT
    offset: Annotated[int, Meta(ge=0, description="Results (with seq: lines) to pass over: to go on.")] = 0


class Recall:
    """See recall.md."""

    name = "recall"
    args = RecallArgs

    def __init__(self, history: History, blobs: Blobs) -> None:
        self._history = history
        self._blobs = blobs
        self.text = text_of(__file__, limit=DEFAULT_LIMIT)

    async def prepare(self, args: RecallArgs, context: Context) -> Prepared:
        """What is looked for.

        Raises:
            ToolFailed: nothing, or an expression that is wrong.
        """
        if not args.query.strip() and not args.seq:
            raise ToolFailed("There is nothing to look for.", "Give `query`, or the number of an entry as `seq`.")
        if args.query.strip():
            await asyncio.to_thread(_patterns, args)
        title = f"entry {args.seq}" if args.seq else args.query
        return Prepared((Reads("the record of this session"),), TextDisplay(title), "pure", args)

    async def run(self, prepared: Prepared, context: Context) -> Result:
        """Look.

        Raises:
            ToolFailed: there is no such entry.
            StoreFailed: the record cannot be read.
        """
        args: RecallArgs = prepared.payload
        lines = await self._history.lines(max(0, args.seq - 1) if args.seq else 0)
        if args.seq:
            text = await self._whole(args, lines[:1], context)
        else:
            found = await asyncio.to_thread(items, lines, self.name)
            text = await self._search(args, found)
        return Result(text, prepared.display)

    async def recover(self, args: RecallArgs, started: ToolStarted, context: Context) -> Result | None:
        """Nothing happened: looking leaves no trace."""
        return None

    async def _whole(self, args: RecallArgs, lines: list[bytes], context: Context) -> str:
        found = await asyncio.to_thread(items, lines, None)
        if not found:
            raise ToolFailed(
                f"Entry {args.seq} holds nothing to show.",
                f"The record goes up to {context.view.seq}; search it first.",
            )
        page = numbering.Page(args.offset + 1, _SHOWN_LINES)
        for item in found:
            kept = f"\n[all of it: blob:{item.blob}]" if item.blob else ""
            page.feed(f"{item.title}\n{item.text}{kept}\n")
        page.close()
        more = f"\n[go on with seq={args.seq}, offset={page.number - 1}]" if page.more else ""
        return (page.text or f"[it ends with line {page.number - 1}]") + more

    async def _search(self, args: RecallArgs, found: list[Item]) -> str:
        """Newest first."""
        wanted = [item for item in reversed(found) if not args.kinds or item.kind in args.kinds]
        page = Page(args.offset, args.limit)
        patterns = await asyncio.to_thread(_patterns, args)
        for some in _shares(wanted):
            # At most the last of them has its text elsewhere.
            whole = await self._output(some[-1])
            await asyncio.to_thread(_onto, page, patterns, some, whole)
            if page.full:
                break
        return page.text(None, [] if page.full else [f"{len(wanted):,} entries searched"])

    async def _output(self, item: Item) -> str:
        if item.blob is None:
            return item.text
        try:
            return (await self._blobs.get(item.blob, 0, _BLOB_BYTES)).decode(errors="replace")
        except StoreFailed:
            # What the model was shown of it is in the record all the same.
            return item.text


def _patterns(args: RecallArgs) -> list[Pattern]:
    if args.regex:
        return [Pattern(args.query, ignore_case=True)]
    return [Pattern(word, ignore_case=True, literal=True) for word in dict.fromkeys(args.query.split())]


def _shares(found: list[Item]) -> Iterator[list[Item]]:
    """In pieces of which only the last item has a blob."""
    some: list[Item] = []
    for item in found:
        some.append(item)
        if item.blob is not None or len(some) == _AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _onto(page: Page, patterns: list[Pattern], some: list[Item], last: str) -> None:
    for item in some:
        rows = _rows(item, patterns, last if item is some[-1] else item.text)
        if rows and page.wants():
            page.show("", rows)
        if page.full:
            return


def _rows(item: Item, patterns: list[Pattern], text: str) -> list[str]:
    """The item and its first lines that match; nothing where one of the patterns does not occur in it."""
    shown: dict[int, str] = {}
    for pattern in patterns:
        found = list(itertools.islice(hits(text, pattern), _LINES_EACH))
        if not found and not pattern.finds(item.tool):
            return []
        for hit in found:
            end = text.find("\n", hit.at)
            line = text[hit.at : end if end >= 0 else len(text)]
            shown.setdefault(hit.number, f"  {hit.number}: {cut(line, hit.start, hit.end)}")
    address = f", blob:{item.blob}" if item.blob else ""
    return [f"{item.title}{address}", *(shown[number] for number in sorted(shown)[: 2 * _LINES_EACH])]
