"""A script is played to its end, goes on where it was left, and quotes only what it has read."""

import json

import pytest

from ml_intern.model.port import CallDelta, Finished, Model, TextDelta, ThinkingDelta
from ml_intern.model.scripted import Conversation, Scripted, ScriptOver, Turn
from ml_intern.record.messages import Answered, Asked, Message, Reply, Text
from tests.model.raw import request


async def step(model: Scripted, transcript: list[Message]) -> Finished:
    items = [item async for item in model.ask(request(*transcript))]
    assert isinstance(items[-1], Finished)
    assert "".join(each.text for each in items if isinstance(each, TextDelta)) == items[-1].reply.text
    return items[-1]


async def play(model: Scripted, *answers: str | tuple[str, bool]) -> list[Message]:
    """Ask until nothing is called any more; each call gets the next answer."""
    transcript: list[Message] = [Asked("Go")]
    given = iter(answers)
    while True:
        reply = (await step(model, transcript)).reply
        transcript.append(reply)
        if not reply.calls:
            return transcript
        for call in reply.calls:
            answer = next(given)
            text, ok = (answer, True) if isinstance(answer, str) else answer
            transcript.append(Answered(call.id, call.wire_id, call.tool, text, ok))


def said(transcript):
    return [each.text for each in transcript if isinstance(each, Reply)]


def called(transcript):
    return [json.loads(call.arguments) for each in transcript if isinstance(each, Reply) for call in each.calls]


LOOK = Turn("I look.", calls=[("bash", {"command": "wc -l"})], takes={"rows": r"^(\d+) rows"})
TELL = Turn("There are {{rows}} rows.")


def test_it_is_a_model_that_costs_nothing():
    model: Model = Scripted([])
    assert model
    info = Scripted([], name="demo").info
    assert (info.id, info.payer) == ("scripted/demo", "nobody")
    assert info.prices is not None
    assert (info.prices.input, info.prices.output) == (0, 0)


async def test_turns_are_played_in_order_and_quote_what_was_read():
    transcript = await play(Scripted([LOOK, TELL]), "file\n1797 rows")
    assert said(transcript) == ["I look.", "There are 1797 rows."]
    assert called(transcript) == [{"command": "wc -l"}]


async def test_what_no_answer_held_is_not_made_up():
    with pytest.raises(ScriptOver, match="rows"):
        await play(Scripted([LOOK, TELL]), "no such file")


async def test_captured_values_fill_arguments_however_deep():
    write = Turn(calls=[("write", {"content": "n = {{rows}}", "more": [{"n": "{{rows}}"}, 7, None, "{x}"]})])
    transcript = await play(Scripted([LOOK, write, TELL]), "12 rows", "written")
    assert called(transcript)[1] == {"content": "n = 12", "more": [{"n": "12"}, 7, None, "{x}"]}


async def test_a_path_into_an_answer_that_is_json():
    look = Turn(calls=[("bash", {})], takes={"best": "$.runs[-1].score", "whole": "$.runs[0]", "gone": "$.no.such"})
    transcript = await play(Scripted([look, Turn("{{best}} {{whole}}")]), '{"runs": [{"score": 1}, {"score": 0.97}]}')
    assert said(transcript)[-1] == '0.97 {"score": 1}'


async def test_a_branch_is_taken_only_where_it_holds():
    fix = Turn("It failed; I mend it.", when=lambda seen: seen.failed, calls=[("edit", {})])
    script = Scripted([LOOK, fix, Turn("Done.")])
    assert said(await play(script, "12 rows")) == ["I look.", "Done."]
    assert said(await play(script, ("error", False), "mended")) == ["I look.", "It failed; I mend it.", "Done."]


async def test_a_turn_that_is_anywhere_does_not_move_the_script_on():
    again = Turn(
        "It was lost; once more.",
        when=lambda seen: seen.found("lost"),
        calls=lambda seen: [(call.tool, json.loads(call.arguments)) for call in seen.calls],
        anywhere=True,
    )
    script = Scripted([again, LOOK, Turn("And?", calls=[("bash", {"command": "ls"})]), Turn("End.")])
    transcript = await play(script, ("lost", False), "12 rows", ("lost", False), ("lost", False), "a.txt")
    assert said(transcript) == ["I look.", "It was lost; once more.", "And?", *["It was lost; once more."] * 2, "End."]
    assert [each["command"] for each in called(transcript)] == ["wc -l", "wc -l", "ls", "ls", "ls"]


async def test_a_session_goes_on_at_the_right_place_with_a_new_object():
    turns = [LOOK, Turn("And?", calls=[("bash", {"command": "ls"})]), TELL]
    transcript = await play(Scripted(turns), "12 rows", "a.txt")
    for cut, message in enumerate(transcript):
        if isinstance(message, Reply):
            assert (await step(Scripted(turns), transcript[:cut])).reply.text == message.text


async def test_words_of_a_person_or_the_product_do_not_move_the_script_on():
    transcript: list[Message] = [Asked("Go"), Asked("quickly"), Asked("Mind the budget.", by="product")]
    assert (await step(Scripted([LOOK, TELL]), transcript)).reply.text == "I look."


@pytest.mark.parametrize("kept", ["", "I l", "I look."])
async def test_a_reply_that_was_stopped_is_given_again(kept):
    transcript: list[Message] = [Asked("Go"), *([Reply((Text(kept),))] if kept else []), Asked("Go on")]
    again = (await step(Scripted([LOOK, TELL]), transcript)).reply
    assert (again.text, len(again.calls)) == ("I look.", 1)


async def test_a_last_word_that_was_stopped_is_said_again():
    script = Scripted([Turn("The end of it.")])
    assert (await step(script, [Asked("Go"), Reply((Text("The e"),)), Asked("Go on")])).reply.text == "The end of it."


async def test_a_script_that_is_over_says_so():
    with pytest.raises(ScriptOver, match=r"'demo' is over: .* after 1 replies") as caught:
        await step(Scripted([Turn("Hello.")], name="demo"), [Asked("Go"), Reply((Text("Hello."),)), Asked("More")])
    assert not caught.value.transient
    with pytest.raises(ScriptOver):
        await step(Scripted([]), [Asked("Go")])


async def test_a_function_may_choose():
    def choose(seen: Conversation) -> Turn:
        assert seen.asked == "Go"
        return Turn(f"{seen.replies} replies") if seen.replies else Turn("First.", calls=[("bash", {})])

    assert said(await play(Scripted(choose), "12 rows")) == ["First.", "1 replies"]


async def test_thinking_calls_and_usage_are_as_of_a_real_model():
    items = [
        item
        async for item in Scripted([Turn("Hello.", think="Hm. " * 20, calls=[("bash", {"command": "ls"})])]).ask(
            request()
        )
    ]
    end = items[-1]
    assert isinstance(end, Finished)
    assert {type(each) for each in items} == {TextDelta, ThinkingDelta, CallDelta, Finished}
    assert len(items) > 5
    assert end.finish == "calls"
    assert end.usage is not None
    assert end.usage.prompt > 10
    assert end.usage.output == -(-(80 + 6 + len('{"command": "ls"}')) // 4)
    (call,) = end.reply.calls
    assert call.wire_id
