"""Creates files and replaces whole ones. Knows no policy; the roots table is the wall."""

import asyncio
from typing import Annotated

from msgspec import Meta

from ml_intern.record.events import ToolStarted
from ml_intern.sandbox import files
from ml_intern.sandbox.paths import Place, Roots, place
from ml_intern.toolkit.schema import Arguments
from ml_intern.toolkit.tool import Context, Prepared, Result
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
from ml_intern.tools.encoding import SNIFFED_BYTES, Encoding, sniff
from ml_intern.tools.texts import text_of


class WriteArgs(Arguments, frozen=True):
    """What the model sends."""

    path: Annotated[str, Meta(description="The file.")]
    content: Annotated[str, Meta(description="All of its text.")]


class Write:
    """See write.md."""

    name = "write"
    args = WriteArgs

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self.text = text_of(__file__)

    async def prepare(self, args: WriteArgs, context: Context) -> Prepared:
        """The change, and its diff.

        Raises:
            PathRefused: outside the roots, protected, a link.
            ToolFailed: the file was not read, changed since, is too large, or cannot be looked at.
        """
        target = place(self._roots, args.path, self._roots.workspace, write=True)
        return (await asyncio.to_thread(_change, target, args.content, context)).prepared()

    async def run(self, prepared: Prepared, context: Context) -> Result:
        """Write it.

        Raises:
            PathRefused, ToolFailed: it cannot be written, or changed meanwhile.
        """
        change: Change = prepared.payload
        await to_its_end(lambda: carry_out(change))
        return Result(change.said, change.display, facts=(change.fact,), ours=True)

    async def recover(self, args: WriteArgs, started: ToolStarted, context: Context) -> Result | None:
        """Whether the file holds what was to be written."""
        return await recover_change(self._roots, started)


def _change(target: Place, content: str, context: Context) -> Change:
    require_small(target)
    before = files.sha256(target)
    require_seen(target, before, context)
    data = content.encode()
    old = b"" if before is None else files.read_bytes(target)
    encoding = sniff(old[:SNIFFED_BYTES], whole=len(old) <= SNIFFED_BYTES)
    shown = old.decode(encoding.codec, errors="replace") if isinstance(encoding, Encoding) else ""
    verb = "Created" if before is None else "Replaced"
    lines = content.count("\n") + (not content.endswith("\n") and content != "")
    said = f"{verb} {target.inside}: {lines:,} {'line' if lines == 1 else 'lines'}, {len(data):,} bytes."
    said += syntax_warning(target.inside, content)
    return Change(target, before, data, said, diff_of(target.inside, shown, content))
