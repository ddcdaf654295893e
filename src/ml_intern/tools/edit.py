"""Replaces exact spans of text files. Knows no policy; the roots table is the wall."""

import asyncio
import hashlib
from typing import Annotated

from msgspec import Meta

from ml_intern.base.errors import ToolFailed
from ml_intern.base.text import clip
from ml_intern.record.events import ToolStarted
from ml_intern.sandbox import files
from ml_intern.sandbox.paths import Place, Roots, place
from ml_intern.toolkit.schema import Arguments
from ml_intern.toolkit.tool import Context, Prepared, Result
from ml_intern.tools import spans
from ml_intern.tools.changes import (
    Change,
    carry_out,
    diff_of,
    recover_change,
    require_seen,
    require_small,
    syntax_warning,
    to_its_end,
)
from ml_intern.tools.encoding import SNIFFED_BYTES, Binary, Encoding, sniff
from ml_intern.tools.spans import Span
from ml_intern.tools.texts import text_of

_DIFF_CHARS = 6_000
_NAMED_LINES = 10


class EditArgs(Arguments, frozen=True):
    """What the model sends."""

    path: Annotated[str, Meta(description="The file.")]
    old_str: Annotated[str, Meta(description="The exact text to replace.")]
    new_str: Annotated[str, Meta(description="What stands there afterwards.")]
    replace_all: Annotated[bool, Meta(description="Replace every occurrence.")] = False


class Edit:
    """See edit.md."""

    name = "edit"
    args = EditArgs

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self.text = text_of(__file__)

    async def prepare(self, args: EditArgs, context: Context) -> Prepared:
        """The change, and its diff.

        Raises:
            PathRefused: outside the roots, protected, a link.
            ToolFailed: the span is missing, ambiguous or unchanged; the file was not read, or changed since.
        """
        target = place(self._roots, args.path, self._roots.workspace, write=True)
        if not args.old_str:
            raise ToolFailed(
                "old_str is empty.", "Name the text to replace; to create a file or fill an empty one, write it."
            )
        if args.old_str == args.new_str:
            raise ToolFailed("old_str and new_str are the same: nothing would change.", "Send what it should become.")
        return (await asyncio.to_thread(_change, target, args, context)).prepared()

    async def run(self, prepared: Prepared, context: Context) -> Result:
        """Write it.

        Raises:
            PathRefused, ToolFailed: it cannot be written, or changed meanwhile.
        """
        change: Change = prepared.payload
        await to_its_end(lambda: carry_out(change))
        return Result(change.said, change.display, facts=(change.fact,))

    async def recover(self, args: EditArgs, started: ToolStarted, context: Context) -> Result | None:
        """Whether the file holds what was to be written."""
        return await recover_change(self._roots, started)


def _change(target: Place, args: EditArgs, context: Context) -> Change:
    require_small(target)
    data = files.read_bytes(target)
    before = hashlib.sha256(data).hexdigest()
    require_seen(target, before, context)
    encoding, text = _text(target, data)
    chosen = _choose(target, text, args)
    parts: list[str] = []
    at = 0
    for span in chosen:
        parts += [text[at : span.start], spans.with_line_ends(args.new_str, text, span)]
        at = span.end
    changed = "".join([*parts, text[at:]])
    if changed == text:
        raise ToolFailed(
            "Nothing would change: line ends are kept as the file has them.", "To convert line ends use a command."
        )
    display = diff_of(target.inside, text, changed)
    diff = clip(display.diff, _DIFF_CHARS, head_share=0.5).text
    said = f"Edited {target.inside}{_where(text, chosen)}.\n{diff}{syntax_warning(target.inside, changed)}"
    return Change(target, before, encoding.encode(changed), said, display)


def _text(target: Place, data: bytes) -> tuple[Encoding, str]:
    encoding = sniff(data[:SNIFFED_BYTES], whole=len(data) <= SNIFFED_BYTES)
    if isinstance(encoding, Encoding) and encoding.codec == "utf-8":
        encoding = sniff(data, whole=True)
    if isinstance(encoding, Binary):
        raise ToolFailed(f"{target.inside} is {encoding.kind}, not text.", "Change it with a command.")
    return encoding, encoding.decode(data)


def _choose(target: Place, text: str, args: EditArgs) -> list[Span]:
    found = spans.find(text, args.old_str)
    if not found:
        raise _missing(target, spans.nearest(text, args.old_str))
    if args.replace_all:
        return spans.apart(found)
    if len(found) > 1:
        raise ToolFailed(
            f"old_str stands {len(found)} times in {target.inside}; nothing was changed.",
            "Take in neighbouring lines until it is unique, or set replace_all.",
            quoted=spans.candidates(text, found),
        )
    return found


def _missing(target: Place, near: str) -> ToolFailed:
    what = f"old_str does not stand in {target.inside}; nothing was changed."
    if near == spans.WITHOUT_NUMBERS:
        return ToolFailed(what, near)
    remedy = "Copy the span exactly as it stands there:" if near else "Read the file again to see what it holds."
    return ToolFailed(what, remedy, quoted=near)


def _where(text: str, chosen: list[Span]) -> str:
    lines = [f"{spans.line_of(text, span.start):,}" for span in chosen[:_NAMED_LINES]]
    if len(chosen) == 1:
        return f" at line {lines[0]}"
    return f", {len(chosen):,} replacements at lines {', '.join(lines)}{', …' if len(chosen) > len(lines) else ''}"
