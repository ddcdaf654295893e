"""A role for summaries with models of its own: who is asked where one of them fails."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from ml_intern.agent.chain import Link
from ml_intern.base.errors import BadRequest, ModelError, Overflow, Unauthorised, Unreachable
from ml_intern.model.port import Request
from ml_intern.record.asides import COMPACTION
from ml_intern.record.clearing import Compacted
from ml_intern.record.commands import Say
from ml_intern.record.events import LimitsSet, ModelAsked, ModelChosen, ModelFailed, TurnEnded
from ml_intern.record.folds.turn import Turn
from ml_intern.record.messages import Prices
from ml_intern.record.view import MAIN
from tests.agent.stage import PlayedModel, Stage, says
from tests.agent.test_compact import PROSE, WINDOW, Talker, Windowed, play, stage_of

A, B, C = "sum/a", "sum/b", "sum/c"
KEY = Unauthorised("The key is refused (HTTP 401).", "Check the key.")
CUT = Unreachable("The server broke off its reply.", "Try again.")
TWICE = says(f"{PROSE} Told by another one.")


async def summed(*outcomes: list[Any], **more: Any) -> tuple[Stage, list[PlayedModel]]:
    """A stage in which several summaries are made: one list of outcomes for each model of the chain."""
    names = (A, B, C)[: len(outcomes)]
    main, tool = Windowed(more.pop("most", 150)), Talker([])
    tool.size = more.pop("size", tool.size)
    stage = await stage_of(main, tool, cap=50_000_000, limits=LimitsSet(None, None), **more)
    played = [PlayedModel([*each]) for each in outcomes]
    event = ModelChosen(COMPACTION, A, WINDOW, 2_048, Prices(1_000_000, 4_000_000), "me", chain=names)
    links = [Link(replace(event, model=name), model) for name, model in zip(names, played, strict=True)]
    asker = replace(stage.worker.asker, chains={COMPACTION: links})
    worker = replace(stage.worker, asker=asker)
    stage.session, stage.worker = type(stage.session)(worker, stage.live), worker
    await stage.log.add(links[0].chosen)
    return stage, played


def asked(stage: Stage) -> list[str]:
    return [each.model for each in stage.of(ModelAsked) if each.role == COMPACTION]


def moves(stage: Stage) -> list[tuple[str, str]]:
    return [(each.model, each.why) for each in stage.of(ModelChosen) if each.why]


@pytest.mark.parametrize("error", [KEY, BadRequest("No.", ""), Overflow("Too long.", ""), CUT])
async def test_the_next_of_the_chain_writes_it_at_once_where_one_fails(error: ModelError) -> None:
    stage, _ = await summed([error, *[says(PROSE)] * 9], [TWICE] * 9)
    before = stage.clock.now_ms()
    assert (await play(stage)).reason == "done"
    first = stage.of(Compacted)[0]
    assert asked(stage)[:2] == [A, B]
    assert moves(stage)[0] == (B, f"{A} failed: {error.what}")
    assert "Told by another one." in first.summary
    assert stage.clock.now_ms() - before < 1_000, "nobody waits before another one is asked"
    assert stage.log.view.settings.models["main"].model == "test/model"
    assert stage.log.view.purse.reserved == {}


async def test_a_dead_one_is_asked_once_and_each_summary_begins_with_the_first_that_lives() -> None:
    stage, _ = await summed([KEY], [CUT, *[TWICE] * 9], [says(PROSE)] * 9, size=1_500)
    assert (await play(stage)).reason == "done"
    made = len(stage.of(Compacted))
    assert made >= 3
    assert asked(stage) == [A, B, *[B] * (made - 1)]
    told = ["Told by another one." in each.summary for each in stage.of(Compacted)]
    assert told == [False, *[True] * (made - 1)], "two tries, then it is rendered without"


async def test_an_outage_is_forgotten_by_the_next_summary() -> None:
    stage, _ = await summed([CUT, *[says(PROSE)] * 9], [TWICE] * 9, size=1_500)
    assert (await play(stage)).reason == "done"
    assert asked(stage)[:3] == [A, B, A]
    assert moves(stage)[1] == (A, "A new summary begins with the first model.")


async def test_where_all_are_dead_it_is_rendered_without_them_and_the_turn_goes_on() -> None:
    stage, _ = await summed([KEY] * 9, [KEY] * 9)
    assert (await play(stage)).reason == "done"
    made = stage.of(Compacted)
    assert len(asked(stage)) <= 2 * len(made)
    assert all("find the best model" in each.summary for each in made)


async def test_a_model_for_summaries_that_fails_after_an_overflow_leaves_the_main_one_and_its_failure() -> None:
    kept: list[Turn] = []

    async def second(_: Request) -> Any:
        kept.append(stage.log.view.lane(MAIN).turn)
        yield TWICE

    stage, _ = await summed([KEY], [second, *[TWICE] * 9], window=None, most=40, size=1_500)
    assert (await play(stage)).reason == "done"
    [long] = [each for each in stage.of(ModelFailed) if each.kind == "overflow"]
    assert (kept[0].failed, kept[0].tried) == (long, {})
    assert [each for each, _ in moves(stage)] == [B]
    assert asked(stage)[:2] == [A, B]
    after = stage.kinds()[stage.kinds().index("compacted") :]
    assert "model_failed" not in after


async def test_main_is_not_moved_for_a_summary() -> None:
    model = Windowed(150, aside=KEY)
    stage = await stage_of(model, Talker([]), cap=50_000_000, limits=LimitsSet(None, None))
    other = PlayedModel([])
    own = stage.log.view.settings.models["main"]
    chains = {"main": [Link(own, model), Link(replace(own, model="other/b"), other)]}
    worker = replace(stage.worker, asker=replace(stage.worker.asker, chains=chains))
    stage.session = type(stage.session)(worker, stage.live)
    await play(stage)
    assert stage.of(Compacted)
    assert not moves(stage)
    assert other.requests == []


async def test_a_process_that_died_while_the_summary_was_written_asks_the_same_model_once_more() -> None:
    asking = asyncio.Event()

    async def hangs(_: Request) -> Any:
        asking.set()
        await asyncio.Event().wait()
        yield says("never")

    stage, _ = await summed([hangs, hangs, *[says(PROSE)] * 9], [])
    assert await stage.session.send(Say("go", "find the best model")) is None
    for _ in range(2):
        running = asyncio.create_task(stage.session.run())
        await asyncio.wait_for(asking.wait(), 10)
        asking.clear()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await asyncio.wait_for(stage.session.run(), 20)
    assert stage.of(TurnEnded)[-1].reason == "done"
    lost = [each for each in stage.of(ModelFailed) if each.kind == "lost"]
    asides = [each.reserved for each in stage.of(ModelAsked) if each.role == COMPACTION]
    assert [each.cost for each in lost] == asides[:2]
    assert all(each.bound for each in lost)
    assert not moves(stage)
    assert asked(stage)[:2] == [A, A]
    assert PROSE not in stage.of(Compacted)[0].summary, "two tries, then it is rendered without"
    assert stage.log.view.purse.reserved == {}
