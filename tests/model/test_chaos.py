"""Chaos strikes as its plan says, raises what a wire would, and leaves everything else alone."""

import time
from collections.abc import Sequence
from typing import Any, get_args

import pytest

from ml_intern.base.errors import ModelError, Overflow, RateLimited, Unreachable
from ml_intern.model.chaos import PASSING, Ask, Chaos, Fault, Moment, Strike, at_random, planned
from ml_intern.model.port import CallDelta, Delta, Finished, Model, TextDelta
from ml_intern.model.scripted import Scripted, Turn
from ml_intern.record.messages import Answered, Asked, Message
from tests.model.raw import request

SAYS = "A word or two before the call is made."
CALLS = [("bash", {"command": "echo a line that is long enough for some pieces"})]
TURN = Turn(SAYS, calls=CALLS)


async def attempt(model: Model, messages: Sequence[Message] = (Asked("go"),)) -> tuple[list[Delta], Any]:
    """What was shown, and how it ended: `Finished`, or the error."""
    shown: list[Delta] = []
    try:
        async for item in model.ask(request(*messages)):
            if isinstance(item, Finished):
                return shown, item
            shown.append(item)
    except ModelError as error:
        return shown, error
    raise AssertionError("it ended without an end")


async def struck(fault: Fault, moment: Moment = "start", **more: Any) -> tuple[list[Delta], Any]:
    return await attempt(Chaos(Scripted([TURN]), planned({0: [Strike(fault, moment, **more)]})))


async def test_without_a_plan_for_it_a_reply_is_as_it_was():
    shown, ended = await attempt(Chaos(Scripted([TURN]), planned({1: [Strike("cut")]})))
    assert "".join(each.text for each in shown if isinstance(each, TextDelta)) == SAYS == ended.reply.text
    assert len(ended.reply.calls) == 1


@pytest.mark.parametrize("fault", [each for each in get_args(Fault) if each not in {"truncated call", "empty"}])
async def test_what_strikes_at_the_start_shows_nothing_and_has_its_sentence_and_remedy(fault: Fault):
    shown, error = await struck(fault)
    assert shown == []
    assert isinstance(error, ModelError)
    assert error.what.endswith(".")
    assert error.remedy.endswith(".")
    assert error.may_be_billed == (fault in {"cut", "malformed", "silence"})


@pytest.mark.parametrize(("moment", "last"), [("text", TextDelta), ("call", CallDelta)])
async def test_what_strikes_in_mid_stream_shows_what_came_before_and_may_be_billed(moment: Moment, last: type[Any]):
    shown, error = await struck("server error", moment)
    assert isinstance(shown[-1], last)
    assert sum(isinstance(each, last) for each in shown) == 1
    assert (type(error), error.may_be_billed) == (Unreachable, True)


async def test_a_moment_that_a_reply_has_not_is_its_end():
    model = Chaos(Scripted([Turn("No call.")]), planned({0: [Strike("cut", "call")]}))
    shown, error = await attempt(model)
    assert shown == [TextDelta("No call.")]
    assert isinstance(error, Unreachable)


async def test_a_truncated_call_ends_at_the_limit_in_mid_argument():
    _, ended = await struck("truncated call")
    assert ended.finish == "length"
    assert ended.reply.text == SAYS
    assert not ended.reply.calls[0].arguments.endswith("}")


async def test_a_truncated_call_where_there_is_none_is_a_whole_reply():
    _, ended = await attempt(Chaos(Scripted([Turn("No call.")]), planned({0: [Strike("truncated call")]})))
    assert (ended.finish, ended.reply.text) == ("stop", "No call.")


async def test_an_empty_reply_is_a_good_one_that_says_nothing():
    shown, ended = await struck("empty")
    assert (shown, ended.reply.parts, ended.finish) == ([], (), "stop")
    assert ended.usage.prompt > 0


async def test_silence_lasts_as_long_as_is_said():
    begun = time.monotonic()
    _, error = await struck("silence", after_s=0.05)
    assert isinstance(error, Unreachable)
    assert time.monotonic() - begun >= 0.05


async def test_strikes_of_a_step_come_one_after_the_other_then_the_reply():
    model = Chaos(Scripted([TURN]), planned({0: [Strike("rate limit", retry_after_s=3.0), Strike("overflow")]}))
    ends = [(await attempt(model))[1] for _ in range(3)]
    assert [type(each) for each in ends] == [RateLimited, Overflow, Finished]
    assert ends[0].retry_after_s == 3.0


async def test_a_step_is_counted_by_the_replies_before_it():
    model = Chaos(Scripted([TURN, Turn("End.")]), planned({1: [Strike("wrong key")]}))
    _, first = await attempt(model)
    call = first.reply.calls[0]
    later = (Asked("go"), first.reply, Answered(call.id, call.wire_id, call.tool, "a line"))
    assert isinstance((await attempt(model, later))[1], ModelError)
    assert (await attempt(model, later))[1].reply.text == "End."


def test_a_share_of_all_attempts_fails_and_the_same_ones_for_the_same_seed():
    asks = [Ask(step, again) for step in range(500) for again in range(2)]
    first, same, other = at_random(0.1, 7), at_random(0.1, 7), at_random(0.1, 8)
    found = [first(ask) for ask in asks]
    assert [same(ask) for ask in reversed(asks)] == found[::-1]
    assert [other(ask) for ask in asks] != found
    assert 60 <= sum(each is not None for each in found) <= 140
    assert {each for each in found if each} == set(PASSING)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (1.0, 50)])
def test_none_and_all_can_fail(share: float, count: int):
    plan = at_random(share, 1)
    assert sum(plan(Ask(step, 0)) is not None for step in range(50)) == count
