import asyncio
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from ml_intern.agent.day import Day
from ml_intern.base.ids import new_id
from ml_intern.base.money import Micro
from ml_intern.record.commands import Say
from ml_intern.record.events import ModelAsked, ToolFinished, TurnEnded
from ml_intern.session.session import Session
from tests.agent.stage import Stage, call, calls, says, set_stage, spending


@dataclass
class Shared:
    """A day in memory; `thief` is taken away by another session the first time something is reserved."""

    cap: int
    thief: int = 0
    kept: dict[str, int] = field(default_factory=dict)

    async def left(self) -> Micro | None:
        return Micro(self.cap - sum(self.kept.values()))

    async def reserve(self, key: str, amount: int) -> bool:
        await asyncio.sleep(0)
        stolen, self.thief = self.thief, 0
        self.cap -= stolen
        if amount + sum(self.kept.values()) > self.cap:
            return False
        self.kept[key] = amount
        return True

    def book(self, key: str, cost: int) -> None:
        self.kept[key] = cost


async def play(stage: Stage, day: Day) -> Any:
    worker = replace(stage.worker, asker=replace(stage.worker.asker, day=day), road=replace(stage.worker.road, day=day))
    session = Session(worker, stage.live)
    await session.send(Say(new_id(), "go"))
    async with asyncio.timeout(5):
        return await session.run()


async def test_an_answer_is_as_long_as_the_day_can_pay() -> None:
    stage = await set_stage(says("ok"))
    await play(stage, Shared(14_000))
    [asked] = stage.of(ModelAsked)
    assert asked.reserved <= 14_000
    assert 2_048 <= asked.max_output < 4_096


async def test_a_spent_day_ends_the_turn_with_a_sentence() -> None:
    stage = await set_stage()
    await play(stage, Shared(1_000))
    [ended] = stage.of(TurnEnded)
    assert ended.reason == "budget"
    assert ended.what == "The day's budget over all sessions has $0.0010 left, which is not enough."
    assert "ML_INTERN_DAY_BUDGET" in ended.remedy


async def test_a_session_that_was_slower_takes_what_is_left() -> None:
    stage = await set_stage(says("ok"))
    day = Shared(34_000, thief=20_000)
    await play(stage, day)
    [asked] = stage.of(ModelAsked)
    assert asked.reserved <= 14_000
    assert stage.of(TurnEnded)[0].reason == "done"


async def test_a_call_that_the_day_cannot_pay_is_told_and_not_run() -> None:
    witness: list[str] = []
    stage = await set_stage(calls(call("spend")), says("ok"), tools=(spending(witness, 900_000),))
    await play(stage, Shared(500_000))
    [finished] = stage.of(ToolFinished)
    assert finished.outcome == "denied"
    assert "The day's budget" in finished.text
    assert witness == []
