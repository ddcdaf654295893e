"""The name of a session, written by a model of the role for it: when it is asked, what it costs, what it may break."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from ml_intern.agent.chain import Link
from ml_intern.agent.title import title_head
from ml_intern.base.errors import ModelError, Unauthorised, Unreachable
from ml_intern.base.ids import new_id
from ml_intern.record.asides import TITLE
from ml_intern.record.commands import Rename, Say, Stop
from ml_intern.record.events import (
    CapSet,
    ModelAsked,
    ModelChosen,
    ModelReplied,
    ModelStopped,
    Renamed,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.log import replay
from ml_intern.record.messages import Prices, Usage
from ml_intern.record.next import Rest
from ml_intern.record.view import MAIN
from tests.agent.stage import MemoryJournal, PlayedModel, Stage, call, calls, entries, looking, says, set_stage

A, B = "name/a", "name/b"
KEY = Unauthorised("The key is refused (HTTP 401).", "Check the key.")
CUT = Unreachable("The server broke off its reply.", "Try again.")
NAMED = says("DistilBERT on IMDB, macro-F1")


async def named(
    *outcomes: list[Any],
    main: list[Any],
    journal: MemoryJournal | None = None,
    second: Prices = Prices(1_000_000, 4_000_000),
) -> tuple[Stage, list[PlayedModel]]:
    """A stage with models for the role: one list of outcomes for each."""
    stage = await set_stage(*main, tools=(looking([]),), journal=journal)
    names = (A, B)[: len(outcomes)]
    played = [PlayedModel([*each]) for each in outcomes]
    event = ModelChosen(TITLE, A, 32_768, 2_048, Prices(1_000_000, 4_000_000), "me", chain=names)
    links = [Link(replace(event, model=name), model) for name, model in zip(names, played, strict=True)]
    links[1:] = [replace(each, chosen=replace(each.chosen, prices=second)) for each in links[1:]]
    base = stage.worker.asker
    asker = replace(base, heads={**base.heads, TITLE: title_head()}, chains={TITLE: links} if links else {})
    worker = replace(stage.worker, asker=asker)
    stage.session, stage.worker = type(stage.session)(worker, stage.live), worker
    if links and journal is None:
        await stage.log.add(links[0].chosen)
    return stage, played


async def play(stage: Stage, text: str = "please train a classifier on the reviews") -> TurnEnded:
    assert await stage.session.send(Say(new_id(), text)) is None
    assert await stage.session.run() == Rest()
    assert replay(entries(stage)) == stage.log.view
    return stage.of(TurnEnded)[-1]


def asked(stage: Stage) -> list[str]:
    return [each.model for each in stage.of(ModelAsked) if each.role == TITLE]


async def test_it_is_asked_once_after_the_first_reply_and_is_no_step_of_the_conversation() -> None:
    main = [calls(call("look")), calls(call("look")), says("Done."), says("More.")]
    stage, [model] = await named([NAMED], main=main)
    assert (await play(stage)).reason == "done"
    assert (await play(stage, "and now more")).reason == "done"
    assert asked(stage) == [A]
    assert stage.log.view.settings.title == "DistilBERT on IMDB, macro-F1"
    roles = [each.role for each in stage.of(ModelAsked)]
    assert roles == ["main", TITLE, "main", "main", "main"]
    lane = stage.log.view.lane(MAIN)
    assert (lane.spent.steps, lane.turn.steps) == (4, 1)
    [request] = model.requests
    assert "please train a classifier" in request.messages[0].text
    for sent in stage.model.requests:
        assert not any("DistilBERT" in str(message) for message in sent.messages)


async def test_a_turn_of_one_reply_is_named_before_it_ends() -> None:
    stage, _ = await named([NAMED], main=[says("Hello.")])
    assert (await play(stage)).reason == "done"
    kinds = stage.kinds()
    assert kinds.index("renamed") < kinds.index("turn_ended")


async def test_what_it_costs_is_booked_and_nothing_stays_reserved() -> None:
    stage, _ = await named([NAMED], main=[says("Hello.")])
    await play(stage)
    costs = [each.cost for each in stage.of(ModelReplied)]
    assert len(costs) == 2
    assert all(costs)
    assert (stage.log.view.purse.spent, stage.log.view.purse.reserved) == (sum(costs), {})


async def test_without_models_of_its_own_nobody_is_asked_and_the_first_words_are_the_name() -> None:
    stage, _ = await named(main=[says("Hello.")])
    await play(stage)
    assert (asked(stage), stage.of(Renamed)) == ([], [])
    assert stage.log.view.settings.title == "train a classifier on the reviews"


@pytest.mark.parametrize("error", [KEY, CUT])
async def test_the_next_of_the_chain_is_asked_where_one_fails(error: ModelError) -> None:
    stage, _ = await named([error], [NAMED], main=[calls(call("look")), says("Done.")])
    assert (await play(stage)).reason == "done"
    assert asked(stage) == [A, B]
    assert stage.log.view.settings.title == "DistilBERT on IMDB, macro-F1"


@pytest.mark.parametrize("error", [KEY, CUT])
async def test_two_failures_are_enough_and_the_work_goes_on(error: ModelError) -> None:
    main = [calls(call("look")), calls(call("look")), calls(call("look")), says("Done."), says("More.")]
    stage, _ = await named([error] * 9, main=main)
    assert (await play(stage)).reason == "done"
    assert (await play(stage, "more")).reason == "done"
    assert asked(stage) == [A, A]
    assert (stage.of(Renamed), stage.log.view.settings.title) == ([], "train a classifier on the reviews")
    assert stage.log.view.lane(MAIN).turn.failures == 0


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ('"A good name."', "A good name"),
        ("Here is a title:\n\n**Qwen on GSM8K**\n", "Qwen on GSM8K"),
        ("\n", "train a classifier on the reviews"),
        ("", "train a classifier on the reviews"),
        ("x" * 5_000, "x" * 119 + "…"),
        ("a\x1b[31mb\u202ec", None),
    ],
)
async def test_what_a_model_writes_becomes_a_short_line_that_can_be_seen(written: str, title: str | None) -> None:
    stage, _ = await named([says(written)], main=[says("Hello.")])
    assert (await play(stage)).reason == "done"
    found = stage.log.view.settings.title
    assert found == title if title is not None else not {"\x1b", "\u202e"} & set(found)
    assert len(asked(stage)) == 1


async def test_a_call_in_its_reply_is_never_run() -> None:
    stage, _ = await named([calls(call("look"))], main=[says("Hello.")])
    assert (await play(stage)).reason == "done"
    assert "tool_started" not in stage.kinds()


async def test_a_name_that_a_person_gave_stays() -> None:
    stage, _ = await named([NAMED], main=[says("Hello.")])
    await stage.session.send(Rename("r", "mine"))
    await play(stage)
    assert (asked(stage), stage.log.view.settings.title) == ([], "mine")


async def test_a_name_that_a_person_gives_while_a_model_writes_one_stays() -> None:
    stage, [model] = await named([], main=[calls(call("look")), says("Done.")])

    async def late(_request: Any) -> Any:
        await stage.session.send(Rename("r", "mine"))
        yield NAMED

    model.outcomes = [late]
    assert (await play(stage)).reason == "done"
    assert (asked(stage), stage.log.view.settings.title) == ([A], "mine")


async def test_a_name_that_costs_more_than_was_reserved_ends_the_turn_before_the_next_request() -> None:
    dear = says("A name", Usage(1_000_000, 1_000_000))
    stage, _ = await named([dear], main=[calls(call("look")), says("Done.")])
    assert (await play(stage)).reason == "budget"
    assert [each.role for each in stage.of(ModelAsked)] == ["main", TITLE]


async def test_the_next_of_the_chain_is_chosen_once_where_the_budget_cannot_pay_for_it() -> None:
    main = [calls(call("look")), calls(call("look")), says("Done.")]
    stage, _ = await named([KEY], [NAMED], main=main, second=Prices(10**12, 10**12))
    assert (await play(stage)).reason == "done"
    assert [each.model for each in stage.of(ModelChosen) if each.role == TITLE] == [A, B]


async def test_where_the_budget_cannot_pay_for_it_the_work_goes_on() -> None:
    stage, _ = await named([NAMED], main=[calls(call("look")), says("Done.")])
    dear = replace(stage.log.view.settings.models[TITLE], prices=Prices(10**12, 10**12))
    await stage.log.add(dear)
    assert (await play(stage)).reason == "done"
    assert (asked(stage), stage.log.view.purse.cap) == ([], stage.of(CapSet)[0].cap)


async def test_a_stop_ends_it_at_once() -> None:
    waiting = asyncio.Event()

    async def silent(_request: Any) -> Any:
        waiting.set()
        await asyncio.sleep(60)
        yield NAMED

    stage, _ = await named([silent], main=[calls(call("look")), says("Done.")])
    await stage.session.send(Say("s", "go"))
    running = asyncio.create_task(stage.session.run())
    await asyncio.wait_for(waiting.wait(), 5)
    await asyncio.wait_for(stage.session.send(Stop("stop")), 5)
    await asyncio.wait_for(running, 5)
    assert stage.of(TurnEnded)[-1].reason == "interrupted"
    assert (len(stage.of(ModelStopped)), stage.of(Renamed)) == (1, [])


async def test_a_name_that_was_written_when_the_process_died_is_kept() -> None:
    stage, _ = await named([NAMED], main=[calls(call("look")), says("Done.")])
    await play(stage)
    at = next(at for at, kind in enumerate(stage.kinds()) if kind == "renamed")
    journal = MemoryJournal()
    journal.kept = stage.journal.kept[:at]
    again, _ = await named([], main=[says("Done.")], journal=journal)
    await again.session.run()
    assert (again.log.view.settings.title, asked(again)) == ("DistilBERT on IMDB, macro-F1", [A])
    assert len(again.of(UserSaid)) == 1
