"""The state of a session, composed of folds, and what its loop should do next. Pure; knows no tool, model or door."""

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from ml_intern.base.trail import Trail
from ml_intern.record.events import (
    BriefSet,
    CompactAsked,
    Entry,
    Event,
    Granted,
    GuardsSet,
    LaneClosed,
    LaneOpened,
    Lifted,
    LimitsSet,
    ModelAsked,
    ModelChosen,
    ModelReplied,
    ModeSet,
    Nudged,
    OwnerTook,
    Renamed,
    Role,
    RulesSet,
    SessionClosed,
    SessionStarted,
    StopAsked,
    ToolAnswered,
    ToolFinished,
    ToolStarted,
    Undone,
    UserSaid,
)
from ml_intern.record.folds.calls import Calls, OpenCall, fold_calls, wait_for_person
from ml_intern.record.folds.conduct import Conduct, fold_conduct
from ml_intern.record.folds.down import Down, fold_down
from ml_intern.record.folds.files import Files, fold_files
from ml_intern.record.folds.grants import Given, Grants, fold_grants
from ml_intern.record.folds.memory import Memory, fold_memory
from ml_intern.record.folds.origins import Origins, fold_origins
from ml_intern.record.folds.plan import Plan, fold_plan
from ml_intern.record.folds.purse import Purse, fold_purse
from ml_intern.record.folds.sources import Sources, fold_sources
from ml_intern.record.folds.spent import Spent, fold_spent
from ml_intern.record.folds.transcript import Transcript, fold_transcript
from ml_intern.record.folds.turn import Turn, fold_turn, with_wait
from ml_intern.record.folds.turns import fold_turns
from ml_intern.record.ground import GroundSet
from ml_intern.record.titles import title_of

MAIN = "main"


class Lane(Struct, frozen=True):
    """The main agent or one sub-agent: its own transcript, calls and turn. `turns`: where each visible one began.

    `sources`: what a sub-agent has read.
    """

    opened: LaneOpened | None = None
    closed: LaneClosed | None = None
    transcript: Transcript = field(default_factory=Transcript)
    calls: Calls = field(default_factory=dict[str, OpenCall])
    turn: Turn = field(default_factory=Turn)
    turns: Trail[int] = field(default_factory=Trail[int])
    spent: Spent = field(default_factory=Spent)
    sources: Sources = field(default_factory=dict[str, str])
    conduct: Conduct = field(default_factory=Conduct)
    memory: Memory = field(default_factory=Memory)


class Settings(Struct, frozen=True):
    """What was chosen for this session and may change in mid-session. `told`: each thing's state that was told last.

    `models` answer now; `chosen` is what was last recorded of every model of a role, in the order of that.
    """

    models: Mapping[Role, ModelChosen] = field(default_factory=dict[Role, ModelChosen])
    chosen: tuple[ModelChosen, ...] = ()
    mode: ModeSet | None = None
    limits: LimitsSet = field(default_factory=lambda: LimitsSet(None, None))
    title: str = ""
    rules: RulesSet = field(default_factory=lambda: RulesSet(()))
    brief: BriefSet = field(default_factory=lambda: BriefSet("", ""))
    guards: GuardsSet = field(default_factory=GuardsSet)
    ground: GroundSet | None = None
    told: Mapping[str, str] = field(default_factory=dict[str, str])

    def model_of(self, role: Role) -> ModelChosen:
        """The model that answers `role` now; a role of which nothing was said follows `main`.

        Raises:
            KeyError: no model was chosen at all.
        """
        return self.models.get(role) or self.models["main"]


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
    origins: Origins = field(default_factory=Origins)
    down: Down = field(default_factory=dict[str, str])

    def lane(self, name: str) -> Lane:
        """The lane of this name; an empty one where nothing was said in it yet."""
        found = self.lanes.get(name)
        return Lane() if found is None else found


def done_for(view: View, lane: str) -> frozenset[str]:
    """The sub-agents of `lane` that are done: what ends of theirs is told to it."""
    lanes = view.lanes.items()
    return frozenset(name for name, each in lanes if each.closed and each.opened and each.opened.parent == lane)


def fold(view: View, entry: Entry) -> View:
    """The view after `entry`.

    Raises:
        ValueError: the entry does not follow the last one.
    """
    if entry.seq != view.seq + 1:
        raise ValueError(f"entry {entry.seq} does not follow {view.seq}")
    seq, event, lanes, purse = entry.seq, entry.event, _lanes(view, entry), fold_purse(view.purse, entry.event)
    # Nine tenths of a record are these four: folds that pass over them are not asked. It halves what opening costs.
    match event:
        case ModelAsked():
            return replace(view, seq=seq, lanes=lanes, purse=purse)
        case ModelReplied():
            down, origins = _down(view, entry), fold_origins(view.origins, entry)
            return replace(view, seq=seq, lanes=lanes, purse=purse, origins=origins, down=down)
        case ToolStarted():
            grants, origins = fold_grants(view.grants, entry), fold_origins(view.origins, entry)
            return replace(view, seq=seq, lanes=lanes, purse=purse, grants=grants, origins=origins)
        case ToolFinished():
            pass
        case _:
            view = replace(_session(view, entry), settings=_settings(view.settings, entry), down=_down(view, entry))
    return replace(
        view,
        seq=seq,
        lanes=lanes,
        purse=purse,
        plan=fold_plan(view.plan, entry) if entry.lane == MAIN else view.plan,
        files=fold_files(view.files, entry),
        grants=fold_grants(view.grants, entry),
        origins=fold_origins(view.origins, entry),
    )


