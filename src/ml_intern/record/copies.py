"""The record of a copy: what was said and done in another session, without its money. Pure; knows no store and no file.

Entries keep their numbers, because others refer to them. What was spent was spent by the original: every cost in a
copy is 0, so that no sum over sessions counts it twice. A *fork* keeps the settings, under a cap of its own. An
*import* comes from a file that anyone may have written: no mode, cap, rule, price or address of it holds here, and
whoever says something in it is nobody we know.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.record.clearing import Cleared, CompactAsked
from ml_intern.record.events import (
    CapSet,
    Compacted,
    Entry,
    Event,
    GrantEnded,
    LaneClosed,
    LaneOpened,
    Lifted,
    ModelAsked,
    ModelChosen,
    ModelFailed,
    ModelReplied,
    ModelStopped,
    Nudged,
    OwnerTook,
    Paused,
    Renamed,
    RetryPlanned,
    SessionClosed,
    SessionStarted,
    StopAsked,
    ToolAnswered,
    ToolFinished,
    ToolHeld,
    ToolStarted,
    TurnEnded,
    Undone,
    UserSaid,
)
from ml_intern.record.view import MAIN, View, fold

TOLD = (
    UserSaid,
    StopAsked,
    Nudged,
    Paused,
    Lifted,
    ModelAsked,
    ModelReplied,
    ModelFailed,
    ModelStopped,
    RetryPlanned,
    ToolHeld,
    ToolAnswered,
    ToolStarted,
    ToolFinished,
    Compacted,
    Cleared,
    CompactAsked,
    Undone,
    LaneOpened,
    LaneClosed,
    Renamed,
    TurnEnded,
    SessionClosed,
)
"""Events that only tell what happened. Everything else sets how the session works and is not taken from a file."""


class Copy(Struct, frozen=True):
    """Where a copy goes: the id and the moment (milliseconds since 1970) of the new session."""

    session: str
    at: int


def last_rest(entries: Sequence[Entry], upto: int) -> int:
    """The last entry up to number `upto` at which no attempt and no call is open in any lane; 0 if there is none.

    Raises:
        ValueError: the entries do not follow each other.
    """
    view, found = View(), 0
    for entry in entries[: max(0, upto)]:
        view = fold(view, entry)
        if all(lane.turn.attempt is None and not lane.calls for lane in view.lanes.values()):
            found = entry.seq
    return found


def forked(entries: Sequence[Entry], copy: Copy, upto: int, cap: int) -> list[Entry]:
    """The record of a fork of the first `upto` entries, at rest, under `cap`. `last_rest` says which can be `upto`."""

    def change(event: Event) -> Event:
        match event:
            case CapSet():
                return CapSet(cap, "user")
            case SessionStarted(foreign_upto=foreign):
                return replace(event, foreign_upto=min(foreign, upto))
            case _:
                return unpaid(event)

    view, made = _copied(entries[:upto], copy, change)
    title = view.settings.title
    more: list[Event] = [] if view.purse.cap is not None else [CapSet(cap, "user")]
    # Counted here, what is left of a permission could be used twice.
    more += [GrantEnded(key, "the session was forked") for key, given in view.grants.items() if not given.ended]
    more += [Renamed(f"{title} (fork)", "product")] if title else []
    return [*made, *_appended(view, copy.at, more, "The session was forked here.")]


def imported(entries: Sequence[Entry], copy: Copy, workspace: str) -> list[Entry]:
    """The record of an import: all entries up to the last rest, at rest, in `workspace`."""

    kept = entries[: last_rest(entries, len(entries))]

    def change(event: Event) -> Event:
        match event:
            case SessionStarted(product=product):
                return replace(event, workspace=workspace, product=f"{product} (imported)", foreign_upto=len(kept))
            case ModelChosen():
                return replace(event, base_url="", bill_to="", prices=None)
            case Nudged():
                # What it was about stood in another folder: here nothing of that was told.
                return replace(event, about="")
            case _ if isinstance(event, TOLD):
                return unpaid(event)
            case _:
                return OwnerTook(0, "import", 0, "")

    view, made = _copied(kept, copy, change)
    return [*made, *_appended(view, copy.at, [], "The session was imported here.")]


def unpaid(event: Event) -> Event:
    """The event with nothing reserved and nothing spent."""
    match event:
        case ModelAsked() | ToolStarted():
            return replace(event, reserved=0)
        case ModelReplied():
            return replace(event, cost=0, overrun=False)
        case ModelFailed() | ModelStopped() | ToolFinished():
            return replace(event, cost=0)
        case _:
            return event


def _copied(entries: Sequence[Entry], copy: Copy, change: Callable[[Event], Event]) -> tuple[View, list[Entry]]:
    view, made = View(), list[Entry]()
    for entry in entries:
        event = change(entry.event)
        if isinstance(event, SessionStarted):
            event = replace(event, session=copy.session, forked_from=event.session, forked_upto=len(entries))
        made.append(replace(entry, event=event))
        view = fold(view, made[-1])
    return view, made


def _appended(view: View, at: int, events: list[Event], what: str) -> list[Entry]:
    """`events` and, where a turn is open, its end; a message that waited for that end begins a turn of its own."""
    ended = TurnEnded("interrupted", what, "Say what to do next.")
    made: list[Entry] = []
    while events or view.lane(MAIN).turn.open:
        made.append(Entry(view.seq + 1, at, MAIN, events.pop(0) if events else ended))
        view = fold(view, made[-1])
    return made
