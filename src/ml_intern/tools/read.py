"""Reads text, notebooks, PDFs, images, folders and kept outputs by pages. Knows no policy; roots are the wall."""

import asyncio
import codecs
import hashlib
import os
import re
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from msgspec import Meta, Struct

from ml_intern.base.errors import StoreFailed, ToolFailed
from ml_intern.base.text import visible_line
from ml_intern.record.display import ImageDisplay, TextDisplay
from ml_intern.record.effects import Reads
from ml_intern.record.events import ToolStarted
from ml_intern.record.facts import Fact, FileRead
from ml_intern.record.messages import Image
from ml_intern.sandbox import files
from ml_intern.sandbox.paths import Place, Roots, place
from ml_intern.toolkit.blobs import Blobs
from ml_intern.toolkit.schema import Arguments
from ml_intern.toolkit.tool import Context, Prepared, Result
from ml_intern.tools import notebooks
from ml_intern.tools.changes import MOST_BYTES
from ml_intern.tools.encoding import SNIFFED_BYTES, Binary, Encoding, sniff
from ml_intern.tools.numbering import LINE_CHARS, PAGE_CHARS, Page
from ml_intern.tools.pdf import MOST_BYTES as PDF_BYTES
from ml_intern.tools.pdf import MOST_PAGES, read_pages
from ml_intern.tools.pictures import MOST_SIDE, Picture, described, fault_of, picture
from ml_intern.tools.texts import text_of

DEFAULT_LINES = 2_000
_WINDOW_BYTES = 1 << 20
_MOST_ENTRIES = 500
_PDF = b"%PDF-"
_BLOB = re.compile(r"blob:([0-9a-f]{64})")


class ReadArgs(Arguments, frozen=True):
    """What the model sends."""

    path: Annotated[str, Meta(description="File, folder, or blob:… address.")]
    offset: Annotated[int, Meta(ge=0, description="First line, counted from 1.")] = 1
    limit: Annotated[int, Meta(ge=1, description="Most lines.")] = DEFAULT_LINES
    pages: Annotated[str, Meta(description="Pages of a PDF: 5, 2-7, 9-.")] = ""
    raw: Annotated[bool, Meta(description="A notebook as the JSON it is.")] = False


class _Wanted(Struct, frozen=True):
    """`source` is a place, or the hash of a blob."""

    source: Place | str
    name: str
    first: int
    most: int
    pages: str = ""
    raw: bool = False


class _Media(Struct, frozen=True):
    """A file that is no text, but that can be shown."""

    data: bytes
    kind: Picture | Literal["pdf"]


class Read:
    """See read.md. `sees`: the model can look at images."""

    name = "read"
    args = ReadArgs

    def __init__(self, roots: Roots, blobs: Blobs, *, sees: bool = True) -> None:
        self._sees = sees
        self._roots = roots
        self._blobs = blobs
        self.text = text_of(
            __file__, lines=DEFAULT_LINES, page=PAGE_CHARS, line=LINE_CHARS, side=MOST_SIDE, pages=MOST_PAGES
        )

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
        # The path itself is what is judged and opened; its name is written into lines.
        wanted = _Wanted(source, visible_line(name), max(1, args.offset), args.limit, args.pages, args.raw)
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
            found = await _large(wanted, wanted.source, facts.size)
        else:
            found = await asyncio.to_thread(_file, wanted, wanted.source)
        match found:
            case Result():
                return found
            case _Media(data=data, kind=kind):
                return await _pdf(wanted, data) if kind == "pdf" else await self._image(wanted, data, kind)

    async def recover(self, args: ReadArgs, started: ToolStarted, context: Context) -> Result | None:
        """Nothing happened: reading leaves no trace."""
        return None

    async def _image(self, wanted: _Wanted, data: bytes, kind: Picture) -> Result:
        what = described(kind, len(data))
        if not self._sees:
            text = f"{wanted.name} is an image ({what}). This model cannot see images: measure it with a command."
            return Result(text, TextDisplay(wanted.name, what))
        if fault := fault_of(wanted.name, kind, data):
            raise ToolFailed(fault.what, fault.remedy)
        sha = await self._blobs.put(data)
        image = Image(sha, kind.mime)
        return Result(f"{wanted.name}: {what}; it follows.", ImageDisplay(wanted.name, sha, kind.mime), images=(image,))

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
    title = (
        f"{visible_line(source.inside).rstrip('/')}/: {len(entries):,} {'entry' if len(entries) == 1 else 'entries'}"
    )
    if len(entries) > _MOST_ENTRIES:
        rows.append(f"[... {len(entries) - _MOST_ENTRIES:,} more; list them with a command]")
    return Result("\n".join([title, *rows]), TextDisplay(title))


def _row(entry: files.Entry) -> str:
    # A name may hold line breaks, and bytes that are no UTF-8.
    name = visible_line(os.fsencode(entry.name).decode(errors="replace"))
    match entry.facts.kind:
        case "folder":
            return f"{name}/"
        case "file":
            return f"{name}  ({entry.facts.size:,} bytes)"
        case kind:
            return f"{name}  ({kind})"


def _file(wanted: _Wanted, source: Place) -> Result | _Media:
    """A file that fits into memory: what is shown and what is hashed are the same bytes."""
    data = files.read_bytes(source, 0, MOST_BYTES + 1)
    if data.startswith(_PDF):
        return _Media(data, "pdf")
    encoding = sniff(data[:SNIFFED_BYTES], whole=len(data) <= SNIFFED_BYTES)
    if isinstance(encoding, Encoding) and encoding.codec == "utf-8":
        # The head may be plain and the rest not.
        encoding = sniff(data, whole=True)
    if isinstance(encoding, Binary):
        return _media(wanted, encoding, data)
    text = encoding.decode(data)
    if (
        source.relative.endswith(notebooks.SUFFIX)
        and not wanted.raw
        and (cells := notebooks.notebook(text)) is not None
    ):
        return _notebook(wanted, cells, FileRead(source.inside, hashlib.sha256(data).hexdigest(), whole=False))
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


def _media(wanted: _Wanted, found: Binary, data: bytes) -> _Media:
    kind = picture(data)
    if kind is None or not kind.width or not kind.height:
        raise _binary(wanted, found, len(data))
    return _Media(data, kind)


def _notebook(wanted: _Wanted, cells: str, fact: FileRead) -> Result:
    page = Page(wanted.first, wanted.most)
    page.feed(cells)
    page.close()
    return _answer(wanted, page, ["a notebook's cells; raw shows its JSON"], f"{cells.count(chr(10)):,} in all", fact)


async def _pdf(wanted: _Wanted, data: bytes) -> Result:
    found = await read_pages(wanted.name, data, wanted.pages)
    text = found.text()
    page = Page(wanted.first, wanted.most)
    page.feed(text)
    page.close()
    notes = [f"pages {found.first} to {found.last} of {found.count}"]
    if found.last < found.count and not page.more:
        notes.append(f"go on with pages={found.last + 1}-")
    if not "".join(found.texts).strip():
        notes.append("no text on them: they may be scanned")
    return _answer(wanted, page, notes, f"{text.count(chr(10)):,} in these pages")


async def _large(wanted: _Wanted, source: Place, size: int) -> Result | _Media:
    """A file that is never held whole; it is not hashed, so it cannot be edited."""
    head = await asyncio.to_thread(files.read_bytes, source, 0, SNIFFED_BYTES)
    encoding = sniff(head, whole=False)
    if head.startswith(_PDF) and size <= PDF_BYTES:
        return _Media(await asyncio.to_thread(files.read_bytes, source, 0, PDF_BYTES), "pdf")
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
