"""The state of a session, composed of folds, and what its loop should do next. Pure; knows no tool, model or door."""

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from ml_intern.base.trail import Trail
from ml_intern.record.events import (
    BriefSet,
    Entry,
    Granted,
    LaneClosed,
    LaneOpened,
    LimitsSet,
    ModelChosen,
    ModeSet,
    OwnerTook,
    Renamed,
    Role,
    RulesSet,
    SessionClosed,
    SessionStarted,
    StopAsked,
    ToolAnswered,
    Undone,
    UserSaid,
)
from ml_intern.record.folds.calls import Calls, OpenCall, fold_calls, wait_for_person
from ml_intern.record.folds.files import Files, fold_files
from ml_intern.record.folds.grants import Given, Grants, fold_grants
from ml_intern.record.folds.plan import Plan, fold_plan
from ml_intern.record.folds.purse import Purse, fold_purse
from ml_intern.record.folds.transcript import Transcript, fold_transcript
from ml_intern.record.folds.turn import Turn, fold_turn, with_wait
from ml_intern.record.folds.turns import fold_turns
from ml_intern.record.titles import title_of

MAIN = "main"


class Lane(Struct, frozen=True):
    """The main agent or one sub-agent: its own transcript, calls and turn. `turns`: where each visible one began."""

    opened: LaneOpened | None = None
    closed: LaneClosed | None = None
    transcript: Transcript = field(default_factory=Transcript)
    calls: Calls = field(default_factory=dict[str, OpenCall])
    turn: Turn = field(default_factory=Turn)
    turns: Trail[int] = field(default_factory=Trail[int])


class Settings(Struct, frozen=True):
    """What was chosen for this session and may change in mid-session."""

    models: Mapping[Role, ModelChosen] = field(default_factory=dict[Role, ModelChosen])
    mode: ModeSet | None = None
    limits: LimitsSet = field(default_factory=lambda: LimitsSet(None, None))
    title: str = ""
    rules: RulesSet = field(default_factory=lambda: RulesSet(()))
    brief: BriefSet = field(default_factory=lambda: BriefSet("", ""))


class View(Struct, frozen=True):
    """Everything that is known at sequence number `seq`. `commands` are the ids already taken in."""

    seq: int = 0
    started: SessionStarted | None = None
    started_ms: int = 0
    owner: OwnerTook | None = None
    closed: bool = False
    settings: Settings = field(default_factory=Settings)
    lanes: Mapping[str, Lane] = field(default_factory=dict[str, Lane])
    purse: Purse = field(default_factory=Purse)
    plan: Plan = field(default_factory=Plan)
    files: Files = field(default_factory=Files)
    commands: frozenset[str] = frozenset()
    grants: Grants = field(default_factory=dict[str, Given])

    def lane(self, name: str) -> Lane:
        """The lane of this name; an empty one where nothing was said in it yet."""
        found = self.lanes.get(name)
        return Lane() if found is None else found


def fold(view: View, entry: Entry) -> View:
    """The view after `entry`.

    Raises:
        ValueError: the entry does not follow the last one.
    """
    if entry.seq != view.seq + 1:
        raise ValueError(f"entry {entry.seq} does not follow {view.seq}")
    view = _session(view, entry)
    return View(
        seq=entry.seq,
        started=view.started,
        started_ms=view.started_ms,
        owner=view.owner,
        closed=view.closed,
        settings=_settings(view.settings, entry),
        lanes={**view.lanes, entry.lane: _lane(view.lane(entry.lane), entry)},
        purse=fold_purse(view.purse, entry.event),
        plan=fold_plan(view.plan, entry) if entry.lane == MAIN else view.plan,
        files=fold_files(view.files, entry),
        commands=view.commands,
        grants=fold_grants(view.grants, entry),
    )


def _session(view: View, entry: Entry) -> View:
    match entry.event:
        case SessionStarted() as started:
            return replace(view, started=started, started_ms=entry.at)
        case OwnerTook() as owner:
            return replace(view, owner=owner, closed=False)
        case SessionClosed():
            return replace(view, closed=True)
        case UserSaid(command=command) | StopAsked(command=command) | ToolAnswered(command=command):
            return replace(view, commands=view.commands | {command})
        case Undone(command=command) | Granted(command=command) if command:
            return replace(view, commands=view.commands | {command})
        case _:
            return view


def _settings(settings: Settings, entry: Entry) -> Settings:
    match entry.event:
        case ModelChosen(role=role) as chosen:
            return replace(settings, models={**settings.models, role: chosen})
        case ModeSet() as mode:
            return replace(settings, mode=mode)
        case LimitsSet() as limits:
            return replace(settings, limits=limits)
        case RulesSet() as rules:
            return replace(settings, rules=rules)
        case BriefSet() as brief:
            return replace(settings, brief=brief)
        case Renamed(title=title):
            return replace(settings, title=title)
        case UserSaid(text=text) if not settings.title and entry.lane == MAIN:
            return replace(settings, title=title_of(text))
        case _:
            return settings


def _lane(lane: Lane, entry: Entry) -> Lane:
    match entry.event:
        case LaneOpened() as opened:
            return replace(lane, opened=opened)
        case LaneClosed() as closed:
            return replace(lane, closed=closed)
        case _:
            calls = fold_calls(lane.calls, entry)
            turn = with_wait(fold_turn(lane.turn, entry), entry.at, waits=wait_for_person(calls))
            return replace(
                lane,
                transcript=fold_transcript(lane.transcript, entry),
                calls=calls,
                turn=turn,
                turns=fold_turns(lane.turns, turn, entry),
            )
