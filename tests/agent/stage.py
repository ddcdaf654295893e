"""A lane on a stage: a real log, loop, asker and road over a journal in memory, a played model and tools for tests."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from ml_intern.agent.ask import Asker
from ml_intern.agent.context import Head
from ml_intern.agent.loop import Worker
from ml_intern.agent.road import Road
from ml_intern.base.clock import Clock, TestClock
from ml_intern.base.errors import ModelError
from ml_intern.base.ids import new_id
from ml_intern.model.port import Delta, Finished, Request, TextDelta, ToolSpec
from ml_intern.record.codec import decode
from ml_intern.record.display import TextDisplay
from ml_intern.record.effects import Effect, Reads, Spends, Writes
from ml_intern.record.events import (
    CapSet,
    Entry,
    LimitsSet,
    ModelChosen,
    ModeSet,
    OwnerTook,
    Replay,
    SessionStarted,
    ToolStarted,
)
from ml_intern.record.live import Live
from ml_intern.record.log import Log
from ml_intern.record.messages import Call, Prices, Reply, Text, Usage
from ml_intern.record.secrets import Secrets
from ml_intern.session.session import Session
from ml_intern.toolkit.registry import Registry
from ml_intern.toolkit.schema import Arguments
from ml_intern.toolkit.tool import Context, Prepared, Result


class MemoryJournal:
    """Lines in a list; what a second log over the same list sees is what a new process would see."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.flushed: list[int] = []

    async def append(self, seq: int, line: bytes, *, flush: bool) -> None:
        assert seq == len(self.kept) + 1
        self.kept.append(line)
        if flush:
            self.flushed.append(seq)

    async def lines(self, after: int = 0) -> list[bytes]:
        return self.kept[after:]


def call(tool: str, arguments: str = "{}") -> Call:
    return Call(new_id(), f"w-{new_id()}", tool, arguments)


def says(text: str, usage: Usage | None = Usage(100, 10)) -> Finished:
    return Finished(Reply((Text(text),)), usage, "stop")


def calls(*made: Call, usage: Usage | None = Usage(100, 10)) -> Finished:
    return Finished(Reply(made), usage, "calls")


@dataclass
class PlayedModel:
    """Plays outcomes in order: a reply, an error, or a function that may wait."""

    outcomes: list[Finished | ModelError | Callable[[Request], Any]]
    requests: list[Request] = field(default_factory=list)

    async def ask(self, request: Request) -> AsyncGenerator[Delta | Finished]:
        self.requests.append(request)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, ModelError):
            raise outcome
        if isinstance(outcome, Finished):
            yield TextDelta(outcome.reply.text)
            yield outcome
            return
        async for item in outcome(request):
            yield item

    async def aclose(self) -> None:
        pass


class NoteArgs(Arguments, frozen=True):
    text: str = ""


@dataclass
class Note:
    """A tool that writes a line to a witness outside the record; what it would do is the test's choice."""

    witness: list[str]
    name: str = "note"
    text: str = "writes a note"
    effects: tuple[Effect, ...] = (Writes("notes"),)
    replay: Replay = "findable"
    quote: int = 0
    cost: int = 0
    inputs: tuple[tuple[str, str], ...] = ()
    breaks: Exception | None = None
    pause: asyncio.Event | None = None
    found: Result | None = None
    running: int = 0
    most_running: int = 0

    @property
    def args(self) -> type[Arguments]:
        return NoteArgs

    async def prepare(self, args: NoteArgs, context: Context) -> Prepared:
        return Prepared(
            self.effects, TextDisplay("note", args.text), self.replay, args.text, self.quote, "me", self.inputs
        )

    async def run(self, prepared: Prepared, context: Context) -> Result:
        if self.breaks is not None:
            raise self.breaks
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        context.live(f"noting {prepared.payload}")
        await asyncio.sleep(0)
        if self.pause is not None:
            await self.pause.wait()
        self.running -= 1
        self.witness.append(prepared.payload)
        return Result(f"noted {prepared.payload}", TextDisplay("note", prepared.payload), cost=self.cost)

    async def recover(self, args: NoteArgs, started: ToolStarted, context: Context) -> Result | None:
        return self.found


def looking(witness: list[str], **more: Any) -> Note:
    return Note(witness, name="look", effects=(Reads("notes"),), replay="pure", **more)


def spending(witness: list[str], amount: int, **more: Any) -> Note:
    return Note(witness, name="spend", effects=(Spends(amount, "me", "a job"),), quote=amount, **more)


PRICED = ModelChosen("main", "test/model", 100_000, 4_096, Prices(1_000_000, 4_000_000), "me")


@dataclass
class Stage:
    """Everything that a lane needs, and what happened on it."""

    session: Session
    worker: Worker
    model: PlayedModel
    journal: MemoryJournal
    clock: Any
    live: Live

    @property
    def log(self) -> Log:
        return self.worker.log

    @property
    def events(self) -> list[Any]:
        return [decode(line).event for line in self.journal.kept]

    def kinds(self) -> list[str]:
        return [type(event).__struct_config__.tag for event in self.events]

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


async def set_stage(
    *outcomes: Finished | ModelError | Callable[[Request], Any],
    tools: tuple[Note, ...] = (),
    cap: int = 5_000_000,
    mode: ModeSet = ModeSet("auto", "hold"),
    limits: LimitsSet = LimitsSet(50, None),
    journal: MemoryJournal | None = None,
    secrets: dict[str, str] | None = None,
    clock: Clock | None = None,
) -> Stage:
    fresh = journal is None
    journal = journal or MemoryJournal()
    clock = clock or TestClock()
    log = await Log.open(journal, clock, Secrets(secrets or {}))
    if fresh:
        for event in (SessionStarted("s1", "/work", "0"), PRICED, CapSet(cap, "user"), mode, limits):
            await log.add(event)
    await log.add(OwnerTook(1, "test", 1, "here"))
    live, model = Live(), PlayedModel(list(outcomes))
    registry = Registry(tools)
    head = Head("system", tuple(ToolSpec(row.name, row.text, row.parameters) for row in registry.specs()))
    worker = Worker(
        log,
        Asker(log, live, clock, {"main": model}, {"main": head}),
        Road(log, live, clock, registry),
        clock,
    )
    return Stage(Session(worker, live), worker, model, journal, clock, live)


def entries(stage: Stage) -> list[Entry]:

    return [decode(line) for line in stage.journal.kept]