def _down(view: View, entry: Entry) -> Down:
    return fold_down(view.down, entry.event, view.lane(entry.lane).turn.attempt)


def _session(view: View, entry: Entry) -> View:
    match entry.event:
        case SessionStarted() as started:
            return replace(view, started=started, started_ms=entry.at)
        case OwnerTook() as owner:
            return replace(view, owner=owner, closed=False)
        case SessionClosed():
            return replace(view, closed=True)
        case (
            UserSaid(command=command)
            | StopAsked(command=command)
            | ToolAnswered(command=command)
            | Lifted(command=command)
            | CompactAsked(command=command)
        ):
            return replace(view, commands=view.commands | {command})
        case Undone(command=command) | Granted(command=command) if command:
            return replace(view, commands=view.commands | {command})
        case _:
            return view


def _settings(settings: Settings, entry: Entry) -> Settings:
    match entry.event:
        case ModelChosen(role=role) as chosen:
            others = [each for each in settings.chosen if (each.role, each.model) != (role, chosen.model)]
            return replace(settings, models={**settings.models, role: chosen}, chosen=(*others, chosen))
        case ModeSet() as mode:
            return replace(settings, mode=mode)
        case GroundSet() as ground:
            return replace(settings, ground=ground)
        case Nudged(about=about) if about:
            what, _, state = about.rpartition("=")
            return replace(settings, told={**settings.told, what: state})
        case Renamed(title=title):
            return replace(settings, title=title)
        case UserSaid(text=text) if not settings.title and entry.lane == MAIN:
            return replace(settings, title=title_of(text))
        case _:
            return _bounds(settings, entry.event)


def _bounds(settings: Settings, event: Event) -> Settings:
    match event:
        case LimitsSet() as limits:
            return replace(settings, limits=limits)
        case RulesSet() as rules:
            return replace(settings, rules=rules)
        case BriefSet() as brief:
            return replace(settings, brief=brief)
        case GuardsSet() as guards:
            return replace(settings, guards=guards)
        case _:
            return settings


def _lanes(view: View, entry: Entry) -> Mapping[str, Lane]:
    lane = _lane(view.lane(entry.lane), entry)
    lanes = {**view.lanes, entry.lane: lane}
    if len(lanes) == 1:
        return lanes
    if isinstance(entry.event, ToolFinished):
        lanes |= {name: _reported(each) for name, each in lanes.items() if _is_of(each, entry.event.call)}
    if lane.opened is None and isinstance(entry.event, UserSaid):
        # What a person says answers what they were shown, whichever lane it waits in.
        waiting = [name for name, each in lanes.items() if name != entry.lane and wait_for_person(each.calls)]
        for name in waiting:
            lanes[name] = replace(lanes[name], calls=fold_calls(lanes[name].calls, entry))
    # A parent stands still while its sub-agents do, and works while one of them does.
    parent = entry.lane if lane.opened is None else lane.opened.parent
    return {**lanes, parent: _with_lanes(lanes, parent, entry.at)}


def _is_of(lane: Lane, call: str) -> bool:
    return lane.closed is not None and lane.opened is not None and lane.opened.call == call


def _reported(lane: Lane) -> Lane:
    """What is left of a sub-agent once its report has arrived: all else stands in the record."""
    return Lane(opened=lane.opened, closed=lane.closed, turn=lane.turn, turns=lane.turns, spent=lane.spent)


def _with_lanes(lanes: Mapping[str, Lane], name: str, at: int) -> Lane:
    lane = lanes[name] if name in lanes else Lane()
    started = {key for key, each in lane.calls.items() if each.state == "started"}
    if not started:
        return lane
    standing = {
        each.opened.call for each in lanes.values() if each.opened is not None and each.turn.waiting_ms is not None
    }
    others = {key: each for key, each in lane.calls.items() if key not in started}
    waits = started <= standing and (not others or {each.state for each in others.values()} <= {"held", "new"})
    return replace(lane, turn=with_wait(lane.turn, at, waits=waits))


def _lane(lane: Lane, entry: Entry) -> Lane:
    match entry.event:
        case ModelReplied() | ToolFinished():
            return _worked(lane, entry)
        case ModelAsked():
            transcript, turn = fold_transcript(lane.transcript, entry), fold_turn(lane.turn, entry)
            memory = fold_memory(lane.memory, entry, lane.calls, transcript.weight)
            return replace(lane, transcript=transcript, turn=turn, memory=memory)
        case ToolStarted():
            calls = fold_calls(lane.calls, entry)
            waits = wait_for_person(calls) or lane.turn.paused is not None
            return replace(lane, calls=calls, turn=with_wait(lane.turn, entry.at, waits=waits))
        case LaneOpened() as opened:
            return replace(lane, opened=opened)
        case LaneClosed() as closed:
            return replace(lane, closed=closed)
        case _:
            lane = _worked(lane, entry)
            return replace(lane, turns=fold_turns(lane.turns, lane.turn, entry))


def _worked(lane: Lane, entry: Entry) -> Lane:
    calls, turn = fold_calls(lane.calls, entry), fold_turn(lane.turn, entry)
    turn = with_wait(turn, entry.at, waits=wait_for_person(calls) or turn.paused is not None)
    transcript = fold_transcript(lane.transcript, entry)
    return replace(
        lane,
        transcript=transcript,
        calls=calls,
        turn=turn,
        spent=fold_spent(lane.spent, entry.event),
        sources=lane.sources if lane.opened is None else fold_sources(lane.sources, entry.event, lane.calls),
        conduct=fold_conduct(lane.conduct, lane.calls, entry),
        memory=fold_memory(lane.memory, entry, lane.calls, transcript.weight),
    )
