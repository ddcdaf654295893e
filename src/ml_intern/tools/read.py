"""Reads text files, folders and kept outputs, a page at a time. Knows no policy; the roots table is the wall."""

import asyncio
import codecs
import hashlib
import os
import re
from collections.abc import AsyncIterator

from msgspec import Struct
from pydantic import Field

from ml_intern.base.errors import StoreFailed, ToolFailed
from ml_intern.base.text import visible
from ml_intern.record.display import TextDisplay
from ml_intern.record.effects import Reads
from ml_intern.record.events import ToolStarted
from ml_intern.record.facts import Fact, FileRead
from ml_intern.sandbox import files
from ml_intern.sandbox.paths import Place, Roots, place
from ml_intern.toolkit.blobs import Blobs
from ml_intern.toolkit.schema import Arguments
from ml_intern.toolkit.tool import Context, Prepared, Result
from ml_intern.tools.changes import MOST_BYTES
from ml_intern.tools.encoding import SNIFFED_BYTES, Binary, Encoding, sniff
from ml_intern.tools.numbering import LINE_CHARS, PAGE_CHARS, Page
from ml_intern.tools.texts import text_of

DEFAULT_LINES = 2_000
_WINDOW_BYTES = 1 << 20
_MOST_ENTRIES = 500
_BLOB = re.compile(r"blob:([0-9a-f]{64})")


class ReadArgs(Arguments):
    """What the model sends."""

    path: str = Field(description="File, folder, or blob:… address.")
    offset: int = Field(default=1, ge=0, description="First line, counted from 1.")
    limit: int = Field(default=DEFAULT_LINES, ge=1, description="Most lines.")


class _Wanted(Struct, frozen=True):
    """`source` is a place, or the hash of a blob."""

    source: Place | str
    name: str
    first: int
    most: int


class Read:
    """See read.md."""

    name = "read"
    args = ReadArgs

    def __init__(self, roots: Roots, blobs: Blobs) -> None:
        self._roots = roots
        self._blobs = blobs
        self.text = text_of(__file__, lines=DEFAULT_LINES, page=PAGE_CHARS, line=LINE_CHARS)

    async def prepare(self, args: ReadArgs, context: Context) -> Prepared:
        """Where the path leads.

        Raises:
            PathRefused: outside the roots.
            ToolFailed: no blob's address.
        """
        source: Place | str
        if args.path.startswith("blob:"):
            found = _BLOB.fullmatch(args.path.strip())
            if found is None:
                raise ToolFailed(f"{args.path} is no address of a kept output.", "Copy it whole: blob: and 64 digits.")
            source, name = found[1], args.path.strip()
        else:
            source = place(self._roots, args.path, self._roots.workspace, write=False)
            name = source.inside
        wanted = _Wanted(source, name, max(1, args.offset), args.limit)
        return Prepared((Reads(name),), TextDisplay(name), "pure", wanted)

    async def run(self, prepared: Prepared, context: Context) -> Result:
        """Read it.

        Raises:
            PathRefused: a link, or something that is no file.
            ToolFailed: missing (with the nearest names), not readable, a binary file, an offset past the end.
        """
        wanted: _Wanted = prepared.payload
        if isinstance(wanted.source, str):
            return await self._blob(wanted, wanted.source)
        facts = await asyncio.to_thread(files.stat, wanted.source)
        if facts is not None and facts.kind == "folder":
            return await asyncio.to_thread(_folder, wanted.source)
        if facts is not None and facts.size > MOST_BYTES:
            return await _large(wanted, wanted.source, facts.size)
        return await asyncio.to_thread(_file, wanted, wanted.source)

    async def recover(self, args: ReadArgs, started: ToolStarted, context: Context) -> Result | None:
        """Nothing happened: reading leaves no trace."""
        return None

    async def _blob(self, wanted: _Wanted, sha: str) -> Result:
        try:
            size = await self._blobs.size(sha)
        except StoreFailed as error:
            # A wrong address is the model's own slip: it must not end the session, as a broken store does.
            raise ToolFailed(error.what, error.remedy) from error

        async def pieces() -> AsyncIterator[bytes]:
            for offset in range(0, size, _WINDOW_BYTES):
                yield await self._blobs.get(sha, offset, _WINDOW_BYTES)

        return _answer(wanted, await _page(wanted, Encoding(), pieces()), [], f"{size:,} bytes in all")


