"""A session whose main agent can have sub-agents, on a stage: each lane is played by a voice of its own."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_intern.agent.ask import Asker
from ml_intern.agent.context import Head
from ml_intern.agent.loop import Worker
from ml_intern.agent.road import Road
from ml_intern.agent.subagent import Crew, Lanes
from ml_intern.base.clock import SystemClock
from ml_intern.base.ids import new_id
from ml_intern.model.port import Finished, Request, ToolSpec
from ml_intern.record.codec import decode
from ml_intern.record.commands import Say
from ml_intern.record.effects import Effect, Reads
from ml_intern.record.events import (
    CapSet,
    LimitsSet,
    ModeSet,
    OwnerTook,
    SessionStarted,
)
from ml_intern.record.facts import FileRead
from ml_intern.record.live import Live
from ml_intern.record.log import Log
from ml_intern.record.messages import Answered, Asked
from ml_intern.record.next import Rest, Wait
from ml_intern.record.secrets import Secrets
from ml_intern.session.session import Session
from ml_intern.store.blobs import Blobs
from ml_intern.toolkit.registry import Registry
from ml_intern.toolkit.tool import Context, Prepared, Result
from ml_intern.tools.research import Research
from ml_intern.tools.task import Task
from tests.agent.stage import PRICED, MemoryJournal, Note, call

Speaks = Callable[[Request], Any]


@dataclass
class Reader(Note):
    """A tool that looks, and leaves which file it read."""

    name: str = "look"
    effects: tuple[Effect, ...] = (Reads("notes"),)

    async def run(self, prepared: Prepared, context: Context) -> Result:
        result = await super().run(prepared, context)
        return Result(result.text, result.display, facts=(FileRead(prepared.payload, "ab"),))


@dataclass
class Choir:
    """Every lane has a voice of its own, chosen by its first message; the main agent's is "go"."""

    voices: dict[str, list[Finished | Speaks]]
    requests: list[Request] = field(default_factory=list)
    now: int = 0
    most: int = 0

    async def ask(self, request: Request) -> AsyncGenerator[Any]:
        self.requests.append(request)
        first = request.messages[0]
        assert isinstance(first, Asked)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            voice = self.voices[first.text.split("\n")[0]]
            # A voice is a script over the transcript: what was said already is not said again.
            outcome = voice[sum(not isinstance(each, Asked | Answered) for each in request.messages)]
            if isinstance(outcome, Finished):
                await asyncio.sleep(0.02)
                yield outcome
            else:
                async for item in outcome(request):
                    yield item
        finally:
            self.now -= 1

    async def aclose(self) -> None:
        pass


@dataclass
class Scene:
    """A session whose main agent can have sub-agents."""

    session: Session
    journal: MemoryJournal
    choir: Choir
    live: Live

    @property
    def log(self) -> Log:
        return self.session.log

    def events(self, kind: type[Any], lane: str | None = None) -> list[Any]:
        found = [decode(line) for line in self.journal.kept]
        return [each.event for each in found if isinstance(each.event, kind) and lane in {None, each.lane}]

    async def play(self) -> Wait | Rest:
        await self.session.send(Say(new_id(), "go"))
        return await self.session.run()


async def scene(
    folder: Path,
    voices: dict[str, list[Finished | Speaks]],
    *tools: Note,
    journal: MemoryJournal | None = None,
    mode: ModeSet = ModeSet("auto", "hold"),
    limits: LimitsSet = LimitsSet(50, None),
    cap: int = 5_000_000,
    spawning: bool = True,
) -> Scene:
    journal, clock = journal or MemoryJournal(), SystemClock()
    fresh = not journal.kept
    log = await Log.open(journal, clock, Secrets({"KEY": "sk-very-secret-value"}))
    if fresh:
        for event in (SessionStarted("s1", "/work", "0"), PRICED, CapSet(cap, "user"), mode, limits):
            await log.add(event)
    await log.add(OwnerTook(1, "test", 1, "here"))
    choir, live, lanes, blobs = Choir(voices), Live(), Lanes(), Blobs(folder, log.secrets)
    names = tuple(tool.name for tool in tools)
    every = (*tools, *((Research(lanes, blobs, names), Task(lanes, blobs, names)) if spawning else ()))
    registry = Registry(every)
    head = Head("system", tuple(ToolSpec(row.name, row.text, row.parameters) for row in registry.specs()))
    asker = Asker(log, live, clock, {"main": choir}, {"main": head})
    worker = Worker(log, asker, Road(log, live, clock, registry), clock)
    lanes.furnish(Crew(worker, every, "walls"))
    return Scene(Session(worker, live), journal, choir, live)


def research(task: str, **more: Any) -> Any:
    return call("research", json.dumps({"task": task, **more}))


def task(text: str, **more: Any) -> Any:
    return call("task", json.dumps({"task": text, **more}))


def look(text: str) -> Any:
    return call("look", f'{{"text": "{text}"}}')
