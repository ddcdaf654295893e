"""The list of sessions and what their ids stand for. Folds only what a list shows; knows no lock."""

import difflib
import sqlite3
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import astuple, replace

from ml_intern.base.errors import SessionNotFound, StoreFailed
from ml_intern.base.text import one_line
from ml_intern.record.codec import decode
from ml_intern.record.events import (
    Entry,
    Lifted,
    ModelChosen,
    OwnerTook,
    Paused,
    Renamed,
    SessionClosed,
    SessionStarted,
    ToolAnswered,
    ToolHeld,
    TurnEnded,
    Undone,
    UserSaid,
)
from ml_intern.record.folds.purse import Purse, fold_purse
from ml_intern.record.titles import title_of
from ml_intern.record.view import MAIN
from ml_intern.store.sqlite import SqliteStore

_PREVIEW_CHARS = 120


class Summary(Struct, frozen=True):
    """One line of the list, true up to entry `folded`. Times in milliseconds since 1970, `spent` in micro-dollars.

    `model` is the main role's, `preview` how the first thing a person said begins. `state`: "open" (nothing said yet),
    "working" (a turn is open), "held" (a call or a paused turn waits for a person), how the last turn ended,
    "closed" or "damaged".
    """

    id: str
    folded: int = 0
    created: int = 0
    updated: int = 0
    title: str = ""
    workspace: str = ""
    model: str = ""
    preview: str = ""
    spent: int = 0
    state: str = "open"


_COLUMNS = ", ".join(Summary.__struct_fields__)
_KNOWN = f"SELECT {_COLUMNS}, (SELECT max(seq) FROM events WHERE session = id) FROM sessions"  # noqa: S608 - our own names
_NEW = "SELECT CAST(body AS BLOB) FROM events WHERE session = ? AND seq > ? ORDER BY seq"
_KEEP = f"""
UPDATE sessions SET ({_COLUMNS}) = ({", ".join("?" for _ in Summary.__struct_fields__)}) WHERE id = ? AND folded < ?
"""  # noqa: S608 - our own names


async def summaries(store: SqliteStore) -> list[Summary]:
    """Every session that has entries, the one that changed last first.

    Raises:
        StoreFailed: the record cannot be read.
    """
    found, changed = await store.read(_summaries)
    if changed:
        await store.write(lambda db: _keep(db, changed), flush=False)
    return sorted(found, key=lambda each: (each.updated, each.id), reverse=True)


async def resolve(store: SqliteStore, text: str) -> str:
    """The id that `text` stands for: a whole id, the beginning of one, or "last" for the session that changed last.

    Raises:
        SessionNotFound: none, or several: the message names the nearest.
        StoreFailed: the record cannot be read.
    """
    listed = await summaries(store)
    if text == "last" and listed:
        return listed[0].id
    wanted = text.strip().lower()
    matching = [each for each in listed if wanted and each.id.startswith(wanted)]
    if len(matching) == 1 or wanted in {each.id for each in matching}:
        return min(each.id for each in matching)
    if matching:
        what = f"{text!r} begins the ids of {len(matching)} sessions: {_names(matching)}."
        raise SessionNotFound(what, "Write more of the id.")
    if not listed:
        raise SessionNotFound("There is no session yet.", 'Start one with `ml-intern "what to do"`.')
    near = set(difflib.get_close_matches(wanted, [each.id for each in listed], n=3, cutoff=0.6))
    nearest = [each for each in listed if each.id in near] or listed[:1]
    what = f"There is no session {text!r}; the nearest: {_names(nearest)}."
    raise SessionNotFound(what, "`ml-intern sessions` lists them.")


def summarise(summary: Summary, entry: Entry) -> Summary:
    """The line after `entry`."""
    summary = replace(summary, folded=entry.seq, updated=entry.at, spent=_spent(summary.spent, entry))
    match entry.event:
        case SessionStarted(workspace=workspace):
            return replace(summary, created=entry.at, workspace=workspace)
        case ModelChosen(role="main", model=model):
            return replace(summary, model=model)
        case Renamed(title=title):
            return replace(summary, title=title)
        case UserSaid(text=text):
            preview = summary.preview or one_line(text, _PREVIEW_CHARS)
            return replace(summary, preview=preview, title=summary.title or title_of(text), state="working")
        case Undone():
            return replace(summary, state="done")
        case _:
            return replace(summary, state=_state(summary.state, entry))


def _state(before: str, entry: Entry) -> str:
    match entry.event:
        case ToolHeld() | Paused():
            return "held"
        case ToolAnswered() | Lifted():
            return "working"
        case TurnEnded(reason=reason) if entry.lane == MAIN:
            return reason
        case SessionClosed():
            return "closed"
        case OwnerTook() if before == "closed":
            return "open"
        case _:
            return before


def _spent(before: int, entry: Entry) -> int:
    return fold_purse(Purse(spent=before), entry.event).spent


def _summaries(db: sqlite3.Connection) -> tuple[list[Summary], list[Summary]]:
    """All, and those that the cache did not have."""
    found: list[Summary] = []
    changed: list[Summary] = []
    for *columns, last in db.execute(_KNOWN).fetchall():
        summary = Summary(*columns)
        if last is not None and summary.folded < last:
            summary = _brought_up(summary, (row[0] for row in db.execute(_NEW, (summary.id, summary.folded))))
            changed.append(summary)
        if last is not None:
            found.append(summary)
    return found, changed


def _brought_up(summary: Summary, lines: Iterable[bytes]) -> Summary:
    try:
        for line in lines:
            summary = summarise(summary, decode(line))
    except StoreFailed:
        # The list must open where one record does not; opening that one says what is wrong.
        return replace(summary, state="damaged")
    return summary


def _keep(db: sqlite3.Connection, changed: list[Summary]) -> None:
    for each in changed:
        if each.state != "damaged":
            db.execute(_KEEP, (*astuple(each), each.id, each.folded))


def _names(listed: list[Summary]) -> str:
    return ", ".join(f"{each.id} ({one_line(each.title or each.preview, 40) or 'untitled'})" for each in listed[:5])