def _folder(source: Place) -> Result:
    entries = files.listing(source)
    rows = [_row(entry) for entry in entries[:_MOST_ENTRIES]]
    title = f"{source.inside.rstrip('/')}/: {len(entries):,} {'entry' if len(entries) == 1 else 'entries'}"
    if len(entries) > _MOST_ENTRIES:
        rows.append(f"[... {len(entries) - _MOST_ENTRIES:,} more; list them with a command]")
    return Result("\n".join([title, *rows]), TextDisplay(title))


def _row(entry: files.Entry) -> str:
    # A name may hold line breaks, and bytes that are no UTF-8.
    name = visible(os.fsencode(entry.name).decode(errors="replace")).replace("\n", "\\n")
    match entry.facts.kind:
        case "folder":
            return f"{name}/"
        case "file":
            return f"{name}  ({entry.facts.size:,} bytes)"
        case kind:
            return f"{name}  ({kind})"


def _file(wanted: _Wanted, source: Place) -> Result:
    """A file that fits into memory: what is shown and what is hashed are the same bytes."""
    data = files.read_bytes(source, 0, MOST_BYTES + 1)
    encoding = sniff(data[:SNIFFED_BYTES], whole=len(data) <= SNIFFED_BYTES)
    if isinstance(encoding, Encoding) and encoding.codec == "utf-8":
        # The head may be plain and the rest not.
        encoding = sniff(data, whole=True)
    if isinstance(encoding, Binary):
        raise _binary(wanted, encoding, len(data))
    text = encoding.decode(data)
    page = Page(wanted.first, wanted.most)
    page.feed(text)
    page.close()
    lines = text.count("\n") + (not text.endswith("\n") and text != "")
    notes = [encoding.note] if encoding.note else []
    if "\r\n" in text:
        notes.append("lines end in CRLF")
    whole = wanted.first == 1 and not page.more and not page.clipped
    fact = FileRead(source.inside, hashlib.sha256(data).hexdigest(), whole)
    return _answer(wanted, page, notes, f"{lines:,} in all", fact)


async def _large(wanted: _Wanted, source: Place, size: int) -> Result:
    """A file that is never held whole; it is not hashed, so it cannot be edited."""
    head = await asyncio.to_thread(files.read_bytes, source, 0, SNIFFED_BYTES)
    encoding = sniff(head, whole=False)
    if isinstance(encoding, Binary):
        raise _binary(wanted, encoding, size)

    async def pieces() -> AsyncIterator[bytes]:
        offset = len(encoding.bom)
        while piece := await asyncio.to_thread(files.read_bytes, source, offset, _WINDOW_BYTES):
            offset += len(piece)
            yield piece

    page = await _page(wanted, encoding, pieces())
    notes = [encoding.note] if encoding.note else []
    notes.append(f"over {MOST_BYTES >> 20} MB: change it with a command, it cannot be edited")
    return _answer(wanted, page, notes, f"{size:,} bytes in all")


async def _page(wanted: _Wanted, encoding: Encoding, pieces: AsyncIterator[bytes]) -> Page:
    page = Page(wanted.first, wanted.most)
    decoder = codecs.getincrementaldecoder(encoding.codec)("replace")
    async for piece in pieces:
        await asyncio.to_thread(page.feed, decoder.decode(piece))
        if page.done:
            return page
    page.feed(decoder.decode(b"", final=True))
    page.close()
    return page


def _binary(wanted: _Wanted, found: Binary, size: int) -> ToolFailed:
    return ToolFailed(f"{wanted.name} is {found.kind} of {size:,} bytes, not text.", "Look into it with a command.")


def _answer(wanted: _Wanted, page: Page, notes: list[str], total: str, *facts: Fact) -> Result:
    last = wanted.first + page.shown - 1
    if not page.shown:
        if page.number > 1:
            raise ToolFailed(f"{wanted.name} ends with line {page.number - 1:,}.", "Ask for an offset up to that.")
        notes = ["it is empty", *notes]
    if page.more:
        notes = [f"lines {wanted.first:,} to {last:,} of {total}; go on with offset={page.number}", *notes]
    note = f"[{'; '.join(notes)}]" if notes else ""
    title = f"{wanted.name}, lines {wanted.first:,} to {last:,}" if page.shown else f"{wanted.name}, empty"
    return Result("\n".join(part for part in (page.text, note) if part), TextDisplay(title), facts=facts)
