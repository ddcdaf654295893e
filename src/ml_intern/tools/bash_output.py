"""Shows what a command in the background has printed since, or waits for more of it. Knows no policy."""

import asyncio
import re
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from ml_intern.base.errors import StoreFailed, ToolFailed
from ml_intern.record.display import LogDisplay, TextDisplay
from ml_intern.record.effects import Reads
from ml_intern.record.events import ToolStarted
from ml_intern.record.messages import Answered
from ml_intern.sandbox.commands import Commands, Ended, Running
from ml_intern.sandbox.paths import Roots
from ml_intern.sandbox.ports import ports
from ml_intern.toolkit.blobs import Blobs
from ml_intern.toolkit.schema import Arguments
from ml_intern.toolkit.tool import Context, Prepared, Result
from ml_intern.tools import background
from ml_intern.tools.output import SHOWN_CHARS, Fresh, for_people, fresh, shortened
from ml_intern.tools.patterns import Pattern
from ml_intern.tools.texts import text_of

MOST_WAIT_S = 600
_LOOK_AGAIN_S = 0.25
_MARK = re.compile(r"\[command (\S+): [^\n]*; offset=(\d+)[^\n]*\](?:\n\[end of data [0-9a-f]+\])?\Z")
"""Ours, and last in an answer but for the end of the frame that stands around it."""


class BashOutputArgs(Arguments, frozen=True):
    """What the model sends."""

    id: Annotated[str, Meta(description="Id of the command; without one, those that run are listed.")] = ""
    wait: Annotated[
        int, Meta(ge=0, le=MOST_WAIT_S, description="Seconds to wait for its end, or for a line of filter.")
    ] = 0
    filter: Annotated[str, Meta(description="Only lines that match this regular expression.")] = ""
    offset: Annotated[int, Meta(ge=-1, description="First byte; without it, what is new since the last answer.")] = -1


class _Seen(Struct, frozen=True):
    state: Ended | Running
    new: Fresh
    lines: list[str]


class BashOutput:
    """See bash_output.md. `folder` is the session's own."""

    name = "bash_output"
    args = BashOutputArgs

    def __init__(self, commands: Commands, roots: Roots, blobs: Blobs, folder: Path) -> None:
        self._commands = commands
        self._roots = roots
        self._blobs = blobs
        self._folder = folder
        self.text = text_of(__file__, shown=SHOWN_CHARS, wait=MOST_WAIT_S)

    async def prepare(self, args: BashOutputArgs, context: Context) -> Prepared:
        """Which command.

        Raises:
            ToolFailed: there is none of this id, or the filter is no expression.
        """
        if args.filter:
            await asyncio.to_thread(Pattern, args.filter)
        what = f"the output of command {args.id}" if args.id else "the commands that run"
        if args.id:
            await background.find(self._commands, args.id)
        return Prepared((Reads(what),), TextDisplay(what), "pure", args)

    async def run(self, prepared: Prepared, context: Context) -> Result:
        """Look, and wait if that was asked for.

        Raises:
            ToolFailed: the output cannot be read.
        """
        args: BashOutputArgs = prepared.payload
        if not args.id:
            return await self._list()
        offset = args.offset if args.offset >= 0 else self._last(args.id, context)
        seen = await self._seen(args, offset)
        end = asyncio.get_running_loop().time() + args.wait
        while isinstance(seen.state, Running) and not (args.filter and seen.lines):
            left_s = end - asyncio.get_running_loop().time()
            if left_s <= 0:
                break
            await asyncio.sleep(min(left_s, _LOOK_AGAIN_S))
            seen = await self._seen(args, offset)
        return await self._told(args, seen, context)

    async def recover(self, args: BashOutputArgs, started: ToolStarted, context: Context) -> Result | None:
        """Nothing happened: looking leaves no trace."""
        return None

    async def _list(self) -> Result:
        rows = [*await background.rows(self._commands), *background.port_lines(await self._ports())]
        return Result("\n".join(rows) or "No command runs.", TextDisplay("commands that run", "\n".join(rows)))

    def _last(self, key: str, context: Context) -> int:
        """Up to where the last answer about this command went."""
        for line in reversed(list(context.view.lane(context.lane).transcript.lines)):
            message = line.message
            if isinstance(message, Answered) and message.tool == self.name:
                found = _MARK.search(message.text)
                if found and found[1] == key:
                    return int(found[2])
        return 0

    async def _seen(self, args: BashOutputArgs, offset: int) -> _Seen:
        state = await background.find(self._commands, args.id)
        return await asyncio.to_thread(_look, state, args.filter, offset)

    async def _told(self, args: BashOutputArgs, seen: _Seen, context: Context) -> Result:
        place = seen.state.output_path.parent
        title = await asyncio.to_thread(background.title, place)
        text, blob = "\n".join(seen.lines), None
        if len(text) > SHOWN_CHARS:
            try:
                blob = await self._blobs.put(text.encode())
                text = shortened(text, f"read blob:{blob} for all of it")
            except StoreFailed as error:
                text = shortened(text, f"it could not be kept: {error.what}")
        listening: list[int] = []
        notes, facts, code = [f"{seen.new.skipped:,} bytes were passed over"] if seen.new.skipped else [], (), None
        match seen.state:
            case Ended() as ended:
                known = context.view.files
                told, facts = await asyncio.to_thread(background.left, self._roots, ended, known)
                notes, code, state = [*told, *notes], ended.exit_code, "ended"
            case Running():
                listening = await self._ports()
                notes, state = [*background.port_lines(listening), *notes], "running"
        if args.filter:
            notes.append(f"{len(seen.lines):,} of {seen.new.lines:,} lines match")
        mark = f"[command {args.id}: {state}; offset={seen.new.offset}]"
        rows = [text or "(nothing new)", *(f"[{note}]" for note in notes), mark]
        return Result(
            "\n".join(rows),
            LogDisplay(background.with_ports(title, listening), for_people(text), code),
            facts=facts,
            blob=blob,
        )

    async def _ports(self) -> list[int]:
        return await asyncio.to_thread(ports, self._folder)


def _look(state: Ended | Running, wanted: str, offset: int) -> _Seen:
    try:
        new = fresh(state.output_path, offset, is_open=isinstance(state, Running))
    except FileNotFoundError:
        new = Fresh("", offset, 0)
    except OSError as error:
        raise ToolFailed(f"The output cannot be read: {error.strerror}.", "Start the command again.") from error
    lines = new.text.rstrip("\n").split("\n") if new.text.strip("\n") else []
    pattern = Pattern(wanted) if wanted else None
    return _Seen(state, new, [line for line in lines if pattern is None or pattern.finds(line)])
