"""The loop: ask the record what is next, do that, ask again. Keeps nothing, so a crash costs nothing."""

from collections.abc import Awaitable, Callable
from typing import assert_never

from msgspec import Struct

from ml_intern.agent.ask import Asker
from ml_intern.agent.compact import Compactor, Running
from ml_intern.agent.context import Head
from ml_intern.agent.lost import close_attempt, close_orphans
from ml_intern.agent.road import Road
from ml_intern.agent.title import name_session, wants_title
from ml_intern.base.clock import Clock
from ml_intern.policy.closing import closing
from ml_intern.policy.guards import ask_guards, outcome
from ml_intern.record.events import Nudged, Role, TurnEnded
from ml_intern.record.log import Log, Refusal
from ml_intern.record.next import AskModel, Compact, Rest, SettleCalls, Wait, next_step
from ml_intern.record.view import View

Tell = Callable[[str], Awaitable[object]]
News = Callable[[str, Tell], Awaitable[bool]]
"""Tells, by its second argument, what happened outside that the lane does not know yet; whether there was anything."""


async def _no_news(_lane: str, _tell: Tell) -> bool:
    return False


async def _nothing_runs() -> list[tuple[str, str]]:
    return []


class Worker(Struct, frozen=True):
    """What a lane works with."""

    log: Log
    asker: Asker
    road: Road
    clock: Clock
    news: News = _no_news
    role: Role = "main"
    running: Running = _nothing_runs

    @property
    def head(self) -> Head:
        """What stands before the requests of its lane."""
        heads = self.asker.heads
        return heads[self.role] if self.role in heads else heads["main"]


async def work(worker: Worker, lane: str) -> Wait | Rest:
    """Work on `lane` until it rests or waits for a person; says which.

    Raises:
        SessionError: the record can no longer be written.
    """
    log = worker.log
    while True:
        match next_step(log.view, lane, worker.clock.now_ms(), worker.head.bound):
            case Compact():
                await close_attempt(log, lane)
                await Compactor(log, worker.asker, worker.clock, worker.head, worker.running).make_room(lane)
            case AskModel():
                await _ask(worker, lane)
            case SettleCalls():
                if not await worker.road.settle(lane):
                    return Wait("person")
            case Wait(on="instant", due=due):
                await worker.clock.sleep(max(0, due - worker.clock.now_ms()) / 1000)
            case Rest(ending=ending) if ending is not None:
                await _rest(worker, lane)
            case Wait() | Rest() as pause:
                return pause
            case _ as never:
                assert_never(never)


async def _rest(worker: Worker, lane: str) -> None:
    """The end of the turn, unless another model of the chain goes on where one failed."""
    if not await worker.asker.go_on(lane):
        if await _named(worker, lane):
            return
        await close_attempt(worker.log, lane)
        await close_orphans(worker.log, lane)
        await worker.log.add(lambda view: _end(view, lane, worker.clock.now_ms()), lane)


def _end(view: View, lane: str, now_ms: int) -> TurnEnded | Nudged | Refusal:
    """The end of the turn, unless a message came in just now or the answer is not the one that was asked for."""
    match next_step(view, lane, now_ms):
        case Rest(ending=ending) if ending is not None:
            return closing(view, lane, ending)
        case _:
            return Refusal("the turn goes on")


async def _ask(worker: Worker, lane: str) -> None:
    """Ask the model, unless a guard has something to say first."""
    await close_attempt(worker.log, lane)
    await close_orphans(worker.log, lane)
    noticed = ask_guards(worker.log.view, lane, worker.clock.now_ms())
    if noticed is not None:
        await worker.log.add(outcome(noticed, worker.log.view, lane), lane)
    elif not (await _has_news(worker, lane) or await _named(worker, lane)):
        await worker.asker.ask(lane, worker.role)


async def _has_news(worker: Worker, lane: str) -> bool:
    return await worker.news(lane, lambda text: worker.log.add(Nudged("background", text), lane))


async def _named(worker: Worker, lane: str) -> bool:
    """Have the session named where it is time for that; whether anything came of it."""
    return wants_title(worker.log.view, lane) and await name_session(worker.asker)
