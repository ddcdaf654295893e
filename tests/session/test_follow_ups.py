"""What was to follow a turn that a person stops: it waits, unless they say more."""

import asyncio

from ml_intern.base.ids import new_id
from ml_intern.record.commands import Stop
from ml_intern.record.events import ModelReplied, TurnEnded
from ml_intern.record.messages import Asked
from ml_intern.record.next import Rest
from ml_intern.record.view import MAIN
from tests.agent.stage import says, set_stage
from tests.session.test_session import WITHIN_S, Hanging, accepted, endings, run, say


async def test_follow_ups_said_before_a_stop_wait_for_the_end_of_the_next_turn():
    hanging = Hanging()
    stage = await set_stage(hanging, says("went on"), says("second"))
    await say(stage, "first")
    running = asyncio.create_task(stage.session.run())
    await hanging.begun.wait()
    await say(stage, "second", when="after")
    await accepted(stage, Stop(new_id()))
    assert await asyncio.wait_for(running, WITHIN_S) == Rest()
    assert endings(stage) == ["interrupted"]
    assert [event.waiting for event in stage.of(TurnEnded)] == [1]
    assert stage.log.view.lane(MAIN).turn.queued == 1
    await say(stage, "go on")
    await run(stage)
    assert endings(stage) == ["interrupted", "done", "done"]
    assert stage.log.view.lane(MAIN).turn.queued == 0
    heard = [message for message in stage.model.requests[-1].messages if isinstance(message, Asked)]
    assert [message.text for message in heard] == ["first", "go on", "second"]
    assert [event.reply.text for event in stage.of(ModelReplied)] == ["went on", "second"]


async def test_what_is_said_after_a_stop_opens_the_next_turn_and_takes_along_what_waited():
    hanging = Hanging()
    stage = await set_stage(hanging, says("both"))
    await say(stage, "first")
    running = asyncio.create_task(stage.session.run())
    await hanging.begun.wait()
    await say(stage, "second", when="after")
    await asyncio.gather(accepted(stage, Stop(new_id())), say(stage, "third"))
    await asyncio.wait_for(running, WITHIN_S)
    assert endings(stage) == ["interrupted", "done"]
    assert [event.reply.text for event in stage.of(ModelReplied)] == ["both"]
