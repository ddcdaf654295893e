"""Lists and shows what the store holds, without owning any session. Knows no loop."""

import asyncio
import json
import sys
import time
from collections.abc import Coroutine

from msgspec import Struct
from msgspec.structs import asdict

from ml_intern.app.reading import open_reading
from ml_intern.base.errors import MlInternError, SessionNotFound
from ml_intern.base.money import Micro
from ml_intern.base.money import show as dollars
from ml_intern.base.text import one_line, visible, visible_line
from ml_intern.cli.details import detail_lines, table_lines
from ml_intern.cli.heads import head_lines
from ml_intern.headless.exits import Exit
from ml_intern.headless.progress import Progress, lane_mark
from ml_intern.headless.report import held_lines, lane_lines
from ml_intern.headless.streams import complain
from ml_intern.policy.grants import line_of
from ml_intern.record.asides import ASIDES
from ml_intern.record.codec import encode
from ml_intern.record.events import Entry, ModelReplied, ModelStopped, ToolFinished
from ml_intern.record.view import View, fold
from ml_intern.sandbox.egress import COLUMNS, Crossing, row

MOST_LINES = 12
"""Lines of one call's output that `show` prints without --full."""


def list_sessions(as_json: bool, limit: int) -> Exit:
    """Print the newest `limit` sessions."""
    return _guarded(_list(as_json, limit))


class Wanted(Struct, frozen=True):
    """How much of a session is shown: everything that was printed, its events as JSON, one kept output, its egress."""

    full: bool = False
    as_json: bool = False
    blob: str | None = None
    egress: bool = False


def show(session: str, wanted: Wanted) -> Exit:
    """Print one session, its events, or one of its kept outputs."""
    return _guarded(_show(session, wanted))


def _guarded(work: Coroutine[None, None, None]) -> Exit:
    try:
        asyncio.run(work)
    except MlInternError as error:
        complain(error)
        return Exit.BAD_SETTINGS if isinstance(error, SessionNotFound) else Exit.FAILED
    return Exit.DONE


async def _list(as_json: bool, limit: int) -> None:
    async with open_reading() as reading:
        found = (await reading.sessions())[:limit]
    if as_json:
        sys.stdout.write("".join(f"{json.dumps(asdict(each), ensure_ascii=False)}\n" for each in found))
        return
    if not found:
        sys.stdout.write('No session yet. Start one: ml-intern "PROMPT", or try: ml-intern demo\n')
        return
    sys.stdout.write(f"{'SESSION':<26}  {'CHANGED':<16}  {'STATE':<7}  {'SPENT':>8}  TITLE\n")
    for each in found:
        changed = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.updated / 1000))
        title = visible_line(one_line(each.title or each.preview, 60))
        sys.stdout.write(f"{each.id:<26}  {changed}  {each.state:<7}  {dollars(Micro(each.spent)):>8}  {title}\n")


async def _show(session: str, wanted: Wanted) -> None:
    async with open_reading() as reading:
        found = await reading.resolve(session)
        if wanted.blob is not None:
            sys.stdout.buffer.write(await reading.blob(found, wanted.blob))
            return
        if wanted.egress:
            _print_egress(await reading.egress(found), as_json=wanted.as_json)
            return
        entries = await reading.entries(found)
        owner = await reading.owner(found)
    if wanted.as_json:
        sys.stdout.buffer.write(b"".join(encode(entry) + b"\n" for entry in entries))
        return
    _print(entries, owner, None if wanted.full else MOST_LINES)


def _print_egress(found: list[Crossing], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write("".join(f"{json.dumps(asdict(each), ensure_ascii=False)}\n" for each in found))
    elif not found:
        sys.stdout.write("No command of this session asked for a host outside.\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in table_lines([COLUMNS, *map(row, found)])))


def _print(entries: list[Entry], owner: str, most: int | None) -> None:
    view, progress = View(), Progress(sys.stdout, whole=True)
    for entry in entries:
        view = fold(view, entry)
        mark = lane_mark(entry.lane)
        sys.stdout.write("".join(f"{mark}{line}\n" for line in head_lines(entry)))
        progress.read(entry)
        sys.stdout.write("".join(f"{mark}{line}\n" for line in _below(entry, most)))
    lines = [f"spent {dollars(Micro(view.purse.spent))} of {dollars(Micro(view.purse.cap or 0))}"]
    lines += lane_lines(view)
    lines += [f"file {visible_line(path)}" for path in sorted(view.files.changed)]
    now_ms = time.time_ns() // 1_000_000
    lines += [visible_line(f"permission {line_of(given, now_ms)}") for given in view.grants.values()]
    lines += held_lines(view)
    lines += [f"open in {owner}"] if owner else []
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _below(entry: Entry, most: int | None) -> list[str]:
    """What stands below a line of progress: a reply's whole text, what a call showed. What was asked aside is for those
    who want all (`most` None): what came of it stands elsewhere.
    """
    match entry.event:
        case ModelReplied(reply=reply, role=role) if reply.text and (most is None or role not in ASIDES):
            return [f"  | {visible(line)}" for line in reply.text.splitlines()]
        case ModelStopped(text=text):
            return [f"  | {visible(line)}" for line in text.splitlines()]
        case ToolFinished(display=display):
            return detail_lines(display, most)
        case _:
            return []
