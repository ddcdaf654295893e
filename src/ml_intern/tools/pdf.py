"""The text of a PDF's pages, read by a process of its own (pdf_process.py). Knows no file system and no tool."""

import asyncio
import contextlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from msgspec import Struct

from ml_intern.base.errors import ToolFailed

MOST_BYTES = 64 << 20
MOST_PAGES = 20
"""At a time."""

_WITHIN_S = 90.0
_PAGES = re.compile(r"\s*(\d{1,6})\s*(?:(-)\s*(\d{1,6})?)?\s*")


class Pages(Struct, frozen=True):
    """Some pages from `first` (counted from 1) on, of `count` in all."""

    first: int
    count: int
    texts: tuple[str, ...]

    @property
    def last(self) -> int:
        """The number of the last page that is here."""
        return self.first + len(self.texts) - 1

    def text(self) -> str:
        """All of them, each below a line with its number."""
        numbered = enumerate(self.texts, self.first)
        return "".join(f"--- page {number} of {self.count}\n{text.strip()}\n\n" for number, text in numbered)


def span(pages: str) -> tuple[int, int]:
    """First page and number of pages of `5`, `2-7`, `9-`, or nothing: the first ones.

    Raises:
        ToolFailed: it is none of these.
    """
    found = _PAGES.fullmatch(pages or "1-")
    first = int(found[1]) if found else 0
    last = first if not found or not found[2] else int(found[3] or first + MOST_PAGES - 1)
    if first < 1 or last < first:
        raise ToolFailed(f"{pages!r} names no pages.", "Write 5, 2-7 or 9-.")
    return first, min(last - first + 1, MOST_PAGES)


async def read_pages(name: str, data: bytes, pages: str) -> Pages:
    """The text of these pages.

    Raises:
        ToolFailed: it cannot be read, or has no such pages.
    """
    first, most = span(pages)
    command = (sys.executable, "-I", str(Path(__file__).with_name("pdf_process.py")), str(first), str(most))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe, env={})
    try:
        async with asyncio.timeout(_WITHIN_S):
            out, err = await process.communicate(data)
    except TimeoutError as error:
        raise _unread(name, f"it took more than {_WITHIN_S:.0f} s") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode:
        last = err.decode(errors="replace").strip().rpartition("\n")[2]
        raise _unread(name, last[:300] or f"its reader ended with {process.returncode}")
    found: dict[str, Any] = json.loads(out)
    count = int(found["count"])
    if first > count:
        raise ToolFailed(f"{name} has {count} pages.", "Ask for one of them.")
    return Pages(first, count, tuple(map(str, found["pages"])))


def _unread(name: str, why: str) -> ToolFailed:
    what, remedy = (
        f"{name} cannot be read as a PDF.",
        "Look into it with a command (pdftotext, pypdf). Its reader said:",
    )
    return ToolFailed(what, remedy, quoted=why)
