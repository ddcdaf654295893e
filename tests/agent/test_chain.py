"""Which model answers where one fails: a real log, loop and asker; models that fail as told."""

from typing import Any

import pytest
from msgspec.structs import replace

from ml_intern.agent.chain import Link
from ml_intern.agent.loop import Worker
from ml_intern.base.errors import (
    ModelError,
    NoServer,
    NotFound,
    OutOfCredit,
    Overflow,
    RateLimited,
    Unauthorised,
    Unreachable,
)
from ml_intern.record.commands import Say
from ml_intern.record.events import (
    LaneOpened,
    ModelAsked,
    ModelChosen,
    ModelFailed,
    ModelReplied,
    RetryPlanned,
    Role,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.messages import Opaque, Prices, Reply, Text, Thinking
from ml_intern.session.session import Session
from tests.agent.stage import PRICED, Finished, PlayedModel, Stage, Usage, call, calls, looking, says, set_stage

A, B, C = "test/model", "other/b", "third/c"
KEY = Unauthorised("The key is refused (HTTP 401).", "Check the key.")
DOWN = Unreachable("The server failed (HTTP 500).", "Try again.")
IDS = (A, B, C)


def link(model: str, role: Role, ids: tuple[str, ...], played: PlayedModel, **more: Any) -> Link:
    return Link(replace(PRICED, role=role, model=model, chain=ids, **more), played)


async def chained(
    *outcomes: list[Finished | ModelError],
    ids: tuple[str, ...] = IDS,
    more: dict[str, dict[str, Any]] | None = None,
    **stage: Any,
) -> tuple[Stage, list[PlayedModel]]:
    """A stage whose main role has a chain: one list of outcomes for each model."""
    made = await set_stage(**stage)
    played = [PlayedModel([*each]) for each in outcomes]
    links = [
        link(name, "main", ids, model, **(more or {}).get(name, {})) for name, model in zip(ids, played, strict=True)
    ]
    asker = replace(made.worker.asker, chains={"main": links})
    made.worker = Worker(made.log, asker, made.worker.road, made.clock)
    made.session = Session(made.worker, made.live)
    if made.log.view.settings.models["main"].chain == ():
        await made.log.add(links[0].chosen)
    return made, played


async def say(stage: Stage, text: str) -> None:
    await stage.session.send(Say(text, text))
    await stage.session.run()


def moves(stage: Stage) -> list[tuple[str, str]]:
    return [(each.model, each.why) for each in stage.of(ModelChosen) if each.why]


def asked(stage: Stage) -> list[str]:
    return [each.model for each in stage.of(ModelAsked)]


@pytest.mark.parametrize(
    "error",
    [
        KEY,
        OutOfCredit("No money.", ""),
        NotFound("No such model.", ""),
        NoServer("Nobody listens.", ""),
        RateLimited("Wait an hour.", "", retry_after_s=3600),
        RateLimited("Wait two minutes.", "", retry_after_s=120),
    ],
)
async def test_a_failure_that_lasts_lets_the_next_one_answer_at_once(error):
    stage, (a, b, _) = await chained([error], [says("hello")], [])
    await say(stage, "hi")
    assert (asked(stage), len(stage.of(RetryPlanned))) == ([A, B], 0)
    assert moves(stage) == [(B, f"{A} failed: {error.what}")]
    assert stage.of(TurnEnded)[-1].reason == "done"
    assert stage.log.view.settings.models["main"].model == B
    assert [len(each.requests) for each in (a, b)] == [1, 1]


async def test_a_passing_failure_is_asked_again_and_an_outage_goes_down_after_the_retries():
    stage, (a, *_) = await chained([DOWN] * 7, [says("hello")], [])
    await say(stage, "hi")
    assert asked(stage) == [A] * 7 + [B]
    assert len(stage.of(RetryPlanned)) == 6
    assert stage.of(TurnEnded)[-1].reason == "done"
    assert not a.outcomes


async def test_an_outage_of_all_is_waited_for_with_the_one_that_answered_last():
    stage, _ = await chained([calls(call("look")), *[DOWN] * 27, says("hello")], [DOWN] * 7, [DOWN] * 7)
    await say(stage, "hi")
    assert asked(stage) == [A] * 8 + [B] * 7 + [C] * 7 + [A] * 21
    assert stage.of(TurnEnded)[-1].reason == "done"


async def test_where_nobody_else_could_answer_a_wait_of_minutes_is_kept():
    wait = RateLimited("Wait two minutes.", "", retry_after_s=120)
    stage, _ = await chained([wait, says("hello")], ids=(A,))
    await say(stage, "hi")
    assert (asked(stage), len(stage.of(RetryPlanned))) == ([A, A], 1)


async def test_the_last_failure_ends_the_turn_with_what_each_said():
    stage, _ = await chained([KEY], [OutOfCredit("No money.", "")], [NotFound("No such model.", "Check the name.")])
    await say(stage, "hi")
    ended = stage.of(TurnEnded)[-1]
    assert ended.reason == "failed"
    said = f"{A}: The key is refused (HTTP 401). {B}: No money. {C}: No such model."
    assert ended.what == f"None of the models answered. {said}"
    assert ended.remedy == "Check the name."
    assert asked(stage) == [A, B, C]


async def test_a_single_model_fails_as_it_did():
    stage, _ = await chained([KEY], ids=(A,))
    await say(stage, "hi")
    assert stage.of(TurnEnded)[-1].what == KEY.what
    assert not moves(stage)


async def test_a_new_turn_begins_with_the_first_again_after_an_outage():
    stage, _ = await chained([NoServer("Nobody listens.", ""), says("back")], [says("hello")], [])
    await say(stage, "hi")
    await say(stage, "again")
    assert asked(stage) == [A, B, A]
    assert moves(stage)[-1] == (A, "A new turn begins with the first model.")


async def test_a_new_turn_does_not_begin_with_one_whose_key_was_refused_until_another_process_does():
    stage, _ = await chained([KEY], [says("hello"), says("once more")], [])
    await say(stage, "hi")
    await say(stage, "again")
    assert asked(stage) == [A, B, B]
    later, _ = await chained([says("mended")], [], [], journal=stage.journal)
    await say(later, "and again")
    assert asked(later) == [A, B, B, A]


async def test_who_answered_in_this_turn_is_asked_once_more_before_it_ends():
    stage, _ = await chained([KEY], [KEY], [calls(call("look")), KEY, says("done")], tools=(looking([]),))
    await say(stage, "hi")
    assert asked(stage) == [A, B, C, C, C]
    assert moves(stage)[-1][1].endswith("Nobody else is left, so it is asked once more.")
    assert stage.of(TurnEnded)[-1].reason == "done"


async def test_who_answered_in_this_turn_is_asked_no_third_time():
    stage, _ = await chained([KEY, KEY], [calls(call("look")), KEY, KEY], ids=(A, B), tools=(looking([]),))
    await say(stage, "hi")
    assert asked(stage) == [A, B, B, B, A]
    assert stage.of(TurnEnded)[-1].reason == "failed"


async def test_before_a_turn_ends_who_failed_for_good_is_asked_in_spite_of_it():
    stage, _ = await chained([KEY, says("paid")], [calls(call("look")), KEY, KEY], ids=(A, B), tools=(looking([]),))
    await say(stage, "hi")
    assert asked(stage) == [A, B, B, B, A]
    assert moves(stage)[-1][1].endswith("Nobody else is left, so it is asked in spite of its failure before.")
    assert stage.of(TurnEnded)[-1].reason == "done"
    assert set(stage.log.view.down) == {B}


async def test_a_request_too_long_for_one_that_no_compaction_makes_shorter_goes_to_the_next():
    stage, _ = await chained([Overflow("No room.", "")], [Overflow("Too long.", "")], [says("hello")])
    await say(stage, "hi")
    assert asked(stage) == [A, B, C]
    assert stage.of(TurnEnded)[-1].reason == "done"


async def test_a_request_that_is_too_long_for_all_ends_the_turn_with_what_each_said():
    stage, _ = await chained([Overflow("No room.", "")], [Overflow("Too long.", "Choose another.")], ids=(A, B))
    await say(stage, "hi")
    ended = stage.of(TurnEnded)[-1]
    assert (ended.reason, ended.remedy) == ("overflow", "Choose another.")
    assert ended.what == f"None of the models answered. {A}: No room. {B}: Too long."


async def test_an_outage_is_forgotten_when_somebody_answers_so_the_chain_goes_round():
    gone, busy = NoServer("Nobody listens.", ""), RateLimited("Wait an hour.", "", retry_after_s=3600)
    stage, _ = await chained([gone, says("done")], [calls(call("look")), busy], ids=(A, B), tools=(looking([]),))
    await say(stage, "hi")
    assert asked(stage) == [A, B, B, A]
    assert stage.of(TurnEnded)[-1].reason == "done"


async def test_one_whose_window_is_too_small_is_passed_over_and_told():
    stage, _ = await chained([KEY], [], [says("hello")], more={B: {"window": 4_096}})
    await say(stage, "x" * 40_000)
    assert asked(stage) == [A, C]
    assert f"{B} is passed over: about 1" in moves(stage)[0][1]
    assert "do not fit its window of 4,096." in moves(stage)[0][1]


async def test_the_purse_reserves_and_books_at_the_rates_of_the_model_that_is_asked():
    dear = Prices(10_000_000, 40_000_000)
    stage, _ = await chained([KEY], [says("hello", Usage(1_000, 100))], [], more={B: {"prices": dear}})
    await say(stage, "hi")
    first, second = stage.of(ModelAsked)
    assert second.reserved == pytest.approx(10 * first.reserved, rel=0.01)
    assert stage.of(ModelReplied)[-1].cost == 1_000 * 10 + 100 * 40
    assert stage.log.view.purse.spent == 14_000
    assert not stage.log.view.purse.reserved


async def test_what_one_model_counted_is_no_bound_for_another():
    stage, _ = await chained(
        [calls(call("look"), usage=Usage(50, 10)), KEY], [says("done")], ids=(A, B), tools=(looking([]),)
    )
    await say(stage, "x" * 30_000)
    own, other = stage.of(ModelAsked)[1:]
    assert own.bound < 2_000
    assert other.bound > 30_000


async def test_the_record_says_who_gave_each_reply_and_thoughts_are_kept_for_whom_they_are_of():
    thought = Finished(
        Reply((Thinking("hm", "reasoning", Opaque("sig")), Text("I look."), call("look"))), None, "calls"
    )
    stage, _ = await chained([thought, KEY], [says("done")], ids=(A, B), tools=(looking([]),))
    await say(stage, "hi")
    first, last = (each.reply for each in stage.of(ModelReplied))
    assert (first.by, last.by) == (A, B)
    assert first.told_to(A) == first
    assert [type(part) for part in first.told_to(B).parts] == [Text, type(call("x"))]
    assert first.told_to(B).calls == first.calls


async def test_a_process_that_died_between_failure_and_choice_goes_on_with_the_next():
    stage, _ = await chained([], [], [])
    await stage.log.add(UserSaid("u", "hi"))
    await stage.log.add(ModelAsked("m", "main", A, 10, 10, 100, "h"))
    await stage.log.add(ModelFailed("m", "unauthorised", KEY.what, "", transient=False, cost=0))
    later, _ = await chained([], [says("hello")], [], journal=stage.journal)
    await later.session.run()
    assert asked(later) == [A, B]
    assert later.of(TurnEnded)[-1].reason == "done"


async def test_another_lane_goes_on_with_whom_this_one_found_and_does_not_go_back_up():
    stage, (a, b, _) = await chained([KEY], [says("hello"), says("report")], [])
    await say(stage, "hi")
    await stage.log.add(LaneOpened("main", "c", "research", "look", (), 5), "r1")
    await stage.log.add(UserSaid("r", "look"), "r1")
    await stage.worker.asker.ask("r1", "research")
    assert asked(stage) == [A, B, B]
    assert (len(a.requests), len(b.requests)) == (1, 2)


async def test_two_lanes_whose_model_fails_at_once_go_down_one_step_together():
    stage, _ = await chained([KEY, KEY], [says("one"), says("two")], [])
    for lane in ("r1", "r2"):
        await stage.log.add(UserSaid(lane, "look"), lane)
        await stage.worker.asker.ask(lane, "research")
    for lane in ("r1", "r2"):
        assert await stage.worker.asker.go_on(lane)
        await stage.worker.asker.ask(lane, "research")
    assert asked(stage) == [A, A, B, B]


async def test_a_role_with_its_own_chain_leaves_the_main_one_alone():
    stage, (a, *_) = await chained([says("hello")], [], [])
    own = [PlayedModel([KEY]), PlayedModel([says("report")])]
    ids = ("r/1", "r/2")
    links = [link(name, "research", ids, model) for name, model in zip(ids, own, strict=True)]
    asker = replace(stage.worker.asker, chains={**stage.worker.asker.chains, "research": links})
    await stage.log.add(links[0].chosen)
    await stage.log.add(UserSaid("r", "look"), "r1")
    await asker.ask("r1", "research")
    assert await asker.go_on("r1")
    await asker.ask("r1", "research")
    assert asked(stage) == ["r/1", "r/2"]
    assert stage.log.view.settings.model_of("main").model == A
    assert stage.log.view.settings.model_of("title").model == A
    assert not a.requests


async def test_a_wait_that_is_too_long_everywhere_ends_the_turn():
    busy = RateLimited("Wait an hour.", "Come back later.", retry_after_s=3600)
    stage, _ = await chained([busy], [busy], [busy])
    await say(stage, "hi")
    assert asked(stage) == [A, B, C]
    assert stage.of(TurnEnded)[-1].what.count("Wait an hour.") == 3
