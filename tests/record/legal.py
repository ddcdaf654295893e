"""Hypothesis strategies: any event from its type, and whole records whose order obeys the rules of events.py."""

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st
from msgspec import Struct

from ml_intern.record import events
from ml_intern.record.display import PlanItem, TextDisplay
from ml_intern.record.effects import Executes, Reads
from ml_intern.record.events import Entry, Event
from ml_intern.record.facts import FileChange, FileRead, PlanSet
from ml_intern.record.folds.calls import OpenCall
from ml_intern.record.messages import Call, Reply, Text, Usage
from ml_intern.record.view import MAIN, View, fold

EVENT_TYPES: tuple[type[Any], ...] = get_args(Event)
CAP = 1_000_000


def of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that our recorded structs use, every field drawn, defaults included."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return of(arguments[0])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in {Union, types.UnionType}:
        return st.one_of(*map(of, arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(of(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(of, arguments))
    if isinstance(hint, type) and issubclass(hint, Struct):
        hints = get_type_hints(hint, include_extras=True)
        return st.deferred(lambda: st.builds(hint, **{name: of(hints[name]) for name in hint.__struct_fields__}))
    plain = {
        str: st.text(max_size=12),
        int: st.integers(-(2**70), 2**70),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        type(None): st.none(),
    }
    return plain[hint]


def any_entry() -> st.SearchStrategy[Entry]:
    return st.builds(
        Entry,
        seq=st.integers(1, 2**53),
        at=st.integers(0, 2**53),
        lane=st.text(max_size=8),
        event=st.one_of(*map(of, EVENT_TYPES)),
    )


@st.composite
def records(draw: st.DrawFn, most: int = 40) -> list[Entry]:
    """A legal record: a session with up to two lanes, drawn move by move from what the view allows."""
    writer = Writer(draw)
    for event in (
        events.SessionStarted("01s", "/work", "1"),
        events.OwnerTook(1, "test", 1, "host"),
        events.CapSet(CAP, "user"),
    ):
        writer.write(event)
    for _ in range(draw(st.integers(0, most))):
        writer.move()
    return writer.entries


class Writer:
    """Keeps the record that is being drawn and the view of it."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self.entries: list[Entry] = []
        self.view = View()

    def write(self, event: Event, lane: str = MAIN) -> None:
        entry = Entry(self.view.seq + 1, 1_000 + 10 * self.view.seq, lane, event)
        self.view = fold(self.view, entry)
        self.entries.append(entry)

    def move(self) -> None:
        lane = self._draw(st.sampled_from([MAIN, "sub"]))
        self.write(self._draw(st.sampled_from(self._moves(lane))), lane)

    def _moves(self, name: str) -> list[Event]:
        lane, seq = self.view.lane(name), self.view.seq
        seen = self._draw(st.integers(0, seq))
        when: Literal["now", "after"] = self._draw(st.sampled_from(["now", "after"]))
        key = f"n{seq + 1}"
        moves: list[Event] = [events.UserSaid(f"c{seq}", f"said {seq}", (), when, seen)]
        if not lane.turn.open:
            boundaries = [entry.seq - 1 for entry in self.entries if self._opens(entry, name)]
            return [*moves, *(events.Undone(f"u{seq}", upto) for upto in boundaries[-1:])]
        moves += [events.Nudged("guard", f"nudge {seq}"), events.StopAsked(f"s{seq}")]
        if lane.turn.attempt is not None:
            return [*moves, *self._ends_of(lane.turn.attempt, key)]
        if lane.calls:
            return [*moves, *(event for call in lane.calls.values() for event in self._steps_of(call))]
        reserved = self._draw(st.integers(0, self.view.purse.free))
        asked = events.ModelAsked(key, "main", "m", reserved, 100, 100, "head")
        shown = [line.seq for line in lane.transcript.lines]
        compacted = [events.Compacted(max(shown), f"so far {seq}")] if shown else []
        return [*moves, asked, asked, asked, events.TurnEnded("done"), *compacted]

    def _opens(self, entry: Entry, lane: str) -> bool:
        return entry.lane == lane and isinstance(entry.event, events.UserSaid) and entry.event.when == "now"

    def _ends_of(self, asked: events.ModelAsked, key: str) -> list[Event]:
        cost = self._draw(st.integers(0, asked.reserved))
        many = self._draw(st.integers(0, 3))
        calls = tuple(Call(f"{key}.{each}", f"w{each}", "tool", "{}") for each in range(many))
        usage = Usage(cost, 1) if self._draw(st.booleans()) else None
        finish = "calls" if calls else "stop"
        replied = events.ModelReplied(asked.attempt, Reply((Text(f"reply {key}"), *calls)), usage, cost, finish)
        failed = events.ModelFailed(asked.attempt, "unreachable", "cut", "", transient=True, cost=cost)
        return [replied, replied, replied, failed, events.ModelStopped(asked.attempt, "so far", cost)]

    def _steps_of(self, call: OpenCall) -> list[Event]:
        key = call.call.id
        if call.state == "held":
            approve = self._draw(st.booleans())
            return [events.ToolAnswered(f"a{self.view.seq}", key, approve, "because", "user")]
        if call.state in {"started", "denied"}:
            return [self._finished(call)]
        reserved = self._draw(st.integers(0, self.view.purse.free))
        effects = (Executes("x"),) if self._draw(st.booleans()) else (Reads("x"),)
        held = events.ToolHeld(key, "hash", "asks", effects, reserved, "hub", TextDisplay("t"))
        return [held, events.ToolStarted(key, "hash", effects, "findable", reserved), self._finished(call)]

    def _finished(self, call: OpenCall) -> events.ToolFinished:
        started = call.started
        cost = self._draw(st.integers(0, started.reserved)) if started is not None else 0
        path = self._draw(st.sampled_from(["a.py", "b.py"]))
        sha = self._draw(st.sampled_from(["1", "2"]))
        fact = self._draw(
            st.sampled_from(
                [FileRead(path, sha), FileChange(path, None, sha), FileChange(path, sha, "?", authored=False)]
            )
        )
        plan = PlanSet((PlanItem("1", f"plan {self.view.seq}", "pending"),))
        outcome = "denied" if call.state == "denied" else "ok"
        facts = () if outcome == "denied" else (fact, plan)
        return events.ToolFinished(call.call.id, outcome, f"answer {call.call.id}", TextDisplay("t"), facts, cost=cost)
